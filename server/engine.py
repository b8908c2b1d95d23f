"""The straight line: profiles -> pooled queries -> retrieve or rank -> explain -> answers.

Each stage is one call on arrays for the whole batch, inside one read transaction, so that an answer
is of one catalogue version and one state. One thread runs it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream import kernels
from rankstream.server.announce import Announcements
from rankstream.server.batcher import Batch
from rankstream.server.catalog.view import Catalogue
from rankstream.server.errors import RankstreamError
from rankstream.server.profiles.history import Histories
from rankstream.server.profiles.pooling import Pooling
from rankstream.server.profiles.stored import ProfileStore
from rankstream.server.ragged import ragged
from rankstream.server.rerank.explain import Explainer
from rankstream.server.store import Store, View, item_id_of
from rankstream.server.types import ItemReason, RankAnswer, RankTask, StageTimes

_NO_ROWS = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """What a batch of profiles became.

    Attributes:
        rows: ``int32 [T]``: each interaction's item row, or -1.
        weights: ``float64 [T]``.
        vectors: ``float32 [B, stride]``.
        norms: ``float64 [B, n_blocks]`` before normalisation.
        block_weights: ``float64 [B, n_blocks]``.
    """

    rows: NDArray[np.int32]
    weights: NDArray[np.float64]
    vectors: NDArray[np.float32]
    norms: NDArray[np.float64]
    block_weights: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Picked:
    """The best rows of one task, best first, and the candidates that do not exist.

    Attributes:
        rows: ``int32 [K]``.
        scores: ``float32 [K]``.
        missing: indices among the candidates.
        positions: where the rows stand among the candidates ``int32 [K]``; None: none were given.
    """

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]
    missing: list[int]
    positions: NDArray[np.int32] | None = None


class Engine:
    """Answers batches of ``RankTask``.

    Args:
        store: the state.
        catalogue: this worker's view of the rows; only the engine's thread touches it.
        profiles: reads histories.
        pooling: how much an interaction counts.
        page: says when the bias is new.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        profiles: ProfileStore,
        pooling: Pooling,
        page: Announcements,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._profiles = profiles
        self._pooling = pooling
        self._page = page
        self._explainer = Explainer(catalogue)

    def rank(self, batch: Batch[RankTask]) -> Sequence[RankAnswer | RankstreamError]:
        """Answers each task of a batch, in order."""
        tasks, clock = batch.tasks, _Clock()
        with self._store.read() as view:
            self._catalogue.sync(view, self._page.bias_sequence)
            profiles = self._profiles.read(view, [t.user for t in tasks])
            excluded = [self._excluded_rows(view, task) for task in tasks]
            clock.lap("gather")
            queries = self._pool(profiles.histories)
            clock.lap("pool")
            picked = self._pick(tasks, queries, excluded)
            clock.lap("score")
            parts, reasons = self._explain(view, tasks, profiles.histories, queries, picked)
            names = self._names(view, tasks, picked)
            applied = view.positions()
            clock.lap("explain")
        times = clock.times(len(tasks))
        head, bias = self._catalogue.head, self._catalogue.bias
        return [
            RankAnswer(
                item_ids=names[b],
                scores=picked[b].scores,
                parts=parts[b],
                biases=bias[picked[b].rows],
                reasons=reasons[b],
                missing=picked[b].missing,
                fallback=_fallback(bool(profiles.known[b]), queries, b),
                updated_at_ms=max(0, int(profiles.updated_at_ms[b])),
                applied=applied,
                head=head,
                queue_us=batch.queue_us[b],
                times=times,
            )
            for b in range(len(tasks))
        ]

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

    def _pool(self, histories: Histories) -> Queries:
        catalogue, layout = self._catalogue, self._catalogue.layout
        rows = catalogue.table.lookup(histories.target_keys)
        weights = self._pooling.weights(
            histories.indptr, histories.event_times_ms, histories.types, histories.weights
        )
        batch = len(histories.indptr) - 1
        block_weights = np.tile(layout.weights, (batch, 1))
        pooled = kernels.pool(
            rows, histories.indptr, weights, catalogue.rows, layout.offsets, block_weights
        )
        return Queries(rows, weights, pooled.queries, pooled.norms, block_weights)

    def _pick(
        self, tasks: list[RankTask], queries: Queries, excluded: list[NDArray[np.int32]]
    ) -> list[Picked]:
        whole = [b for b, task in enumerate(tasks) if task.candidates is None]
        given = [b for b, task in enumerate(tasks) if task.candidates is not None]
        picked = dict(zip(whole, self._retrieve(tasks, whole, queries, excluded), strict=True))
        picked |= zip(given, self._rank_given(tasks, given, queries, excluded), strict=True)
        return [picked[b] for b in range(len(tasks))]

    def _retrieve(
        self,
        tasks: list[RankTask],
        chosen: list[int],
        queries: Queries,
        excluded: list[NDArray[np.int32]],
    ) -> list[Picked]:
        """The best of the whole catalogue for each chosen task."""
        catalogue = self._catalogue
        k = max((tasks[b].k for b in chosen), default=0)
        if k == 0 or catalogue.head.rows == 0:
            return [Picked(_NO_ROWS, np.empty(0, np.float32), []) for _ in chosen]
        found = kernels.top_k(
            queries.vectors[chosen],
            catalogue.rows,
            k,
            bias=catalogue.bias,
            allowed=catalogue.alive,
            excluded=ragged([excluded[b] for b in chosen]),
        )
        ends = [min(int(n), tasks[b].k) for n, b in zip(found.counts, chosen, strict=True)]
        return [
            Picked(found.rows[i, :end], found.scores[i, :end], []) for i, end in enumerate(ends)
        ]

    def _rank_given(
        self,
        tasks: list[RankTask],
        chosen: list[int],
        queries: Queries,
        excluded: list[NDArray[np.int32]],
    ) -> list[Picked]:
        """The given candidates of each chosen task in order."""
        catalogue = self._catalogue
        asked = [keys for b in chosen if (keys := tasks[b].candidates) is not None]
        candidates = [catalogue.table.lookup(keys) for keys in asked]
        missing = [np.flatnonzero(rows < 0).tolist() for rows in candidates]
        for rows, b in zip(candidates, chosen, strict=True):
            if len(excluded[b]):
                rows[np.isin(rows, excluded[b])] = -1
        k = max((tasks[b].k for b in chosen), default=0)
        indptr, rows = ragged(candidates)
        if k == 0 or not len(rows):
            return [Picked(_NO_ROWS, np.empty(0, np.float32), m) for m in missing]
        found = kernels.rank_candidates(
            queries.vectors[chosen], catalogue.rows, indptr, rows, k, bias=catalogue.bias
        )
        picked = []
        for i, b in enumerate(chosen):
            end = min(int(found.counts[i]), tasks[b].k)
            positions = found.positions[i, :end]
            best = candidates[i][positions]
            picked.append(Picked(best, found.scores[i, :end], missing[i], positions))
        return picked

    def _explain(
        self,
        view: View,
        tasks: list[RankTask],
        histories: Histories,
        queries: Queries,
        picked: list[Picked],
    ) -> tuple[list[NDArray[np.float64]], list[list[list[ItemReason]]]]:
        rows = [p.rows for p in picked]
        parts = self._explainer.parts(queries.vectors, rows)
        wanted = [r[: t.explained] for r, t in zip(rows, tasks, strict=True)]
        limits = [t.reasons for t in tasks]
        reasons = self._explainer.reasons(view, histories, queries, wanted, limits)
        return parts, reasons

    def _names(self, view: View, tasks: list[RankTask], picked: list[Picked]) -> list[list[str]]:
        """The item_ids of the rows: the request's own where it gave them, else as stored."""
        keys, found = self._catalogue.keys, []
        for task, best in zip(tasks, picked, strict=True):
            if task.names is not None and best.positions is not None:
                found.append([task.names[i] for i in best.positions.tolist()])
            else:
                found.append(item_ids(view, keys[best.rows]))
        return found


def item_ids(view: View, keys: NDArray[np.uint64]) -> list[str]:
    """The external ids of live items by their keys."""
    names = keys.astype("<u8").tobytes()
    found = view.get_many("items", (names[i : i + 8] for i in range(0, len(names), 8)))
    return [item_id_of(memoryview(blob)) if len(blob) else "" for blob in found]


def _fallback(known: bool, queries: Queries, b: int) -> str:
    if queries.norms[b].any():
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
        laps = self._laps
        return StageTimes(laps["gather"], laps["pool"], laps["score"], laps["explain"], batch_size)
