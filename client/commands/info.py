"""``rankstream info``: what the server is, and every limit it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rankstream.client.commands.choices import example
from rankstream.client.commands.session import Session, json_option

if TYPE_CHECKING:
    from rankstream.client.status import ServerInfo


@click.command(epilog=example("info --json"))
@json_option
@click.pass_obj
def info(session: Session, as_json: bool) -> None:
    """Show what the server is, and its limits."""
    from rankstream.client.commands.output import print_json

    with session.client() as client:
        found = client.server_info()
    if as_json:
        print_json(found)
    else:
        _print_info(found)


def _print_info(found: ServerInfo) -> None:
    from rankstream.client.commands.output import ago, cell, show, table

    encoder, work = found.encoder, found.encoder.work
    rows = table("server", "", "")
    for name, value in {
        "version": f"{found.server_version}, fold {found.fold_version}, worker {found.worker}",
        "started": ago(found.started_at_ms),
        "items": f"{found.items:,}, generation {found.generation}",
        "users": f"{found.users:,}",
        "encoder": f"{encoder.model} ({encoder.backend}, {encoder.precision})",
        "embeddings": f"{encoder.dimensions} dimensions, {encoder.max_tokens} tokens read",
        "prompts": f"items {encoder.item_prompt or '(none)'}, queries "
        f"{encoder.query_prompt or '(none)'} of {', '.join(encoder.prompts) or 'none'}",
        "texts encoded": f"{work.texts:,} in {work.batches:,} batches; {work.cache_hits:,} known, "
        f"{work.shared:,} on their way already, {work.dropped:,} dropped",
        "vector space": encoder.space_fingerprint,
        "generations": ", ".join(f"{g.number} {g.state}" for g in found.generations),
        "blocks": ", ".join(f"{b.name} {b.dimensions} x{b.weight:g}" for b in found.blocks),
        "event types": ", ".join(f"{t.name} {t.pooling_weight:+g}" for t in found.event_types),
    }.items():
        rows.add_row(name, cell(value))
    show(rows)
    limits = table("limits", "name", "value", "unit", "description", right=("value",))
    for limit in found.limits.values():
        limits.add_row(limit.name, f"{limit.value:,}", cell(limit.unit), cell(limit.description))
    show(limits)
