"""``rankstream access``: makes a caller's token, and what the server's file says of it."""

from __future__ import annotations

import json
import secrets

import click

from rankstream.server.access import checked_name, hash_of, methods_of
from rankstream.server.errors import InvalidArgument


@click.command(
    epilog="\b\nExample:\n"
    "  rankstream access shop --allow Ranking --allow Events.RecordEvents >> access.toml\n"
    "  rankstream serve --embedded --access-file access.toml"
)
@click.argument("name")
@click.option(
    "--allow",
    multiple=True,
    required=True,
    metavar="SERVICE[.METHOD]",
    help="What NAME may call; again for more. *: everything, Admin too.",
)
def access(name: str, allow: tuple[str, ...]) -> None:
    """Make an access token for NAME.

    Its entry for --access-file goes to stdout, the token itself to stderr, once: the file has its
    hash alone. A running server takes up a changed file within a second.
    """
    try:
        checked_name(name)
        methods_of("--allow", list(allow))
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None
    token = secrets.token_urlsafe(32)
    click.echo(f'[{name}]\nsha256 = "{hash_of(token)}"\nallow = {json.dumps(list(allow))}\n')
    click.echo(f"The token of {name}, shown once: {token}", err=True)
