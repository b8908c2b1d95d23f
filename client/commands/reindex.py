"""``rankstream reindex``: another model for everything, and back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from rankstream.client.commands.choices import example
from rankstream.client.commands.session import Session, json_option

if TYPE_CHECKING:
    from rankstream.client.client import Client
    from rankstream.client.reindexing import ReindexProgress

_FLAGS = ("rollback", "cancel", "status")


def _settings_of(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    found = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not name or not equals:
            message = f"{value!r}, expected NAME=VALUE"
            raise click.BadParameter(message, ctx, param)
        found[name] = rest
    return found


@click.command(epilog=example("reindex --model /models/e5-small --set precision=f32"))
@click.option("--model", help="Folder of the model, on the server. Default: the one it serves.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_settings_of,
    help="A setting of the encoder, as serve has it: precision=f32. May be given more than once.",
)
@click.option("--rollback", is_flag=True, help="Serve the generation of before again.")
@click.option("--cancel", is_flag=True, help="Give up the change that is under way.")
@click.option("--status", is_flag=True, help="Show how far the newest change is.")
@click.option(
    "--drop",
    type=click.IntRange(min=0),
    is_flag=False,
    flag_value=0,
    metavar="[NUMBER]",
    help="Remove the generation kept for a rollback; with a number, only if it is that one.",
)
@json_option
@click.pass_obj
def reindex(
    session: Session,
    /,
    model: str | None,
    settings: dict[str, str],
    drop: int | None,
    as_json: bool,
    **flags: bool,
) -> None:
    """Change the server's model, while it serves.

    The server loads the model beside the one it serves, encodes the catalogue and all texts again,
    and then serves that; events and rankings go on meanwhile. Leaving this command cancels nothing.
    """  # fmt: skip
    chosen = [name for name in _FLAGS if flags[name]]
    if len(chosen) + (drop is not None) + (model is not None or bool(settings)) > 1:
        message = "--rollback, --cancel, --status, --drop and --model or --set exclude each other"
        raise click.UsageError(message)
    with session.client() as client:
        if drop is not None:
            _say_dropped(client.drop_generation(drop), as_json)
        elif chosen == ["cancel"]:
            _show(iter([client.cancel_reindex()]), as_json)
        elif chosen == ["status"]:
            _show(iter([_now(client)]), as_json)
        else:
            made = client.reindex(model or "", settings=settings)
            _fail_unless_done(_show(client.rollback_reindex() if chosen else made, as_json))


def _now(client: Client) -> ReindexProgress:
    return next(iter(client.watch_reindex()))


def _say_dropped(number: int, as_json: bool) -> None:
    from rankstream.client.commands.output import print_json

    if as_json:
        print_json({"dropped": number})
    else:
        click.echo(f"generation {number} is gone")


def _show(progress: Iterator[ReindexProgress], as_json: bool) -> ReindexProgress:
    """Shows each step; the last one."""
    from rankstream.client.commands.output import print_json
    from rankstream.client.errors import Unavailable

    last = None
    with _bar(not as_json and sys.stderr.isatty()) as advance:
        for last in progress:
            if as_json:
                print_json(last)
            advance(last)
    if last is None:
        message = "the server ended the stream before it said anything"
        raise Unavailable(message)
    if not as_json:
        click.echo(_told(last))
    return last


def _told(last: ReindexProgress) -> str:
    line = (
        f"{last.kind} to generation {last.generation}: {last.phase} after {last.elapsed_s:.1f} s, "
        f"{last.items} of {last.items_total} items, {last.texts} of {last.texts_total} texts"
    )
    said = last.problem or last.waiting
    return f"{line}: {said}" if said else line


def _fail_unless_done(last: ReindexProgress) -> None:
    from rankstream.client.errors import RankstreamError

    if last.phase != "done":
        message = f"{last.kind} {last.phase}"
        raise RankstreamError(f"{message}: {last.problem}" if last.problem else message)


@contextmanager
def _bar(wanted: bool) -> Iterator[Callable[[ReindexProgress], None]]:
    """A bar on standard error: the phase, how much is encoded, how fast, how long still."""
    if not wanted:
        yield lambda progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    done = "{task.description} {task.completed:,.0f}/{task.total:,.0f} {task.fields[pace]}"
    with Progress(BarColumn(), TextColumn(done), TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("loading", total=1, pace="")

        def advance(now: ReindexProgress) -> None:
            pace = f"({now.rate:,.0f}/s, {now.eta_s:,.0f} s left)" if now.rate else ""
            pace = now.waiting or pace
            total = now.items_total + now.texts_total
            bar.update(
                task,
                description=now.phase,
                completed=now.items + now.texts,
                total=max(1, total),
                pace=pace,
            )

        yield advance
