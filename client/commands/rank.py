"""``rankstream rank``: what one user would be recommended, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rankstream.client.commands.session import Session, freshness_options, json_option

if TYPE_CHECKING:
    from rankstream.client.client import Client
    from rankstream.client.rankings import RankedItem, Ranking


@click.command()
@click.argument("user")
@click.option("--candidates", help="Item ids to rank, comma-separated. Default: all items.")
@click.option(
    "--candidates-file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="File of item ids to rank, one a line; - for standard input.",
)
@click.option("-k", "k", type=click.IntRange(min=0), help="How many to show.")
@click.option("--exclude", "exclude_item_ids", multiple=True, help="Item id to leave out.")
@click.option("--exclude-seen", is_flag=True, help="Leave out what the user has acted on.")
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
    session: Session,
    /,
    user: str,
    candidates: str | None,
    candidates_file: str | None,
    titles: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Rank items for USER, best first."""
    from rankstream.client.commands.output import print_json

    chosen = _candidates(candidates, candidates_file)
    with session.client() as client:
        ranking = client.rank(user, chosen, **options)
        if as_json:
            print_json(ranking)
        else:
            _print_ranking(user, ranking, _titles(client, ranking) if titles else {})


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


def _titles(client: Client, ranking: Ranking) -> dict[str, str]:
    """Titles of all items that the table names; an item that is gone has none."""
    from rankstream.client.errors import NotFound

    named = {item.item_id for item in ranking.items}
    named |= {reason.item_id for item in ranking.items for reason in item.reasons}
    titles = {}
    for item_id in named:
        try:
            titles[item_id] = client.get_item(item_id).item.title
        except NotFound:
            continue
    return titles


def _print_ranking(user: str, ranking: Ranking, titles: dict[str, str]) -> None:
    from rankstream.client.commands.output import cell, show, table
    from rankstream.client.commands.phrases import because

    rows = table("", "rank", "item", "title", "score", "parts", "because", right=("rank", "score"))
    for item in ranking.items:
        rows.add_row(
            str(item.rank),
            cell(item.item_id),
            cell(titles.get(item.item_id, "")),
            f"{item.score:.4f}",
            cell(_parts(item)),
            cell(because(item.reasons, titles)),
        )
    show(cell(_headline(user, ranking)))
    show(rows)
    if missing := [*ranking.missing_item_ids, *map(str, ranking.missing_item_keys)]:
        show(cell(f"not in the catalogue: {', '.join(missing)}"))


def _parts(item: RankedItem) -> str:
    parts = [f"{name} {value:+.2f}" for name, value in sorted(item.blocks.items())]
    return ", ".join([*parts, f"bias {item.bias:+.2f}"])


def _headline(user: str, ranking: Ranking) -> str:
    fallback = ranking.served_by.fallback
    personal = f"not personal ({fallback.replace('_', ' ')})" if fallback else "personal"
    stale = ", stale" if ranking.freshness.stale else ""
    took = f"{ranking.timing.total_us / 1000:.2f} ms in {ranking.served_by.worker}"
    return f"{len(ranking.items)} items for {user}: {personal}{stale}, {took}"
