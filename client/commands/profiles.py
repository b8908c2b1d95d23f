"""Showing a profile: what ``profile show`` and ``user show`` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rankstream.client.commands.session import Session, freshness_options, json_option

if TYPE_CHECKING:
    from rankstream.client.profiles import Interaction, Profile
    from rankstream.client.records import User

F = TypeVar("F", bound=Callable[..., Any])


def profile_options(command: F) -> F:
    """Adds the user, how much is shown, and how fresh."""
    for decorate in (
        json_option,
        freshness_options,
        click.option(
            "-n", "max_interactions", type=click.IntRange(min=0), default=20, show_default=True,
            help="How many interactions to show, newest first.",
        ),
        click.argument("user"),
    ):  # fmt: skip
        command = decorate(command)
    return command


def show_profile(session: Session, user: str, as_json: bool, options: Mapping[str, Any]) -> None:
    """Asks for a profile and prints it."""
    from rankstream.client.commands.output import print_json

    with session.client() as client:
        found = client.get_profile(user, **options)
    if as_json:
        print_json(found)
    else:
        _print_profile(found)


def what(interaction: Interaction) -> str:
    """What an interaction is with, in words."""
    unknown = f"not in the catalogue (key {interaction.item_key})"
    return interaction.item_id or (f'"{interaction.text}"' if interaction.text else unknown)


def _print_profile(found: Profile) -> None:
    from rankstream.client.commands.output import cell, show, table, when

    if not found.known and found.user is None:
        show(cell(f"user {found.user_id}: nothing is known"))
        return
    counts = f"{found.history_size} interactions kept, {found.seen_size} items seen"
    changed = when(found.freshness.profile_updated_at_ms)
    rows = table("", "time (UTC)", "type", "item", "weight", right=("weight",))
    for interaction in found.interactions:
        time, weight = when(interaction.event_time_ms), f"{interaction.weight:+.2f}"
        rows.add_row(time, cell(interaction.type), cell(what(interaction)), weight)
    show(cell(f"user {found.user_id}: {counts}, changed {changed}"))
    if found.canonical_user_id:
        show(cell(f"the same person as {found.canonical_user_id}"))
    if found.watermark_ms is not None:
        show(cell(f"interactions until {when(found.watermark_ms)} are ignored"))
    if found.user is not None:
        _print_user(found.user)
    show(rows)


def _print_user(user: User) -> None:
    from rankstream.client.commands.output import cell, show

    for name, said in {
        "attributes": ", ".join(f"{name} {value}" for name, value in user.attributes.items()),
        "interests": "; ".join(user.interests),
        "identities": ", ".join(user.identities),
    }.items():
        if said:
            show(cell(f"{name}: {said}"))
