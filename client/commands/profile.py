"""``rankstream profile``: what is remembered of a user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rankstream.client.commands.session import Session, freshness_options, json_option

if TYPE_CHECKING:
    from rankstream.client.profiles import Profile


@click.group()
def profile() -> None:
    """What is remembered of a user."""


@profile.command("show")
@click.argument("user")
@click.option(
    "-n", "max_interactions", type=click.IntRange(min=0), default=20, show_default=True,
    help="How many interactions to show, newest first.",
)  # fmt: skip
@freshness_options
@json_option
@click.pass_obj
def show_profile(
    session: Session,
    user: str,
    max_interactions: int,
    min_token: bytes,
    max_wait_ms: int | None,
    allow_stale: bool,
    as_json: bool,
) -> None:
    """Show the profile of USER."""
    from rankstream.client.commands.output import print_json

    with session.client() as client:
        found = client.get_profile(
            user,
            max_interactions=max_interactions,
            min_token=min_token,
            max_wait_ms=max_wait_ms,
            allow_stale=allow_stale,
        )
    if as_json:
        print_json(found)
    else:
        _print_profile(found)


def _print_profile(found: Profile) -> None:
    from rankstream.client.commands.output import cell, show, table, when

    if not found.known:
        show(cell(f"user {found.user_id}: nothing is known"))
        return
    counts = f"{found.history_size} interactions kept, {found.seen_size} items seen"
    changed = when(found.freshness.profile_updated_at_ms)
    rows = table("", "time (UTC)", "type", "item", "weight", right=("weight",))
    for interaction in found.interactions:
        item = interaction.item_id or f"not in the catalogue (key {interaction.item_key})"
        time, weight = when(interaction.event_time_ms), f"{interaction.weight:+.2f}"
        rows.add_row(time, cell(interaction.type), cell(item), weight)
    show(cell(f"user {found.user_id}: {counts}, changed {changed}"))
    if found.watermark_ms is not None:
        show(cell(f"interactions until {when(found.watermark_ms)} are ignored"))
    show(rows)
