"""The straight line: profiles -> pooled queries -> retrieve or rank -> present.

Each stage is one call on arrays for the whole batch. What is read of the state is read in one
transaction, so that an answer is of one catalogue version and one state. One thread at a time runs
it: its own, or the event loop's while that one is idle (``batcher.py``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rankstream import kernels
from rankstream.kernels import ItemIds
from rankstream.kernels.answer import BAD_BIAS, BAD_PROFILE, Profile, rank_one
from rankstream.kernels.answer import Catalogue as Items
from rankstream.kernels.arrays import freeze
from rankstream.kernels.cells import COUNTS, UPDATED_AT
from rankstream.kernels.encode import Texts, numbered
from rankstream.kernels.pool import Pooled
from rankstream.kernels.present import Wanted, present
from rankstream.kernels.query import Past, Space, make_queries
from rankstream.kernels.rank import Best, pick_candidates
from rankstream.server.announce import Announcements
from rankstream.server.batcher import Batch
from rankstream.server.catalog.masks import Masks
from rankstream.server.catalog.view import Catalogue
from rankstream.server.errors import CorruptState, RankstreamError
from rankstream.server.facts import AttributeValue
from rankstream.server.filters import Test
from rankstream.server.profiles.layout import LAYOUT_VERSION
from rankstream.server.profiles.pooling import Pooling
from rankstream.server.profiles.stored import ProfileStore, StoredValues
from rankstream.server.ragged import ragged
from rankstream.server.store import Store, View, item_id_of
from rankstream.server.types import RankAnswer, RankTask, StageTimes

Rows = NDArray[np.int32]
_Group: TypeAlias = Test | Literal["given", "all"]
"""What candidates a task has: those given, all, or those of all that pass a test."""

_QUICK_CANDIDATES = 1024
_NO_ROWS = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The best rows of some tasks, and the candidates of each that do not exist."""

    best: Best
    missing: list[list[int]]


class Engine:
    """Answers batches of ``RankTask``.

    Args:
        store: the state.
        catalogue: this worker's view of the rows; nobody else touches it.
        masks: what filters pass of it.
        profiles: reads histories.
        pooling: how much an interaction counts.
        page: says when the bias is new.
        type_names: event types by number, as answers call them.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        masks: Masks,
        profiles: ProfileStore,
        pooling: Pooling,
        page: Announcements,
        type_names: Mapping[int, str],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._masks = masks
        self._profiles = profiles
        self._pooling = pooling
        self._page = page
        self._type_names = numbered(type_names)
        self._shown: tuple[int, Items] | None = None

    def rank(self, batch: Batch[RankTask]) -> Sequence[RankAnswer | RankstreamError]:
        """Answers each task of a batch, in order."""
        if len(batch.tasks) == 1 and self.is_quick(batch.tasks[0]):
            return [self._rank_alone(batch.tasks[0], batch.queue_us[0])]
        tasks, clock = batch.tasks, _Clock()
        with self._store.read() as view:
            self._catalogue.sync(view, self._page.bias_sequence)
            stored = self._profiles.stored(view, [t.user for t in tasks])
            excluded = [self._excluded_rows(view, task) for task in tasks]
            applied = view.positions()
        # The rest reads copies, and mapped rows, which a commit never changes.
        clock.lap("gather")
        past, pooled = self._pool(stored)
        clock.lap("pool")
        found = self._find(tasks, pooled.queries, excluded)
        clock.lap("score")
        items = self._present(tasks, found.best, past, pooled)
        clock.lap("present")
        times = clock.times(len(tasks))
        known, updated = past.headers[:, COUNTS] != -1, past.headers[:, UPDATED_AT].tolist()
        return [
            RankAnswer(
                items=items[b],
                missing=found.missing[b],
                fallback=_fallback(bool(known[b]), bool(pooled.norms[b].any())),
                updated_at_ms=max(0, updated[b]),
                applied=applied,
                head=self._catalogue.head,
                queue_us=batch.queue_us[b],
                times=times,
            )
            for b in range(len(tasks))
        ]

    def _rank_alone(self, task: RankTask, queue_us: int) -> RankAnswer:
        """As ``rank`` for one task of few candidates: all stages in one call of a kernel."""
        clock, catalogue = _Clock(), self._catalogue
        with self._store.read() as view:
            catalogue.sync(view, self._page.bias_sequence)
            stored = self._profiles.stored(view, [task.user])
            excluded = self._excluded_rows(view, task)
            applied = view.positions()
        clock.lap("gather")
        assert task.candidates is not None
        excluded.flags.writeable = False
        answer = rank_one(
            Profile(stored.words, stored.sizes, LAYOUT_VERSION, self._profiles.fold.rules),
            catalogue.table,
            self._pooling.weighing,
            self._items(),
            task.candidates,
            excluded,
            task.k,
            _wanted([task]),
        )
        if answer.bad:
            raise _bad(answer.bad)
        clock.lap("score")
        header = answer.header.tolist()
        return RankAnswer(
            items=answer.items.data,
            missing=answer.missing.tolist(),
            fallback=_fallback(header[COUNTS] != -1, answer.personal),
            updated_at_ms=max(0, header[UPDATED_AT]),
            applied=applied,
            head=catalogue.head,
            queue_us=queue_us,
            times=clock.times(1),
        )

    @staticmethod
    def is_quick(task: RankTask) -> bool:
        """Whether a task takes about as long as a switch of threads: few candidates, no scan."""
        return task.candidates is not None and task.n_candidates <= _QUICK_CANDIDATES

    def bias_of(self, row: int) -> float:
        """The bias of one row as last computed; 0 for a row not yet seen."""
        bias = self._catalogue.bias
        return float(bias[row]) if row < len(bias) else 0.0

    def _excluded_rows(self, view: View, task: RankTask) -> NDArray[np.int32]:
        keys = task.excluded
        if task.exclude_seen:
            keys = np.concatenate([keys, self._profiles.seen_targets(view, task.user)])
        if not len(keys):
            return _NO_ROWS
        rows = self._catalogue.table.lookup(keys)
        return rows[rows >= 0]

    def _pool(self, stored: StoredValues) -> tuple[Past, Pooled]:
        made = make_queries(
            stored.words,
            stored.sizes,
            LAYOUT_VERSION,
            self._profiles.fold.rules,
            self._catalogue.table,
            self._pooling.weighing,
            self._items().space,
        )
        if made is None:
            raise _bad(BAD_PROFILE)
        return made

    def _items(self) -> Items:
        """The catalogue as the kernels take it."""
        catalogue = self._catalogue
        if self._shown is None or self._shown[0] != catalogue.changes:
            layout = catalogue.layout
            space = Space(catalogue.rows, layout.offsets, layout.weights)
            ids = Texts(catalogue.ids, catalogue.id_ends)
            items = Items(space, catalogue.bias, ids, self._type_names)
            freeze((*space, items.bias, *ids))
            self._shown = catalogue.changes, items
        return self._shown[1]

    def _find(
        self, tasks: list[RankTask], queries: NDArray[np.float32], excluded: list[Rows]
    ) -> Found:
        """The best of the catalogue or of the candidates given; what is alike is found at once."""
        groups: dict[_Group, list[int]] = {}
        for b, task in enumerate(tasks):
            groups.setdefault(self._group_of(task), []).append(b)
        if len(groups) == 1:
            return self._find_alike(next(iter(groups)), tasks, queries, excluded)
        parts = [
            self._find_alike(
                group, [tasks[b] for b in chosen], queries[chosen], [excluded[b] for b in chosen]
            )
            for group, chosen in groups.items()
        ]
        return _merged(parts, [b for chosen in groups.values() for b in chosen])

    def _find_alike(
        self,
        group: _Group,
        tasks: list[RankTask],
        queries: NDArray[np.float32],
        excluded: list[Rows],
    ) -> Found:
        if group == "given":
            return self._rank_given(tasks, queries, excluded)
        allowed = self._catalogue.alive if group == "all" else self._masks.mask(group)
        return self._retrieve(tasks, queries, excluded, allowed)

    def _group_of(self, task: RankTask) -> _Group:
        if task.candidates is not None:
            return "given"
        if task.filter is None:
            return "all"
        return task.filter.resolve(self._user_attributes(task))

    def _user_attributes(self, task: RankTask) -> Mapping[str, AttributeValue]:
        """What is known of a task's user, for filters that ask."""
        return {}

    def _retrieve(
        self,
        tasks: list[RankTask],
        queries: NDArray[np.float32],
        excluded: list[Rows],
        allowed: NDArray[np.uint8],
    ) -> Found:
        """The best of the rows that are allowed, a bitmask."""
        catalogue, ks = self._catalogue, np.array([t.k for t in tasks], np.int64)
        missing: list[list[int]] = [[] for _ in tasks]
        if not ks.any() or catalogue.head.rows == 0:
            return Found(_nothing(len(tasks)), missing)
        found = kernels.top_k(
            queries,
            catalogue.rows,
            int(ks.max()),
            bias=catalogue.bias,
            allowed=allowed,
            excluded=ragged(excluded),
        )
        ends = np.minimum(found.counts, ks)
        kept = np.arange(found.rows.shape[1]) < ends[:, None]
        indptr = np.concatenate([[0], np.cumsum(ends)])
        return Found(Best(indptr, found.rows[kept], found.scores[kept]), missing)

    def _rank_given(
        self, tasks: list[RankTask], queries: NDArray[np.float32], excluded: list[Rows]
    ) -> Found:
        """The given candidates in order."""
        catalogue = self._catalogue
        candidates = [self._candidate_rows(task.candidates) for task in tasks]
        missing = [np.flatnonzero(rows < 0).tolist() for rows in candidates]
        for rows, out in zip(candidates, excluded, strict=True):
            if len(out):
                rows[np.isin(rows, out)] = -1
        ks = np.array([t.k for t in tasks], np.int64)
        indptr, rows = ragged(candidates)
        best = pick_candidates(queries, catalogue.rows, indptr, rows, ks, catalogue.bias)
        return Found(best, missing)

    def _candidate_rows(self, asked: ItemIds | NDArray[np.uint64] | None) -> NDArray[np.int32]:
        """The row of each candidate, or -1."""
        catalogue = self._catalogue
        if isinstance(asked, ItemIds):
            return catalogue.table.find(asked, catalogue.ids, catalogue.id_ends)
        return _NO_ROWS if asked is None else catalogue.table.lookup(asked)

    def _present(
        self, tasks: list[RankTask], best: Best, past: Past, pooled: Pooled
    ) -> list[memoryview]:
        """``RankResponse.items`` of each task, as bytes."""
        items = self._items()
        return present(
            best, past, pooled, items.space, items.bias, _wanted(tasks), items.ids, items.kinds
        )


def item_ids(view: View, keys: NDArray[np.uint64]) -> list[str]:
    """The external ids of live items by their keys."""
    names = keys.astype("<u8").tobytes()
    found = view.get_many("items", (names[i : i + 8] for i in range(0, len(names), 8)))
    return [item_id_of(memoryview(blob)) if len(blob) else "" for blob in found]


def _nothing(batch: int) -> Best:
    return Best(np.zeros(batch + 1, np.int64), _NO_ROWS, np.empty(0, np.float32))


def _merged(parts: list[Found], order: list[int]) -> Found:
    """Results of two groups as one; ``order[i]`` is the task that the i-th result is of."""
    rows, scores = ([a for p in parts for a in _split(p.best, i)] for i in (1, 2))
    missing = [m for p in parts for m in p.missing]
    places = np.argsort(order).tolist()
    indptr, merged = ragged([rows[i] for i in places])
    best = Best(indptr, merged, np.concatenate([scores[i] for i in places]))
    return Found(best, [missing[i] for i in places])


def _split(best: Best, column: int) -> list[NDArray[Any]]:
    return np.split(best[column], best.indptr[1:-1])


def _wanted(tasks: list[RankTask]) -> Wanted:
    """Which items have reasons, by task."""
    counts = np.array([[t.explained for t in tasks], [t.reasons for t in tasks]], np.int64)
    counts.flags.writeable = False
    return Wanted(counts[0], counts[1])


def _bad(code: int) -> CorruptState:
    what = "a stored profile is not what its header says"
    if code == BAD_BIAS:
        what = "an item's bias is not finite"
    return CorruptState(f"{what}; rebuild the state from the log")


def _fallback(known: bool, personal: bool) -> str:
    if personal:
        return ""
    return "no_usable_history" if known else "unknown_user"


class _Clock:
    """Laps of one batch, in microseconds."""

    def __init__(self) -> None:
        self._laps: dict[str, int] = {}
        self._last = time.perf_counter_ns()

    def lap(self, name: str) -> None:
        now = time.perf_counter_ns()
        self._laps[name] = (now - self._last) // 1000
        self._last = now

    def times(self, batch_size: int) -> StageTimes:
        spent = self._laps.get
        return StageTimes(
            gather_us=spent("gather", 0),
            pool_us=spent("pool", 0),
            score_us=spent("score", 0),
            present_us=spent("present", 0),
            batch_size=batch_size,
        )
