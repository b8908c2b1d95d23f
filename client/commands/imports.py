"""Importing a file: options, progress and the summary, the same for items and events."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

if TYPE_CHECKING:
    from rankstream.client.errors import RankstreamError
    from rankstream.client.imports import Imported, ImportProgress
    from rankstream.client.readers import RecordReader

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_SHOWN = 10


def import_options(command: F) -> F:
    """Adds the file and how it is read."""
    for decorate in (
        click.option(
            "--progress/--no-progress", "progress_wanted", default=None,
            help="Show a progress bar. Default: on a terminal.",
        ),
        click.option(
            "--on-error", type=click.Choice(["stop", "skip"]), default="stop", show_default=True,
            help="What to do about a line that is not a record: end there, or pass it over. What "
            "the server refuses fails alone; with stop, the command then fails, too.",
        ),
        click.option(
            "--format", "format", type=click.Choice(["jsonl", "csv", "tsv"]),
            help="Format of the file. Default: what its name says.",
        ),
        click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True)),
    ):  # fmt: skip
        command = decorate(command)
    return command


@dataclass(slots=True)
class Tally(Generic[T]):
    """What became of the records of one import.

    ``records`` are read until one is bad; the others are written before its error is raised.
    """

    noun: str
    reader: RecordReader[T]
    stop: bool
    advance: Callable[[int], None] = lambda written: None
    written: int = 0
    refused: int = 0
    token: bytes = b""
    start_s: float = field(default_factory=time.monotonic)
    shown: list[str] = field(default_factory=list)
    problem: RankstreamError | None = None

    def records(self, name: Callable[[T], str], names: dict[int, str]) -> Iterator[T]:
        """The records of the file; ``names`` keeps the names of those last handed over."""
        from rankstream.client.errors import RankstreamError

        try:
            for index, record in enumerate(self.reader):
                names[index] = name(record)
                names.pop(index - _NAMES_KEPT, None)
                yield record
        except RankstreamError as problem:
            self.problem = problem

    def take(self, report: ImportProgress | Imported, names: dict[int, str]) -> None:
        """Counts what a report says."""
        self.written, self.refused = report.accepted, report.rejected
        self.token = report.token or self.token
        for failure in report.failures[: _SHOWN - len(self.shown)]:
            name = names.get(failure.index, f"{self.noun}[{failure.index}]")
            self.shown.append(f"{name} was refused: {failure.error.message}")
        self.advance(self.written + self.refused)

    @contextmanager
    def summed_up(self, as_json: bool) -> Iterator[None]:
        """Prints the summary at the end, also at a bad one.

        Raises:
            RankstreamError: a line was bad or a record was refused, where that is to stop.
        """
        from rankstream.client.errors import RankstreamError

        try:
            yield
        except BaseException:
            self._finish(as_json, self.shown)
            raise
        ends_it = self.stop and self.problem is None
        self._finish(as_json, self.shown[1:] if ends_it else self.shown)
        if self.problem is not None:
            raise self.problem
        if self.refused and self.stop:
            raise RankstreamError(self.shown[0] if self.shown else f"{self.refused} were refused")

    def _finish(self, as_json: bool, refusals: list[str]) -> None:
        from rankstream.client.commands.output import print_json

        seconds = time.monotonic() - self.start_s
        rate = self.written / seconds if seconds > 0 else 0.0
        for text in [*(error.message for error in self.reader.first_skipped), *refusals]:
            click.echo(f"Warning: {text}", err=True)
        skipped = self.reader.skipped
        if as_json:
            summary = {"written": self.written, "refused": self.refused, "skipped": skipped}
            rates = {"seconds": round(seconds, 3), "per_s": round(rate, 1)}
            print_json({**summary, **rates, "token": self.token})
            return
        line = f"{self.written} {self.noun} in {seconds:.1f} s ({rate:,.0f}/s)"
        click.echo(f"{line}, {self.refused} refused, {skipped} lines skipped")


# Names of records whose report has not come yet; enough for what a connection holds.
_NAMES_KEPT = 100_000


def chunks(records: Iterable[T], size: int) -> Iterator[list[T]]:
    """Consecutive records, ``size`` together."""
    source = iter(records)
    while chunk := list(islice(source, size)):
        yield chunk


@contextmanager
def progress(
    noun: str, reader: RecordReader[Any], wanted: bool | None
) -> Iterator[Callable[[int], None]]:
    """A bar on standard error: how much of the file is read, and records a second.

    Yields:
        What to call with the number of records done so far.
    """
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield lambda written: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    text = TextColumn("{task.fields[written]} {task.description} ({task.fields[rate]}/s)")
    start = time.monotonic()
    with Progress(BarColumn(), text, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(noun, total=reader.size_bytes, written=0, rate=0)

        def advance(written: int) -> None:
            rate = f"{written / max(1e-9, time.monotonic() - start):,.0f}"
            bar.update(task, completed=reader.bytes_read, written=written, rate=rate)

        yield advance
