"""Who may call what: the file, the command that writes it, and the check."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from rankstream.server.access import Access, hash_of, methods_of
from rankstream.server.access_command import access as command
from rankstream.server.errors import InvalidArgument, PermissionDenied, Unauthenticated

RANKING, EVENTS, ADMIN = (f"rankstream.v1.{name}" for name in ("Ranking", "Events", "Admin"))
HASH = hash_of("open sesame")


def access_of(tmp_path, text):
    file = tmp_path / "access.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return Access(file)


def entry(name="shop", digest=HASH, allow='["Ranking", "Events.RecordEvents"]'):
    return f'[{name}]\nsha256 = "{digest}"\nallow = {allow}\n'


def bearing(token):
    return [("user-agent", "x"), ("authorization", f"Bearer {token}")]


def test_a_service_and_a_method_may_be_called_and_no_other(tmp_path):
    access = access_of(tmp_path, entry())

    access.check(bearing("open sesame"), RANKING, "Rank")
    access.check(bearing("open sesame"), RANKING, "StreamRank")
    access.check(bearing("open sesame"), EVENTS, "RecordEvents")
    for service, method in ((EVENTS, "StreamEvents"), (ADMIN, "GetServerInfo")):
        with pytest.raises(PermissionDenied, match=f"^shop may not call .*{method}"):
            access.check(bearing("open sesame"), service, method)


def test_a_star_is_everything_and_an_empty_list_nothing(tmp_path):
    other = hash_of("other")
    access = access_of(tmp_path, entry(allow='["*"]') + entry("idle", other, "[]"))

    access.check(bearing("open sesame"), ADMIN, "GetServerInfo")
    with pytest.raises(PermissionDenied):
        access.check(bearing("other"), RANKING, "Rank")


def test_reflection_and_health_are_for_every_caller_and_one_check_for_all(tmp_path):
    access = access_of(tmp_path, entry(allow="[]"))
    health = "grpc.health.v1.Health"
    for service, method in (
        ("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo"),
        (health, "Watch"),
    ):
        access.check(bearing("open sesame"), service, method)
        with pytest.raises(Unauthenticated):
            access.check([], service, method)
    access.check([], health, "Check")


def test_a_service_that_nobody_knows_is_for_nobody(tmp_path):
    access = access_of(tmp_path, entry(allow='["*"]'))

    with pytest.raises(PermissionDenied):
        access.check(bearing("open sesame"), "rankstream.v2.Ranking", "Erase")


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "")],
        [("authorization", "open sesame")],
        [("authorization", "Basic open sesame")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer Open sesame")],
        [("authorization", f"Bearer {HASH}")],
        [("authorization", b"\xff\xfe")],
        [("authorization", "Bearer " + "x" * 100_000)],
        [("Authorization", "Bearer open sesame")],
        # The first is taken, so that nothing behind it can be slipped in.
        [("authorization", "Bearer wrong"), ("authorization", "Bearer open sesame")],
    ],
)
def test_who_shows_no_token_of_anybody_is_refused(tmp_path, metadata):
    access = access_of(tmp_path, entry())

    with pytest.raises(Unauthenticated, match="access token") as refused:
        access.check(metadata, RANKING, "Rank")
    assert "sesame" not in str(refused.value)


def test_the_scheme_is_written_in_any_case(tmp_path):
    access_of(tmp_path, entry()).check([("authorization", "bearer  open sesame ")], RANKING, "Rank")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"\xff", "is not TOML"),
        ("[shop", "is not TOML"),
        ('shop = "x"', r"\[shop\]: expected sha256 and allow"),
        ("[shop]\nallow = []", r"\[shop\]: expected sha256 and allow"),
        (entry() + "alow = []", r"\[shop\]: expected sha256 and allow, and nothing else"),
        (entry(digest="x"), "expected 64 hexadecimal digits"),
        (entry(digest=HASH.upper()), "expected 64 hexadecimal digits"),
        (entry() + entry("twin"), "twin.*is that of shop, too"),
        (entry(allow='"Ranking"'), "expected a list"),
        (entry(allow="[1]"), "1, expected"),
        (entry(allow='["Rank"]'), "'Rank', expected .*Ranking"),
        (entry(allow='["Ranking.Ranks"]'), "'Ranking.Ranks', expected"),
        (entry('"a b"'), "expected 1 to 64 letters"),
    ],
)
def test_a_file_that_does_not_read_is_refused(tmp_path, text, problem):
    with pytest.raises(InvalidArgument, match=problem):
        access_of(tmp_path, text)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="access_file: .*cannot be read"):
        Access(tmp_path / "nothing")


def test_services_and_methods_are_those_of_the_protos():
    protos = Path(__file__).parents[2] / "proto" / "v1"
    written = set()
    for file in protos.glob("*.proto"):
        service = re.search(r"^service (\w+)", file.read_text(), re.MULTILINE)
        if service:
            names = re.findall(r"^  rpc (\w+)", file.read_text(), re.MULTILINE)
            written |= {f"{service[1]}.{name}" for name in names}
            assert methods_of("allow", [service[1]]) == {f"{service[1]}.{n}" for n in names}
    assert methods_of("allow", ["*"]) == written
    assert len(written) >= 25


def test_what_the_command_prints_lets_its_token_in(tmp_path):
    arguments = ["shop", "--allow", "Ranking", "--allow", "Events.RecordEvents"]
    made = [CliRunner().invoke(command, arguments) for _ in range(2)]

    assert [each.exit_code for each in made] == [0, 0]
    tokens = [re.search(r"shown once: (\S+)", each.stderr)[1] for each in made]
    assert tokens[0] != tokens[1]
    assert tokens[0] not in made[0].stdout
    access = access_of(tmp_path, made[0].stdout)
    access.check(bearing(tokens[0]), RANKING, "Rank")
    with pytest.raises(Unauthenticated):
        access.check(bearing(tokens[1]), RANKING, "Rank")


@pytest.mark.parametrize(
    "arguments", [["shop"], ["a b", "--allow", "*"], ["shop", "--allow", "Rank"], []]
)
def test_a_wrong_use_of_the_command_is_named(arguments):
    result = CliRunner().invoke(command, arguments)

    assert result.exit_code == 2
    assert "Error: " in result.stderr
