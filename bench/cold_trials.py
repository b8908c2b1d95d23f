"""The two cold starts of one data set, asked window by window: what is new, and who is new."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from cold_server import NOBODY, ColdServer, scaled, user_id_of
from numpy.typing import NDArray

from rankstream.client.queries import RankQuery
from rankstream.client.records import Event
from rankstream.server.config import Scoring
from rankstream.training.baselines import Baseline, Popularity, Random, recommend
from rankstream.training.cold_start import Window, newcomers, next_trials
from rankstream.training.metrics import hit_at_k, ndcg_at_k
from rankstream.training.splits import Trials
from rankstream.training.titled_log import TitledLog

OURS, ALONE = "rankstream", "rankstream, similarity alone"
UNKNOWN, SEARCH = "rankstream, unknown user", "rankstream, search in session"
DECAYED, POPULAR, RANDOM = "popularity, decayed", "popularity", "random"
FACTORS = (0.5, 1.4, 2.0, 4.0)
"""How much more similarity counts than by default, where that is tried."""

K_USERS, K_ITEMS = 10, 50
_HIT_KS = (10, 50)
_ALONE = 1_000.0

Ranked = dict[str, NDArray[np.int32]]


@dataclass(slots=True, eq=False)
class Samples:
    """Metrics of one question, a number a user, of all windows so far.

    Attributes:
        values: by system and metric, ``float64 [b]`` a window.
    """

    values: dict[str, dict[str, list[NDArray[np.float64]]]] = field(default_factory=dict)

    def add(self, ranked: Ranked, relevant: Sequence[NDArray[np.int32]]) -> None:
        """Measures the rankings of each system, ``int32 [b, K]``."""
        for name, rows in ranked.items():
            found = {f"hit@{k}": hit_at_k(rows, relevant, k) for k in _HIT_KS if k <= rows.shape[1]}
            found["ndcg@10"] = ndcg_at_k(rows, relevant, 10)
            for metric, values in found.items():
                self.values.setdefault(name, {}).setdefault(metric, []).append(values)


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """How it is asked.

    Attributes:
        most: users asked for in one window, drawn where there are more.
        seed: of what is drawn.
        sweeps: whether other weights are tried, too.
    """

    most: int
    seed: int
    sweeps: bool


def ask_newcomers(
    server: ColdServer, data: TitledLog, window: Window, settings: Settings, samples: Samples
) -> None:
    """New users with a sentence: everything but what they said is ranked for each."""
    found = newcomers(window, data.n_users, data.title_numbers, data.least_value)
    chosen = _draw(len(found.trials), settings)
    trials = _some(found.trials, chosen)
    if not len(trials):
        return
    texts = [words_of(data, item) for item in found.said[chosen].tolist()]
    user_ids = [f"new-{user}" for user in trials.users.tolist()]
    server.introduce(user_ids, texts)
    left_out = [[data.item_ids[i] for i in shown] for shown in trials.histories]
    told = [
        RankQuery(user_id, k=K_USERS, exclude_item_ids=ids)
        for user_id, ids in zip(user_ids, left_out, strict=True)
    ]
    unknown = [replace(query, user_id=NOBODY) for query in told]
    searched = [
        replace(query, user_id="", session=[Event("", "search", text=text)])
        for query, text in zip(told, texts, strict=True)
    ]
    asked = {OURS: told, SEARCH: searched, UNKNOWN: unknown, **_other_weights(told, settings)}
    ranked = {name: server.rank(queries) for name, queries in asked.items()}
    samples.add(ranked | _baselines(window, data, trials, K_USERS, settings.seed), trials.relevant)


def ask_known(
    server: ColdServer,
    data: TitledLog,
    window: Window,
    allowed: NDArray[np.bool_],
    settings: Settings,
    samples: Samples,
) -> Trials:
    """Users with a history who will like an allowed item: where does it stand among all?"""
    found = next_trials(window, data.n_users, allowed, data.least_value)
    trials = _some(found, _draw(len(found), settings))
    if len(trials):
        queries = [RankQuery(user, k=K_ITEMS, exclude_seen=True) for user in _users(trials)]
        asked = {OURS: queries, **_other_weights(queries, settings)}
        ranked = {name: server.rank(some) for name, some in asked.items()}
        beside = _baselines(window, data, trials, K_ITEMS, settings.seed)
        samples.add(ranked | beside, trials.relevant)
    return trials


def ask_among(
    server: ColdServer,
    data: TitledLog,
    new: NDArray[np.bool_],
    trials: Trials,
    settings: Settings,
    samples: Samples,
) -> None:
    """The same users, the new items alone being ranked; each order is as likely for popularity."""
    if not len(trials):
        return
    candidates = [data.item_ids[item] for item in np.flatnonzero(new).tolist()]
    queries = [RankQuery(user, candidates, k=K_ITEMS) for user in _users(trials)]
    old = [np.flatnonzero(~new).astype(np.int32)] * len(trials)
    chance = recommend(Random(data.n_items, settings.seed), old, K_ITEMS)
    samples.add({OURS: server.rank(queries), RANDOM: chance}, trials.relevant)


def words_of(data: TitledLog, item: int) -> str:
    """What somebody says who begins with an item: its genres where it has some, or its title."""
    return ", ".join(data.tags[item]) or data.titles[item]


def _other_weights(queries: Sequence[RankQuery], settings: Settings) -> dict[str, list[RankQuery]]:
    asked = {ALONE: [scaled(query, _ALONE) for query in queries]}
    for factor in FACTORS if settings.sweeps else ():
        asked[f"{OURS}, similarity x {factor:g}"] = [scaled(query, factor) for query in queries]
    return asked


def _baselines(window: Window, data: TitledLog, trials: Trials, k: int, seed: int) -> Ranked:
    half_life_s = Scoring().popularity_half_life_s
    systems: dict[str, Baseline] = {
        DECAYED: Popularity(window.known, data.n_items, half_life_s),
        POPULAR: Popularity(window.known, data.n_items),
        RANDOM: Random(data.n_items, seed),
    }
    return {name: recommend(made, trials.histories, k) for name, made in systems.items()}


def _users(trials: Trials) -> list[str]:
    return [user_id_of(user) for user in trials.users.tolist()]


def _draw(count: int, settings: Settings) -> NDArray[np.int64]:
    rng = np.random.default_rng(settings.seed)
    drawn = rng.choice(count, min(count, settings.most), replace=False)
    return np.sort(drawn).astype(np.int64)


def _some(trials: Trials, chosen: Iterable[int]) -> Trials:
    numbers = np.fromiter(chosen, np.int64)
    return Trials(
        trials.users[numbers],
        [trials.histories[i] for i in numbers],
        [trials.relevant[i] for i in numbers],
    )
