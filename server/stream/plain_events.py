"""Events of the log as columns: what is plainly valid is read by a kernel, all records in a call.

A record that the kernel leaves out may be bad, or only unusual (no event_id, an id that is not
ASCII, a reset): ``EventCodec.decode`` decides, and is what the kernel is tested against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.event_wire import (
    ANY,
    DISLIKE,
    QUANTITY,
    STARS,
    STARS_NEEDED,
    Admitted,
    read_events,
)
from rankstream.server.config import Limits
from rankstream.server.profiles.interaction import EVENT, MAX_WEIGHT, SATURATION
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.stream.consumer import Chunk
from rankstream.server.stream.event_columns import Decoded, EventColumns

_CURVES = {
    "dislike": DISLIKE,
    "rate": STARS_NEEDED,
    "review": STARS,
    "cart": QUANTITY,
    "purchase": QUANTITY,
}


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

    def cut_out(self, chunk: Chunk, refused: Mapping[int, str], places: range) -> Decoded:
        """The part of a read that is one chunk's."""
        part = slice(places.start, places.stop)
        users, rows = self.columns.users[part], self.columns.rows[part]
        bad = [i for i in places if i in refused]
        if bad:
            kept = [i - places.start for i in places if i not in refused]
            users, rows = [users[i] for i in kept], rows[kept]
        why = [(chunk.records[i - places.start], refused[i]) for i in bad]
        misplaced = int(self.misplaced[part].sum())
        return Decoded([chunk], EventColumns(users, rows), why, misplaced)


class PlainReader:
    """Reads records by the rules of one topic."""

    def __init__(self, fold: FoldSettings, limits: Limits, n_partitions: int) -> None:
        names = [name.encode() for name in fold.type_ids]
        self._admitted = Admitted(
            np.frombuffer(b"".join(names), np.uint8),
            _ends(names),
            np.array(list(fold.type_ids.values()), np.int64),
            np.array([_CURVES.get(name, ANY) for name in fold.type_ids], np.int64),
            limits.max_id_bytes,
            limits.max_record_bytes,
            MAX_WEIGHT,
            SATURATION,
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
