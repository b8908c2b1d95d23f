"""What the demo prints: lines, tables, and bars where there is a terminal that can draw them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

_PLAIN_WIDTH = 110
_WIDEST = 120


class Screen:
    """Prints on standard output; without a terminal, plain lines of a fixed width."""

    def __init__(self) -> None:
        console = Console(highlight=False)
        self._draws = console.is_terminal and not console.is_dumb_terminal
        if not self._draws:
            console = Console(highlight=False, width=_PLAIN_WIDTH, no_color=True)
        elif console.width > _WIDEST:
            console = Console(highlight=False, width=_WIDEST)
        self._console = console
        self._start = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._start

    @property
    def width(self) -> int:
        """Characters in a line."""
        return self._console.width

    def head(self, text: str) -> None:
        """A step begins."""
        self._console.print(Text(f"[{self.elapsed_s:4.1f} s] {text}", style="bold"))

    def say(self, text: str, style: str = "") -> None:
        """A line, indented; its text is never markup."""
        self._console.print(Text(f"  {text}", style=style))

    def show(self, table: Table) -> None:
        """A table."""
        self._console.print(table)

    @contextmanager
    def progress(self, noun: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar of ``total`` with a rate; yields what to call with the number done so far."""
        if not self._draws:
            yield lambda done: None
            return
        text = TextColumn("{task.completed:,.0f} of {task.total:,.0f} {task.description}")
        rate = TextColumn("{task.fields[rate]}/s")
        start = time.monotonic()
        columns = ("  ", BarColumn(40), text, rate)
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(noun, total=total, rate="0")

            def advance(done: int) -> None:
                per_s = done / max(1e-9, time.monotonic() - start)
                bar.update(task, completed=done, rate=f"{per_s:,.0f}")

            yield advance


def grid(
    *columns: str, right: tuple[str, ...] = (), widths: Mapping[str, int] | None = None
) -> Table:
    """An empty table: ``right`` columns hold numbers, ``widths`` cut what is longer."""
    made = Table(box=None, padding=(0, 1), header_style="dim")
    for name in columns:
        made.add_column(
            name,
            justify="right" if name in right else "left",
            width=(widths or {}).get(name),
            no_wrap=True,
            overflow="ellipsis",
        )
    return made
