"""The seen set: the latest interactions, by event time, of the types that count as seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rankstream.kernels.cells import IN_SEEN, SEEN_CAP
from rankstream.kernels.gather import gather, winners
from rankstream.kernels.retained import Rules
from rankstream.server.profiles.layout import (
    Buffer,
    Cells,
    join_archives,
    join_recent,
    join_settled,
    read_header,
    records_of,
    rows_of,
)
from rankstream.server.profiles.settings import FoldSettings


def seen_targets(
    settings: FoldSettings,
    recent: Buffer,
    settled: Buffer,
    chunks: Sequence[Buffer],
    until_ms: int | None = None,
) -> npt.NDArray[np.uint64]:
    """The different items that one user has seen, sorted, uint64[n].

    Args:
        settings: the fold's.
        recent: the stored value.
        settled: likewise.
        chunks: of the archive.
        until_ms: leaves out what was seen later; None: nothing.

    Raises:
        CorruptState: a value is not what its layout says.
    """
    cells = _seen(settings, recent, settled, chunks)
    # An ext that has TEXT is a word below zero.
    cells = cells[cells[:, 3] >= 0]
    if until_ms is not None:
        cells = cells[cells[:, 0] <= until_ms]
    return np.unique(cells[:, 2].view(np.uint64))


def canonical_seen(
    settings: FoldSettings, recent: Buffer, settled: Buffer, chunks: Sequence[Buffer]
) -> bytes:
    """The seen set as sorted records: equal bytes for equal sets, wherever they are stored.

    Raises:
        CorruptState: a value is not what its layout says.
    """
    return records_of(_seen(settings, recent, settled, chunks)).tobytes()


def retained_records(
    settings: FoldSettings, recent: Buffer, settled: Buffer, chunks: Sequence[Buffer]
) -> npt.NDArray[np.void]:
    """The records of history and seen set, sorted, each once.

    Raises:
        CorruptState: a value is not what its layout says.
    """
    joined = join_recent([recent])
    history = gather(joined, join_settled([settled], joined), settings.rules).records
    cells = np.unique(
        np.concatenate([history, _seen(settings, recent, settled, chunks)]).view(np.uint64), axis=0
    )
    return records_of(cells.view(np.int64))


def latest_seen(rules: Rules, cells: Cells, watermark_ms: int) -> Cells:
    """Indices of the seen set's records among ``cells``, in the order of records."""
    found = winners(cells, rules.classes, IN_SEEN, watermark_ms)
    words = cells[found].view(np.uint64)
    order = np.lexsort((words[:, 3], words[:, 2], words[:, 1], words[:, 0]))
    latest: Cells = found[order][-int(rules.limits[SEEN_CAP]) :]
    return latest


def _seen(
    settings: FoldSettings, recent: Buffer, settled: Buffer, chunks: Sequence[Buffer]
) -> Cells:
    joined = join_recent([recent])
    old, archive = join_settled([settled], joined), join_archives([chunks], joined)
    cells = np.concatenate([rows_of(joined.cells), old.cells, archive.cells])
    return cells[latest_seen(settings.rules, cells, read_header(recent).watermark_ms)]
