"""Writes the tables of docs/api.md from the comments of proto/v1 and from ``config.Limits``.

    python docs/reference.py           # writes them anew
    python docs/reference.py --check   # fails where they are not what it would write

A table stands between ``<!-- rpcs: Ranking -->``, ``<!-- message: Event -->`` or
``<!-- limits -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from rankstream.server.config import Limits

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
_REGION = re.compile(r"(<!-- (\w+)(?:: (\w+))? -->\n).*?(<!-- end -->)", re.DOTALL)
_RPC = re.compile(r"rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\)")
_FIELD = re.compile(r"((?:optional |repeated )?(?:map<[^>]+>|[\w.]+)) (\w+) = \d+;")
_OPENS = re.compile(r"(service|message|enum|oneof) (\w+) {")


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that a proto declares.

    Attributes:
        owner: the service or message it is in.
        name: its own.
        kind: its type; of an RPC, what streams.
        comment: what the proto says of it.
    """

    owner: str
    name: str
    kind: str
    comment: str


def rows_of(text: str) -> Iterator[Row]:
    """RPCs and fields of one proto, in its order."""
    open_blocks: list[tuple[str, str]] = []
    comment: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("//"):
            comment.append(line.removeprefix("//").strip())
            continue
        owner = next((name for kind, name in reversed(open_blocks) if kind != "oneof"), "")
        said = " ".join(comment)
        if found := _RPC.search(line):
            yield Row(owner, found[1], _streaming(bool(found[2]), bool(found[4])), said)
        elif opened := _OPENS.match(line):
            if opened[1] == "oneof" and said:
                yield Row(owner, opened[2], "one of the following", said)
            if not line.endswith("}"):
                open_blocks.append((opened[1], opened[2]))
        elif field := _FIELD.match(line):
            group = open_blocks[-1][1] if open_blocks[-1][0] == "oneof" else ""
            yield Row(owner, field[2], _kind(field[1], group), said)
        elif value := re.match(r"(\w+) = \d+;", line):
            yield Row(owner, value[1], "value", said)
        elif line == "}":
            open_blocks.pop()
        comment.clear()


def written(page: str) -> str:
    """``page`` with its tables anew."""
    rows = [
        row for path in sorted(ROOT.glob("proto/v1/*.proto")) for row in rows_of(path.read_text())
    ]
    return _REGION.sub(lambda found: found[1] + _table(found[2], found[3], rows) + found[4], page)


def _table(kind: str, name: str | None, rows: list[Row]) -> str:
    if kind == "limits":
        listed = [(f"`{f.name}`", f"{f.default:,}", f.metadata["doc"]) for f in fields(Limits)]
        return _markdown(("limit", "default", "what it bounds"), listed)
    ours = [row for row in rows if row.owner == name and row.name != f"{row.kind}_UNSPECIFIED"]
    if not ours:
        message = f"docs/api.md names {kind} {name}, which no proto declares"
        raise SystemExit(message)
    if kind == "rpcs":
        linked = [(f"[`{r.name}`](#{r.name.lower()})", r.kind, r.comment) for r in ours]
        return _markdown(("RPC", "streams", "what it does"), linked)
    return _markdown(
        ("field", "type", "meaning"), [(f"`{r.name}`", r.kind, r.comment) for r in ours]
    )


def _markdown(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    escaped = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in lines)
    return "".join(f"| {row} |\n" for row in escaped)


def _streaming(request: bool, response: bool) -> str:
    names = [name for name, is_so in (("requests", request), ("answers", response)) if is_so]
    return " and ".join(names) or "no"


def _kind(declared: str, group: str) -> str:
    shown = f"`{declared}`"
    return f"{shown}, one of `{group}`" if group else shown


def main() -> int:
    """Writes the page, or says whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail where it differs")
    check = parser.parse_args().check
    page = PAGE.read_text()
    anew = written(page)
    if check and anew != page:
        sys.stderr.write("docs/api.md is not up to date: run python docs/reference.py\n")
        return 1
    if not check:
        PAGE.write_text(anew)
    return 0


if __name__ == "__main__":
    sys.exit(main())
