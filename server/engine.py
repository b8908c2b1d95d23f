"""The straight line: profiles -> pooled queries -> retrieve or rank -> present.

Each stage is one call on arrays for the whole batch. What is read of the state is read in one
transaction, so that an answer is of one catalogue version and one state. One thread at a time runs
it: its own, or the event loop's while that one is idle (``batcher.py``).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rankstream import kernels
from rankstream.kernels import ItemIds
from rankstream.kernels.answer import BAD_BIAS, Profiles, rank_given
from rankstream.kernels.answer import Catalogue as Items
from rankstream.kernels.arrays import NO_BIAS, freeze, frozen
from rankstream.kernels.device import thread_count
from rankstream.kernels.present import Wanted, present
from rankstream.kernels.query import Extras, Space
from rankstream.kernels.rank import Best, pick_candidates
from rankstream.kernels.texts import Texts, numbered, text_at
from rankstream.server.announce import Announcements
from rankstream.server.batcher import Batch
from rankstream.server.candidates import GivenIds, id_at, joined, missing_names
from rankstream.server.catalog.masks import Masks
from rankstream.server.catalog.view import Catalogue
from rankstream.server.errors import CorruptState, NotFound, RankstreamError
from rankstream.server.explanation import Cause, ExplainAnswer, explain_scores
from rankstream.server.facts import AttributeValue
from rankstream.server.filters import Filter, Test
from rankstream.server.profiles.layout import LAYOUT_VERSION
from rankstream.server.profiles.pooling import Pooling
from rankstream.server.profiles.stored import ProfileStore, StoredValues
from rankstream.server.profiles.users import Person
from rankstream.server.ragged import ragged
from rankstream.server.store import Store, View, item_id_of
from rankstream.server.subjects import (
    TYPE_NAMES,
    Gathered,
    Subject,
    Subjects,
    is_known,
    updated_at_ms,
)
from rankstream.server.types import ExplainTask, Position, RankAnswer, RankTask, StageTimes

Rows = NDArray[np.int32]
_Group: TypeAlias = tuple[Test | Literal["given", "all"], bool]
"""What candidates a task has: those given, all, or those of all that pass a test; and whether
popularity is part of the scores."""

_QUICK_CANDIDATES = 1024
# Tasks that are worth handing to another thread.
_LEAST_PART = 4
_NO_ROWS, _NO_SPAN = np.empty(0, np.int32), np.zeros(2, np.int64)
freeze((_NO_ROWS, _NO_SPAN))


Task = RankTask | ExplainTask
Answer = RankAnswer | ExplainAnswer


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """What some tasks need of the state, of one transaction.

    Attributes:
        tasks: they.
        gathered: their subjects.
        excluded: rows that each must not answer.
        applied: the positions it is of.
        known: whether each one's subject exists: an item may not.
    """

    tasks: list[RankTask]
    gathered: Gathered
    excluded: list[Rows]
    applied: tuple[Position, ...]
    known: list[bool]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The best rows of some tasks, and the candidates of each that do not exist."""

    best: Best
    missing: list[Sequence[str | int]]


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
        attributes_of: what a user's record says of them, for filters that ask.
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
        attributes_of: Callable[[bytes], Mapping[str, AttributeValue]],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._masks = masks
        self._profiles = profiles
        self._pooling = pooling
        self._page = page
        self._attributes_of = attributes_of
        self._type_names = numbered({**type_names, **TYPE_NAMES})
        self._subjects = Subjects(profiles, pooling, catalogue.layout)
        self._shown: tuple[int, Items] | None = None
        self._threads = ThreadPoolExecutor(thread_name_prefix="engine-part")

    @property
    def text_dimensions(self) -> int:
        """Of the text block."""
        return self._catalogue.layout.blocks[0].dimensions

    def rank(self, batch: Batch[Task]) -> Sequence[Answer | RankstreamError]:
        """Answers each task of a batch, in order."""
        tasks = batch.tasks
        if len(tasks) == 1:
            return self._answer(tasks, batch.queue_us)
        answers: dict[int, Answer | RankstreamError] = {}
        groups: dict[Hashable, list[int]] = {}
        for i, task in enumerate(tasks):
            groups.setdefault(_kind_of(task), []).append(i)
        for chosen in groups.values():
            some, queued = [tasks[i] for i in chosen], [batch.queue_us[i] for i in chosen]
            answers.update(zip(chosen, self._answer(some, queued), strict=True))
        return [answers[i] for i in range(len(tasks))]

    def _answer(self, tasks: list[Task], queue_us: list[int]) -> Sequence[Answer | RankstreamError]:
        """Answers tasks of one kind; where what is stored of one is damaged, the others."""
        try:
            if isinstance(tasks[0], ExplainTask):
                pairs = zip(tasks, queue_us, strict=True)
                return [self._explain(t.ranking, q) for t, q in pairs if isinstance(t, ExplainTask)]
            return self._rank([t for t in tasks if isinstance(t, RankTask)], queue_us)
        except RankstreamError as error:
            if len(tasks) == 1:
                return [error]
        pairs = zip(tasks, queue_us, strict=True)
        return [answer for t, q in pairs for answer in self._answer([t], [q])]

    def _rank(
        self, tasks: list[RankTask], queue_us: Sequence[int]
    ) -> list[RankAnswer | RankstreamError]:
        """Answers in parts, side by side: kernels run without the interpreter's lock."""
        clock = _Clock()
        parts = _parts(tasks)
        reads = self._read([tasks[part] for part in parts])
        clock.lap("gather")
        if len(reads) == 1:
            return self._compute(reads[0], queue_us, clock)
        # Made here, by one thread, for all.
        self._items()
        work = [
            (read, queue_us[part], clock.copy()) for read, part in zip(reads, parts, strict=True)
        ]
        others = [self._threads.submit(self._compute, *some) for some in work[1:]]
        answers = self._compute(*work[0])
        for other in others:
            answers += other.result()
        return answers

    def _compute(
        self, read: Read, queue_us: Sequence[int], clock: _Clock
    ) -> list[RankAnswer | RankstreamError]:
        """Answers what was read."""
        tasks, gathered = read.tasks, read.gathered
        if gathered.stored is not None and all(t.candidates is not None for t in tasks):
            return self._compute_given(read, gathered.stored, queue_us, clock)
        subject = self._subjects.make(gathered, tasks, self._catalogue.table, self._space)
        clock.lap("pool")
        found = self._find(tasks, gathered.people, subject.pooled.queries, read.excluded)
        clock.lap("score")
        items = self._present(tasks, found.best, subject, gathered.extras)
        clock.lap("present")
        times = clock.times(len(tasks))
        headers, people = subject.past.headers, gathered.people
        personal = subject.pooled.norms.max(axis=1) > 0
        return [
            RankAnswer(
                items=items[b],
                missing=found.missing[b],
                fallback=_fallback(_is_known(headers[b], people[b]), bool(personal[b])),
                updated_at_ms=updated_at_ms(headers[b]),
                applied=read.applied,
                head=self._catalogue.head,
                queue_us=queue_us[b],
                times=times,
            )
            if read.known[b]
            else NotFound("the subject is no item of the catalogue")
            for b in range(len(tasks))
        ]

    def _explain(self, task: RankTask, queue_us: int) -> ExplainAnswer:
        """Takes the scores of a task's candidates apart."""
        (read,) = self._read([[task]])
        extras = read.gathered.extras
        subject = self._subjects.make(read.gathered, [task], self._catalogue.table, self._space)
        rows = self._candidate_rows(_read_candidates(task))
        past, ids = subject.past, self._catalogue
        scores, causes = explain_scores(subject, self._space, extras, self._bias([task]), rows)
        header, personal = past.headers[0], bool(subject.pooled.norms.any())
        return ExplainAnswer(
            scores=scores,
            causes=[
                Cause(
                    item_id=ids.item_id(row) if row >= 0 else "",
                    text=text_at(extras.labels, -2 - row) if row < 0 else "",
                    type_id=int(past.types[t]),
                    event_time_ms=int(past.event_times_ms[t]),
                )
                for t, row in zip(causes.tolist(), past.rows[causes].tolist(), strict=True)
            ],
            missing=np.flatnonzero(rows < 0).tolist(),
            fallback=_fallback(_is_known(header, read.gathered.people[0]), personal),
            updated_at_ms=updated_at_ms(header),
            applied=read.applied,
            head=self._catalogue.head,
            queue_us=queue_us,
        )

    def _read(self, parts: Sequence[list[RankTask]]) -> list[Read]:
        """What tasks need of the state. The rest reads copies, and rows, which never change."""
        with self._store.read() as view:
            self._catalogue.sync(view, self._page.bias_sequence)
            applied = view.positions()
            return [self._read_part(view, tasks, applied) for tasks in parts]

    def _read_part(self, view: View, tasks: list[RankTask], applied: tuple[Position, ...]) -> Read:
        gathered = self._subjects.gather(view, tasks)
        pairs = zip(tasks, gathered.people, strict=True)
        excluded = [self._excluded_rows(view, task, person) for task, person in pairs]
        known = [
            t.asked is None or t.asked.item_key is None or self._row_of(t.asked.item_key) >= 0
            for t in tasks
        ]
        return Read(tasks, gathered, excluded, applied, known)

    def _compute_given(
        self, read: Read, stored: StoredValues, queue_us: Sequence[int], clock: _Clock
    ) -> list[RankAnswer | RankstreamError]:
        """As ``_compute`` for stored users and given candidates: all stages in one kernel call."""
        tasks, gathered = read.tasks, read.gathered
        profiles = Profiles(
            stored.words,
            stored.sizes,
            LAYOUT_VERSION,
            self._profiles.fold.rules,
            gathered.extras,
            gathered.interests,
        )
        given = [t.candidates for t in tasks if t.candidates is not None]
        candidates = joined(given)
        excluded, ks = _joined_rows(read.excluded), np.array([t.k for t in tasks], np.int64)
        ks.flags.writeable = False
        table, weighing, wanted = self._catalogue.table, self._pooling.weighing, _wanted(tasks)
        found = rank_given(
            profiles, table, weighing, self._items(), candidates, excluded, ks, wanted
        )
        if found.bad:
            raise _bad(found.bad)
        missing = missing_names(found.missing, given, candidates)
        clock.lap("score")
        times, items, start = clock.times(len(tasks)), found.items.data, 0
        answers: list[RankAnswer | RankstreamError] = []
        refused = found.refused.tolist()
        for b, stop in enumerate(found.ends.tolist()):
            asked = given[b]
            if refused[b][0] >= 0 and isinstance(asked, GivenIds):
                answers.append(asked.refuse(*refused[b]))
                continue
            header = found.headers[b]
            known, personal = _is_known(header, gathered.people[b]), bool(found.personal[b])
            answers.append(
                RankAnswer(
                    items=items[start:stop],
                    missing=missing[b],
                    fallback=_fallback(known, personal),
                    updated_at_ms=updated_at_ms(header),
                    applied=read.applied,
                    head=self._catalogue.head,
                    queue_us=queue_us[b],
                    times=times,
                )
            )
            start = stop
        return answers

    @staticmethod
    def is_quick(task: Task) -> bool:
        """Whether a task takes about as long as a switch of threads: few candidates, no scan."""
        return (
            isinstance(task, RankTask)
            and task.candidates is not None
            and task.asked is None
            and task.n_candidates <= _QUICK_CANDIDATES
        )

    def bias_of(self, row: int) -> float:
        """The bias of one row as last computed; 0 for a row not yet seen."""
        bias = self._catalogue.bias
        return float(bias[row]) if row < len(bias) else 0.0

    def _excluded_rows(self, view: View, task: RankTask, person: Person) -> NDArray[np.int32]:
        keys = task.excluded
        if task.exclude_seen:
            keys = np.concatenate([keys, self._subjects.seen(view, task, person)])
        if not len(keys):
            return _NO_ROWS
        rows = self._catalogue.table.lookup(keys)
        return rows[rows >= 0]

    def _row_of(self, item_key: int) -> int:
        return int(self._catalogue.table.lookup(np.array([item_key], np.uint64))[0])

    @property
    def _space(self) -> Space:
        return self._items().space

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
        wanted, bias = group[0], self._bias(tasks)
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
        given = [_read_candidates(task) for task in tasks]
        candidates = [self._candidate_rows(asked) for asked in given]
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

    def _bias(self, tasks: list[RankTask]) -> NDArray[np.float32]:
        """The bias of a group of tasks."""
        asked = tasks[0].asked
        if asked is not None and not asked.with_bias:
            return NO_BIAS
        past = _past_bias(tasks[0])
        if past is None:
            return self._catalogue.bias
        # Rows that came since were not popular then.
        rows = self._catalogue.head.rows
        return np.concatenate([past[:rows], np.zeros(max(0, rows - len(past)), np.float32)])

    def _candidate_rows(self, asked: ItemIds | NDArray[np.uint64]) -> NDArray[np.int32]:
        """The row of each candidate, or -1."""
        catalogue = self._catalogue
        if isinstance(asked, ItemIds):
            return catalogue.table.find(asked, catalogue.ids, catalogue.id_ends)
        return catalogue.table.lookup(asked)

    def _present(
        self, tasks: list[RankTask], best: Best, subject: Subject, extras: Extras
    ) -> list[memoryview]:
        """``RankResponse.items`` of each task, as bytes."""
        items = self._items()
        return present(
            best,
            subject.past,
            subject.pooled,
            items.space,
            subject.block_weights,
            extras,
            self._catalogue.bias if _past_bias(tasks[0]) is None else self._bias(tasks),
            _wanted(tasks),
            items.ids,
            items.kinds,
        )


def _parts(tasks: list[RankTask]) -> list[slice]:
    """How a batch is split: where all candidates are given, one part a thread.

    A scan is split by its kernel, row by row: splitting it by tasks would read all rows again.
    """
    count = min(thread_count(), len(tasks) // _LEAST_PART)
    if count < 2 or any(task.candidates is None for task in tasks):
        return [slice(0, len(tasks))]
    ends = [len(tasks) * i // count for i in range(count + 1)]
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def _kind_of(task: Task) -> Hashable:
    """Tasks that are answered together: one that asks for more does not slow those that do not."""
    if isinstance(task, ExplainTask):
        return "explain"
    return task.asked is None, id(_past_bias(task))


def _past_bias(task: RankTask) -> NDArray[np.float32] | None:
    """The popularity that a task brings."""
    return task.asked.bias if task.asked is not None else None


def item_ids(view: View, keys: NDArray[np.uint64]) -> list[str]:
    """The external ids of live items by their keys."""
    names = keys.astype("<u8").tobytes()
    found = view.get_many("items", (names[i : i + 8] for i in range(0, len(names), 8)))
    return [item_id_of(memoryview(blob)) if len(blob) else "" for blob in found]


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


def _wanted(tasks: list[RankTask]) -> Wanted:
    """What each task's answer shows."""
    counts = np.array(
        [
            [t.explained for t in tasks],
            [t.reasons for t in tasks],
            [t.asked is None or t.asked.with_bias for t in tasks],
        ],
        np.int64,
    )
    counts.flags.writeable = False
    return Wanted(*counts)


def _bad(code: int) -> CorruptState:
    what = "a stored profile is not what its header says"
    if code == BAD_BIAS:
        what = "an item's bias is not finite"
    return CorruptState(f"{what}; rebuild the state from the log")


def _joined_rows(lists: list[Rows]) -> tuple[NDArray[np.int64], Rows]:
    """``ragged``, read-only; most tasks exclude nothing."""
    if not any(map(len, lists)):
        return (
            _NO_SPAN if len(lists) == 1 else frozen(np.zeros(len(lists) + 1, np.int64))
        ), _NO_ROWS
    found = ragged(lists)
    freeze(found)
    return found


def _read_candidates(task: RankTask) -> ItemIds | NDArray[np.uint64]:
    given = task.candidates
    assert given is not None
    return given.read() if isinstance(given, GivenIds) else given


def _names(asked: ItemIds | NDArray[np.uint64], places: NDArray[np.int64]) -> Sequence[str | int]:
    """What some candidates are called."""
    if isinstance(asked, ItemIds):
        return [id_at(asked, place) for place in places.tolist()]
    return [int(key) for key in asked[places]]


def _is_known(header: NDArray[np.int64], person: Person) -> bool:
    return is_known(header) or person.record is not None


def _fallback(known: bool, personal: bool) -> str:
    if personal:
        return ""
    return "no_usable_history" if known else "unknown_user"


class _Clock:
    """Laps of one batch, in microseconds."""

    def __init__(self) -> None:
        self._laps: dict[str, int] = {}
        self._last = time.perf_counter_ns()

    def copy(self) -> _Clock:
        """One that goes on from here."""
        other = _Clock()
        other._laps, other._last = dict(self._laps), self._last
        return other

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
