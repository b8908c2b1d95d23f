"""The global options that say who calls, and which server is trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rankstream.client.credentials import Credentials

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(exists=True, dir_okay=False)


def credential_options(command: F) -> F:
    """Adds ``--access-token`` and what TLS needs."""
    options = (
        click.option(
            "--access-token", envvar="RANKSTREAM_ACCESS_TOKEN", show_envvar=True, default="",
            help="What the server knows you by. Others see a command line: prefer the environment.",
        ),
        click.option(
            "--tls", is_flag=True, envvar="RANKSTREAM_TLS", show_envvar=True,
            help="Encrypt; the options below imply it.",
        ),
        click.option(
            "--ca", type=_FILE, envvar="RANKSTREAM_CA", show_envvar=True,
            help="PEM file of the roots that the server's certificate must come from.",
        ),
        click.option(
            "--client-cert", "certificate", type=_FILE, envvar="RANKSTREAM_CLIENT_CERT",
            show_envvar=True, help="PEM file of your certificate, for a server that asks for one.",
        ),
        click.option(
            "--client-key", "key", type=_FILE, envvar="RANKSTREAM_CLIENT_KEY", show_envvar=True,
            help="PEM file of its private key.",
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def credentials_of(**shown: Any) -> Credentials:
    """What these options say."""
    from rankstream.client.credentials import Credentials

    return Credentials(**shown)
