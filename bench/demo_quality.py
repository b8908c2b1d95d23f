"""How good the rankings are, beside what is simple, on ratings the server has not seen.

Protocol: the first 80% of all ratings by time are known. Each person who later rates films with 4
or 5 stars that they had not rated before is asked for: all 1,682 films are ranked, except those the
person has already rated; those later liked films are relevant. The same again when the first five
later ratings of each person are known too: for the server they come as events over gRPC.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
from demo_load import rating_events
from demo_screen import Screen, grid
from demo_server import DemoError
from numpy.typing import NDArray

from rankstream.client.client import Client
from rankstream.client.errors import RankstreamError
from rankstream.client.queries import RankQuery
from rankstream.client.rankings import Ranking
from rankstream.server.config import Scoring
from rankstream.training.datasets import MovieLens
from rankstream.training.evaluation import Quality, measure, measure_baselines
from rankstream.training.splits import Split, Trials, make_trials, reveal

K = 10
REVEALED = 5
USERS = 1_000
_LIKED = 4.0
_NAME = "rankstream"


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One BatchRank of ``USERS`` users: the people of the data set, and guests.

    Attributes:
        rankings: by user_id.
        seconds: from the call to the decoded answer.
        fallbacks: how many answers were not personal, by the reason that the server states.
    """

    rankings: dict[str, Ranking]
    seconds: float
    fallbacks: Counter[str]


def rank_everyone(client: Client, data: MovieLens) -> Batch:
    """Ranks the whole catalogue for 943 people and 57 unknown guests in one call.

    Raises:
        RankstreamError: an entry failed.
    """
    guests = [f"guest-{number}" for number in range(USERS - len(data.user_ids))]
    user_ids = [*data.user_ids, *guests]
    start = time.perf_counter()
    rankings = _batch(client, user_ids)
    seconds = time.perf_counter() - start
    fallbacks = Counter(ranking.served_by.fallback for ranking in rankings)
    return Batch(dict(zip(user_ids, rankings, strict=True)), seconds, fallbacks)


def quality_at_cut(batch: Batch, data: MovieLens, split: Split) -> list[Quality]:
    """The server's rankings of ``batch`` beside the baselines; ours comes last."""
    trials = make_trials(split, len(data.user_ids), _LIKED)
    rankings = [batch.rankings[data.user_ids[user]] for user in trials.users]
    return _beside(rankings, trials, data, split)


def quality_after(client: Client, data: MovieLens, split: Split) -> list[Quality]:
    """The same when each person's first ``REVEALED`` later ratings have come as events.

    Raises:
        DemoError: the server refused an event.
    """
    later = reveal(split, REVEALED)
    shown = later.train.take(slice(len(split.train), None))
    recorded = client.record_events(rating_events(data, shown), timeout_s=30.0)
    if refused := [r.error for r in recorded.results if r.error is not None]:
        message = f"{len(refused)} of {len(shown)} events were refused: {refused[0]}"
        raise DemoError(message)
    trials = make_trials(later, len(data.user_ids), _LIKED)
    user_ids = [data.user_ids[user] for user in trials.users]
    return _beside(_batch(client, user_ids, recorded.token), trials, data, later)


def show_quality(cut: list[Quality], after: list[Quality], screen: Screen) -> None:
    """Both sets of trials in one table."""
    names = ("hit@10", "NDCG@10", "known users", "new users", "hit@10 +5", "NDCG@10 +5")
    table = grid("", *names, right=names)
    best = max(cut, key=lambda q: q.ndcg).name, max(after, key=lambda q: q.ndcg).name
    for old, new in zip(cut, after, strict=True):
        marks = ("*" if old.name == best[0] else " "), ("*" if new.name == best[1] else " ")
        table.add_row(
            old.name,
            f"{old.hit:.3f}",
            f"{old.ndcg:.3f}{marks[0]}",
            _number(old.known_ndcg),
            _number(old.new_ndcg),
            f"{new.hit:.3f}",
            f"{new.ndcg:.3f}{marks[1]}",
        )
    screen.show(table)


def _batch(client: Client, user_ids: list[str], token: bytes = b"") -> list[Ranking]:
    queries = [
        RankQuery(
            user_id,
            k=K,
            exclude_seen=True,
            min_token=token,
            max_wait_ms=10_000 if token else None,
        )
        for user_id in user_ids
    ]
    rankings = []
    for answer in client.batch_rank(queries, timeout_s=60.0):
        if isinstance(answer, RankstreamError):
            raise answer
        rankings.append(answer)
    return rankings


def _beside(
    rankings: list[Ranking], trials: Trials, data: MovieLens, split: Split
) -> list[Quality]:
    users, items = len(data.user_ids), len(data.films)
    half_life_s = Scoring().popularity_half_life_s
    others = measure_baselines(split.train, trials, users, items, k=K, half_life_s=half_life_s)
    return [*others, measure(_NAME, _numbers(rankings, data), trials, K)]


def _numbers(rankings: list[Ranking], data: MovieLens) -> NDArray[np.int32]:
    """Rankings as numbers of films: ``int32 [B, K]``, -1 for empty places."""
    numbers = {film.item_id: number for number, film in enumerate(data.films)}
    ranked = np.full((len(rankings), K), -1, np.int32)
    for row, ranking in enumerate(rankings):
        ranked[row, : len(ranking.items)] = [numbers[i] for i in ranking.item_ids]
    return ranked


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
