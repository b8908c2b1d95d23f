"""The command line as a whole: help, completion, wrong usage, targets and exit statuses."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from rankstream.client.cli import main


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(run, shell):
    script = run("completion", shell).stdout

    assert "_RANKSTREAM_COMPLETE" in script
    assert "rankstream" in script


def test_the_command_completes_itself():
    words = {"COMP_WORDS": "rankstream items p", "COMP_CWORD": "2"}
    asked = {"_RANKSTREAM_COMPLETE": "bash_complete", **words}

    result = CliRunner().invoke(main, prog_name="rankstream", env=asked)

    assert result.stdout == "plain,patch\n"


def every_command(group=main, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", [*every_command()], ids=" ".join)
def test_every_help_has_an_example_of_this_command(run, path):
    text = run(*path, "--help").stdout

    example = text.split("Example:")[1]
    assert f"rankstream {' '.join(path)}" in example


def test_an_error_is_one_line_and_status_1(run):
    result = run("items", "get", "gone")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith("item gone is not known\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["rank"],
        ["rank", "u1", "-k", "-1"],
        ["rank", "u1", "--filter", "price<=20", "--candidates", "a"],
        ["rank", "--session", "view"],
        ["rank", "u1", "--block-weight", "text"],
        ["rank", "u1", "--block-weight", "text=much"],
        ["explain", "u1"],
        ["explain", "", "toy"],
        ["embed"],
        ["embed", "a", "--file", "-"],
        ["tokenize"],
        ["user", "upsert", "ann", "--attribute", "budget"],
        ["items", "list", "--resume-token", "?"],
        ["completion", "tcsh"],
        ["rank", "u1", "--min-token", "?"],
        ["rank", "u1", "--candidates", "a", "--candidates-file", "-"],
        ["no-such-command"],
        ["items", "import", "/nowhere"],
        ["--timeout", "0", "info"],
    ],
)
def test_wrong_usage_is_status_2(run, arguments):
    assert run(*arguments).exit_code == 2


def test_a_server_that_is_not_there_says_what_to_do(run):
    result = run("--target", "127.0.0.1:1", "rank", "u1")

    assert result.exit_code == 1
    assert "127.0.0.1:1: " in result.stderr
    assert "rankstream serve" in result.stderr


def test_the_target_comes_from_the_environment(running, fake):
    result = CliRunner().invoke(main, ["rank", "u1"], env={"RANKSTREAM_TARGET": running.target})

    assert result.exit_code == 0, result.output
    assert len(fake.requests["Rank"]) == 1


def test_version():
    from importlib.metadata import version

    assert (
        CliRunner().invoke(main, ["--version"]).output
        == f"rankstream, version {version('rankstream')}\n"
    )
