"""What makes one generation of the catalogue: its items lane, its texts lane, and its bias.

A generation that is made beside the served one is one more reader of the same log, with positions
of its own: what changes meanwhile reaches both, and nothing is copied.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rankstream.server.announce import Announcements
from rankstream.server.config import Settings
from rankstream.server.encoder.base import Encoder
from rankstream.server.encoder.cached_encoder import CachedEncoder
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.generations import item_positions
from rankstream.server.stream import compacted_lane as items_lane
from rankstream.server.stream import texts_lane
from rankstream.server.stream.compacted_lane import CompactedLane
from rankstream.server.stream.consumer import LogConsumer
from rankstream.server.stream.dead_letter import DeadLetters
from rankstream.server.stream.indexer import ItemIndexer, ItemRecordIn
from rankstream.server.stream.item_folder import ItemFolder, ItemFormat
from rankstream.server.stream.item_texts import ItemTexts
from rankstream.server.stream.log import Log
from rankstream.server.stream.texts_lane import TextsLane
from rankstream.server.stream.writer import Work
from rankstream.server.writable import Rows

_COMPACTED_REST_S = 0.03
# Nobody waits for a generation that is made: it takes what the lanes of the served one leave.
_MADE_NICENESS = 15

Start = Callable[[Callable[[], None], str], threading.Thread]


@dataclass(frozen=True, slots=True)
class Feed:
    """What the lanes of all generations have in common.

    Attributes:
        found: the log.
        template: how an item becomes a text.
        letters: takes bad records.
        put: hands work to the writer.
        page: where highwaters are shown.
    """

    found: Log
    template: ItemTemplate
    letters: DeadLetters
    put: Callable[[Work], None]
    page: Announcements


class GenerationLanes:
    """Keeps one generation up to date; ``rows`` and ``encoder`` are its own, and closed with it.

    Args:
        settings: of everything.
        rows: its own.
        encoder: its own, warm.
        feed: what lanes are made of.
        served: whether anybody waits for it.

    Attributes:
        items: its items lane; another one once it is served.
        texts: its texts lane, likewise.
    """

    def __init__(
        self, settings: Settings, rows: Rows, encoder: Encoder, feed: Feed, *, served: bool = True
    ) -> None:
        self.rows = rows
        self._settings = settings
        self._encoder = encoder
        self._feed = feed
        self._flowing = threading.Event()
        self._flowing.set()
        self._bias = threading.Lock()
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._cached = CachedEncoder(encoder, rows.generation.encoding.cache_mib << 20)
        self.items = self._items_lane(items_lane.NICENESS if served else _MADE_NICENESS)
        self.texts = self._texts_lane(texts_lane.NICENESS if served else _MADE_NICENESS)

    def _items_lane(self, niceness: int) -> CompactedLane[list[ItemRecordIn]]:
        settings, rows, feed = self._settings, self.rows, self._feed
        encode = functools.partial(self._cached.encode, prompt=self._encoder.prompts.item)
        # Past the cache, which may know a text that a broken encoder does not encode any more.
        texts = ItemTexts(encode, self._encoder.warm_up)
        indexer = ItemIndexer(rows.store, rows.segments, rows.layout, texts.vectors)
        form = ItemFormat(settings.limits, rows.layout, feed.template)
        topic = feed.found.topics.items
        return CompactedLane(
            "items",
            opener(settings, topic, _COMPACTED_REST_S),
            self._positions(),
            topic_id=feed.found.described[topic].topic_id,
            topic=topic,
            folder=ItemFolder(form, indexer),
            letters=feed.letters,
            put=self._put,
            page=feed.page,
            niceness=niceness,
        )

    def _texts_lane(self, niceness: int) -> TextsLane:
        encode = functools.partial(self._encoder.encode, prompt=self._encoder.prompts.query)
        return TextsLane(self.rows.store, encode, self._put, niceness)

    def start(self, start: Start) -> None:
        """Begins; ``start`` makes a thread of what runs, and has a name for it."""
        number = self.rows.generation.number
        runs = ((self.items.run, f"items-{number}"), (self.texts.run, f"texts-{number}"))
        self._threads = [start(run, name) for run, name in runs]

    def start_as_served(self, start: Start) -> None:
        """Goes on on new threads, where the system does not let those that it has be less nice.

        An encoder of one thread computes on them. One of more has a pool, as nice as the thread
        that has loaded it.
        """
        self.stop()
        self.join()
        self.items = self._items_lane(items_lane.NICENESS)
        self.texts = self._texts_lane(texts_lane.NICENESS)
        self.start(start)

    def hold(self) -> None:
        """Its commits wait until ``release``; nothing is lost."""
        self._flowing.clear()

    def release(self) -> None:
        """Its commits go on."""
        self._flowing.set()

    def refresh_bias(self) -> None:
        """Puts a new bias in place, if there is anything new; from any thread."""
        with self._bias:
            if not self._closed:
                self.rows.bias.refresh()

    def stop(self) -> None:
        """Asks the lanes to end after what is in flight."""
        self.release()
        self.items.stop()
        self.texts.stop()

    def join(self) -> None:
        """Waits until they have."""
        for thread in self._threads:
            thread.join()

    def close(self) -> None:
        """Ends all of it; not the store, which the others use too."""
        self.stop()
        # However long a batch takes: its files must not be closed under it.
        self.join()
        with self._bias:
            self._closed = True
        self.rows.segments.close()
        self._encoder.close()

    def _put(self, work: Work) -> None:
        self._flowing.wait()
        self._feed.put(work)

    def _positions(self) -> dict[int, int]:
        """Where its items lane begins: at 0 where it has never read."""
        described = self._feed.found.described[self._feed.found.topics.items]
        with self.rows.store.read() as view:
            stored = {
                p.partition: p.next_offset
                for p in item_positions(view)
                if p.topic_id == described.topic_id
            }
        return {p: stored.get(p, 0) for p in range(described.partitions)}


def opener(
    settings: Settings, topic: str, rest_s: float
) -> Callable[[Mapping[int, int]], LogConsumer]:
    """What makes consumers of a topic, at given positions."""
    kafka = settings.kafka
    return functools.partial(
        LogConsumer,
        kafka.bootstrap_servers,
        topic,
        fetch_max_wait_ms=kafka.fetch_max_wait_ms,
        # The embedded broker answers a fetch at once, whatever there is.
        rest_s=rest_s if kafka.embedded else 0.0,
    )
