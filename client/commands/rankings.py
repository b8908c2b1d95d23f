"""How rankings and explanations are printed."""

from __future__ import annotations

from collections.abc import Iterable

from rankstream.client.client import Client
from rankstream.client.commands.output import cell, show, table
from rankstream.client.commands.phrases import because
from rankstream.client.errors import NotFound
from rankstream.client.explanations import ExplainedItem, Explanation
from rankstream.client.rankings import RankedItem, Ranking


def titles_of(client: Client, item_ids: Iterable[str]) -> dict[str, str]:
    """Titles by item_id; an item that is gone has none."""
    titles = {}
    for item_id in {*item_ids} - {""}:
        try:
            titles[item_id] = client.get_item(item_id).item.title
        except NotFound:
            continue
    return titles


def named_in(ranking: Ranking) -> set[str]:
    """Every item that the table of a ranking names."""
    reasons = {reason.item_id for item in ranking.items for reason in item.reasons}
    return reasons | {item.item_id for item in ranking.items}


def print_ranking(headline: str, ranking: Ranking, titles: dict[str, str]) -> None:
    """A ranking as a table."""
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
    show(cell(headline))
    show(rows)
    _print_missing([*ranking.missing_item_ids, *map(str, ranking.missing_item_keys)])


def ranking_headline(whom: str, ranking: Ranking) -> str:
    """Whom it is for, and how it came about."""
    fallback = ranking.served_by.fallback
    personal = f"not personal ({fallback.replace('_', ' ')})" if fallback else "personal"
    stale = ", stale" if ranking.freshness.stale else ""
    return f"{len(ranking.items)} items for {whom}: {personal}{stale}, {took(ranking)}"


def took(answer: Ranking | Explanation) -> str:
    """How long an answer took, and where."""
    return f"{answer.timing.total_us / 1000:.2f} ms in {answer.served_by.worker}"


def print_explanation(
    whom: str, found: Explanation, titles: dict[str, str], most: int | None
) -> None:
    """Each item as a table: the score by block, and what each thing of the past adds to it."""
    show(cell(f"{len(found.items)} items for {whom}, {took(found)}"))
    for item in found.items:
        _print_item(item, titles, most)
    _print_missing(found.missing_item_ids)


def _print_item(item: ExplainedItem, titles: dict[str, str], most: int | None) -> None:
    blocks = sorted(item.blocks)
    title = f"{item.item_id}  {titles.get(item.item_id, '')}".strip()
    rows = table(title, "what", "adds", *blocks, right=("adds", *blocks))
    parts = (f"{item.blocks[block]:+.4f}" for block in blocks)
    rows.add_row("score", f"{item.score:.4f}", *parts)
    rows.add_row("popularity", f"{item.bias:+.4f}", *("" for _ in blocks))
    for contribution in item.contributions[:most]:
        reason = contribution.reason
        shares = (f"{contribution.blocks[block]:+.4f}" for block in blocks)
        what = because([reason], titles, with_share=False)
        rows.add_row(cell(what), f"{reason.contribution:+.4f}", *shares)
    if rest := item.contributions[len(item.contributions[:most]) :]:
        adds = sum(contribution.reason.contribution for contribution in rest)
        rows.add_row(f"{len(rest)} more", f"{adds:+.4f}", *("" for _ in blocks))
    show(rows)


def _print_missing(missing: Iterable[str]) -> None:
    if listed := ", ".join(missing):
        show(cell(f"not in the catalogue: {listed}"))


def _parts(item: RankedItem) -> str:
    parts = [f"{name} {value:+.2f}" for name, value in sorted(item.blocks.items())]
    return ", ".join([*parts, f"bias {item.bias:+.2f}"])
