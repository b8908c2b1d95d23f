"""The state, opened by its only writer: made, or checked against what these settings would make."""

from __future__ import annotations

import dataclasses
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rankstream.server.announce import Announcements
from rankstream.server.catalog.bias_file import BiasFile
from rankstream.server.catalog.blocks import Layout
from rankstream.server.catalog.popularity import Popularity
from rankstream.server.catalog.segments import SegmentWriter, check_rows
from rankstream.server.config import Encoding, Settings
from rankstream.server.derived import fold_settings
from rankstream.server.disk import on_disk
from rankstream.server.errors import StateRefused
from rankstream.server.generation import Generation, absolute
from rankstream.server.generations import (
    current_slot,
    fix_space,
    generation_in,
    held_numbers,
    next_number,
    put_generation,
    remove_files,
)
from rankstream.server.paths import Paths
from rankstream.server.profiles.settings import FoldSettings, fold_version
from rankstream.server.store import STATE_LAYOUT, WRITE_ERRORS, Store
from rankstream.server.stream.indexer import read_checksums

log = logging.getLogger(__name__)

_LOCK_WAIT_S = 10.0
_OTHER_LAYOUT = (
    "another version of rankstream made it; run that one, or give an empty --data-dir "
    "(the log is folded anew)"
)
_AGAIN = "give the old value again, or an empty --data-dir (the log is folded anew)"


@dataclass(slots=True)
class State:
    """What is open before the log is: the store, and what all generations share."""

    store: Store
    page: Announcements
    popularity: Popularity
    fold: FoldSettings

    def checkpoint(self) -> None:
        """Makes what is committed safe from a power loss; where the disk is full, the next time."""
        try:
            self.store.checkpoint()
        except WRITE_ERRORS as error:
            log.error("the state cannot be synced, trying again: %s", error)
            self.page.refused()


@dataclass(slots=True)
class Rows:
    """One generation, open: its slot of the store, its rows, and their bias."""

    generation: Generation
    layout: Layout
    store: Store
    segments: SegmentWriter
    bias: BiasFile


def open_state(settings: Settings, paths: Paths, page: Announcements) -> State:
    """Opens or makes the state, and checks that these settings would have folded it so.

    Raises:
        StateRefused: it was made with other settings.
    """
    store = Store(paths.store, map_size_gib=settings.state.map_size_gib, write=True)
    fold = fold_settings(settings)
    with store.write() as txn:
        txn.fix_setting("layout", str(STATE_LAYOUT).encode(), _OTHER_LAYOUT)
        txn.fix_setting("fold_version", fold_version(fold).encode(), _AGAIN)
    popularity = Popularity(
        weight=settings.scoring.bias_weight,
        half_life_s=settings.scoring.popularity_half_life_s,
        bucket_s=settings.state.bucket_s,
        floor=settings.scoring.bias_floor,
    )
    with store.read() as view:
        store.slot = current_slot(view)
        popularity.load(view)
        held = held_numbers(view)
    remove_files(paths.segments, held)
    return State(store, page, popularity, fold)


def served_generation(store: Store, given: Encoding) -> Generation:
    """The generation that is served; where the state is new, the first one.

    The encoder is the state's. A setting that was given (that differs from its default) takes the
    place of what is stored; ``open_rows`` refuses what would make other vectors. The log says which
    it is, and why.
    """
    given = absolute(given)
    with store.read() as view:
        stored = generation_in(view, store.slot)
        number = next_number(view)
    if stored is None:
        log.info("the state is new: generation %d will be encoded by %s", number, _model_of(given))
        return Generation(store.slot, number, given)
    usual, kept = dataclasses.asdict(Encoding()), dataclasses.asdict(stored.encoding)
    asked = {n: v for n, v in dataclasses.asdict(given).items() if v != usual[n]}
    other = [f"{n} {v!r} for {kept[n]!r}" for n, v in asked.items() if v != kept[n]]
    log.info(
        "the state has generation %d served, encoded by %s; given at this start: %s",
        stored.number,
        _model_of(stored.encoding),
        f"{', '.join(other)}, taken if the vectors stay the same" if other else "nothing else",
    )
    return dataclasses.replace(stored, encoding=dataclasses.replace(stored.encoding, **asked))


def open_rows(
    settings: Settings,
    paths: Paths,
    state: State,
    generation: Generation,
    layout: Layout,
    space: str,
) -> Rows:
    """Opens or makes a generation, and checks that it is what its encoder would have made.

    Args:
        settings: of everything.
        paths: of the data folder.
        state: the open state.
        generation: which one, and with which encoder.
        layout: how this encoder's rows are laid out.
        space: the fingerprint of its vectors.

    Raises:
        StateRefused: it was made with another encoder, or other blocks.
        CorruptState: its rows differ from their checksums.
    """
    store = state.store.of(generation.slot)
    with store.write() as txn:
        stored = generation_in(txn, store.slot)
        fix_space(txn, store.slot, space, _resolve_space(stored))
        txn.fix_setting("blocks", layout.describe(), _AGAIN, "generation")
        put_generation(txn, generation)
        head = txn.head()
    segments = SegmentWriter(
        paths.segments,
        head.generation,
        layout.stride,
        settings.state.max_rows,
        settings.limits.max_id_bytes,
        layout.offsets,
    )
    with store.read() as view:
        checksums = list(read_checksums(view))
    # Not inside the transaction: a rollback does this beside commits, whose pages it would pin.
    for first, count, checksum in checksums:
        check_rows(segments.segments, first, count, checksum)
    bias = BiasFile(store, segments.segments, state.popularity, state.page, paths.segments)
    return Rows(generation, layout, store, segments, bias)


def _resolve_space(stored: Generation | None) -> str:
    if stored is None:
        return _AGAIN
    return (
        f"generation {stored.number} is encoded by {_model_of(stored.encoding)}: start without "
        "settings of the encoder to go on with that, and change it with 'rankstream reindex'"
    )


def _model_of(encoding: Encoding) -> str:
    return encoding.model or "the default model"


@contextmanager
def only_writer(paths: Paths) -> Iterator[None]:
    """Holds the data folder's lock; waits a while for a predecessor that is still stopping.

    Raises:
        StateRefused: another server has the folder.
        Unavailable: the disk takes nothing, now or while the folder is held.
    """
    with on_disk(paths.root, *WRITE_ERRORS), _locked(paths):
        yield


@contextmanager
def _locked(paths: Paths) -> Iterator[None]:
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
