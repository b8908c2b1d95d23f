"""Candidates that a request gives: as bytes until a kernel reads them.

A Python string for each of many candidates costs more than ranking them, and reading the bytes is
work for the engine's threads, not for the one that talks to callers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels import ItemIds, read_item_ids
from rankstream.kernels.answer import Candidates as KernelCandidates
from rankstream.kernels.arrays import freeze
from rankstream.server.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class GivenIds:
    """Item ids of a request, not yet read.

    Attributes:
        wire: a serialised ``ItemIds`` message.
        count: ids in it, repeats counted.
        longest: bytes of an id at most.
        field: where they stand in the request, for errors.
    """

    wire: bytes
    count: int
    longest: int
    field: str

    def read(self) -> ItemIds:
        """The ids, each once.

        Raises:
            InvalidArgument: one is empty or too long.
        """
        found = read_item_ids(self.wire, self.longest)
        if isinstance(found, ItemIds):
            return found
        raise self.refuse(found.place, found.length)

    def refuse(self, place: int, length: int) -> InvalidArgument:
        """What to say of an id that is empty, too long, or (``length`` -1) no id at all."""
        if length < 0:
            return InvalidArgument(self.field, f"malformed from byte {place}, expected item ids")
        problem = f"longer than {self.longest} bytes" if length else "empty, expected an id"
        return InvalidArgument(field=f"{self.field}[{place}]", problem=problem)


Given: TypeAlias = GivenIds | NDArray[np.uint64]
"""Ids, or item keys ``uint64 [C]``, each once."""


def count_candidates(given: Given) -> int:
    """How many candidates there are; of ids, repeats counted."""
    return given.count if isinstance(given, GivenIds) else len(given)


def joined(given: Sequence[Given]) -> KernelCandidates:
    """The candidates of several tasks, as kernels read them."""
    if len(given) == 1 and isinstance(given[0], GivenIds):
        return _alone(given[0])
    wires = [g.wire if isinstance(g, GivenIds) else b"" for g in given]
    keys = [g for g in given if not isinstance(g, GivenIds)]
    counts = [g.count if isinstance(g, GivenIds) else -1 for g in given]
    key_counts = [0 if isinstance(g, GivenIds) else len(g) for g in given]
    longest = max((g.longest for g in given if isinstance(g, GivenIds)), default=0)
    sizes = np.array([[len(wire) for wire in wires], counts, key_counts], np.int64)
    ends, key_ends = sizes[0].cumsum(), sizes[2].cumsum()
    found = KernelCandidates(
        np.frombuffer(b"".join(wires), np.uint8),
        ends,
        sizes[1],
        np.concatenate(keys) if keys else _NO_KEYS,
        key_ends,
        longest,
    )
    freeze(found[:5])
    return found


def _alone(given: GivenIds) -> KernelCandidates:
    """One task's, in fewer steps: it may be all that is waited for."""
    wire = np.frombuffer(given.wire, np.uint8)
    end, count = np.array([len(given.wire)]), np.array([given.count])
    end.flags.writeable = count.flags.writeable = False
    return KernelCandidates(wire, end, count, _NO_KEYS, _NO_KEY, given.longest)


def missing_names(
    found: NDArray[np.int64], given: Sequence[Given], candidates: KernelCandidates
) -> list[list[str | int]]:
    """What each task's missing candidates are called: ids, or keys.

    Args:
        found: ``Answers.missing``.
        given: one a task.
        candidates: what was made of them.
    """
    names: list[list[str | int]] = [[] for _ in given]
    for task, start, stop in found.tolist():
        key = stop < 0
        name = int(candidates.keys[start]) if key else _text(candidates.wires[start:stop])
        names[task].append(name)
    return names


def id_at(ids: ItemIds, place: int) -> str:
    """One of the ids of a request."""
    return _text(ids.text[ids.starts[place] : ids.stops[place]])


def _text(part: NDArray[np.uint8]) -> str:
    return part.tobytes().decode()


_NO_KEYS, _NO_KEY = np.empty(0, np.uint64), np.zeros(1, np.int64)
freeze((_NO_KEYS, _NO_KEY))
