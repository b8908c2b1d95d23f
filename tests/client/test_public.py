"""What is public, and what is loaded when."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

import rankstream.client
from rankstream.client import cli

HEAVY = ("grpc", "numpy", "kafka", "rich", "google.protobuf", "rankstream.server")


def loaded_after(code):
    """Which of the heavy modules a new interpreter holds after ``code``."""
    check = f"import sys\n{code}\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[-2].split()


def help_of(*arguments):
    return (
        "from rankstream.client.cli import main\n"
        f"try: main({list(arguments)!r})\n"
        "except SystemExit: pass"
    )


def test_exported_names_are_the_public_ones():
    homes = rankstream.client._HOME_OF

    assert sorted(rankstream.client.__all__) == sorted(homes)
    for name, module in homes.items():
        home = import_module(f"rankstream.client.{module}")
        assert getattr(rankstream.client, name) is getattr(home, name)
        assert getattr(home, name).__module__ == home.__name__, name
    assert dir(rankstream.client) == sorted(homes)


def test_every_error_is_exported_and_drawn():
    errors = import_module("rankstream.client.errors")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    for kind in kinds:
        if issubclass(kind, Exception):
            assert kind.__name__ in rankstream.client.__all__
            assert f" {kind.__name__}" in errors.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        rankstream.client.no_such_name  # noqa: B018


def test_the_package_loads_nothing_until_it_is_used():
    assert loaded_after("import rankstream.client") == []


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["rank", "--help"], ["events", "import", "--help"], ["completion", "bash"]],
)
def test_help_loads_nothing(arguments):
    assert loaded_after(help_of(*arguments)) == []


def test_a_failed_rank_does_not_load_the_server_nor_kafka():
    loaded = loaded_after(help_of("--timeout", "0.01", "rank", "u1"))

    assert "grpc" in loaded
    assert "rankstream.server" not in loaded
    assert "kafka" not in loaded


def test_help_lists_the_commands_of_others():
    from click.testing import CliRunner

    output = CliRunner().invoke(cli.main, ["--help"]).output

    assert "serve       Run the server" in output
    assert "rank        Rank items, best first" in output


class Point:
    """An entry point whose loading the test decides."""

    name = "extra"
    value = "some.module:extra"

    def __init__(self, loaded):
        self.loaded = loaded

    def load(self):
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


@pytest.fixture
def extra(monkeypatch):
    def install(loaded):
        monkeypatch.setattr(cli, "entry_points", lambda group: [Point(loaded)])

    return install


def run(*arguments):
    from click.testing import CliRunner

    return CliRunner().invoke(cli.main, arguments)


def test_a_command_of_another_package_runs(extra):
    extra(click.Command("extra", callback=lambda: click.echo("ran")))

    assert run("extra").output == "ran\n"
    assert "See 'rankstream extra --help'." in run("--help").output


def test_a_command_that_cannot_be_loaded_is_an_error(extra):
    extra(ImportError("no torch"))

    result = run("extra")

    assert result.exit_code == 1
    assert "cannot be loaded from some.module:extra: no torch" in result.output


def test_an_entry_point_that_is_no_command_is_an_error(extra):
    extra(5)

    assert "is not a click command" in run("extra").output


def test_the_client_imports_only_itself_and_the_protocol():
    folder = Path(rankstream.client.__file__).parent
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                if name.startswith("rankstream"):
                    assert name.startswith(("rankstream.client", "rankstream.proto")), path
