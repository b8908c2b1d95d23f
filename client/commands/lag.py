"""``rankstream lag``: how far the log is applied."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from rankstream.client.commands.choices import example
from rankstream.client.commands.session import Session, json_option

if TYPE_CHECKING:
    from rich.console import Group

    from rankstream.client.status import ConsumerLag


@click.command(epilog=example("lag --watch"))
@click.option("--watch", is_flag=True, help="Show it again and again.")
@click.option(
    "--interval", "interval_s", type=click.FloatRange(min=0), default=1.0, show_default=True,
    help="Seconds between two looks.",
)  # fmt: skip
@click.option("--count", type=click.IntRange(min=1), help="End after this many looks.")
@json_option
@click.pass_obj
def lag(session: Session, watch: bool, interval_s: float, count: int | None, as_json: bool) -> None:
    """Show how far the log is applied, by partition."""
    from rankstream.client.commands.output import print_json, show

    looks = _looks(session, interval_s, count if watch else 1)
    if as_json:
        for found in looks:
            print_json(found)
    elif watch:
        _watch(looks)
    else:
        show(_rendered(next(looks)))


def _looks(session: Session, interval_s: float, count: int | None) -> Iterator[ConsumerLag]:
    """Asks ``count`` times, or for ever."""
    done = 0
    with session.client() as client:
        while True:
            yield client.consumer_lag()
            done += 1
            if done == count:
                return
            time.sleep(interval_s)


def _watch(looks: Iterator[ConsumerLag]) -> None:
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        for found in looks:
            live.update(_rendered(found), refresh=True)


def _rendered(found: ConsumerLag) -> Group:
    from rich.console import Group

    from rankstream.client.commands.output import cell, table

    columns = ("topic", "partition", "next offset", "end", "lag", "state")
    rows = table("", *columns, right=columns[1:5])
    for part in found.partitions:
        end = "?" if part.highwater < 0 else str(part.highwater)
        behind = "?" if part.highwater < 0 else str(part.lag)
        numbers = (str(part.partition), str(part.next_offset), end, behind)
        rows.add_row(cell(part.topic), *numbers, cell(part.state))
    health = "healthy" if found.healthy else "NOT HEALTHY"
    heard = f"broker heard {found.last_fetch_age_ms} ms ago"
    bad = f"{found.dead_letters} dead letters, {found.misplaced_records} misplaced records"
    return Group(cell(f"{health}, {heard}, {bad}"), rows)
