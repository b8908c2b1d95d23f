"""Whom a ranking is for: from tasks to the interactions that make their query vectors.

What everybody has is stored: histories, interests, the ids of one person. A task may bring more: a
session, a vector, a query in words, other weights. All of it becomes interactions in one ``Past``,
so that a score comes apart into what it was made of, whatever that was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels import KeyTable
from rankstream.kernels.arrays import freeze, frozen
from rankstream.kernels.cells import COUNTS, UPDATED_AT
from rankstream.kernels.pool import Pooled
from rankstream.kernels.query import (
    NO_TIME,
    Added,
    Extras,
    Past,
    Space,
    Weighing,
    append,
    find_rows,
    forget,
    make_queries,
    no_extras,
    nothing_added,
    pool_past,
    text_targets,
    weigh,
)
from rankstream.server.catalog.blocks import Layout
from rankstream.server.errors import CorruptState
from rankstream.server.profiles.history import Histories, gather_histories, join_histories
from rankstream.server.profiles.layout import LAYOUT_VERSION
from rankstream.server.profiles.pooling import INTEREST, Pooling
from rankstream.server.profiles.stored import ProfileStore, StoredProfiles, StoredValues
from rankstream.server.profiles.texts import Given, read_extras
from rankstream.server.profiles.users import Person, find_person
from rankstream.server.store import View
from rankstream.server.types import Asked, RankTask, text_key

QUERY, VECTOR = 1001, 1002
TYPE_NAMES = {INTEREST: "$interest", QUERY: "$query", VECTOR: "$vector"}
"""Types of what is no event; no event's type has these numbers."""

Clock = Callable[[], int]

_NOBODY = Person(b"", None, ())


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """What was read of the state for B tasks, in one transaction; copies.

    Attributes:
        people: one a task.
        stored: the values of their users, one a task; None: they are in ``histories``.
        histories: of their users, and of sessions; None: they are in ``stored``.
        extras: vectors of texts, and those given.
        interests: what people say of themselves.
    """

    people: list[Person]
    stored: StoredValues | None
    histories: Histories | None
    extras: Extras
    interests: Added


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """The subjects of B tasks.

    Attributes:
        past: what their vectors are made of.
        pooled: their vectors.
        block_weights: ``float64 [B, n_blocks]``, what the vectors were made with.
    """

    past: Past
    pooled: Pooled
    block_weights: NDArray[np.float64]


class Subjects:
    """Reads subjects, and makes vectors of them.

    Args:
        profiles: reads histories.
        pooling: how much an interaction counts.
        layout: the blocks of a row.
        clock: the time of day, in ms.
    """

    def __init__(
        self, profiles: ProfileStore, pooling: Pooling, layout: Layout, clock: Clock
    ) -> None:
        self._profiles = profiles
        self._pooling = pooling
        self._layout = layout
        self._clock = clock
        self._no_extras = no_extras(layout.stride)
        self._no_interests = nothing_added(1)

    def gather(self, view: View, tasks: Sequence[RankTask]) -> Gathered:
        """Reads what the tasks' subjects are.

        Raises:
            CorruptState: a stored value is not what its layout says.
        """
        people = [find_person(view, t.user) if t.user else _NOBODY for t in tasks]
        plain = all(len(p.ids) == 1 for p in people) and not any(t.asked for t in tasks)
        if plain:
            stored = self._profiles.stored(view, [p.user for p in people])
            targets = text_targets(stored.words, stored.sizes)
            extras = self._extras(view, people, targets, ())
            return Gathered(people, stored, None, extras, self._interests(people, tasks, extras))
        histories = self._histories(view, people, tasks)
        targets = np.unique(histories.target_keys[histories.exts >= 0x8000])
        given = [g for t in tasks if t.asked is not None for g in _given(t.asked)]
        extras = self._extras(view, people, targets, given)
        return Gathered(people, None, histories, extras, self._interests(people, tasks, extras))

    def make(
        self, gathered: Gathered, tasks: Sequence[RankTask], table: KeyTable, space: Space
    ) -> Subject:
        """Pools what was gathered.

        Raises:
            CorruptState: a stored value is not what its layout says.
        """
        if gathered.stored is None:
            return self._make_asked(gathered, tasks, table, space)
        words, sizes = gathered.stored.words, gathered.stored.sizes
        rules = self._profiles.fold.rules
        weighing, extras = self.weighing, gathered.extras
        made = make_queries(
            words, sizes, LAYOUT_VERSION, rules, table, weighing, space, extras, gathered.interests
        )
        if made is None:
            msg = "a stored profile is not what its header says; rebuild the state from the log"
            raise CorruptState(msg)
        return Subject(*made)

    @property
    def weighing(self) -> Weighing:
        """How much a stored user's interactions count, now."""
        return self._pooling.weighing(self._clock())

    def seen(self, view: View, task: RankTask, person: Person) -> NDArray[np.uint64]:
        """The keys of what a task's subject has acted on, each once."""
        until = task.asked.as_of_ms if task.asked is not None else None
        found = [self._profiles.seen_targets(view, user, until) for user in person.ids]
        session = task.asked.session if task.asked is not None else None
        if session is not None:
            past = session.event_times_ms <= (NO_TIME if until is None else until)
            found.append(session.target_keys[past])
        return np.unique(np.concatenate([np.empty(0, np.uint64), *found]))

    def _histories(
        self, view: View, people: Sequence[Person], tasks: Sequence[RankTask]
    ) -> Histories:
        """The history of each task's subject: those of its ids joined, or its session."""
        users = [user for person in people for user in person.ids]
        stored = StoredProfiles(view, users)
        everyone = range(len(users))
        fold = self._profiles.fold
        found = gather_histories(fold, stored.recent(everyone), stored.settled(everyone))
        counts = [len(person.ids) for person in people]
        sessions = [t.asked.session if t.asked is not None else None for t in tasks]
        return join_histories(found, counts, sessions, fold.rules)

    def _make_asked(
        self, gathered: Gathered, tasks: Sequence[RankTask], table: KeyTable, space: Space
    ) -> Subject:
        found, extras = gathered.histories, gathered.extras
        assert found is not None
        rows = find_rows(found.target_keys, found.exts, table.slots, table.seed, extras.keys)
        now = self._clock()
        weighing = self._pooling.weighing(now)
        weights = self._weights(found, tasks, rows, weighing, now)
        freeze((rows, weights))
        past = Past(found.indptr, rows, weights, found.types, found.event_times_ms, found.headers)
        past = _with(past, gathered.interests)
        past = _with(past, self._subject_vectors(tasks, table, extras))
        block_weights = self._block_weights(tasks)
        made = pool_past(past, space, extras, block_weights, weighing)
        queries = self._queries(tasks, extras, made[1].norms)
        if len(queries.texts):
            made = pool_past(_with(past, queries), space, extras, block_weights, weighing)
        return Subject(*made)

    def _weights(
        self,
        found: Histories,
        tasks: Sequence[RankTask],
        rows: NDArray[np.int32],
        usual: Weighing,
        now_ms: int,
    ) -> NDArray[np.float64]:
        """Weights of all interactions; those that never were, or expired, lose their row, too."""
        times, types, signed = found.event_times_ms, found.types, found.weights
        weights = weigh(found.indptr, times, types, signed, usual)
        for b, task in enumerate(tasks):
            asked, own = task.asked, slice(found.indptr[b], found.indptr[b + 1])
            ends = frozen(np.array([0, own.stop - own.start]))
            if asked is None or (asked.pooling is None and asked.as_of_ms is None):
                if usual.oldest_ms.size:
                    forget(ends, times[own], types[own], usual, rows[own])
                continue
            weighing = self._pooling.weighing(now_ms, asked.pooling, asked.as_of_ms)
            weights[own] = weigh(ends, times[own], types[own], signed[own], weighing)
            forget(ends, times[own], types[own], weighing, rows[own])
        return weights

    def _block_weights(self, tasks: Sequence[RankTask]) -> NDArray[np.float64]:
        weights = np.empty((len(tasks), len(self._layout.blocks)))
        weights[:] = self._layout.weights
        for b, task in enumerate(tasks):
            if task.asked is not None and task.asked.block_weights is not None:
                weights[b] = task.asked.block_weights
        weights.flags.writeable = False
        return weights

    def _extras(
        self,
        view: View,
        people: Sequence[Person],
        targets: NDArray[np.uint64],
        given: Sequence[Given],
    ) -> Extras:
        keys = set(targets.tolist())
        for person in people:
            keys.update(person.record.interests if person.record is not None else ())
        if not keys and not given:
            return self._no_extras
        dimensions = self._layout.blocks[0].dimensions
        return read_extras(view, sorted(keys), given, dimensions, self._layout.stride)

    def _interests(
        self, people: Sequence[Person], tasks: Sequence[RankTask], extras: Extras
    ) -> Added:
        """Each person's interests share one weight."""
        if not any(p.record is not None and p.record.interests for p in people):
            return self._no_interests if len(people) == 1 else nothing_added(len(people))
        found = []
        for person, task in zip(people, tasks, strict=True):
            change = task.asked.pooling if task.asked is not None else None
            weight = self._pooling.interests_weight
            if change is not None and change.interests_weight is not None:
                weight = change.interests_weight
            until = task.asked.as_of_ms if task.asked is not None else None
            record = person.record
            keys = record.interests if record is not None else ()
            if record is not None and until is not None and record.updated_at_ms > until:
                keys = ()
            known = [row for key in keys if (row := _row_of(extras, key)) >= 0]
            found.append([(row, weight / len(known), INTEREST) for row in known])
        return _added(found)

    def _subject_vectors(self, tasks: Sequence[RankTask], table: KeyTable, extras: Extras) -> Added:
        """The vectors that are subjects themselves, or rows of items that are."""
        found = []
        for task in tasks:
            asked = task.asked
            if asked is not None and asked.vector is not None:
                found.append([(_row_of(extras, _vector_key(asked)), 1.0, VECTOR)])
            elif asked is not None and asked.item_key is not None:
                row = int(table.lookup(np.array([asked.item_key], np.uint64))[0])
                # As ``Past`` numbers rows: an item's own.
                found.append([(-2 - row, 1.0, VECTOR)])
            else:
                found.append([])
        return _added(found)

    @staticmethod
    def _queries(tasks: Sequence[RankTask], extras: Extras, norms: NDArray[np.float64]) -> Added:
        """The queries: weighed against the text of what else there is, which counts 1."""
        found: list[list[tuple[int, float, int]]] = []
        for task, norm in zip(tasks, norms[:, 0].tolist(), strict=True):
            query = task.asked.query if task.asked is not None else None
            if query is None:
                found.append([])
            else:
                row = _row_of(extras, text_key(query.text))
                found.append([(row, query.weight * (norm or 1.0), QUERY)])
        return _added(found)


def is_known(header: NDArray[np.int64]) -> bool:
    """Whether anything is stored of a subject's user; ``int64 [4]`` of ``Past.headers``."""
    return bool(header[COUNTS] != -1)


def updated_at_ms(header: NDArray[np.int64]) -> int:
    """The broker's timestamp of the newest record in a profile; 0: none."""
    return max(0, int(header[UPDATED_AT]))


def _given(asked: Asked) -> list[Given]:
    """The vectors that a request brings."""
    found = [Given(text_key(text), text, v) for text, v in asked.encoded.items()]
    if asked.vector is not None:
        found.append(Given(_vector_key(asked), "", asked.vector))
    return found


def _vector_key(asked: Asked) -> int:
    """A name for the vector of one of the tasks of a batch."""
    return id(asked.vector)


def _row_of(extras: Extras, key: int) -> int:
    at = int(np.searchsorted(extras.keys, np.uint64(key)))
    return at if at < len(extras.keys) and int(extras.keys[at]) == key else -1


def _added(found: Sequence[Sequence[tuple[int, float, int]]]) -> Added:
    flat = [entry for entries in found for entry in entries]
    made = Added(
        np.cumsum([0, *map(len, found)], dtype=np.int64),
        np.array([row for row, _, _ in flat], np.int32),
        np.array([weight for _, weight, _ in flat], np.float64),
        np.array([kind for _, _, kind in flat], np.uint16),
    )
    freeze(made)
    return made


def _with(past: Past, added: Added) -> Past:
    if not len(added.texts):
        return past
    freeze(past)
    joined: Any = append(past, added)
    freeze(joined)
    return Past(*joined)
