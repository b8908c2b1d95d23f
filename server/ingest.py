"""The ingest process: the only writer of the state. Composition and lifecycle.

Threads: the main thread commits (``writer.py``); one polls and decodes events, one polls, decodes
and encodes items, one polls users, one encodes texts, one watches the log, one delivers dead
letters.
"""

from __future__ import annotations

import fcntl
import functools
import gc
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankstream.server.announce import Announcements
from rankstream.server.catalog.bias_file import BiasFile
from rankstream.server.catalog.blocks import Layout, make_layout
from rankstream.server.catalog.popularity import Popularity
from rankstream.server.catalog.segments import SegmentWriter, check_rows
from rankstream.server.child import Control, Inherited, child_main
from rankstream.server.config import Settings
from rankstream.server.derived import encoder_settings, fold_settings, topic_settings
from rankstream.server.encoder.base import Encoder
from rankstream.server.encoder.cached_encoder import CachedEncoder
from rankstream.server.encoder.load import load_encoder
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.errors import StateRefused
from rankstream.server.paths import Paths
from rankstream.server.profiles.settings import FoldSettings, fold_version
from rankstream.server.profiles.texts import Keeping
from rankstream.server.store import STATE_LAYOUT, Store
from rankstream.server.stream.apply import EventFolder, warm_up_fold
from rankstream.server.stream.compacted_lane import CompactedLane, Folder
from rankstream.server.stream.consumer import LogConsumer
from rankstream.server.stream.dead_letter import DeadLetters
from rankstream.server.stream.event_codec import EventCodec
from rankstream.server.stream.events_lane import EventsLane
from rankstream.server.stream.guard import LogGuard
from rankstream.server.stream.indexer import ItemIndexer, read_checksums
from rankstream.server.stream.item_folder import ItemFolder, ItemFormat
from rankstream.server.stream.log import Log, wait_for_log
from rankstream.server.stream.texts_lane import TextsLane
from rankstream.server.stream.user_codec import UserFolder
from rankstream.server.stream.writer import Writer
from rankstream.server.types import Lane

_BIAS_S = 1.0
_EVENTS_REST_S = 0.004
_COMPACTED_REST_S = 0.03
_CHECKPOINT_S = 0.25
# Lists of a batch's values come and go by the thousand; none of them are in cycles.
_GC_THRESHOLDS = (200_000, 50, 100)
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


def run(settings: Settings, control: Control, inherited: Inherited) -> None:
    """Opens the state, then folds the log into it until told to stop.

    Raises:
        RankstreamError: the state or the log refuses.
    """
    paths = Paths(Path(settings.state.data_dir))
    with _only_writer(paths):
        _fold(settings, control, inherited, paths)


def _fold(settings: Settings, control: Control, inherited: Inherited, paths: Paths) -> None:
    page = Announcements(paths.page, write=True, bells=inherited.bells)
    encoder = load_encoder(encoder_settings(settings, paths))
    layout = make_layout(encoder.dimension, settings.scoring)
    state = open_state(settings, paths, page, layout, encoder.fingerprint)
    bias = BiasFile(state.store, state.segments.segments, state.popularity, page, paths.segments)
    # Before the first answer: without it, nothing would be popular for a second.
    bias.refresh()
    with state.store.read() as view:
        known = bool(view.positions())
    if known:
        control.send("state")
    stopping = _stop_on_signal()
    warm_up_fold(state.fold)
    found = wait_for_log(
        settings.kafka, topic_settings(settings), paths.broker, state.store, page, stopping
    )
    if found is not None:
        if not known:
            # Before its first look at the log there is nothing to read, and nowhere to write to.
            control.send("state")
        control.send("ready")
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        Ingest(settings, state, found, layout, encoder, paths, bias).run(stopping)
    state.store.close()


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


def _stop_on_signal() -> threading.Event:
    """An event that SIGTERM sets.

    Not from the handler: it may interrupt the event's own lock, and a second signal would then wait
    for the first for ever. ``SimpleQueue.put`` is made for handlers.
    """
    stopping = threading.Event()
    asked: queue.SimpleQueue[None] = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: asked.put(None))

    def wait() -> None:
        asked.get()
        stopping.set()

    threading.Thread(target=wait, name="signals", daemon=True).start()
    return stopping


class Ingest:
    """The lanes, the writer and the guard, running."""

    def __init__(
        self,
        settings: Settings,
        state: State,
        found: Log,
        layout: Layout,
        encoder: Encoder,
        paths: Paths,
        bias: BiasFile,
    ) -> None:
        self._settings = settings
        self._state = state
        self._paths = paths
        self._failure: BaseException | None = None
        kafka = settings.kafka
        self._bias = bias
        self._writer = Writer(state.store, state.page)
        self._texts = TextsLane(state.store, encoder.encode, self._writer.put)
        self._letters = DeadLetters(kafka.bootstrap_servers, found.topics.dead_letters)
        keeping = Keeping(settings.limits.max_kept_texts, self._texts.wake)
        folder = EventFolder(state.fold, state.popularity, keeping)
        template = ItemTemplate.parse(encoder_settings(settings, paths).template)
        self._events = EventsLane(
            _opener(settings, found.topics.events, _EVENTS_REST_S),
            found.events,
            topic_id=found.described[found.topics.events].topic_id,
            topic=found.topics.events,
            codec=EventCodec(
                state.fold, settings.limits, found.topics.events, kafka.events_partitions
            ),
            letters=self._letters,
            make_batch=folder.batch,
            put=self._writer.put,
            page=state.page,
            max_records=kafka.max_batch_events,
            pace_s=kafka.poll_pace_ms / 1000,
        )
        indexer = ItemIndexer(
            state.store,
            state.segments,
            layout,
            CachedEncoder(encoder, settings.encoding.cache_mib << 20).encode,
        )
        items = ItemFolder(ItemFormat(settings.limits, layout, template), indexer)
        self._items = self._compacted("items", found.topics.items, found.items, found, items)
        users = UserFolder(settings.limits, keeping)
        self._users = self._compacted("users", found.topics.users, found.users, found, users)
        self._guard = LogGuard(
            kafka.bootstrap_servers,
            {
                found.topics.events: self._events,
                found.topics.items: self._items,
                found.topics.users: self._users,
            },
            found.described,
            found.incarnation,
            page=state.page,
            group_id=f"{kafka.topic_prefix}ingest",
            stall_s=kafka.stall_timeout_s,
            refuse=self._fail,
        )

    def _compacted(
        self, lane: Lane, topic: str, positions: dict[int, int], found: Log, folder: Folder[Any]
    ) -> CompactedLane[Any]:
        return CompactedLane(
            lane,
            _opener(self._settings, topic, _COMPACTED_REST_S),
            positions,
            topic_id=found.described[topic].topic_id,
            topic=topic,
            folder=folder,
            letters=self._letters,
            put=self._writer.put,
            page=self._state.page,
        )

    def run(self, stopping: threading.Event) -> None:
        """Folds until ``stopping`` is set.

        Raises:
            BaseException: what ended a lane.
        """
        runs = {
            "events": self._events.run,
            "items": self._items.run,
            "users": self._users.run,
            "texts": self._texts.run,
        }
        lanes = [self._start(run, name) for name, run in runs.items()]
        self._start(self._guard.run, "guard")
        self._start(lambda: _every(_BIAS_S, stopping, self._bias.refresh), "bias")
        self._start(
            lambda: _every(_CHECKPOINT_S, stopping, self._state.store.checkpoint), "checkpoints"
        )
        self._start(lambda: self._stop_when(stopping, lanes), "stopper")
        self._writer.run()
        if self._failure is not None:
            raise self._failure

    def _start(self, run: Callable[[], None], name: str) -> threading.Thread:
        def guarded() -> None:
            try:
                run()
            except BaseException as error:  # noqa: BLE001 - carried to the main thread
                self._fail(error)

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._writer.stop()

    def _stop_when(self, stopping: threading.Event, lanes: list[threading.Thread]) -> None:
        stopping.wait()
        self._guard.stop()
        for part in (self._events, self._items, self._users, self._texts):
            part.stop()
        for lane in lanes:
            lane.join()
        self._letters.close()
        self._writer.stop()


def _every(period_s: float, stopping: threading.Event, run: Callable[[], None]) -> None:
    while not stopping.wait(period_s):
        run()


def _opener(
    settings: Settings, topic: str, rest_s: float
) -> Callable[[Mapping[int, int]], LogConsumer]:
    kafka = settings.kafka
    return functools.partial(
        LogConsumer,
        kafka.bootstrap_servers,
        topic,
        fetch_max_wait_ms=kafka.fetch_max_wait_ms,
        # The embedded broker answers a fetch at once, whatever there is.
        rest_s=rest_s if kafka.embedded else 0.0,
    )


@contextmanager
def _only_writer(paths: Paths) -> Iterator[None]:
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


if __name__ == "__main__":
    sys.exit(child_main(run, sys.argv[1:]))
