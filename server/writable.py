"""The state, opened by its only writer: made, or checked against what these settings would make."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rankstream.server.announce import Announcements
from rankstream.server.catalog.blocks import Layout
from rankstream.server.catalog.popularity import Popularity
from rankstream.server.catalog.segments import SegmentWriter, check_rows
from rankstream.server.config import Settings
from rankstream.server.derived import fold_settings
from rankstream.server.errors import StateRefused
from rankstream.server.paths import Paths
from rankstream.server.profiles.settings import FoldSettings, fold_version
from rankstream.server.store import STATE_LAYOUT, Store
from rankstream.server.stream.indexer import read_checksums

_LOCK_WAIT_S = 10.0
_OTHER_LAYOUT = (
    "another version of rankstream made it; run that one, or give an empty --data-dir "
    "(the log is folded anew)"
)


@dataclass(slots=True)
class State:
    """What is open before the log is: the store, the segments, and what reads them."""

    store: Store
    segments: SegmentWriter
    page: Announcements
    popularity: Popularity
    fold: FoldSettings


def open_state(
    settings: Settings, paths: Paths, page: Announcements, layout: Layout, space: str
) -> State:
    """Opens or makes the state, and checks that it is what these settings would have made.

    Raises:
        StateRefused: it was made with other settings.
        CorruptState: its rows differ from their checksums.
    """
    store = Store(paths.store, map_size_gib=settings.state.map_size_gib, write=True)
    fold = fold_settings(settings)
    again = "give the old value again, or an empty --data-dir (the log is folded anew)"
    with store.write() as txn:
        txn.fix_setting("layout", str(STATE_LAYOUT).encode(), _OTHER_LAYOUT)
        txn.fix_setting("fold_version", fold_version(fold).encode(), again)
        txn.fix_setting("blocks", layout.describe(), again)
        txn.fix_setting("encoder space", space.encode(), again)
        head = txn.head()
        txn.set_head(head)
    segments = SegmentWriter(
        paths.segments,
        head.generation,
        layout.stride,
        settings.state.max_rows,
        settings.limits.max_id_bytes,
        layout.offsets,
    )
    popularity = Popularity(
        weight=settings.scoring.bias_weight,
        half_life_s=settings.scoring.popularity_half_life_s,
        bucket_s=settings.state.bucket_s,
        floor=settings.scoring.bias_floor,
    )
    with store.read() as view:
        for first, count, checksum in read_checksums(view):
            check_rows(segments.segments, first, count, checksum)
        popularity.load(view)
    return State(store, segments, page, popularity, fold)


@contextmanager
def only_writer(paths: Paths) -> Iterator[None]:
    """Holds the data folder's lock; waits a while for a predecessor that is still stopping.

    Raises:
        StateRefused: another server has the folder.
    """
    paths.root.mkdir(parents=True, exist_ok=True)
    with paths.lock.open("a+") as lock:
        until = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    lock.seek(0)
                    msg = (
                        f"{paths.root} is in use by the server whose ingest has process id "
                        f"{lock.read().strip()}: stop it, or give this one another --data-dir"
                    )
                    raise StateRefused(msg) from None
                time.sleep(0.05)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
