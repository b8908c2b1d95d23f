"""Real people come back: what they are recommended before and after their next three ratings."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from demo_load import rating_events
from demo_screen import Screen, grid
from demo_server import DemoError

from rankstream.client.client import Client
from rankstream.client.rankings import RankedItem, Ranking
from rankstream.client.records import Event
from rankstream.training.datasets import Interactions, MovieLens
from rankstream.training.splits import Split

PEOPLE = 3
NEXT = 3
_K = 10
# How deep the ranking before is read, to say from where an item came.
_DEEP = 200
_KNOWN = range(20, 101)
_LEAST_NEXT = 10
_LIKED = 4.0
_LEAST_LIKED = 2
# What a row takes beside its three titles: the narrow columns, and the space around each.
_COLUMNS = 2 + 5 + 7 + 6 * 2


@dataclass(frozen=True, slots=True)
class Reaction:
    """One person's next events, and how soon an answer knew of each.

    Attributes:
        user_id: who.
        sent: the events.
        before: the ranking before them, ``_DEEP`` items.
        after: the ranking that knows them all, ``_K`` items with reasons.
        ack_ms: milliseconds from the call until the log had the event, for each.
        visible_ms: milliseconds from the same moment until a ranking that knows it, for each.
    """

    user_id: str
    sent: list[Event]
    before: Ranking
    after: Ranking
    ack_ms: list[float]
    visible_ms: list[float]


def choose_people(split: Split, n_users: int) -> list[int]:
    """The first ``PEOPLE`` to come back after the cut of whom enough is known.

    They rated 20 to 100 films before it, so that three more say something, and at least 10 after
    it, of which they liked two of the first three.
    """
    known = np.bincount(split.train.users, minlength=n_users)
    coming = np.bincount(split.test.users, minlength=n_users)
    chosen: list[int] = []
    for user in dict.fromkeys(split.test.users.tolist()):
        enough = known[user] in _KNOWN and coming[user] >= _LEAST_NEXT
        if enough and (_next_of(split, user).values >= _LIKED).sum() >= _LEAST_LIKED:
            chosen.append(user)
    return chosen[:PEOPLE]


def react(client: Client, data: MovieLens, split: Split, user: int) -> Reaction:
    """Sends one person's next events, each as it happened, and ranks after each.

    Raises:
        DemoError: the server refused an event.
    """
    user_id, events = data.user_ids[user], list(rating_events(data, _next_of(split, user)))
    before = client.rank(user_id, k=_DEEP, exclude_seen=True)
    ack_ms, visible_ms = [], []
    after = before
    for event in events:
        start = time.perf_counter()
        answer = client.record_events([event])
        ack_ms.append((time.perf_counter() - start) * 1e3)
        after = client.rank(
            user_id,
            k=_K,
            exclude_seen=True,
            explain_items=_K,
            reasons=1,
            min_token=answer.token,
            max_wait_ms=5000,
        )
        visible_ms.append((time.perf_counter() - start) * 1e3)
        for result in answer.results:
            if result.error is not None:
                raise result.error
    if np.array_equal(after.scores, before.scores[:_K]):
        message = f"three ratings of {user_id} changed no score in the top {_K}"
        raise DemoError(message)
    return Reaction(user_id, events, before, after, ack_ms, visible_ms)


def show_reaction(reaction: Reaction, data: MovieLens, screen: Screen) -> None:
    """The two rankings beside each other: what moved, and why."""
    titles = {film.item_id: film.title for film in data.films}
    said = ", ".join(f"{titles[e.item_id]} {_stars(e)}" for e in reaction.sent)
    screen.say(f"user {reaction.user_id} rates {said}", style="cyan")
    title = max(12, (screen.width - _COLUMNS) // 3)
    widths = {"": 2, "before": title, "after": title, "moved": 5, "popular": 7, "taste": title}
    table = grid(*widths, right=("", "popular"), widths=widths)
    places = {item_id: place for place, item_id in enumerate(reaction.before.item_ids, start=1)}
    just_now = {event.item_id for event in reaction.sent}
    for old, new in zip(reaction.before.items, reaction.after.items, strict=False):
        moved = _moved(places.get(new.item_id), new.rank)
        named = titles[old.item_id], titles[new.item_id]
        popular = f"{new.bias:+.2f}" if new.bias else ""
        table.add_row(str(new.rank), *named, moved, popular, _why(new, titles, just_now))
    screen.show(table)
    ack, visible = _listed(reaction.ack_ms), _listed(reaction.visible_ms)
    screen.say(f"in the log after {ack} ms; in the answer after {visible} ms")


def _next_of(split: Split, user: int) -> Interactions:
    return split.test.take(split.test.users == user).take(slice(0, NEXT))


def _stars(event: Event) -> str:
    return f"{event.value:g}*"


def _moved(old: int | None, new: int) -> str:
    if old is None:
        return "new"
    return "=" if old == new else f"{'↑' if old > new else '↓'}{abs(old - new)}"


def _why(item: RankedItem, titles: dict[str, str], just_now: set[str]) -> str:
    """The past interaction that adds or takes most; NOW: it is one of the three."""
    if not item.reasons:
        return ""
    reason = item.reasons[0]
    mark = "NOW " if reason.item_id in just_now else ""
    return f"{reason.contribution:+.2f} {mark}{titles.get(reason.item_id, reason.item_id)}"


def _listed(numbers: list[float]) -> str:
    return ", ".join(f"{number:.1f}" for number in numbers)
