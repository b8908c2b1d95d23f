"""How near an encoder's vectors are to the reference's, and what that does to recommendations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from encoder_peers import Vectors
from numpy.typing import NDArray
from sizes import SEED

from rankstream.training.datasets import DatasetError
from rankstream.training.intervals import mean_interval
from rankstream.training.metrics import ndcg_at_k
from rankstream.training.splits import Trials, make_trials, split_in_time
from rankstream.training.titled_log import TitledLog, read_titled_log

K = 10
_KNOWN = 0.9
_LAST = 10
_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Change:
    """NDCG@10 of rankings by vectors, beside those by the reference's.

    Attributes:
        reference: mean over the users.
        low: lower end of the paired 95% interval of the change, as a part of ``reference``.
        high: upper end.
        mean: of the change, likewise.
        users: how many.
    """

    reference: float
    low: float
    high: float
    mean: float
    users: int


def read_data_sets(folder: Path | None) -> list[TitledLog]:
    """All data sets of a folder, by name; none where there is no folder.

    Raises:
        ValueError: one is not what ``training/titled_log.py`` reads.
    """
    try:
        names = sorted(one for one in folder.iterdir() if one.is_dir()) if folder else []
        return [read_titled_log(one) for one in names]
    except DatasetError as error:
        raise ValueError(str(error)) from error


def cosines(vectors: Vectors, reference: Vectors) -> NDArray[np.float64]:
    """Of each text, ``float64 [B]``, of two ``[B, D]`` of unit vectors."""
    found: NDArray[np.float64] = np.einsum("ij,ij->i", vectors, reference, dtype=np.float64)
    return found


def overlap(vectors: Vectors, reference: Vectors, k: int = K) -> float:
    """Which part of each item's k nearest others is the same, on average."""
    shared = 0
    for ours, theirs in zip(_neighbours(vectors, k), _neighbours(reference, k), strict=True):
        shared += sum(len(np.intersect1d(*pair)) for pair in zip(ours, theirs, strict=True))
    return shared / (len(vectors) * k)


def trials_of(data: TitledLog) -> Trials:
    """The last tenth of a log: what users with a history liked then, and did not know."""
    found = make_trials(split_in_time(data.log, _KNOWN), data.n_users, data.least_value)
    chosen = np.flatnonzero(found.known)
    return Trials(
        found.users[chosen],
        [found.histories[user] for user in chosen],
        [found.relevant[user] for user in chosen],
    )


def gains(vectors: Vectors, trials: Trials) -> NDArray[np.float64]:
    """NDCG@10 of each user, all unknown items ranked by the mean of the last ten known ones."""
    found = []
    for start in range(0, len(trials), _AT_ONCE):
        histories = trials.histories[start : start + _AT_ONCE]
        centroids = np.stack([vectors[history[-_LAST:]].mean(axis=0) for history in histories])
        scores = centroids @ vectors.T
        for row, history in enumerate(histories):
            scores[row, history] = -np.inf
        relevant = trials.relevant[start : start + _AT_ONCE]
        found.append(ndcg_at_k(_best(scores, K), relevant, K))
    return np.concatenate(found)


def change(ours: Sequence[NDArray[np.float64]], reference: Sequence[NDArray[np.float64]]) -> Change:
    """Of the users of all data sets together.

    Args:
        ours: as ``gains`` gives them, one array a data set.
        reference: of the same users.
    """
    base = np.concatenate(reference)
    differences = np.concatenate(ours) - base
    mean = float(base.mean())
    low, high = mean_interval(differences, SEED)
    return Change(mean, low / mean, high / mean, float(differences.mean()) / mean, len(base))


def _neighbours(vectors: Vectors, k: int) -> Iterator[NDArray[np.int32]]:
    for start in range(0, len(vectors), _AT_ONCE):
        scores = vectors[start : start + _AT_ONCE] @ vectors.T
        rows = np.arange(len(scores))
        scores[rows, start + rows] = -np.inf
        yield _best(scores, k)


def _best(scores: NDArray[np.float32], k: int) -> NDArray[np.int32]:
    """The k best columns of each row, best first; of equals, the lower."""
    near = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    near.sort(axis=1)
    order = np.argsort(-np.take_along_axis(scores, near, axis=1), axis=1, kind="stable")
    return np.take_along_axis(near, order, axis=1).astype(np.int32)
