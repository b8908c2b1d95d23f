"""``rankstream rank``: what one user would be recommended, and why."""

from __future__ import annotations

from typing import Any

import click

from rankstream.client.commands.choices import (
    attributes_of,
    example,
    filter_of,
    filter_option,
    subject_of,
    subject_options,
    whom,
)
from rankstream.client.commands.session import Session, freshness_options, json_option


@click.command(
    epilog=example(
        "rank ann -k 5 --exclude-seen",
        'rank --query "warm socks" --filter "price<=20" --filter "brand!=Acme"',
        "rank --session view:m1 --session search:socks --json",
    )
)
@click.argument("user", default="")
@click.option("--candidates", help="Item ids to rank, comma-separated. Default: all items.")
@click.option(
    "--candidates-file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="File of item ids to rank, one a line; - for standard input.",
)
@subject_options
@filter_option
@click.option("-k", "k", type=click.IntRange(min=0), help="How many to show.")
@click.option("--exclude", "exclude_item_ids", multiple=True, help="Item id to leave out.")
@click.option("--exclude-seen", is_flag=True, help="Leave out what the user has acted on.")
@click.option("--context", multiple=True, metavar="NAME=VALUE", help="What is known of the moment.")
@click.option(
    "--explain", "explain_items", type=click.IntRange(min=0), default=10, show_default=True,
    help="How many of the best items to give reasons for.",
)  # fmt: skip
@click.option(
    "--reasons", type=click.IntRange(min=0), default=3, show_default=True,
    help="How many reasons for each.",
)  # fmt: skip
@click.option("--titles/--no-titles", default=True, help="Look up the items' titles (not in JSON).")
@click.option("--request-id", default="", help="Name of this request, for the server's logs.")
@freshness_options
@json_option
@click.pass_obj
def rank(
    session_: Session,
    /,
    user: str,
    candidates: str | None,
    candidates_file: str | None,
    filters: tuple[str, ...],
    context: tuple[str, ...],
    titles: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Rank items, best first: for USER, for a session, or for a query alone."""
    chosen = _candidates(candidates, candidates_file)
    if chosen is not None and filters:
        message = "give candidates or --filter, not both"
        raise click.UsageError(message)
    for_whom = whom(user, options["session"], options["query"])
    from rankstream.client.commands.output import print_json
    from rankstream.client.commands.rankings import (
        named_in,
        print_ranking,
        ranking_headline,
        titles_of,
    )

    subject = subject_of(user, **options)
    with session_.client() as client:
        ranking = client.rank(
            candidates=chosen,
            filter=filter_of(filters),
            context=attributes_of("--context", context),
            **subject,
        )
        if as_json:
            print_json(ranking)
            return
        names = titles_of(client, named_in(ranking)) if titles else {}
    print_ranking(ranking_headline(for_whom, ranking), ranking, names)


def _candidates(listed: str | None, path: str | None) -> list[str] | None:
    if listed is not None and path is not None:
        message = "give --candidates or --candidates-file, not both"
        raise click.UsageError(message)
    if path is not None:
        return _listed_in(path)
    return None if listed is None else [item_id for item_id in listed.split(",") if item_id]


def _listed_in(path: str) -> list[str]:
    """Ids of a file, one a line."""
    try:
        with click.open_file(path, encoding="utf-8-sig") as lines:
            return [line.rstrip("\r\n") for line in lines if line.strip()]
    except UnicodeDecodeError as problem:
        message = f"{path} is not UTF-8: {problem}"
        raise click.ClickException(message) from problem
