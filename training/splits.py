"""What is known and what is asked for: splits in time, never at random.

A model that has seen the future of other users looks better than it will be, so everything before
one moment is known and everything after it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.training.datasets import Interactions


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """``train`` is known, ``test`` is asked for."""

    train: Interactions
    test: Interactions


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """One question a user: which items will this user like next?

    Attributes:
        users: ``int32 [B]``, rising.
        histories: B arrays of items known of the user, in the order of time; may be empty.
        relevant: B arrays, never empty, of items that the user likes later and did not know.
    """

    users: NDArray[np.int32]
    histories: list[NDArray[np.int32]]
    relevant: list[NDArray[np.int32]]

    def __len__(self) -> int:
        return len(self.users)

    @property
    def known(self) -> NDArray[np.bool_]:
        """``bool [B]``: users with a history."""
        return np.array([len(history) > 0 for history in self.histories], np.bool_)


def split_in_time(log: Interactions, fraction: float) -> Split:
    """The first ``fraction`` of all interactions, and the rest.

    Raises:
        ValueError: ``fraction`` is not between 0 and 1.
    """
    if not 0.0 < fraction < 1.0:
        message = f"fraction is {fraction}; expected more than 0 and less than 1"
        raise ValueError(message)
    cut = int(len(log) * fraction)
    return Split(log.take(slice(0, cut)), log.take(slice(cut, None)))


def reveal(split: Split, first: int) -> Split:
    """The same split with the first interactions of each user's test known as well.

    Args:
        split: as made by ``split_in_time``.
        first: how many of each user's test interactions become known.
    """
    test = split.test
    order = np.argsort(test.users, kind="stable")
    starts = np.cumsum(np.bincount(test.users)) - np.bincount(test.users)
    ordinal = np.empty(len(test), np.int64)
    ordinal[order] = np.arange(len(test)) - starts[test.users[order]]
    shown = ordinal < first
    return Split(_joined(split.train, test.take(shown)), test.take(~shown))


def make_trials(split: Split, n_users: int, least_value: float) -> Trials:
    """Asks for each user's test items of at least ``least_value`` that train does not hold.

    Users with no such item are left out.
    """
    known = split.train.by_user(n_users)
    liked = split.test.take(split.test.values >= least_value).by_user(n_users)
    relevant = [np.setdiff1d(new, old) for new, old in zip(liked, known, strict=True)]
    users = np.flatnonzero([len(items) > 0 for items in relevant]).astype(np.int32)
    return Trials(users, [known[u] for u in users], [relevant[u] for u in users])


def _joined(first: Interactions, second: Interactions) -> Interactions:
    """Both, ``first`` being nowhere later than ``second``."""
    return Interactions(
        np.concatenate([first.users, second.users]),
        np.concatenate([first.items, second.items]),
        np.concatenate([first.values, second.values]),
        np.concatenate([first.times_s, second.times_s]),
    )
