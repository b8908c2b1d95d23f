"""``rankstream similar``: the items nearest to an item."""

from __future__ import annotations

from typing import Any

import click

from rankstream.client.commands.choices import example, filter_of, filter_option, numbers_of
from rankstream.client.commands.session import Session, freshness_options, json_option


@click.command(epilog=example('similar m1 -k 5 --filter "category=shoes"'))
@click.argument("item_id")
@click.option("-k", "k", type=click.IntRange(min=0), help="How many to show. Default: 10.")
@filter_option
@click.option("--exclude", "exclude_item_ids", multiple=True, help="Item id to leave out.")
@click.option(
    "--block-weight", "block_weights", multiple=True, metavar="BLOCK=WEIGHT",
    help="Weight of a block, as text=0.5.",
)  # fmt: skip
@click.option("--with-popularity", "with_bias", is_flag=True, help="Let popularity count, too.")
@click.option("--titles/--no-titles", default=True, help="Look up the items' titles (not in JSON).")
@freshness_options
@json_option
@click.pass_obj
def similar(
    session: Session,
    /,
    item_id: str,
    filters: tuple[str, ...],
    block_weights: tuple[str, ...],
    titles: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Show the items nearest to ITEM_ID, best first."""
    from rankstream.client.commands.output import print_json
    from rankstream.client.commands.rankings import named_in, print_ranking, titles_of, took

    weights = numbers_of("--block-weight", block_weights)
    with session.client() as client:
        ranking = client.similar_items(
            item_id, filter=filter_of(filters), block_weights=weights, **options
        )
        if as_json:
            print_json(ranking)
            return
        names = titles_of(client, named_in(ranking)) if titles else {}
    headline = f"{len(ranking.items)} items like {item_id}, {took(ranking)}"
    print_ranking(headline, ranking, names)
