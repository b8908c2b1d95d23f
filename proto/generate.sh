#!/usr/bin/env bash
# Writes the *_pb2* files beside the .proto files. TOOLS is an environment with proto/requirements.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${TOOLS:-build/proto-tools}
if [ ! -x "$tools/bin/protoc-gen-mypy" ]; then
  python3 -m venv "$tools"
  "$tools/bin/pip" install -q -r proto/requirements.txt
fi
shared=$("$tools/bin/python" -c 'import google.rpc as g; print(list(g.__path__)[0].removesuffix("/google/rpc"))')
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
PATH="$PWD/$tools/bin:$PATH" "$tools/bin/python" -m grpc_tools.protoc \
  -Irankstream/proto=proto -I"$shared" \
  --python_out="$out" --grpc_python_out="$out" --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" \
  proto/v1/*.proto
for file in "$out"/rankstream/proto/v1/*; do
  case $(basename "$file") in
    # A file without a service needs no gRPC half.
    common_pb2_grpc.*) ;;
    *) cp "$file" proto/v1/ ;;
  esac
done
