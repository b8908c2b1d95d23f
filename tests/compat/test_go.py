"""The protos serve Go: code is generated from them, built, and ranks against a server.

``go.mod`` pins the modules and the two generators, ``go.sum`` their hashes. No generated Go code is
in the repository.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from descriptors import generate

SOURCE = Path(__file__).parent / "go"
PACKAGE = "rankstream.invalid/compat/pb"
PLUGINS = ("protoc-gen-go", "protoc-gen-go-grpc")
NO_ANSWER = re.compile(
    r"dial tcp|lookup |i/o timeout|TLS handshake|connection (refused|reset)|proxyconnect"
    r"|no such host|unexpected EOF|: 50\d |: 40[37] |disabled by GOPROXY=off|deadline exceeded"
)
TIMEOUT_S = 300


def go_or_skip() -> str:
    found = shutil.which("go")
    if found is None:
        pytest.skip("Go is not installed; https://go.dev/dl has it (1.24 or later)")
    return found


def run_go(folder: Path, *arguments: str) -> None:
    """A Go command; where a module cannot be downloaded, the test is skipped."""
    environment = os.environ | {"GOBIN": str(folder / "bin"), "GOFLAGS": "-mod=readonly"}
    command = [go_or_skip(), *arguments]
    try:
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"`go {' '.join(arguments)}` did not end within {TIMEOUT_S} s")
    if ended.returncode and NO_ANSWER.search(ended.stderr):
        pytest.skip(f"Go modules cannot be downloaded: {ended.stderr.strip().splitlines()[-1]}")
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="session")
def program(tmp_path_factory) -> Path:
    """The program; built before any server is, so that a skip costs nothing."""
    go_or_skip()
    folder = tmp_path_factory.mktemp("go")
    for name in ("main.go", "go.mod", "go.sum"):
        shutil.copy(SOURCE / name, folder)
    run_go(folder, "install", "tool")
    for plugin in PLUGINS:
        generate(folder / "bin" / plugin, folder / "pb", PACKAGE)
    run_go(folder, "vet", ".")
    run_go(folder, "build", "-o", "compat", ".")
    return folder / "compat"


@pytest.mark.network
def test_a_go_program_upserts_records_and_ranks(program, serve):
    server = serve().start()

    ended = subprocess.run([program, server.target], capture_output=True, text=True, timeout=60)

    assert ended.returncode == 0, ended.stderr
    ranked = json.loads(ended.stdout)
    assert ranked["requestId"] == "from-go"
    assert [item["itemId"] for item in ranked["items"]] == ["go-novel", "go-kettle"]
    assert ranked["missingItemIds"] == ["go-nothing"]
    assert ranked["items"][0]["reasons"][0]["type"] == "click"
    assert len(ranked["items"][0]["parts"]["blocks"]) == len(ranked["blockNames"])


@pytest.mark.network
def test_the_go_program_says_what_went_wrong(program):
    ended = subprocess.run([program, "127.0.0.1:1"], capture_output=True, text=True, timeout=60)

    assert ended.returncode == 1
    assert "UpsertItems: rpc error: code = Unavailable" in ended.stderr


def test_no_generated_go_code_is_in_the_repository():
    assert [path.name for path in SOURCE.rglob("*.go")] == ["main.go"]
