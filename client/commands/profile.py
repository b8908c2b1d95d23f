"""``rankstream profile``: what is remembered of a user."""

from __future__ import annotations

from typing import Any

import click

from rankstream.client.commands.choices import example
from rankstream.client.commands.profiles import profile_options, show_profile
from rankstream.client.commands.session import Session


@click.group()
def profile() -> None:
    """What is remembered of a user."""


@profile.command("show", epilog=example("profile show ann -n 50"))
@profile_options
@click.pass_obj
def show(session: Session, /, user: str, as_json: bool, **options: Any) -> None:
    """Show the profile of USER."""
    show_profile(session, user, as_json, options)
