"""docs/api.md: its examples run against a server, its tables are up to date, no RPC is left out."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path

import pytest

from rankstream.client import RankstreamError
from rankstream.server.config import Limits

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "api.md"
README = ROOT / "README.md"
PAGES = [README, *sorted(PAGE.parent.glob("*.md"))]
SERVICES = ("admin", "catalog", "encoder", "events", "profiles", "ranking")
COMMAND = f"""#!/bin/sh
exec {sys.executable} -c 'from rankstream.client.cli import main; main(prog_name="rankstream")' "$@"
"""

# Sections whose server is still being built. A section that runs must not be here.
NOT_YET: set[str] = set()


@dataclass(frozen=True)
class Section:
    """What stands under one heading of the third level."""

    title: str
    examples: tuple[tuple[str, str], ...]

    @property
    def languages(self) -> set[str]:
        return {language for language, _ in self.examples}


def sections_of(page: str) -> list[Section]:
    parts = re.split(r"^### (.+)\n", page, flags=re.MULTILINE)
    blocks = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [
        Section(title, tuple(blocks.findall(body)))
        for title, body in zip(parts[1::2], parts[2::2], strict=True)
    ]


SECTIONS = sections_of(PAGE.read_text())


@dataclass
class Reader:
    """Somebody who types the examples, one after the other."""

    server: object
    folder: Path
    names: dict

    def follow(self, section: Section) -> None:
        for language, example in section.examples:
            if language == "python":
                self.run_python(section, example)
            else:
                self.run_shell(example)

    def run_python(self, section: Section, example: str) -> None:
        target, admin = self.server.target, f"127.0.0.1:{self.server.admin_port}"
        ours = re.sub(
            r"\b((?:Async)?Client)\(\)", rf"\1({target!r}, admin_target={admin!r})", example
        )
        exec(compile(ours, f"{PAGE.name}, {section.title}", "exec"), self.names)

    def run_shell(self, example: str) -> None:
        environment = os.environ | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "RANKSTREAM_TARGET": self.server.target,
            "RANKSTREAM_ADMIN_TARGET": f"127.0.0.1:{self.server.admin_port}",
        }
        command = ["bash", "-euo", "pipefail", "-c", example]
        done = subprocess.run(
            command, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            message = f"status {done.returncode} of\n{example}\n{done.stdout}\n{done.stderr}"
            raise RankstreamError(message)


@pytest.fixture(scope="module")
def reader(serve_shared, tmp_path_factory):
    """Has followed the first section, which all others build on."""
    folder = tmp_path_factory.mktemp("reader")
    command = folder / "bin" / "rankstream"
    command.parent.mkdir()
    command.write_text(COMMAND)
    command.chmod(0o755)
    made = Reader(serve_shared().start(), folder, {})
    made.follow(SECTIONS[0])
    yield made
    with contextlib.suppress(KeyError):
        made.names["client"].close()


@pytest.mark.parametrize("section", SECTIONS[1:], ids=lambda section: section.title)
def test_examples_run(reader, section):
    if section.title not in NOT_YET:
        reader.follow(section)
        return
    try:
        reader.follow(section)
    except (RankstreamError, AssertionError):
        return
    pytest.fail(f"{section.title} runs: take it out of NOT_YET", pytrace=False)


def test_the_readmes_example_runs(reader):
    (example,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)

    reader.run_python(Section(README.name, ()), example.replace('"127.0.0.1:50051"', ""))


@pytest.mark.parametrize(
    "page", [README, *sorted(PAGE.parent.glob("*.md"))], ids=lambda page: page.name
)
def test_links_to_files_and_headings_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, heading = target.partition("#")
        if path.startswith(("http:", "https:")):
            continue
        found = page.parent / path if path else page
        assert found.exists(), target
        assert not heading or heading in headings_of(found), target


def headings_of(page):
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_what_is_not_yet_there_is_a_section():
    assert {section.title for section in SECTIONS} >= NOT_YET


def test_every_rpc_has_an_example_for_the_command_line_and_for_python():
    examples = {section.title: section.languages for section in SECTIONS}
    for service in SERVICES:
        module = import_module(f"rankstream.proto.v1.{service}_pb2")
        for described in module.DESCRIPTOR.services_by_name.values():
            for rpc in described.methods:
                assert examples.get(rpc.name) == {"sh", "python"}, rpc.full_name


def test_the_tables_are_what_the_protos_and_limits_say():
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "reference.py"), "--check"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def loaded(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def test_a_table_that_is_out_of_date_is_told():
    reference = loaded("reference", ROOT / "docs" / "reference.py")
    page = "<!-- message: Texts -->\nold\n<!-- end -->\n"

    assert "`values`" in reference.written(page)
    assert "old" not in reference.written(page)
    with pytest.raises(SystemExit, match="no proto declares"):
        reference.written("<!-- message: NoSuch -->\n<!-- end -->")


def test_every_limit_that_is_named_exists():
    known = {field.name for field in fields(Limits)}
    prose = re.sub(r"<!-- (\w+).*?<!-- end -->", "", PAGE.read_text(), flags=re.DOTALL)
    for name in re.findall(r"`(max_[a-z_]+)`", prose):
        assert name in known | {"max_wait_ms", "max_in_flight"}, name
