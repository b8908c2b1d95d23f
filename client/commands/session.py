"""What all commands share: where the server is, and how options and answers look."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rankstream.client.client import Client
    from rankstream.client.credentials import Credentials

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Session:
    """The global options."""

    target: str
    admin_target: str
    timeout_s: float
    credentials: Credentials

    def client(self) -> Client:
        """A client of that server."""
        from rankstream.client.client import Client

        return Client(
            self.target,
            admin_target=self.admin_target,
            timeout_s=self.timeout_s,
            connections=1,
            credentials=self.credentials,
        )


def token_from_text(ctx: click.Context, param: click.Parameter, value: str) -> bytes:
    """A token that was given as text: URL-safe base64."""
    try:
        return base64.b64decode(value, altchars=b"-_", validate=True)
    except ValueError:
        message = f"{value!r} is not a token as 'events send' prints it"
        raise click.BadParameter(message, ctx, param) from None


def token_text(token: bytes) -> str:
    """A token as text."""
    return base64.urlsafe_b64encode(token).decode()


def json_option(command: F) -> F:
    """Adds ``--json``."""
    option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
    return option(command)


def freshness_options(command: F) -> F:
    """Adds the options of a read that has to see a write."""
    for option in (
        click.option("--allow-stale", is_flag=True, help="Answer also when the wait ends first."),
        click.option("--max-wait-ms", type=click.IntRange(min=0), help="Longest wait for it, ms."),
        click.option(
            "--min-token",
            default="",
            callback=token_from_text,
            help="See the write that printed this token.",
        ),
    ):
        command = option(command)
    return command
