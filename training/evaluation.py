"""Systems beside each other on the same trials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.training.baselines import (
    Baseline,
    ItemKNN,
    Popularity,
    Random,
    recommend,
)
from rankstream.training.datasets import Interactions
from rankstream.training.metrics import hit_at_k, ndcg_at_k
from rankstream.training.splits import Trials


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over the users of a set of trials.

    Attributes:
        name: of the system.
        k: places that count.
        users: how many were asked for.
        hit: mean of hit@k.
        ndcg: mean of NDCG@k.
        known_ndcg: mean of NDCG@k over users with a history; None where there are none.
        new_ndcg: mean of NDCG@k over users without one; None where there are none.
    """

    name: str
    k: int
    users: int
    hit: float
    ndcg: float
    known_ndcg: float | None
    new_ndcg: float | None


def measure(name: str, ranked: NDArray[np.int32], trials: Trials, k: int) -> Quality:
    """The quality of one system.

    Args:
        name: of the system.
        ranked: ``int32 [B, K]``, one row a trial, -1 for empty places.
        trials: what was asked, B of them.
        k: places that count.
    """
    hit, ndcg = (metric(ranked, trials.relevant, k) for metric in (hit_at_k, ndcg_at_k))
    known = trials.known
    return Quality(
        name=name,
        k=k,
        users=len(trials),
        hit=float(hit.mean()),
        ndcg=float(ndcg.mean()),
        known_ndcg=_mean(ndcg[known]),
        new_ndcg=_mean(ndcg[~known]),
    )


def measure_baselines(
    log: Interactions, trials: Trials, n_users: int, n_items: int, *, k: int, half_life_s: float
) -> list[Quality]:
    """The quality of random, popularity, decayed popularity and itemKNN on the same trials.

    Args:
        log: what is known, of all users.
        trials: what was asked.
        n_users: the number of users.
        n_items: the number of items.
        k: places that count.
        half_life_s: of decayed popularity, seconds.
    """
    days = half_life_s / 86_400
    systems: dict[str, Baseline] = {
        "random": Random(n_items, seed=1),
        "popularity": Popularity(log, n_items),
        f"popularity, half-life {days:g} d": Popularity(log, n_items, half_life_s),
        "itemKNN (cosine, last 20)": ItemKNN(log, n_users, n_items),
    }
    return [
        measure(name, recommend(system, trials.histories, k), trials, k)
        for name, system in systems.items()
    ]


def _mean(numbers: NDArray[np.float64]) -> float | None:
    return float(numbers.mean()) if len(numbers) else None
