"""``rankstream items``: write items, and look at one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rankstream.client.commands.imports import Tally, chunks, import_options, progress
from rankstream.client.commands.session import Session, freshness_options, json_option

if TYPE_CHECKING:
    from rankstream.client.answers import StoredItem
    from rankstream.client.readers import Format, OnError


@click.group()
def items() -> None:
    """Write items, and look at one."""


@items.command("import")
@import_options
@click.option(
    "--batch", type=click.IntRange(min=1), default=500, show_default=True,
    help="Items in one call.",
)  # fmt: skip
@json_option
@click.pass_obj
def import_items(
    session: Session,
    file: str,
    format: Format | None,
    on_error: OnError,
    progress_wanted: bool | None,
    batch: int,
    as_json: bool,
) -> None:
    """Write the items of FILE (JSON Lines, CSV or TSV; may be gzip; - for standard input).

    Keys or columns: item_id, title, description, category, brand, tags (in CSV and TSV separated
    by |), price, and in JSON Lines vectors.
    """
    from rankstream.client.readers import read_items

    reader = read_items(file, format=format, on_error=on_error)
    tally = Tally("items")
    with (
        tally.summed_up(reader, as_json),
        session.client() as client,
        progress("items", reader, progress_wanted) as advance,
    ):
        for chunk in chunks(reader, batch):
            answer = client.upsert_items(chunk)
            tally.token = answer.token or tally.token
            results = [(f"item {ascii(r.item_id)}", r.error) for r in answer.results]
            tally.add(results, stop=on_error == "stop")
            advance(tally.written)


@items.command("get")
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
        "price": "" if item.price is None else f"{item.price:g}",
        "vectors": ", ".join(f"{name} {v.shape}" for name, v in item.vectors.items()),
        "encoded text": stored.text,
        "popularity": f"{stored.bias:.4f}",
        "row": f"{stored.item_row} of generation {stored.generation}",
        "catalogue version": str(stored.catalogue_version),
    }
    for name, value in fields.items():
        rows.add_row(name, cell(value))
    show(rows)
