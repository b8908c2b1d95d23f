"""Importing a file: options, progress and the summary, the same for items and events."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rankstream.client.errors import RankstreamError
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
            help="What to do about a line that is not a record, or that the server refuses.",
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
class Tally:
    """What became of the records of one import."""

    noun: str
    written: int = 0
    refused: int = 0
    token: bytes = b""
    start_s: float = field(default_factory=time.monotonic)
    shown: list[str] = field(default_factory=list)

    def add(self, results: Iterable[tuple[str, RankstreamError | None]], stop: bool) -> None:
        """Counts the results of one call, by name of the record.

        Raises:
            RankstreamError: the server refused a record and ``stop`` is set; names the first.
        """
        from rankstream.client.errors import RankstreamError

        refusals = []
        for name, error in results:
            if error is None:
                self.written += 1
            else:
                refusals.append(f"{name} was refused: {error.message}")
        self.refused += len(refusals)
        if refusals and stop:
            raise RankstreamError(refusals[0])
        self.shown += refusals[: _SHOWN - len(self.shown)]

    @contextmanager
    def summed_up(self, reader: RecordReader[Any], as_json: bool) -> Iterator[None]:
        """Prints the summary at the end, also at a bad one."""
        try:
            yield
        finally:
            self._finish(reader, as_json)

    def _finish(self, reader: RecordReader[Any], as_json: bool) -> None:
        from rankstream.client.commands.output import print_json

        seconds = time.monotonic() - self.start_s
        rate = self.written / seconds if seconds > 0 else 0.0
        for text in [*(error.message for error in reader.first_skipped), *self.shown]:
            click.echo(f"Warning: {text}", err=True)
        if as_json:
            summary = {"written": self.written, "refused": self.refused, "skipped": reader.skipped}
            rates = {"seconds": round(seconds, 3), "per_s": round(rate, 1)}
            print_json({**summary, **rates, "token": self.token})
            return
        line = f"{self.written} {self.noun} in {seconds:.1f} s ({rate:,.0f}/s)"
        click.echo(f"{line}, {self.refused} refused, {reader.skipped} lines skipped")


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
        What to call with the number of records written so far.
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
