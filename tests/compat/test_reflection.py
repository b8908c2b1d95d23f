"""With --reflection, a caller that has no protos finds everything and can call it."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from descriptors import own_services
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from requests_to import TITLES, catalogue, upsert

STANDARD = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
ADMIN = "rankstream.v1.Admin"


@pytest.fixture(scope="module")
def server(serve_shared):
    made = serve_shared(reflection=True).start()
    upsert(made, catalogue())
    return made


class Reflected:
    """A client of what one port says of itself, and of nothing else."""

    def __init__(self, channel) -> None:
        self._channel = channel
        self._database = ProtoReflectionDescriptorDatabase(channel)
        self._pool = DescriptorPool(self._database)

    def services(self) -> set[str]:
        return set(self._database.get_services())

    def service(self, name):
        return self._pool.FindServiceByName(name)

    def call(self, service, method, request):
        """A unary call, request and answer as JSON values."""
        found = self.service(service).FindMethodByName(method)
        reads, writes = GetMessageClass(found.output_type), GetMessageClass(found.input_type)
        rpc = self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=writes.SerializeToString,
            response_deserializer=reads.FromString,
        )
        answer = rpc(json_format.ParseDict(request, writes()), timeout=20)
        return json_format.MessageToDict(answer)


def port_of(server, service: str) -> int:
    return server.admin_port if service == ADMIN else server.port


def test_every_service_is_listed_on_its_port(server):
    named = {service.full_name for service in own_services()}

    assert Reflected(server.channel()).services() == named - {ADMIN} | STANDARD
    assert Reflected(server.channel(server.admin_port)).services() == {ADMIN} | STANDARD


@pytest.mark.parametrize("service", list(own_services()), ids=lambda s: s.name)
def test_every_method_is_described_as_in_the_protos(server, service):
    reflected = Reflected(server.channel(port_of(server, service.full_name)))

    def described(found):
        return {
            method.name: (
                method.input_type.full_name,
                method.output_type.full_name,
                method.client_streaming,
                method.server_streaming,
            )
            for method in found.methods
        }

    assert described(reflected.service(service.full_name)) == described(service)


def test_a_call_needs_reflection_alone(server):
    request = {"userId": "nobody", "itemIds": {"itemIds": ["toy", "ghost"]}}

    ranked = Reflected(server.channel()).call("rankstream.v1.Ranking", "Rank", request)
    admin = Reflected(server.channel(server.admin_port))

    assert [item["itemId"] for item in ranked["items"]] == ["toy"]
    assert ranked["missingItemIds"] == ["ghost"]
    assert int(admin.call(ADMIN, "GetServerInfo", {})["items"]) == len(TITLES)


def grpcurl(*arguments: str) -> str:
    command = shutil.which("grpcurl")
    if command is None:
        get = "go install github.com/fullstorydev/grpcurl/cmd/grpcurl@latest"
        pytest.skip(f"grpcurl is not installed; `{get}` gets it")
    ended = subprocess.run(
        [command, "-plaintext", *arguments], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_grpcurl_lists_and_calls(server):
    for service in own_services():
        listed = grpcurl(
            f"127.0.0.1:{port_of(server, service.full_name)}", "list", service.full_name
        )
        assert set(listed.split()) == {method.full_name for method in service.methods}
    request = json.dumps({"user_id": "nobody", "whole_catalogue": {}, "k": 3})

    said = grpcurl("-d", request, server.target, "rankstream.v1.Ranking/Rank")

    assert len(json.loads(said)["items"]) == 3
