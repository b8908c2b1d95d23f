"""Which rows are best: of the whole catalogue, of what a filter passes of it, or of those given.

Tasks that are alike are found at once: a scan of many queries costs little more than one of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rankstream import kernels
from rankstream.kernels import ItemIds
from rankstream.kernels.arrays import NO_BIAS
from rankstream.kernels.rank import Best, pick_candidates
from rankstream.server.candidates import GivenIds, id_at
from rankstream.server.catalog.masks import Masks
from rankstream.server.catalog.view import Catalogue
from rankstream.server.facts import AttributeValue
from rankstream.server.filters import Filter, Test
from rankstream.server.profiles.users import Person
from rankstream.server.ragged import ragged
from rankstream.server.types import RankTask

Rows = NDArray[np.int32]
_Group: TypeAlias = tuple[Test | Literal["given", "all"], bool]
"""What candidates a task has: those given, all, or those of all that pass a test; and whether
popularity is part of the scores."""

_NO_ROWS = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The best rows of some tasks, and the candidates of each that do not exist."""

    best: Best
    missing: list[Sequence[str | int]]


class Retrieval:
    """Finds the best rows of one catalogue. For one thread at a time where filters are asked for.

    Args:
        catalogue: whose rows.
        masks: what filters pass of it.
        attributes_of: what a user's record says of them, for filters that ask.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        masks: Masks,
        attributes_of: Callable[[bytes], Mapping[str, AttributeValue]],
    ) -> None:
        self._catalogue = catalogue
        self._masks = masks
        self._attributes_of = attributes_of

    def find(
        self,
        tasks: list[RankTask],
        people: Sequence[Person],
        queries: NDArray[np.float32],
        excluded: list[Rows],
    ) -> Found:
        """The best of the catalogue or of the candidates given; what is alike is found at once."""
        groups: dict[_Group, list[int]] = {}
        for b, (task, person) in enumerate(zip(tasks, people, strict=True)):
            groups.setdefault(self._group_of(task, person), []).append(b)
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
        wanted, bias = group[0], self.bias(tasks)
        if wanted == "given":
            return self._rank_given(tasks, queries, excluded, bias)
        allowed = self._catalogue.alive if wanted == "all" else self._masks.mask(wanted)
        return self._retrieve(tasks, queries, excluded, allowed, bias)

    def _group_of(self, task: RankTask, person: Person) -> _Group:
        with_bias = task.asked is None or task.asked.with_bias
        if task.candidates is not None:
            return "given", with_bias
        if task.filter is None:
            return "all", with_bias
        return task.filter.resolve(self._user_attributes(task.filter, person)), with_bias

    def _user_attributes(self, asked: Filter, person: Person) -> Mapping[str, AttributeValue]:
        """What is known of a task's user, for filters that ask."""
        if person.record is None or not asked.user_attributes:
            return {}
        return self._attributes_of(person.record.payload)

    def _retrieve(
        self,
        tasks: list[RankTask],
        queries: NDArray[np.float32],
        excluded: list[Rows],
        allowed: NDArray[np.uint8],
        bias: NDArray[np.float32],
    ) -> Found:
        """The best of the rows that are allowed, a bitmask."""
        catalogue, ks = self._catalogue, np.array([t.k for t in tasks], np.int64)
        missing: list[Sequence[str | int]] = [[] for _ in tasks]
        if not ks.any() or catalogue.head.rows == 0:
            return Found(_nothing(len(tasks)), missing)
        found = kernels.top_k(
            queries,
            catalogue.rows,
            int(ks.max()),
            bias=bias if len(bias) else None,
            allowed=allowed,
            excluded=ragged(excluded),
            codes=catalogue.codes,
        )
        ends = np.minimum(found.counts, ks)
        kept = np.arange(found.rows.shape[1]) < ends[:, None]
        indptr = np.concatenate([[0], np.cumsum(ends)])
        return Found(Best(indptr, found.rows[kept], found.scores[kept]), missing)

    def _rank_given(
        self,
        tasks: list[RankTask],
        queries: NDArray[np.float32],
        excluded: list[Rows],
        bias: NDArray[np.float32],
    ) -> Found:
        """The given candidates in order."""
        catalogue = self._catalogue
        given = [read_candidates(task) for task in tasks]
        candidates = [self.rows_of(asked) for asked in given]
        missing = [
            _names(asked, np.flatnonzero(rows < 0))
            for asked, rows in zip(given, candidates, strict=True)
        ]
        for rows, out in zip(candidates, excluded, strict=True):
            if len(out):
                rows[np.isin(rows, out)] = -1
        ks = np.array([t.k for t in tasks], np.int64)
        indptr, rows = ragged(candidates)
        best = pick_candidates(queries, catalogue.rows, indptr, rows, ks, bias)
        return Found(best, missing)

    def bias(self, tasks: list[RankTask]) -> NDArray[np.float32]:
        """The bias of a group of tasks."""
        asked = tasks[0].asked
        if asked is not None and not asked.with_bias:
            return NO_BIAS
        past = past_bias(tasks[0])
        if past is None:
            return self._catalogue.bias
        # Rows that came since were not popular then.
        rows = self._catalogue.head.rows
        return np.concatenate([past[:rows], np.zeros(max(0, rows - len(past)), np.float32)])

    def rows_of(self, asked: ItemIds | NDArray[np.uint64]) -> NDArray[np.int32]:
        """The row of each candidate, or -1."""
        catalogue = self._catalogue
        if isinstance(asked, ItemIds):
            return catalogue.table.find(asked, catalogue.ids, catalogue.id_ends)
        return catalogue.table.lookup(asked)


def past_bias(task: RankTask) -> NDArray[np.float32] | None:
    """The popularity that a task brings."""
    return task.asked.bias if task.asked is not None else None


def read_candidates(task: RankTask) -> ItemIds | NDArray[np.uint64]:
    """The candidates of a task that gives some: ids, or keys.

    Raises:
        InvalidArgument: an id is empty or too long.
    """
    given = task.candidates
    assert given is not None
    return given.read() if isinstance(given, GivenIds) else given


def _names(asked: ItemIds | NDArray[np.uint64], places: NDArray[np.int64]) -> Sequence[str | int]:
    """What some candidates are called."""
    if isinstance(asked, ItemIds):
        return [id_at(asked, place) for place in places.tolist()]
    return [int(key) for key in asked[places]]


def _nothing(batch: int) -> Best:
    return Best(np.zeros(batch + 1, np.int64), _NO_ROWS, np.empty(0, np.float32))


def _merged(parts: list[Found], order: list[int]) -> Found:
    """Results of several groups as one; ``order[i]`` is the task that the i-th result is of."""
    rows, scores = ([a for p in parts for a in _split(p.best, i)] for i in (1, 2))
    missing = [m for p in parts for m in p.missing]
    places = np.argsort(order).tolist()
    indptr, merged = ragged([rows[i] for i in places])
    best = Best(indptr, merged, np.concatenate([scores[i] for i in places]))
    return Found(best, [missing[i] for i in places])


def _split(best: Best, column: int) -> list[NDArray[Any]]:
    return np.split(best[column], best.indptr[1:-1])
