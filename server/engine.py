"""The straight line: profiles -> pooled queries -> retrieve or rank -> present.

Each stage is one call on arrays for the whole batch. What is read of the state is read in one
transaction, so that an answer is of one catalogue version and one state. One thread at a time runs
it: its own, or the event loop's while that one is idle (``batcher.py``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.answer import BAD_BIAS, Profiles, rank_given
from rankstream.kernels.answer import Catalogue as Items
from rankstream.kernels.arrays import freeze, frozen
from rankstream.kernels.device import thread_count
from rankstream.kernels.present import Wanted, present
from rankstream.kernels.query import Extras
from rankstream.kernels.rank import Best
from rankstream.kernels.texts import Texts, numbered
from rankstream.server.announce import Announcements
from rankstream.server.batcher import Batch
from rankstream.server.candidates import GivenIds, joined, missing_names
from rankstream.server.catalog.masks import Masks
from rankstream.server.catalog.view import Catalogue
from rankstream.server.clock import now_ms
from rankstream.server.errors import CorruptState, NotFound, RankstreamError
from rankstream.server.explanation import ExplainAnswer, explain
from rankstream.server.facts import AttributeValue
from rankstream.server.profiles.layout import LAYOUT_VERSION
from rankstream.server.profiles.pooling import Pooling
from rankstream.server.profiles.stored import ProfileStore, StoredValues
from rankstream.server.ragged import ragged
from rankstream.server.reading import Read, Reader, fallback_of
from rankstream.server.retrieval import Retrieval, Rows, past_bias
from rankstream.server.stage_clock import StageClock
from rankstream.server.store import Store
from rankstream.server.subjects import (
    TYPE_NAMES,
    Clock,
    Subject,
    Subjects,
    updated_at_ms,
)
from rankstream.server.types import ExplainTask, RankAnswer, RankTask

_QUICK_CANDIDATES = 1024
# Tasks that are worth handing to another thread.
_LEAST_PART = 4
_NO_ROWS, _NO_SPAN = np.empty(0, np.int32), np.zeros(2, np.int64)
freeze((_NO_ROWS, _NO_SPAN))

Task = RankTask | ExplainTask
Answer = RankAnswer | ExplainAnswer


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
        clock: the time of day, in ms, for interactions that expire.
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
        clock: Clock = now_ms,
    ) -> None:
        self._catalogue = catalogue
        self._retrieval = Retrieval(catalogue, masks, attributes_of)
        self._profiles = profiles
        self._type_names = numbered({**type_names, **TYPE_NAMES})
        self._subjects = Subjects(profiles, pooling, catalogue.layout, clock)
        self._reader = Reader(store, catalogue, page, self._subjects)
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
        clock = StageClock()
        parts = _parts(tasks)
        reads = self._reader.read([tasks[part] for part in parts])
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
        self, read: Read, queue_us: Sequence[int], clock: StageClock
    ) -> list[RankAnswer | RankstreamError]:
        """Answers what was read."""
        tasks, gathered = read.tasks, read.gathered
        if gathered.stored is not None and all(t.candidates is not None for t in tasks):
            return self._compute_given(read, gathered.stored, queue_us, clock)
        subject = self._subjects.make(gathered, tasks, self._catalogue.table, self._items().space)
        clock.lap("pool")
        found = self._retrieval.find(tasks, gathered.people, subject.pooled.queries, read.excluded)
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
                fallback=fallback_of(headers[b], people[b], personal=bool(personal[b])),
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
        (read,) = self._reader.read([[task]])
        subject = self._subjects.make(
            read.gathered, [task], self._catalogue.table, self._items().space
        )
        return explain(read, subject, self._catalogue, self._retrieval, queue_us)

    def _compute_given(
        self, read: Read, stored: StoredValues, queue_us: Sequence[int], clock: StageClock
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
        table, weighing, wanted = self._catalogue.table, self._subjects.weighing, _wanted(tasks)
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
            person, personal = gathered.people[b], bool(found.personal[b])
            answers.append(
                RankAnswer(
                    items=items[start:stop],
                    missing=missing[b],
                    fallback=fallback_of(header, person, personal=personal),
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

    def _items(self) -> Items:
        """The catalogue as the kernels take it."""
        catalogue = self._catalogue
        if self._shown is None or self._shown[0] != catalogue.changes:
            ids = Texts(catalogue.ids, catalogue.id_ends)
            items = Items(catalogue.space, catalogue.bias, ids, self._type_names)
            freeze((items.bias, *ids))
            self._shown = catalogue.changes, items
        return self._shown[1]

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
            self._catalogue.bias if past_bias(tasks[0]) is None else self._retrieval.bias(tasks),
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
    return task.asked is None, id(past_bias(task))


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
