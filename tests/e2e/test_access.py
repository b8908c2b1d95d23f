"""Access tokens and TLS over the whole way: a real server, our clients, and strangers."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from requests_to import catalogue, ids_of, rank, upsert
from server_process import wait_for

from rankstream.client import (
    AsyncClient,
    Client,
    Credentials,
    Item,
    PermissionDenied,
    RankQuery,
    Unauthenticated,
    Unavailable,
)
from rankstream.proto.v1 import admin_pb2
from rankstream.server.access import hash_of

COMMAND = (sys.executable, "-c", "from rankstream.client.cli import main; main()")
StatusCode = grpc.StatusCode
SHOP, LOADER = "shop-token", "loader-token"
RULES = {"shop": (SHOP, ["Ranking", "Profiles.GetProfile"]), "loader": (LOADER, ["*"])}


def write_rules(file, rules):
    entries = (
        f'[{name}]\nsha256 = "{hash_of(token)}"\nallow = {json.dumps(allow)}\n'
        for name, (token, allow) in rules.items()
    )
    file.write_text("".join(entries))


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    file = tmp_path_factory.mktemp("access") / "access.toml"
    write_rules(file, RULES)
    return file


@pytest.fixture(scope="module")
def guarded(serve_shared, rules):
    """A server that asks for tokens, with a catalogue."""
    started = serve_shared(access_file=rules, reflection=True).start()
    with client_of(started, LOADER) as client:
        written = client.upsert_items([Item(one.item_id, one.title) for one in catalogue()])
        client.get_item("toy", min_token=written.token, max_wait_ms=10_000)
    return started


def client_of(server, token="", **more):
    credentials = Credentials(access_token=token, **more)
    admin = f"127.0.0.1:{server.admin_port}"
    return Client(server.target, admin_target=admin, credentials=credentials, timeout_s=10)


def refused_with(call, *sent, **how):
    with pytest.raises(grpc.RpcError) as error:
        list(call(*sent, timeout=10, **how))
    return error.value.code()


def test_without_a_token_nothing_is_read(guarded):
    channel = guarded.channel()
    rubbish = b"\xff\xff\xff"
    unary = channel.unary_unary("/rankstream.v1.Ranking/Rank")
    stream = channel.stream_stream("/rankstream.v1.Ranking/StreamRank")
    listing = channel.unary_stream("/rankstream.v1.Catalog/ListItems")
    upload = channel.stream_unary("/rankstream.v1.Events/ImportEvents")
    asked = admin_pb2.GetServerInfoRequest()

    # With a token the same bytes are no message.
    shown = [("authorization", f"Bearer {SHOP}")]
    assert refused_with(unary, rubbish, metadata=shown) == StatusCode.INVALID_ARGUMENT
    for token in ({}, {"metadata": [("authorization", "Bearer wrong")]}):
        assert refused_with(unary, rubbish, **token) == StatusCode.UNAUTHENTICATED
        assert refused_with(stream, iter([rubbish]), **token) == StatusCode.UNAUTHENTICATED
        assert refused_with(listing, rubbish, **token) == StatusCode.UNAUTHENTICATED
        assert refused_with(upload, iter([rubbish]), **token) == StatusCode.UNAUTHENTICATED
        assert refused_with(guarded.admin.GetServerInfo, asked, **token) == (
            StatusCode.UNAUTHENTICATED
        )


def test_a_token_allows_what_its_file_says(guarded):
    with client_of(guarded, SHOP) as shop, client_of(guarded) as nobody:
        assert shop.rank("ann").items
        assert [len(one.items) for one in shop.stream_rank([RankQuery("ann", k=3)])] == [3]
        assert not shop.get_profile("ann").known
        with pytest.raises(PermissionDenied, match=r"shop may not call Catalog\.UpsertItems"):
            shop.upsert_items([Item("new")])
        with pytest.raises(PermissionDenied, match=r"Admin\.GetServerInfo"):
            shop.server_info()
        with pytest.raises(Unauthenticated, match="authorization: Bearer"):
            nobody.rank("ann")
        with pytest.raises(Unauthenticated):
            list(nobody.stream_rank([RankQuery("ann")]))
    with client_of(guarded, LOADER) as loader:
        assert loader.server_info().items == len(catalogue())


def test_the_other_client_and_the_command_show_theirs(guarded):
    async def ask():
        credentials = Credentials(access_token=SHOP)
        async with AsyncClient(guarded.target, credentials=credentials) as client:
            return await client.rank("ann")

    command = [*COMMAND, "--target", guarded.target, "rank", "ann", "--json"]
    environment = {"PATH": "", "RANKSTREAM_ACCESS_TOKEN": SHOP}
    ran = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)
    bare = subprocess.run(command, env={"PATH": ""}, capture_output=True, timeout=60, check=False)

    expected = [item.item_id for item in asyncio.run(ask()).items]
    assert [item["item_id"] for item in json.loads(ran.stdout)["items"]] == expected
    assert (bare.returncode, bare.stderr.count(b"access token")) == (1, 1)


def test_health_is_open_and_reflection_is_not(guarded):
    reflection = reflection_pb2_grpc.ServerReflectionStub(guarded.channel())
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]

    assert refused_with(guarded.health.Watch, health_pb2.HealthCheckRequest()) == (
        StatusCode.UNAUTHENTICATED
    )
    status = guarded.health.Check(health_pb2.HealthCheckRequest(), timeout=10).status
    assert status == health_pb2.HealthCheckResponse.SERVING
    assert refused_with(reflection.ServerReflectionInfo, iter(asked)) == StatusCode.UNAUTHENTICATED
    shown = [("authorization", f"Bearer {SHOP}")]
    (answer,) = reflection.ServerReflectionInfo(iter(asked), metadata=shown, timeout=10)
    names = [service.name for service in answer.list_services_response.service]
    assert "rankstream.v1.Ranking" in names


def test_a_changed_file_is_in_force_without_a_restart(guarded, rules):
    try:
        write_rules(rules, {**RULES, "shop": ("another", ["Ranking"])})
        with client_of(guarded, "another") as new, client_of(guarded, SHOP) as old:
            wait_for(lambda: lets_in(new), "the new token")
            assert not lets_in(old)
            rules.write_text("rubbish")
            time.sleep(1.5)
            assert lets_in(new)
    finally:
        write_rules(rules, RULES)
    with client_of(guarded, SHOP) as shop:
        wait_for(lambda: lets_in(shop), "the old token")
    assert "access.toml is not TOML" in guarded.log
    assert not any(token in guarded.log for token in (SHOP, LOADER, "another"))


def test_an_open_stream_ends_when_its_token_is_taken_back(guarded, rules):
    taken_back = threading.Event()

    def queries():
        yield RankQuery("ann", k=3)
        assert taken_back.wait(20)
        yield RankQuery("ann", k=3)

    with client_of(guarded, SHOP) as shop:
        answers = shop.stream_rank(queries())
        try:
            assert len(next(answers).items) == 3
            write_rules(rules, {"loader": RULES["loader"]})
            wait_for(lambda: not lets_in(shop), "the end of the token")
            taken_back.set()
            with pytest.raises(Unauthenticated):
                list(answers)
            assert "failed unexpectedly" not in guarded.log
        finally:
            taken_back.set()
            write_rules(rules, RULES)
        wait_for(lambda: lets_in(shop), "the token")


def lets_in(client):
    try:
        client.rank("ann")
    except Unauthenticated:
        return False
    return True


class Authority:
    """Somebody who makes certificates, in files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = trustme.CA()
        folder.mkdir()
        self.roots = str(folder / "roots.pem")
        self._authority.cert_pem.write_to_path(self.roots)

    def issue(self, name: str, *identities: str) -> dict[str, str]:
        made = self._authority.issue_cert(*identities)
        key, certificate = (str(self._folder / f"{name}.{kind}") for kind in ("key", "pem"))
        made.private_key_pem.write_to_path(key)
        Path(certificate).write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
        return {"key": key, "certificate": certificate}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority") / "ours")


@pytest.fixture(scope="module")
def caller(authority):
    return authority.issue("caller", "caller@example.org")


@pytest.fixture(scope="module")
def encrypted(serve_shared, authority, caller):
    """A server that asks for certificates, and on no loopback address alone."""
    own = authority.issue("server", "127.0.0.1")
    made = serve_shared(
        host="0.0.0.0",
        tls_key=own["key"],
        tls_cert=own["certificate"],
        tls_client_ca=authority.roots,
    )
    made.tls = Credentials(ca=authority.roots, **caller).channel_credentials
    made.start()
    upsert(made, catalogue())
    return made


def test_callers_are_known_by_their_certificates(encrypted, authority, caller, tmp_path):
    stranger = Authority(tmp_path / "theirs")
    with client_of(encrypted, ca=authority.roots, **caller) as known:
        assert known.rank("ann").items
        assert known.server_info().items == len(catalogue())
    wrong = [
        {},
        {"ca": authority.roots},
        {"ca": stranger.roots, **caller},
        {"ca": authority.roots, **stranger.issue("stranger", "stranger@example.org")},
    ]
    for shown in wrong:
        with client_of(encrypted, **shown) as unknown, pytest.raises(Unavailable):
            unknown.rank("ann", timeout_s=2)
    assert ids_of(rank(encrypted, "ann"))


def test_a_new_certificate_is_shown_without_a_restart(encrypted, authority, caller, tmp_path):
    other = Authority(tmp_path / "other")
    trusting = {"ca": other.roots, **caller}
    old = {name: Path(encrypted.flags[name]).read_bytes() for name in ("tls_key", "tls_cert")}
    new = other.issue("server", "127.0.0.1")
    try:
        Path(encrypted.flags["tls_key"]).write_bytes(Path(new["key"]).read_bytes())
        Path(encrypted.flags["tls_cert"]).write_bytes(Path(new["certificate"]).read_bytes())
        wait_for(lambda: connects(encrypted, trusting), "the new certificate")
        # An open connection lives on.
        assert ids_of(rank(encrypted, "ann"))
    finally:
        for name, content in old.items():
            Path(encrypted.flags[name]).write_bytes(content)
    wait_for(lambda: connects(encrypted, {"ca": authority.roots, **caller}), "the old one")


def connects(server, shown):
    with client_of(server, **shown) as client:
        try:
            client.rank("ann", timeout_s=2)
        except Unavailable:
            return False
        return True
