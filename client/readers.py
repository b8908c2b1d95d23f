"""Files of events or items: JSON Lines, CSV and TSV, plain or gzip, read as a stream.

JSON Lines holds one object a line; CSV and TSV begin with a header row. Keys and columns are the
fields of ``Event`` and ``Item``. In CSV and TSV an empty cell is an unset field, ``tags`` are
separated by ``|``, and there are no ``vectors`` and ``attributes``; TSV knows no quoting. Text is
UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Generic, Literal, TypeAlias, TypeVar, cast

from rankstream.client.errors import BadRecord, InvalidArgument, invalid
from rankstream.client.parsing import EVENT, ITEM, Parsed, Schema, json_lines, table_lines
from rankstream.client.records import Event, Item

R = TypeVar("R")
Format: TypeAlias = Literal["jsonl", "csv", "tsv"]
OnError: TypeAlias = Literal["stop", "skip"]

MAX_LINE_BYTES = 16 << 20
MAX_SKIPPED_SHOWN = 10
_GZIP_MAGIC = b"\x1f\x8b"
_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
}
_PARSERS: dict[Format, Callable[[Iterable[str], Schema, str], Iterator[Parsed]]] = {
    "jsonl": json_lines,
    "csv": partial(table_lines, delimiter=","),
    "tsv": partial(table_lines, delimiter="\t"),
}


def read_events(
    path: str, *, format: Format | None = None, on_error: OnError = "stop"
) -> RecordReader[Event]:
    """Events of a file; ``-`` reads standard input. See ``RecordReader``."""
    return RecordReader(path, EVENT, format, on_error)


def read_items(
    path: str, *, format: Format | None = None, on_error: OnError = "stop"
) -> RecordReader[Item]:
    """Items of a file; ``-`` reads standard input. See ``RecordReader``."""
    return RecordReader(path, ITEM, format, on_error)


class RecordReader(Generic[R]):
    """Records of a file, one after the other.

    Iterating raises ``BadRecord`` at a line that is not a record; with ``on_error="skip"`` such a
    line is counted instead. A file that cannot be read any further always raises.

    Attributes:
        size_bytes: bytes of the file as it is stored; None for standard input.
        skipped: lines that were not records.
        first_skipped: the first ten of their errors.
    """

    def __init__(self, path: str, schema: Schema, format: Format | None, on_error: OnError) -> None:
        self._path = path
        self._schema = schema
        self._format = format or format_of(path)
        self._stops = on_error == "stop"
        self._stored: io.BufferedReader | None = None
        self._bytes_at_end = 0
        self.size_bytes = _size_bytes(path)
        self.skipped = 0
        self.first_skipped: list[BadRecord] = []

    @property
    def bytes_read(self) -> int:
        """Bytes of the stored file that were read so far, for a progress bar on any thread."""
        stored = self._stored
        if stored is None or self.size_bytes is None:
            return self._bytes_at_end
        try:
            return stored.tell()
        except ValueError:
            # The thread that reads has just closed it.
            return self.size_bytes

    def __iter__(self) -> Iterator[R]:
        with _opened(self._path) as self._stored:
            lines = _text_lines(self._stored, self._path)
            for number, parsed in _PARSERS[self._format](lines, self._schema, self._path):
                if isinstance(parsed, InvalidArgument):
                    self._refuse(number, parsed)
                else:
                    yield cast(R, parsed)
        self._bytes_at_end = self.size_bytes or 0
        self._stored = None

    def _refuse(self, number: int, problem: InvalidArgument) -> None:
        violation = problem.field_violations[0]
        error = BadRecord(self._path, number, violation.field, violation.description)
        if self._stops:
            raise error
        self.skipped += 1
        if len(self.first_skipped) < MAX_SKIPPED_SHOWN:
            self.first_skipped.append(error)


def format_of(path: str) -> Format:
    """The format that a file's name says; standard input is JSON Lines."""
    if path == "-":
        return "jsonl"
    suffix = Path(path.removesuffix(".gz")).suffix.lower()
    if suffix not in _SUFFIXES:
        problem = f"{path} ends in none of {', '.join(_SUFFIXES)} (nor in these and .gz); name it"
        raise invalid(field="format", problem=problem)
    return _SUFFIXES[suffix]


def _size_bytes(path: str) -> int | None:
    try:
        return None if path == "-" else Path(path).stat().st_size
    except OSError as problem:
        raise invalid(field="path", problem=str(problem)) from None


@contextmanager
def _opened(path: str) -> Iterator[io.BufferedReader]:
    if path != "-":
        with Path(path).open("rb") as stored:
            yield stored
        return
    stored = io.BufferedReader(cast(io.RawIOBase, sys.stdin.buffer))
    try:
        yield stored
    finally:
        stored.detach()


def _text_lines(stored: io.BufferedReader, path: str) -> Iterator[str]:
    """Lines with their ends. What is not UTF-8 becomes lone surrogates, which the checks refuse.

    Raises:
        BadRecord: the gzip stream is damaged, or a line is longer than ``MAX_LINE_BYTES``.
    """
    zipped = stored.peek(2)[:2] == _GZIP_MAGIC
    source = gzip.GzipFile(fileobj=stored) if zipped else stored
    number, encoding = 0, "utf-8-sig"
    try:
        while line := source.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise BadRecord(path, number, "", f"is longer than {MAX_LINE_BYTES} bytes")
            yield line.decode(encoding, "surrogateescape")
            encoding = "utf-8"
    except (EOFError, OSError, zlib.error) as problem:
        raise BadRecord(path, number + 1, "", f"cannot be read further: {problem}") from None
