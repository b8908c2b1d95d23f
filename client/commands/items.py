"""``rankstream items``: write, change, list and delete items, and look at one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rankstream.client.commands.choices import attributes_of, example
from rankstream.client.commands.imports import Tally, import_options, progress
from rankstream.client.commands.session import (
    Session,
    freshness_options,
    json_option,
    token_from_text,
    token_text,
)

if TYPE_CHECKING:
    from rankstream.client.answers import StoredItem
    from rankstream.client.readers import Format, OnError
    from rankstream.client.records import Item


@click.group()
def items() -> None:
    """Write, change, list and delete items, and look at one."""


@items.command("import", epilog=example("items import items.jsonl.gz --on-error skip"))
@import_options
@json_option
@click.pass_obj
def import_items(
    session: Session,
    file: str,
    format: Format | None,
    on_error: OnError,
    progress_wanted: bool | None,
    as_json: bool,
) -> None:
    """Write the items of FILE (JSON Lines, CSV or TSV; may be gzip; - for standard input).

    Keys or columns: item_id, title, description, category, brand, tags (in CSV and TSV separated
    by |), price, and in JSON Lines vectors and attributes.
    """
    from rankstream.client.readers import read_items

    reader = read_items(file, format=format, on_error=on_error)
    tally = Tally("items", reader, stop=on_error == "stop")
    names: dict[int, str] = {}
    with (
        tally.summed_up(as_json),
        session.client() as client,
        progress("items", reader, progress_wanted) as tally.advance,
    ):
        client.import_items(
            tally.records(lambda item: f"item {ascii(item.item_id)}", names),
            on_progress=lambda report: tally.take(report, names),
        )


@items.command("get", epilog=example("items get m1"))
@click.argument("item_id")
@freshness_options
@json_option
@click.pass_obj
def get(
    session: Session,
    item_id: str,
    min_token: bytes,
    max_wait_ms: int | None,
    allow_stale: bool,
    as_json: bool,
) -> None:
    """Show the item ITEM_ID as it can be ranked."""
    from rankstream.client.commands.output import print_json

    with session.client() as client:
        stored = client.get_item(
            item_id, min_token=min_token, max_wait_ms=max_wait_ms, allow_stale=allow_stale
        )
    if as_json:
        print_json(stored)
    else:
        _print_item(stored)


@items.command(
    "patch",
    epilog=example("items patch m1 price=9.5 attributes.stock=12", "items patch m1 --clear brand"),
)
@click.argument("item_id")
@click.argument("changes", nargs=-1, metavar="[PATH=VALUE]...")
@click.option("--clear", multiple=True, metavar="PATH", help="Take this value away.")
@click.option("--if-version", type=int, help="Only while this is its version, as 'items get' says.")
@freshness_options
@json_option
@click.pass_obj
def patch(
    session: Session,
    /,
    item_id: str,
    changes: tuple[str, ...],
    clear: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Change fields of ITEM_ID and leave the others. Prints the token for --min-token.

    PATH is title, description, category, brand, tags, price, attributes.NAME or vectors.NAME;
    VALUE is JSON where it is JSON (a list, a number), else text.
    """
    from rankstream.client.commands.output import print_json

    fields = {path: _as_field(path, value) for path, value in _changes(changes).items()}
    if not fields and not clear:
        message = "give a change, as price=9.5, or --clear"
        raise click.UsageError(message)
    with session.client() as client:
        patched = client.patch_item(item_id, fields, clear=clear, **options)
    if as_json:
        print_json(patched)
    else:
        click.echo(token_text(patched.token))


@items.command("delete", epilog=example("items delete m1 m2"))
@click.argument("item_ids", nargs=-1, required=True)
@json_option
@click.pass_obj
def delete(session: Session, item_ids: tuple[str, ...], as_json: bool) -> None:
    """Delete ITEM_IDS; an unknown one is no error. Prints the token for --min-token."""
    from rankstream.client.commands.output import print_json

    with session.client() as client:
        deleted = client.delete_items(item_ids)
    if as_json:
        print_json(deleted)
    for result in deleted.results:
        if result.error is not None:
            raise result.error
    if not as_json:
        click.echo(token_text(deleted.token))


@items.command("list", epilog=example("items list --limit 20", "items list --json > items.jsonl"))
@click.option("--limit", type=click.IntRange(min=0), help="At most so many. Default: all.")
@click.option(
    "--resume-token", default="", callback=token_from_text,
    help="Begin behind the item that carried this token in --json.",
)  # fmt: skip
@freshness_options
@json_option
@click.pass_obj
def list_items(session: Session, /, as_json: bool, **options: Any) -> None:
    """Show all items, in the order of their keys; with --json, one object a line."""
    from rankstream.client.commands.output import cell, print_json, show, table

    rows = table("", "item", "title", "category", "brand", "price", right=("price",))
    with session.client() as client:
        for listed in client.list_items(**options):
            if as_json:
                print_json(listed)
                continue
            item = listed.item
            texts = (item.item_id, item.title, item.category, item.brand)
            rows.add_row(*map(cell, texts), _price(item))
    if not as_json:
        show(rows)


def _changes(changes: tuple[str, ...]) -> dict[str, Any]:
    return dict(attributes_of("PATH=VALUE", changes))


def _as_field(path: str, value: Any) -> Any:
    """Titles may look like numbers and stay texts; one tag is a list."""
    if path in ("title", "description", "category", "brand") and not isinstance(value, str):
        import json

        return json.dumps(value)
    return [value] if path == "tags" and isinstance(value, str) else value


def _price(item: Item) -> str:
    return "" if item.price is None else f"{item.price:g}"


def _print_item(stored: StoredItem) -> None:
    from rankstream.client.commands.output import cell, show, table

    item = stored.item
    rows = table(f"item {item.item_id}", "field", "value")
    fields = {
        "title": item.title,
        "description": item.description,
        "category": item.category,
        "brand": item.brand,
        "tags": ", ".join(item.tags),
        "price": _price(item),
        "attributes": ", ".join(f"{name} {value}" for name, value in item.attributes.items()),
        "vectors": ", ".join(f"{name} {v.shape}" for name, v in item.vectors.items()),
        "encoded text": stored.text,
        "popularity": f"{stored.bias:.4f}",
        "row": f"{stored.item_row} of generation {stored.generation}",
        "catalogue version": str(stored.catalogue_version),
        "version": str(stored.version),
    }
    for name, value in fields.items():
        rows.add_row(name, cell(value))
    show(rows)
