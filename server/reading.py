"""What rankings need of the state: read in one transaction, so that they are of one state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.arrays import freeze
from rankstream.server.announce import Announcements
from rankstream.server.catalog.view import Catalogue
from rankstream.server.profiles.users import Person
from rankstream.server.store import Store, View
from rankstream.server.subjects import Gathered, Subjects, is_known
from rankstream.server.types import Position, RankTask

Rows = NDArray[np.int32]

_NO_ROWS = np.empty(0, np.int32)
freeze((_NO_ROWS,))


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


class Reader:
    """Reads for tasks, and brings the catalogue to the version that they see.

    Args:
        store: the state.
        catalogue: this worker's view of the rows.
        page: says when the bias is new.
        subjects: whom tasks are for.
    """

    def __init__(
        self, store: Store, catalogue: Catalogue, page: Announcements, subjects: Subjects
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._page = page
        self._subjects = subjects

    def read(self, parts: Sequence[list[RankTask]]) -> list[Read]:
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


def fallback_of(header: NDArray[np.int64], person: Person, *, personal: bool) -> str:
    """Why an answer is not personal, or "".

    Args:
        header: ``int64 [4]`` of ``Past.headers``.
        person: whose subject it is.
        personal: whether anything counted.
    """
    if personal:
        return ""
    known = is_known(header) or person.record is not None
    return "no_usable_history" if known else "unknown_user"
