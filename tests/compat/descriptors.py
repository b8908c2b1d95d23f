"""The protos as descriptors, and code of other languages from them.

A protoc plugin reads descriptors on its standard input and writes files on its output
(google/protobuf/compiler/plugin.proto). The descriptors are those that protoc has left in the
``*_pb2`` modules, so that no protoc is needed here.
"""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from rankstream.proto import v1


def own_files() -> list[FileDescriptor]:
    """Every file of ours, whether or not a test knows of it."""
    (folder,) = v1.__path__
    names = sorted(path.stem for path in Path(folder).glob("*_pb2.py"))
    return [importlib.import_module(f"{v1.__name__}.{name}").DESCRIPTOR for name in names]


def own_services() -> Iterator[ServiceDescriptor]:
    """Every service of ours."""
    for file in own_files():
        yield from file.services_by_name.values()


def generate(plugin: Path, into: Path, go_package: str) -> None:
    """Writes what a Go plugin makes of our protos, which name no Go package themselves."""
    own = [file.name for file in own_files()]
    request = plugin_pb2.CodeGeneratorRequest(
        file_to_generate=own,
        proto_file=_with_dependencies(own_files()),
        parameter=",".join(f"M{name}={go_package}" for name in own),
    )
    ended = subprocess.run(
        [plugin], input=request.SerializeToString(), capture_output=True, check=True
    )
    response = plugin_pb2.CodeGeneratorResponse.FromString(ended.stdout)
    assert not response.error, response.error
    into.mkdir(exist_ok=True)
    for file in response.file:
        (into / Path(file.name).name).write_text(file.content)


def _with_dependencies(files: list[FileDescriptor]) -> list[FileDescriptorProto]:
    """Each file behind those that it imports."""
    found: dict[str, FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        for imported in file.dependencies:
            add(imported)
        if file.name not in found:
            found[file.name] = FileDescriptorProto()
            file.CopyToProto(found[file.name])

    for file in files:
        add(file)
    return list(found.values())
