"""``rankstream explain``: a score taken apart."""

from __future__ import annotations

from typing import Any

import click

from rankstream.client.commands.choices import example, subject_of, subject_options, whom
from rankstream.client.commands.session import Session, freshness_options, json_option


@click.command(epilog=example("explain ann m1 m2", 'explain "" m1 --query "warm socks"'))
@click.argument("user")
@click.argument("item_ids", nargs=-1, required=True)
@subject_options
@click.option(
    "-n", "most", type=click.IntRange(min=0), default=10, show_default=True,
    help="How many interactions to show of each item (JSON: all).",
)  # fmt: skip
@click.option("--titles/--no-titles", default=True, help="Look up the items' titles (not in JSON).")
@click.option("--request-id", default="", help="Name of this request, for the server's logs.")
@freshness_options
@json_option
@click.pass_obj
def explain(
    session_: Session,
    /,
    user: str,
    item_ids: tuple[str, ...],
    most: int,
    titles: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Show what the scores of ITEM_IDS for USER are made of, to the last interaction.

    An empty USER is nobody: then --session or --query says whom it is for.
    """
    for_whom = whom(user, options["session"], options["query"])
    from rankstream.client.commands.output import print_json
    from rankstream.client.commands.rankings import print_explanation, titles_of

    subject = subject_of(user, **options)
    with session_.client() as client:
        found = client.explain(item_ids=item_ids, **subject)
        if as_json:
            print_json(found)
            return
        shown = [c.reason.item_id for item in found.items for c in item.contributions[:most]]
        names = titles_of(client, [*item_ids, *shown]) if titles else {}
    print_explanation(for_whom, found, names, most)
