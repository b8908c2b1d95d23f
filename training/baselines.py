"""What every recommender has to stand beside: random, popularity, neighbours of items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rankstream.training.datasets import Interactions

_CHUNK = 1024


class Baseline(Protocol):
    """Scores all items for users of whom only their histories are known."""

    def scores(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float64]:
        """``float64 [B, N]`` for B histories in the order of time; higher is better."""


class Random:
    """Every order is as likely as any other.

    Args:
        n_items: N.
        seed: the same seed gives the same scores.
    """

    def __init__(self, n_items: int, seed: int) -> None:
        self._n_items = n_items
        self._seed = seed

    def scores(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float64]:
        """Uniform numbers."""
        return np.random.default_rng(self._seed).random((len(histories), self._n_items))


class Popularity:
    """How often an item was acted on; with a half-life, how often of late.

    An interaction counts 2^(-age / half_life), its age being taken from the newest one in the log.

    Args:
        log: what is known.
        n_items: N.
        half_life_s: age at which an interaction counts half, seconds; None: age does not matter.
    """

    def __init__(self, log: Interactions, n_items: int, half_life_s: float | None = None) -> None:
        ages = log.times_s.max(initial=0) - log.times_s
        weights = np.ones(len(log)) if half_life_s is None else np.exp2(-ages / half_life_s)
        self._counts = np.bincount(log.items, weights, minlength=n_items)

    def scores(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float64]:
        """The same counts for everyone."""
        return np.tile(self._counts, (len(histories), 1))


class ItemKNN:
    """Items that the same users acted on as the user's last items.

    Deshpande and Karypis, "Item-based top-N recommendation algorithms", ACM TOIS 22, 1, 2004, with
    cosine similarity (section 4.1) of the items' columns in the binary user x item matrix:
    ``sim(i, j) = |users of i and j| / sqrt(|users of i| |users of j|)``. An item's score is the sum
    of its similarities to the last items of the history, each keeping its nearest neighbours only.
    An empty history gets the popularity of the items. Takes ``8 N^2`` bytes.

    Args:
        log: what is known.
        n_users: the number of users.
        n_items: N.
        last: items of a history that count, the newest.
        neighbours: neighbours that each item keeps.
    """

    def __init__(
        self,
        log: Interactions,
        n_users: int,
        n_items: int,
        *,
        last: int = 20,
        neighbours: int = 100,
    ) -> None:
        self._last = last
        shared = _shared_users(log.by_user(n_users), n_items)
        self._counts = counts = shared.diagonal().copy()
        np.fill_diagonal(shared, 0.0)
        norms = np.sqrt(np.outer(counts, counts))
        similar = np.divide(shared, norms, out=shared, where=norms > 0)
        if neighbours < n_items:
            least = np.partition(similar, -neighbours, axis=1)[:, -neighbours, None]
            similar[similar < least] = 0.0
        self._similar = similar

    def scores(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float64]:
        """Sums of similarities; numbers of users where the history is empty."""
        scores = np.zeros((len(histories), len(self._similar)))
        for row, history in enumerate(histories):
            # An item that came twice counts once.
            last = np.unique(history[-self._last :])
            scores[row] = self._similar[last].sum(axis=0) if len(last) else self._counts
        return scores


def recommend(
    baseline: Baseline, histories: Sequence[NDArray[np.int32]], k: int
) -> NDArray[np.int32]:
    """The k best items of each user that are not in the user's history: ``int32 [B, k]``.

    Ties go to the smaller item number; places for which no item is left are -1.
    """
    scores = baseline.scores(histories)
    for row, history in enumerate(histories):
        scores[row, history] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    left = np.take_along_axis(scores, best, axis=1) > -np.inf
    return np.where(left, best, -1).astype(np.int32)


def _shared_users(histories: list[NDArray[np.int32]], n_items: int) -> NDArray[np.float64]:
    """How many users two items have in common: ``float64 [N, N]``."""
    shared = np.zeros((n_items, n_items))
    for start in range(0, len(histories), _CHUNK):
        chunk = histories[start : start + _CHUNK]
        acted = np.zeros((len(chunk), n_items), np.float32)
        for row, history in enumerate(chunk):
            acted[row, history] = 1.0
        # Sums of a chunk are whole numbers below 2^24, so exact in fp32.
        shared += acted.T @ acted
    return shared
