"""The acts of the demo, in order, and the figures they give."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from demo_live import Reaction, choose_people, react, show_reaction
from demo_load import import_catalogue, replay
from demo_quality import (
    REVEALED,
    Batch,
    quality_after,
    quality_at_cut,
    rank_everyone,
    show_quality,
)
from demo_screen import Screen
from demo_server import Addresses, DemoServer

from rankstream.client.client import Client
from rankstream.training.datasets import Interactions, MovieLens
from rankstream.training.evaluation import Quality
from rankstream.training.splits import Split, split_in_time

_KNOWN = 0.8
_BIAS_REFRESH_S = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A running server, a client of it, and what to show on it."""

    server: DemoServer
    addresses: Addresses
    client: Client
    data: MovieLens
    screen: Screen


def perform(stage: Stage) -> dict[str, Any]:
    """The whole demo; returns its figures."""
    split = split_in_time(stage.data.log, _KNOWN)
    figures = fill(stage, split.train)
    batch = batch_of_everyone(stage)
    reactions = people_come_back(stage, split)
    cut, after = judge(stage, split, batch)
    figures |= {
        "people": [_reaction_figures(reaction) for reaction in reactions],
        "event_to_visible_ms": median(ms for r in reactions for ms in r.visible_ms),
        "batch": {
            "users": len(batch.rankings),
            "seconds": batch.seconds,
            "fallbacks": dict(batch.fallbacks),
        },
        "quality_at_cut": [asdict(quality) for quality in cut],
        f"quality_{REVEALED}_events_later": [asdict(quality) for quality in after],
        "seconds": stage.screen.elapsed_s,
    }
    return figures


def fill(stage: Stage, log: Interactions) -> dict[str, Any]:
    """Imports the catalogue and replays a log of ratings."""
    stage.screen.head(f"{len(stage.data.films):,} films through Catalog.UpsertItems")
    items = import_catalogue(stage.client, stage.data, stage.screen)
    stage.screen.say(f"can be ranked after {items.seconds:.1f} s ({items.per_s:,.0f} films/s)")
    stage.screen.head(f"{len(log):,} ratings, in the order of time, through Kafka")
    bootstrap = stage.addresses.bootstrap_servers
    events = replay(stage.client, bootstrap, stage.data, log, stage.screen)
    stage.screen.say(f"folded after {events.seconds:.1f} s ({events.per_s:,.0f} events/s)")
    # Popularity enters the scores with the next refresh of the bias, at most a second later.
    time.sleep(_BIAS_REFRESH_S)
    return {
        "items": {"count": items.count, "seconds": items.seconds},
        "events": {"count": events.count, "seconds": events.seconds},
    }


def batch_of_everyone(stage: Stage) -> Batch:
    """Ranks all people of the data set and some guests."""
    stage.screen.head("1,000 users in one BatchRank, each over the whole catalogue")
    batch = rank_everyone(stage.client, stage.data)
    users, personal = len(batch.rankings), batch.fallbacks[""]
    stage.screen.say(f"{batch.seconds * 1e3:.0f} ms: {users / batch.seconds:,.0f} users/s")
    reasons = [f"{n} {why.replace('_', ' ')}" for why, n in batch.fallbacks.items() if why]
    stage.screen.say(f"{personal} personal; by popularity: {', '.join(reasons) or 'none'}")
    people = len(stage.data.user_ids)
    stage.screen.say(
        f"({people} people of the data set, not all here yet, and {users - people} guests)"
    )
    return batch


def people_come_back(stage: Stage, split: Split) -> list[Reaction]:
    """Three people's next ratings, and what they change."""
    stage.screen.head("People come back: their next three ratings over Events.RecordEvents")
    stage.screen.say("popular: the same for everyone; taste: the past rating that says most")
    reactions = []
    for user in choose_people(split, len(stage.data.user_ids)):
        reactions.append(react(stage.client, stage.data, split, user))
        show_reaction(reactions[-1], stage.data, stage.screen)
    middle = median(ms for reaction in reactions for ms in reaction.visible_ms)
    stage.screen.say(f"event to visible, median: {middle:.1f} ms from the start of the call")
    return reactions


def judge(stage: Stage, split: Split, batch: Batch) -> tuple[list[Quality], list[Quality]]:
    """The quality at the cut, and some events later."""
    stage.screen.head("How good is it? The last 20% of the ratings, beside simple systems")
    cut = quality_at_cut(batch, stage.data, split)
    after = quality_after(stage.client, stage.data, split)
    show_quality(cut, after, stage.screen)
    for line in (
        "All films are ranked but those the user has rated; relevant: rated 4 or 5 later. * best.",
        f"Left: {cut[0].users} users at the cut, most of them new: popularity is all there is.",
        f"+{REVEALED}: {after[0].users} users, {REVEALED} later ratings of each known.",
    ):
        stage.screen.say(line, style="dim")
    return cut, after


def _reaction_figures(reaction: Reaction) -> dict[str, Any]:
    return {
        "user_id": reaction.user_id,
        "before": reaction.before.item_ids[: len(reaction.after.items)],
        "after": reaction.after.item_ids,
        "ack_ms": reaction.ack_ms,
        "visible_ms": reaction.visible_ms,
    }
