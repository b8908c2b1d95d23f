"""What ingest runs: the lanes, the writer, the guard and what is done now and then.

Threads: the main thread commits (``stream/writer.py``); one polls and decodes events, one polls
users, two make each generation (``generation_lanes.py``), one changes generations
(``reindexing.py``), one watches the log, one delivers dead letters.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from rankstream.server.config import Settings
from rankstream.server.derived import encoder_settings
from rankstream.server.encoder.base import Encoder
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.generation_lanes import Feed, GenerationLanes, opener
from rankstream.server.paths import Paths
from rankstream.server.profiles.texts import Keeping
from rankstream.server.reindexing import Reindexing
from rankstream.server.stream.apply import EventFolder
from rankstream.server.stream.compacted_lane import CompactedLane
from rankstream.server.stream.dead_letter import DeadLetters
from rankstream.server.stream.event_codec import EventCodec
from rankstream.server.stream.events_lane import EventsLane
from rankstream.server.stream.guard import Lane as GuardedLane
from rankstream.server.stream.guard import LogGuard
from rankstream.server.stream.log import Log
from rankstream.server.stream.user_codec import ReadUsers, UserFolder
from rankstream.server.stream.writer import Writer
from rankstream.server.writable import Rows, State

_BIAS_S = 1.0
_EVENTS_REST_S = 0.004
_USERS_REST_S = 0.03
_CHECKPOINT_S = 0.25
_REINDEXING_STOP_S = 5.0


class Lanes:
    """The lanes, the writer and the guard, running.

    Args:
        settings: of everything.
        state: the open state.
        found: the log.
        rows: of the generation that is served.
        encoder: its own.
        paths: of the data folder.
        say: tells the supervisor.
    """

    def __init__(
        self,
        settings: Settings,
        state: State,
        found: Log,
        rows: Rows,
        encoder: Encoder,
        paths: Paths,
        say: Callable[[str], None],
    ) -> None:
        self._state = state
        self._failure: BaseException | None = None
        kafka, topics = settings.kafka, found.topics
        self._writer = Writer(state.store, state.page)
        self._letters = DeadLetters(kafka.bootstrap_servers, topics.dead_letters)
        template = ItemTemplate.parse(encoder_settings(settings, paths).template)
        feed = Feed(found, template, self._letters, self._writer.put, state.page)
        self._served = GenerationLanes(settings, rows, encoder, feed)
        self.reindexing = Reindexing(
            settings, state, self._served, feed, self._watch, say, self._fail
        )
        keeping = Keeping(settings.limits.max_kept_texts, self.reindexing.wake_texts)
        folder = EventFolder(state.fold, state.popularity, keeping)
        self._events = EventsLane(
            opener(settings, topics.events, _EVENTS_REST_S),
            found.events,
            topic_id=found.described[topics.events].topic_id,
            topic=topics.events,
            codec=EventCodec(state.fold, settings.limits, topics.events, kafka.events_partitions),
            letters=self._letters,
            make_batch=folder.batch,
            put=self._writer.put,
            page=state.page,
            max_records=kafka.max_batch_events,
            pace_s=kafka.poll_pace_ms / 1000,
        )
        self._users = CompactedLane(
            "users",
            opener(settings, topics.users, _USERS_REST_S),
            found.users,
            topic_id=found.described[topics.users].topic_id,
            topic=topics.users,
            folder=UserFolder(settings.limits, keeping),
            letters=self._letters,
            put=self._writer.put,
            page=state.page,
        )
        self._topics = topics
        self._guard = LogGuard(
            kafka.bootstrap_servers,
            self._watched(self._served),
            found.described,
            found.incarnation,
            page=state.page,
            group_id=f"{kafka.topic_prefix}ingest",
            stall_s=kafka.stall_timeout_s,
            refuse=self._fail,
        )

    def _watched(self, served: GenerationLanes) -> dict[str, GuardedLane]:
        topics = self._topics
        return {
            topics.events: self._events,
            topics.items: served.items,
            topics.users: self._users,
        }

    def _watch(self, served: GenerationLanes) -> None:
        self._guard.watch(self._watched(served))

    def run(self, stopping: threading.Event) -> None:
        """Folds until ``stopping`` is set.

        Raises:
            BaseException: what ended a lane.
        """
        self._served.start(self._start)
        lanes = [self._start(lane.run, name) for name, lane in self._own().items()]
        self._start(self._guard.run, "guard")
        reindexing = self._start(self.reindexing.run, "reindexing")
        self._start(lambda: _every(_BIAS_S, stopping, self.reindexing.refresh_bias), "bias")
        self._start(lambda: _every(_CHECKPOINT_S, stopping, self._state.checkpoint), "checkpoints")
        self._start(lambda: self._stop_when(stopping, lanes, reindexing), "stopper")
        self._writer.run()
        if self._failure is not None:
            raise self._failure

    def _own(self) -> dict[str, EventsLane | CompactedLane[ReadUsers]]:
        """The lanes that are of no generation."""
        return {"events": self._events, "users": self._users}

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

    def _stop_when(
        self,
        stopping: threading.Event,
        lanes: list[threading.Thread],
        reindexing: threading.Thread,
    ) -> None:
        stopping.wait()
        self._guard.stop()
        self.reindexing.stop()
        for lane in self._own().values():
            lane.stop()
        # It may be loading a model, for which nobody waits.
        reindexing.join(_REINDEXING_STOP_S)
        generations = self.reindexing.live
        for generation in generations:
            generation.stop()
        for generation in generations:
            generation.join()
        for thread in lanes:
            thread.join()
        self._letters.close()
        self._writer.stop()


def _every(period_s: float, stopping: threading.Event, run: Callable[[], None]) -> None:
    while not stopping.wait(period_s):
        run()
