"""The command ``rankstream``: what a person or a script asks of a server.

Exit status: 0 done, 1 an error (one line on standard error), 2 wrong usage. Commands of other
packages come through the entry-point group ``rankstream.commands`` and are imported when they run.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from rankstream.client.commands.completion import completion
from rankstream.client.commands.events import events
from rankstream.client.commands.explain import explain
from rankstream.client.commands.identity import credential_options, credentials_of
from rankstream.client.commands.info import info
from rankstream.client.commands.items import items
from rankstream.client.commands.lag import lag
from rankstream.client.commands.profile import profile
from rankstream.client.commands.rank import rank
from rankstream.client.commands.reindex import reindex
from rankstream.client.commands.session import Session
from rankstream.client.commands.similar import similar
from rankstream.client.commands.texts import embed, tokenize
from rankstream.client.commands.user import user
from rankstream.client.errors import RankstreamError, Unavailable

COMMAND_GROUP = "rankstream.commands"
# The help of a command that is not ours, as long as it is not imported.
_SHORT_HELP = {"serve": "Run the server: ingest, workers and, on request, a broker."}


class CommandGroup(click.Group):
    """A group that also knows the commands of other packages, and ends errors in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, ours and others'."""
        return sorted({*super().list_commands(ctx), *_installed()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command of this name, imported now where it is not ours."""
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in _installed():
            return own
        return _load(_installed()[cmd_name])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists commands and imports none."""
        rows = []
        for name in self.list_commands(ctx):
            own = super().get_command(ctx, name)
            text = own.get_short_help_str(60) if own else _help_of(_installed()[name])
            rows.append((name, text))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> object:
        """Runs a command; an error of the client becomes a message and exit status 1."""
        try:
            return super().invoke(ctx)
        except RankstreamError as error:
            raise click.ClickException(_explained(error)) from error


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=COMMAND_GROUP)}


def _help_of(point: EntryPoint) -> str:
    return _SHORT_HELP.get(point.name, f"See 'rankstream {point.name} --help'.")


def _load(point: EntryPoint) -> click.Command:
    try:
        command = point.load()
    except ImportError as problem:
        message = f"the command {point.name} cannot be loaded from {point.value}: {problem}"
        raise click.ClickException(message) from problem
    if not isinstance(command, click.Command):
        message = f"the entry point {point.name} = {point.value} is not a click command"
        raise click.ClickException(message)
    return command


def _explained(error: RankstreamError) -> str:
    lines = [error.message]
    lines += [f"  {v.field}: {v.description}" for v in error.field_violations if v.field]
    if len(lines) == 2 and lines[1].strip() in lines[0]:
        lines.pop()
    if error.retry_after_s is not None:
        lines.append(f"Try again in {error.retry_after_s:g} s.")
    elif isinstance(error, Unavailable):
        lines.append("Is it running? See 'rankstream serve --help', or name it: --target.")
    return "\n".join(lines)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rankstream", prog_name="rankstream")
@click.option(
    "--target",
    envvar="RANKSTREAM_TARGET",
    default="127.0.0.1:50051",
    show_default=True,
    show_envvar=True,
    help="host:port of the serving API.",
)
@click.option(
    "--admin-target",
    envvar="RANKSTREAM_ADMIN_TARGET",
    default="127.0.0.1:50052",
    show_default=True,
    show_envvar=True,
    help="host:port of the Admin service.",
)
@click.option(
    "--timeout",
    "timeout_s",
    envvar="RANKSTREAM_TIMEOUT_S",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    show_envvar=True,
    help="Deadline of one call, seconds; streams have none.",
)
@credential_options
@click.pass_context
def main(
    ctx: click.Context, /, target: str, admin_target: str, timeout_s: float, **shown: Any
) -> None:
    """Ask a rankstream server: rank and explain, write items, events and users, read them."""
    ctx.obj = Session(target, admin_target, timeout_s, credentials_of(**shown))


for _command in (
    *(rank, similar, explain, embed, tokenize),
    *(items, events, user, profile, info, lag, reindex, completion),
):
    main.add_command(_command)
