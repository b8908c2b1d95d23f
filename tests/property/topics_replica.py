"""One replica over a log: real readers, real stores, a real engine; a made-up encoder.

What a lane hands over waits until a commit takes it, as in ``stream/writer.py``; a crash loses what
waits, and the positions of the last commit say where to go on.
"""

import struct

import numpy as np
from profile_memory import settings_of
from small_server import TEMPLATE, TEXT_DIMENSIONS, MadeUpEncoder, items_of
from topics_records import READ_AT

from rankstream.server.announce import Announcements
from rankstream.server.batcher import Batch
from rankstream.server.catalog.bias_file import BiasFile
from rankstream.server.catalog.blocks import make_layout
from rankstream.server.catalog.masks import Masks
from rankstream.server.catalog.popularity import Popularity
from rankstream.server.catalog.segments import SegmentWriter
from rankstream.server.catalog.view import Catalogue
from rankstream.server.config import Limits, Scoring
from rankstream.server.engine import Engine
from rankstream.server.item_record import ItemRecord
from rankstream.server.profiles.history import canonical_profile
from rankstream.server.profiles.layout import read_header
from rankstream.server.profiles.pooling import LONGEST_TTL_MS, Pooling
from rankstream.server.profiles.seen import canonical_seen
from rankstream.server.profiles.stored import ProfileStore, StoredProfiles
from rankstream.server.profiles.texts import Keeping, StoredText, TextCommit, texts_to_encode
from rankstream.server.profiles.users import find_person
from rankstream.server.store import Store
from rankstream.server.stream.apply import EventFolder
from rankstream.server.stream.consumer import Chunk
from rankstream.server.stream.event_codec import EventCodec
from rankstream.server.stream.event_columns import EventColumns
from rankstream.server.stream.indexer import ItemIndexer
from rankstream.server.stream.item_folder import ItemFolder, ItemFormat
from rankstream.server.stream.user_codec import UserFolder, user_attributes
from rankstream.server.types import Head, Position

TOPIC_IDS = {lane: lane.ljust(16, ".").encode() for lane in ("events", "items", "users")}
_RECENT_CAP = 3
_MAX_ROWS = 256


class Crash(Exception):
    """Ends a transaction before its commit."""


class Replica:
    """Reads ``log``: the records of each (topic, partition); ``ends``: where each of them ends."""

    def __init__(self, folder, log, ends, caps, tuning, kept_texts=1000):
        self.folder, self.log, self.ends = folder, log, ends
        self.fold = settings_of(caps, _RECENT_CAP)
        self.tuning, self.kept_texts = tuning, kept_texts
        self.scoring = Scoring(
            vectors=f"image:5:{tuning.image_weight}",
            text_weight=tuning.text_weight,
            attributes_weight=tuning.attributes_weight,
        )
        self.layout = make_layout(TEXT_DIMENSIONS, self.scoring)
        self._open()

    def _open(self):
        self.store = Store(self.folder / "state", map_size_gib=1, write=True)
        with self.store.read() as view:
            fresh = view.get("generation", b"head") is None
        if fresh:
            with self.store.write() as txn:
                txn.set_head(Head(1, 0, 0, 0))
        place = self.folder / "segments"
        self.segments = SegmentWriter(
            place, 1, self.layout.stride, _MAX_ROWS, 64, self.layout.offsets
        )
        self.page = Announcements(self.folder / "announce", write=True)
        self.encoder = MadeUpEncoder()
        indexer = ItemIndexer(self.store, self.segments, self.layout, self.encoder.encode)
        keeping = Keeping(self.kept_texts, int)
        form = ItemFormat(Limits(), self.layout, TEMPLATE)
        self.popularity = self.new_popularity()
        self.folders = {"items": ItemFolder(form, indexer), "users": UserFolder(Limits(), keeping)}
        self.events = EventFolder(self.fold, self.popularity, keeping)
        self.codec = EventCodec(self.fold, Limits(), "events", 3)
        parts = self.store, self.segments.segments, self.popularity, self.page, place
        self.bias_file = BiasFile(*parts)
        self.profiles = ProfileStore(self.fold)
        self.engine = self.new_engine()
        self.pending = []
        with self.store.read() as view:
            stored = {(p.lane, p.partition): p.next_offset for p in view.positions()}
        self.next = {where: stored.get(where, 0) for where in self.log}

    def new_popularity(self):
        """As a start finds it."""
        width = self.fold.bucket_ms
        half_life = self.tuning.popularity_half_life * width
        made = Popularity(weight=self.tuning.bias_weight, half_life_s=half_life, bucket_s=width)
        with self.store.read() as view:
            made.load(view)
        return made

    def new_engine(self):
        """A worker that has seen nothing yet."""
        catalogue = Catalogue(self.folder / "segments", self.layout)
        parts = self.store, catalogue, Masks(catalogue, Limits()), self.profiles, self._pooling()
        return Engine(*parts, self.page, self.fold.type_names, user_attributes, lambda: READ_AT)

    def _pooling(self):
        ids, tuning = self.fold.type_ids, self.tuning
        size = 1 + max(ids.values())
        weights, lives = np.ones(size), np.full(size, tuning.half_life_ms)
        caps, ttls = np.full(size, np.iinfo(np.int64).max), np.full(size, LONGEST_TTL_MS)
        given = (
            (tuning.type_weights, weights),
            (tuning.half_lives_ms, lives),
            (tuning.type_caps, caps),
            (tuning.ttls_ms, ttls),
        )
        for pairs, column in given:
            for name, value in pairs:
                column[ids[name]] = value
        stated = tuning.interests_weight, tuning.interests_trust
        return Pooling(tuning.half_life_ms, weights, lives, caps, ttls, *stated)

    def poll(self, where, count):
        """The next records of a partition, or None at its end."""
        found = [r for r in self.log[where] if r.offset >= self.next[where]][:count]
        if not found:
            return None
        last = found[-1] is self.log[where][-1]
        # As a consumer's position: behind what compaction removed, too.
        after = self.ends[where] if last else found[-1].offset + 1
        self.next[where] = after
        return Chunk(where[1], found, after)

    def take(self, partitions, count):
        """Polls partitions of one topic (of ``events``: any number), and hands over what comes."""
        lane = partitions[0][0]
        if lane != "events" and any(lane == waiting for waiting, _ in self.pending):
            self.commit()
        chunks = [chunk for where in partitions if (chunk := self.poll(where, count))]
        for chunk in chunks if lane != "events" else ():
            good, refused = self.folders[lane].read(chunk)
            assert not refused
            position = Position(lane, TOPIC_IDS[lane], chunk.partition, chunk.next_offset)
            self.pending.append((lane, self.folders[lane].commit(good, position)))
        if chunks and lane == "events":
            decoded = self.codec.decode_chunks(chunks)
            places = [Position(lane, TOPIC_IDS[lane], c.partition, c.next_offset) for c in chunks]
            columns = EventColumns.joined([d.events for d in decoded])
            self.pending.append((lane, self.events.batch(columns, places)))

    def encode(self, most=2):
        """One step of the texts lane; False where there was nothing to do."""
        if any(lane == "texts" for lane, _ in self.pending):
            self.commit()
        with self.store.read() as view:
            texts, upto, before = texts_to_encode(view, most)
        if upto == before:
            return False
        vectors = dict(zip(texts, self.encoder.encode(list(texts.values())), strict=True))
        self.pending.append(("texts", TextCommit(vectors, upto, "a")))
        return True

    def commit(self):
        """All that waits, in one transaction."""
        works = [work for _, work in self.pending]
        with self.store.write() as txn:
            for work in works:
                work.apply(txn)
        for work in works:
            work.committed()
        self.pending = []

    def crash(self):
        """In the middle of a commit; then a new process."""
        try:
            with self.store.write() as txn:
                for _, work in self.pending:
                    work.apply(txn)
                raise Crash
        except Crash:
            self.close()
            self._open()

    def finish(self):
        """To the end of the log, everything encoded, popularity shown."""
        for where in self.log:
            self.take([where], len(self.log[where]))
        self.commit()
        while self.encode(100):
            self.commit()
        self.bias_file.refresh()

    def rank(self, *tasks, engine=None):
        return (engine or self.engine).rank(Batch(list(tasks), [0] * len(tasks)))

    def answers(self, tasks, engine=None):
        """By task: what an answer says, ties aside."""
        together = [answered(answer) for answer in self.rank(*tasks, engine=engine)]
        for asked, answer in zip(tasks, together, strict=True):
            if asked.candidates is not None:
                # Alone, few given candidates take a way of their own.
                assert answered(*self.rank(asked, engine=engine)) == answer
        return together

    def state(self, users):
        """What replicas agree on, byte for byte."""
        with self.store.read() as view:
            stored = StoredProfiles(view, users)
            recent, settled = (get(range(len(users))) for get in (stored.recent, stored.settled))
            pairs = list(zip(map(bytes, recent), map(bytes, settled), strict=True))
            chunks = [stored.archive(u, read_header(r).chunks) for u, (r, _) in enumerate(pairs)]
            return {
                "profiles": [canonical_profile(self.fold, *pair) for pair in pairs],
                "seen": [
                    canonical_seen(self.fold, *p, c) for p, c in zip(pairs, chunks, strict=True)
                ],
                "people": [find_person(view, user) for user in users],
                "counters": counters_of(view),
                "items": {
                    bytes(k): (r.payload, self.segments.segments.rows[r.row].tobytes())
                    for k, v in view.items_from("items", b"")
                    for r in [ItemRecord.unpack(bytes(v))]
                },
                "texts": {
                    bytes(k): (StoredText.unpack(v).text, bytes(view.get("vectors", k) or b""))
                    for k, v in view.items_from("texts", b"")
                },
                "positions": {(p.lane, p.partition): p.next_offset for p in view.positions()},
                "items_count": view.head().items,
            }

    def close(self):
        self.segments.close()
        self.store.close()


def counters_of(view):
    """By (item key, bucket)."""
    found = {}
    for database in ("counters", "counters_older"):
        for key, value in view.items_from(database, b""):
            for bucket, count in struct.iter_unpack("<ii", bytes(value)):
                found[int.from_bytes(key, "little"), bucket] = count
    return found


def answered(answer):
    """An answer as a plain value; the order of items with one score says nothing."""
    items = items_of(answer)
    assert [i.score for i in items] == sorted((i.score for i in items), reverse=True)
    assert [i.rank for i in items] == list(range(1, len(items) + 1))
    shown = {
        i.item_id: (i.score, tuple(i.parts.blocks), i.parts.bias, reasons_of(i)) for i in items
    }
    return shown, answer.missing, answer.fallback, answer.updated_at_ms


def reasons_of(found):
    return [(r.item_id, r.text, r.type, r.event_time_ms, r.contribution) for r in found.reasons]
