"""Who and what is new at a moment: users without a history, items nobody has acted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.training.datasets import Interactions
from rankstream.training.splits import Trials


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A piece of a log, seen from its beginning.

    Attributes:
        known: everything earlier than the window.
        inside: the window's interactions.
        later: the window's interactions and all after it.
    """

    known: Interactions
    inside: Interactions
    later: Interactions


@dataclass(frozen=True, slots=True, eq=False)
class Newcomers:
    """Users of whom nothing is known but some words.

    Attributes:
        trials: one a user; ``histories`` hold what no answer may contain.
        said: ``int32 [B]``, the item whose words are what the user has said.
    """

    trials: Trials
    said: NDArray[np.int32]


def windows(log: Interactions, first: float, count: int) -> list[Window]:
    """Cuts what comes after the first part of a log into windows of about the same length.

    A window begins with a moment: no time is on both sides of a cut.

    Args:
        log: everything.
        first: the fraction of the interactions that are before the first window.
        count: how many windows.

    Raises:
        ValueError: ``first`` is not between 0 and 1, or ``count`` is not positive.
    """
    if not 0.0 < first < 1.0 or count < 1:
        message = f"first is {first}, count {count}; expected 0 < first < 1 and count of 1 or more"
        raise ValueError(message)
    ends = (len(log) * (first + (1.0 - first) * np.arange(count) / count)).astype(np.int64)
    cuts = [*np.searchsorted(log.times_s, log.times_s[ends]).tolist(), len(log)]
    return [
        Window(log.take(slice(0, begin)), log.take(slice(begin, end)), log.take(slice(begin, None)))
        for begin, end in zip(cuts[:-1], cuts[1:], strict=True)
    ]


def newcomers(
    window: Window, n_users: int, title_numbers: NDArray[np.int32], least_value: float
) -> Newcomers:
    """Users whose first interaction is in the window, and who like something at a later moment.

    A user's words are those of the first item liked. Everything liked at that first moment, and
    every item with the same title as one of these, is out of play: it is in ``histories``, and no
    target. The one target is the first item liked at a later moment.

    Args:
        window: the moment and what comes after it.
        n_users: the number of users.
        title_numbers: ``int32 [N]``, equal where titles are.
        least_value: the value of what a user likes.
    """
    old = np.bincount(window.known.users, minlength=n_users) > 0
    came = np.bincount(window.inside.users, minlength=n_users) > 0
    likes = window.later.take(
        (window.later.values >= least_value) & (came & ~old)[window.later.users]
    )
    order = np.argsort(likes.users, kind="stable")
    users, starts = np.unique(likes.users[order], return_index=True)
    ends = np.append(starts[1:], len(order))[: len(users)]
    found: list[tuple[int, int, NDArray[np.int32], NDArray[np.int32]]] = []
    for user, start, end in np.stack([users, starts, ends], axis=1).tolist():
        items, times = likes.items[order[start:end]], likes.times_s[order[start:end]]
        first = np.isin(title_numbers, title_numbers[items[times == times[0]]])
        targets = items[~first[items]][:1]
        if len(targets):
            found.append((user, int(items[0]), np.flatnonzero(first).astype(np.int32), targets))
    trials = Trials(
        np.array([user for user, *_ in found], np.int32),
        [shown for _, _, shown, _ in found],
        [targets for *_, targets in found],
    )
    return Newcomers(trials, np.array([said for _, said, *_ in found], np.int32))


def debutants(window: Window, n_items: int) -> NDArray[np.bool_]:
    """Which items nobody has acted on before the window: ``bool [N]``."""
    unknown: NDArray[np.bool_] = np.bincount(window.known.items, minlength=n_items) == 0
    return unknown


def next_trials(
    window: Window, n_users: int, allowed: NDArray[np.bool_], least_value: float
) -> Trials:
    """Users with a history, each with the first item liked in the window that is new to the user.

    Args:
        window: the moment and what comes after it.
        n_users: the number of users.
        allowed: ``bool [N]``, the items that may be targets.
        least_value: the value of what a user likes.
    """
    inside = window.inside
    acted = np.isin(_pairs(inside, len(allowed)), _pairs(window.known, len(allowed)))
    old = np.bincount(window.known.users, minlength=n_users) > 0
    likes = inside.values >= least_value
    wanted = inside.take(likes & old[inside.users] & allowed[inside.items] & ~acted)
    users, firsts = np.unique(wanted.users, return_index=True)
    histories = window.known.by_user(n_users)
    return Trials(
        users.astype(np.int32),
        [histories[user] for user in users],
        [wanted.items[first : first + 1] for first in firsts.tolist()],
    )


def _pairs(log: Interactions, n_items: int) -> NDArray[np.int64]:
    """A number for each interaction's user and item."""
    return log.users.astype(np.int64) * n_items + log.items
