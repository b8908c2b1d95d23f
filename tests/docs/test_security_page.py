"""The page on security says what the command, the file and the flags are."""

import re
import tomllib
from pathlib import Path

from click.testing import CliRunner

from rankstream.client.cli import main
from rankstream.server.access import Access
from rankstream.server.access_command import access
from rankstream.server.config import options

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


def test_the_commands_that_make_tokens_run():
    lines = [
        line.partition(">>")[0].replace("'", "").split()
        for kind, block in BLOCKS
        if kind == "sh"
        for line in block.splitlines()
        if line.startswith("rankstream access")
    ]

    assert len(lines) == 2
    for line in lines:
        made = CliRunner().invoke(access, line[2:])
        assert made.exit_code == 0, made.output
        assert tomllib.loads(made.stdout)[line[2]]["allow"]


def test_the_file_that_is_shown_reads(tmp_path):
    (shown,) = [block for kind, block in BLOCKS if kind == "toml"]
    (tmp_path / "access.toml").write_text(shown)

    Access(tmp_path / "access.toml")


def test_every_flag_is_one():
    known = {"--" + option.name.replace("_", "-") for option in options()}
    for command in (main, access):
        known.update(flag for parameter in command.params for flag in parameter.opts)

    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE))

    assert named - known == set()


def test_what_programs_write_compiles():
    for kind, block in BLOCKS:
        if kind == "python":
            compile(block, "security.md", "exec")
