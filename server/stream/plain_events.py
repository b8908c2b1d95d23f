"""Events of the log as columns: what is plainly valid is read by a kernel, all records in a call.

A record that the kernel leaves out may be bad, or only unusual (no event_id, an id that is not
ASCII, a text, a reset): ``EventCodec.decode`` decides, and is what the kernel is tested against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.event_wire import (
    Admitted,
    read_events,
)
from rankstream.server.config import Limits
from rankstream.server.profiles.interaction import EVENT, MAX_WEIGHT
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.stream.codec import SEARCH
from rankstream.server.stream.event_columns import EventColumns


@dataclass(frozen=True, slots=True, eq=False)
class PlainEvents:
    """N records, of which some are read.

    Attributes:
        columns: of all; those that were not read hold b"" and zeros.
        unread: their indices.
        misplaced: ``bool [N]``: read, and on a partition that is not their user's.
    """

    columns: EventColumns
    unread: list[int]
    misplaced: NDArray[np.bool_]


class PlainReader:
    """Reads records by the rules of one topic."""

    def __init__(self, fold: FoldSettings, limits: Limits, n_partitions: int) -> None:
        # A search has a text, which no kernel reads.
        types = {name: number for name, number in fold.type_ids.items() if name != SEARCH}
        names, curves = [name.encode() for name in types], [fold.curve_of[name] for name in types]
        kinds, needed = [c.kind for c in curves], [c.needed for c in curves]
        self._admitted = Admitted(
            np.frombuffer(b"".join(names), np.uint8),
            np.array([_ends(names), [*types.values()], kinds, needed], np.int64).T.copy(),
            np.array([(curve.a, curve.b) for curve in curves], np.float64),
            limits.max_id_bytes,
            limits.max_record_bytes,
            limits.max_attributes,
            limits.max_attribute_name_bytes,
            limits.max_attribute_bytes,
            limits.max_attribute_texts,
            MAX_WEIGHT,
            fold.allowed_skew_ms,
            n_partitions,
        )

    def read(
        self, values: Sequence[bytes], timestamps_ms: Sequence[int], partitions: NDArray[np.int64]
    ) -> PlainEvents:
        """Reads records.

        Args:
            values: N record values.
            timestamps_ms: the broker's timestamps.
            partitions: ``int64 [N]``, where the records are.
        """
        raw = b"".join(values)
        origins = np.empty((2, len(values)), np.int64)
        origins[0], origins[1] = timestamps_ms, partitions
        text = np.frombuffer(raw, np.uint8)
        events, spans, good, misplaced = read_events(text, _ends(values), origins, self._admitted)
        users = [raw[start:stop] for start, stop in spans.tolist()]
        unread = [] if good.all() else np.flatnonzero(good == 0).tolist()
        columns = EventColumns(users, events.reshape(-1).view(EVENT))
        return PlainEvents(columns, unread, misplaced.view(np.bool_))


def _ends(values: Sequence[bytes]) -> NDArray[np.int64]:
    """Where each of the values stops when they stand end to end."""
    return np.fromiter(accumulate(map(len, values)), np.int64, len(values))
