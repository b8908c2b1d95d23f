"""``rankstream serve``: where settings come from. Each case ends in a refusal, before it starts."""

import re

import pytest
from click.testing import CliRunner

from rankstream.server.config import from_mapping, options
from rankstream.server.errors import InvalidArgument
from rankstream.server.main import check, serve

EMBEDDED = {"embedded": True}


def run(*arguments, toml=None, tmp_path=None, **environment):
    if toml is not None:
        path = tmp_path / "settings.toml"
        path.write_bytes(toml.encode() if isinstance(toml, str) else toml)
        arguments = ("--config", str(path), *arguments)
    env = {f"RANKSTREAM_{name.upper()}": value for name, value in environment.items()}
    return CliRunner().invoke(serve, ["--embedded", *arguments], env=env)


def test_the_help_lists_every_option():
    shown = " ".join(CliRunner().invoke(serve, ["--help"], terminal_width=200).output.split())

    for option in options():
        assert "--" + option.name.replace("_", "-") in shown
        assert " ".join(option.doc.split()) in shown


def test_a_flag_beats_the_environment_which_beats_the_file(tmp_path):
    toml = '[listen]\nhost = "3.3.3.3"'

    flag = run("--host", "1.1.1.1", toml=toml, tmp_path=tmp_path, host="2.2.2.2")
    environment = run(toml=toml, tmp_path=tmp_path, host="2.2.2.2")
    file = run(toml=toml, tmp_path=tmp_path)

    for result, host in ((flag, "1.1.1.1"), (environment, "2.2.2.2"), (file, "3.3.3.3")):
        assert result.exit_code == 1
        assert f"error: host: {host} is not loopback" in result.output


def test_names_in_a_file_are_flat_or_in_any_table(tmp_path):
    flat = run(toml='host = "3.3.3.3"', tmp_path=tmp_path)
    other = run(toml='[whatever]\nhost = "4.4.4.4"', tmp_path=tmp_path)

    assert "3.3.3.3" in flat.output
    assert "4.4.4.4" in other.output


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('[listen]\nhots = "1.1.1.1"', "error: hots: no such setting"),
        ('port = "50051"', "error: port: '50051' is str, expected int"),
        ("port = 1\nport = 2", "error: config: .* is not TOML"),
        (b"host = '\xff'", "error: config: .* is not TOML"),
    ],
)
def test_a_file_that_does_not_read_is_refused(tmp_path, toml, problem):
    result = run(toml=toml, tmp_path=tmp_path)

    assert result.exit_code == 1
    # One line, no traceback.
    assert result.output.strip().count("\n") == 0
    assert re.match(problem, result.output)


def test_a_value_that_is_no_number_is_a_wrong_usage():
    assert run("--port", "many").exit_code == 2
    assert run(port="many").exit_code == 2
    assert run("--no-such-flag").exit_code == 2


def test_flags_of_yes_and_no_have_both(tmp_path):
    result = run("--no-insecure", toml='insecure = true\nhost = "3.3.3.3"', tmp_path=tmp_path)

    assert "3.3.3.3 is not loopback" in result.output


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "bootstrap_servers"),
        ({**EMBEDDED, "bootstrap_servers": "a:1"}, "bootstrap_servers"),
        ({**EMBEDDED, "host": "0.0.0.0"}, "host"),
        ({**EMBEDDED, "host": "example.org"}, "host"),
        ({**EMBEDDED, "host": "::"}, "host"),
        ({**EMBEDDED, "tls_cert": "/nothing.pem"}, "tls_key"),
        ({**EMBEDDED, "tls_client_ca": "/nothing.pem"}, "tls_cert"),
        ({**EMBEDDED, "tls_cert": "/nothing.pem", "tls_key": "/nothing.pem"}, "tls_key"),
        ({**EMBEDDED, "access_file": "/nothing.toml"}, "access_file"),
        ({**EMBEDDED, "workers": 0}, "workers"),
        ({**EMBEDDED, "events_partitions": 0}, "events_partitions"),
        ({**EMBEDDED, "max_rows": -1}, "max_rows"),
        ({**EMBEDDED, "max_id_bytes": 506}, "max_id_bytes"),
        ({**EMBEDDED, "max_id_bytes": 31}, "max_id_bytes"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, field):
    with pytest.raises(InvalidArgument) as refused:
        check(from_mapping(values))

    assert refused.value.field == field


@pytest.mark.parametrize(
    "values",
    [
        EMBEDDED,
        {"bootstrap_servers": "a:1"},
        {**EMBEDDED, "host": "localhost"},
        {**EMBEDDED, "host": "::1"},
        {**EMBEDDED, "host": "127.0.0.9"},
        {**EMBEDDED, "host": "0.0.0.0", "insecure": True},
    ],
)
def test_settings_that_can_be_are_taken(values):
    settings = from_mapping(values)

    assert check(settings) is settings
