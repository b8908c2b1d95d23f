"""How answers are printed: tables for people, JSON for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime

import click
from numpy import ndarray
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from rankstream.client.commands.session import token_text
from rankstream.client.errors import RankstreamError

# Marks that turn the direction of what is printed after them.
_BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def print_json(value: object) -> None:
    """One JSON document on one line."""
    click.echo(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))


def plain(value: object) -> object:
    """What JSON can hold: records become objects, arrays lists, tokens text."""
    if isinstance(value, RankstreamError):
        return {"code": value.code, "message": value.message}
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, ndarray):
        return value.tolist()
    if isinstance(value, bytes):
        return token_text(value)
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value


def show(renderable: RenderableType) -> None:
    """Prints a table or text on standard output."""
    Console(highlight=False).print(renderable)


def table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns named in ``right`` hold numbers."""
    heading = cell(title) if title else None
    made = Table(title=heading, title_justify="left", box=None, show_header=any(columns))
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def cell(text: str) -> Text:
    """Text of a stranger: never markup, and nothing that moves a terminal's cursor."""
    return Text("".join(char if _is_safe(char) else "\ufffd" for char in text))


def when(time_ms: int) -> str:
    """A time in ms since the epoch as a date; 0: never."""
    if not time_ms:
        return "-"
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


def ago(time_ms: int) -> str:
    """How long ago a time in ms since the epoch is."""
    seconds = max(0.0, time.time() - time_ms / 1000)
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _is_safe(char: str) -> bool:
    code = ord(char)
    return not (code < 0x20 or 0x7F <= code < 0xA0 or code in _BIDI)
