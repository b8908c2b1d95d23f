"""What ingest runs: the lanes, the writer, the guard and what is done now and then.

Threads: the main thread commits (``stream/writer.py``); one polls and decodes events, one polls,
decodes and encodes items, one polls users, one encodes texts, one watches the log, one delivers
dead letters.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any

from rankstream.server.catalog.bias_file import BiasFile
from rankstream.server.catalog.blocks import Layout
from rankstream.server.config import Settings
from rankstream.server.derived import encoder_settings
from rankstream.server.encoder.base import Encoder
from rankstream.server.encoder.cached_encoder import CachedEncoder
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.paths import Paths
from rankstream.server.profiles.texts import Keeping
from rankstream.server.stream.apply import EventFolder
from rankstream.server.stream.compacted_lane import CompactedLane, Folder
from rankstream.server.stream.consumer import LogConsumer
from rankstream.server.stream.dead_letter import DeadLetters
from rankstream.server.stream.event_codec import EventCodec
from rankstream.server.stream.events_lane import EventsLane
from rankstream.server.stream.guard import LogGuard
from rankstream.server.stream.indexer import ItemIndexer
from rankstream.server.stream.item_folder import ItemFolder, ItemFormat
from rankstream.server.stream.log import Log
from rankstream.server.stream.texts_lane import TextsLane
from rankstream.server.stream.user_codec import UserFolder
from rankstream.server.stream.writer import Writer
from rankstream.server.types import Lane
from rankstream.server.writable import State

_BIAS_S = 1.0
_EVENTS_REST_S = 0.004
_COMPACTED_REST_S = 0.03
_CHECKPOINT_S = 0.25


class Lanes:
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
        self._failure: BaseException | None = None
        kafka = settings.kafka
        self._bias = bias
        self._writer = Writer(state.store, state.page)
        self._texts = TextsLane(
            state.store,
            functools.partial(encoder.encode, prompt=encoder.prompts.query),
            self._writer.put,
        )
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
        cached = CachedEncoder(encoder, settings.encoding.cache_mib << 20)
        encode_items = functools.partial(cached.encode, prompt=encoder.prompts.item)
        indexer = ItemIndexer(state.store, state.segments, layout, encode_items)
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
