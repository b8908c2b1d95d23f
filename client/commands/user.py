"""``rankstream user``: write, merge, reset, export and erase what is known of a user."""

from __future__ import annotations

from typing import Any

import click

from rankstream.client.commands.choices import attributes_of, example
from rankstream.client.commands.profiles import profile_options, show_profile, what
from rankstream.client.commands.session import Session, freshness_options, json_option, token_text


@click.group()
def user() -> None:
    """Write, merge, reset, export and erase what is known of a user."""


@user.command(
    "upsert",
    epilog=example(
        'user upsert ann --interest "knits with merino wool" --attribute budget=20',
        'user upsert ann --attribute sizes=[\\"M\\",\\"L\\"] --identity app:7',
    ),
)
@click.argument("user_id", metavar="USER")
@click.option(
    "--attribute", "attributes", multiple=True, metavar="NAME=VALUE",
    help="For filters; JSON where it is JSON (a number, true, a list of texts), else text.",
)  # fmt: skip
@click.option("--interest", "interests", multiple=True, help="What they say of themselves.")
@click.option("--identity", "identities", multiple=True, help="Another user_id of theirs.")
@json_option
@click.pass_obj
def upsert(
    session: Session,
    user_id: str,
    attributes: tuple[str, ...],
    interests: tuple[str, ...],
    identities: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write what is known of USER, whole: what is not given is gone. Prints the token."""
    from rankstream.client.records import User

    known = attributes_of("--attribute", attributes)
    with session.client() as client:
        token = client.upsert_user(User(user_id, known, interests, identities))
    _print_written({"user_id": user_id, "token": token}, as_json)


@user.command("show", epilog=example("user show ann -n 50"))
@profile_options
@click.pass_obj
def show(session: Session, /, user: str, as_json: bool, **options: Any) -> None:
    """Show what is known of USER."""
    show_profile(session, user, as_json, options)


@user.command("merge", epilog=example("user merge guest-17 ann"))
@click.argument("guest")
@click.argument("into", metavar="USER")
@freshness_options
@json_option
@click.pass_obj
def merge(session: Session, /, guest: str, into: str, as_json: bool, **options: Any) -> None:
    """Give the interactions of GUEST to USER, and forget them under GUEST."""
    with session.client() as client:
        merged = client.merge_profiles(guest, into, **options)
    if not as_json:
        click.echo(f"{merged.moved} interactions of {guest} are now {into}'s", err=True)
    _print_written({"moved": merged.moved, "token": merged.token}, as_json)


@user.command("reset", epilog=example("user reset ann"))
@click.argument("user_id", metavar="USER")
@json_option
@click.pass_obj
def reset(session: Session, user_id: str, as_json: bool) -> None:
    """Forget the interactions of USER up to now. Prints the token for --min-token."""
    with session.client() as client:
        done = client.reset_profile(user_id)
    _print_written({"watermark_ms": done.watermark_ms, "token": done.token}, as_json)


@user.command("export", epilog=example("user export ann --json > ann.jsonl"))
@click.argument("user_id", metavar="USER")
@freshness_options
@json_option
@click.pass_obj
def export(session: Session, /, user_id: str, as_json: bool, **options: Any) -> None:
    """Show everything that is held of USER; with --json, one object a line."""
    from rankstream.client.commands.output import cell, plain, print_json, show, table, when
    from rankstream.client.records import User

    rows = table("", "time (UTC)", "type", "what", "weight", right=("weight",))
    with session.client() as client:
        for record in client.export_user(user_id, **options):
            if as_json:
                kind = "user" if isinstance(record, User) else "interaction"
                print_json({kind: record})
            elif isinstance(record, User):
                rows.add_row("", "user", cell(str(plain(record))), "")
            else:
                weight = f"{record.weight:+.2f}"
                time = when(record.event_time_ms)
                rows.add_row(time, cell(record.type), cell(what(record)), weight)
    if not as_json:
        show(rows)


@user.command("purge", epilog=example("user purge ann --yes"))
@click.argument("user_id", metavar="USER")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def purge(session: Session, user_id: str, yes: bool, as_json: bool) -> None:
    """Forget USER for good, and print the receipt: what still holds something of them."""
    from rankstream.client.commands.output import cell, print_json, show, table

    if not yes:
        click.confirm(f"Forget user {user_id} for good?", abort=True, err=True)
    with session.client() as client:
        receipt = client.purge_user(user_id)
    if as_json:
        print_json(receipt)
        return
    rows = table(f"user {user_id} is forgotten; what remains:", "where", "until")
    for remainder in receipt.remains:
        rows.add_row(cell(remainder.place), cell(remainder.description))
    show(rows)
    click.echo(token_text(receipt.token))


def _print_written(answer: dict[str, Any], as_json: bool) -> None:
    from rankstream.client.commands.output import print_json

    if as_json:
        print_json(answer)
    else:
        click.echo(token_text(answer["token"]))
