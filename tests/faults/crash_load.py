"""A random, reproducible load on the log, and what the log must have folded to."""

from __future__ import annotations

import hashlib
import random
import struct
import threading
import time
from collections import defaultdict
from dataclasses import dataclass

from kafka.errors import KafkaError
from profile_oracle import Caps, Counters, Logged, history, seen, watermark
from requests_to import event, ids_of, info, item_key, log_of, producer, profile, rank

from rankstream.proto.v1 import catalog_pb2, events_pb2
from rankstream.server.catalog.popularity import read_counter
from rankstream.server.paths import Paths
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.profiles.stored import ProfileStore
from rankstream.server.store import Store

USERS = 250
ITEMS = 80
PER_SECOND = 400
DAY_MS = 86_400_000
CAPS = Caps(history=40, seen=90, bucket_ms=DAY_MS)
FLAGS = {"history_cap": CAPS.history, "seen_cap": CAPS.seen}
KINDS = ("impression", "view", "view", "click", "click", "click", "rate")
WORDS = [
    "space",
    "crime",
    "love",
    "robot",
    "island",
    "war",
    "family",
    "music",
    "ghost",
    "train",
    "river",
    "city",
]


class Load:
    """A thread that writes events and items to the log until it is stopped."""

    def __init__(self, server, seed: int) -> None:
        self._server = server
        self._random = random.Random(seed)
        self._sent: list[tuple[str, bytes]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.error: BaseException | None = None

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stopping.set()
        self._thread.join()
        assert self.error is None, self.error

    def _run(self) -> None:
        try:
            with producer(self._server) as out:
                # The pace of the load; nobody waits for it.
                while not self._stopping.wait(0.02):
                    self._write(out, PER_SECOND // 50)
        except Exception as error:  # noqa: BLE001 - shown by __exit__
            self.error = error

    def _write(self, out, count: int) -> None:
        for _ in range(count):
            user, value = self._event()
            _send(out, self._server.topics["events"], value, user.encode())
        if self._random.random() < 0.3:
            key, value = self._item()
            _send(out, self._server.topics["items"], value, key.encode())

    def _event(self) -> tuple[str, bytes]:
        draw = self._random
        if self._sent and draw.random() < 0.06:
            return draw.choice(self._sent)
        # A few people do much, so that every cap overflows.
        user = f"user-{int(USERS * draw.random() ** 2)}"
        now = time.time_ns() // 1_000_000
        at = now - int(draw.random() ** 3 * 50 * DAY_MS)
        if draw.random() < 0.01:
            made = event(user, "", "$reset", event_time_ms=at)
            return user, made.SerializeToString()
        kind = draw.choice(KINDS)
        made = event(user, f"item-{draw.randrange(ITEMS + 10)}", kind)
        if kind == "rate":
            made.value = draw.randint(1, 5)
        if draw.random() < 0.3:
            made.weight = draw.choice((0.5, 2.0, -1.0))
        if draw.random() < 0.95:
            made.event_time_ms = at
        if draw.random() < 0.97:
            # Few enough that some ids come again with other contents.
            made.event_id = f"{user}/{draw.randrange(100_000 if draw.random() < 0.9 else 50)}"
        self._sent.append((user, made.SerializeToString()))
        return self._sent[-1]

    def _item(self) -> tuple[str, bytes | None]:
        draw = self._random
        name = f"item-{draw.randrange(ITEMS)}"
        if draw.random() < 0.1:
            return name, None
        item = catalog_pb2.Item(item_id=name, title=" ".join(draw.sample(WORDS, 4)))
        item.category = draw.choice(WORDS)
        return name, item.SerializeToString()


def _send(out, topic: str, value: bytes | None, key: bytes) -> None:
    try:
        out.send(topic, value, key)
    except KafkaError:
        # The broker is away for a moment. What is in the log is read back, not assumed.
        return


@dataclass(frozen=True)
class Expected:
    """What the log says, by its definition."""

    events: dict[str, list[Logged]]
    histories: dict[str, list[Logged]]
    seen: dict[str, list[int]]
    counts: dict[tuple[int, int], int]
    items: dict[str, bytes]
    deleted: set[str]
    ends: dict[tuple[str, int], int]


def read_expected(server) -> Expected:
    """Folds the whole log, one record after the other."""
    records, items = log_of(server, "events"), log_of(server, "items")
    logged = [_logged(server, r) for r in records]
    by_user = defaultdict(list)
    for one in logged:
        by_user[one.user].append(one)
    last = {r.key.decode(): r.value for r in items}
    ends = {("events", r.partition): r.offset + 1 for r in records}
    ends |= {("items", r.partition): r.offset + 1 for r in items}
    return Expected(
        events=dict(by_user),
        histories={user: history(CAPS, log, user) for user, log in by_user.items()},
        seen={
            user: sorted({r.target for r in seen(CAPS, log, user)}) for user, log in by_user.items()
        },
        counts=dict(Counters(CAPS).fold(logged)),
        items={name: value for name, value in last.items() if value is not None},
        deleted={name for name, value in last.items() if value is None},
        ends=ends,
    )


def assert_state_is(server, expected: Expected) -> None:
    """Nothing is lost, and nothing counts twice."""
    assert server.positions() == expected.ends
    for user in expected.events:
        _assert_profile(profile(server, user), expected, user)
    _assert_stored(server, expected)
    assert info(server).items == len(expected.items)
    assert info(server).users == len(expected.events)
    ranked = ids_of(rank(server, "nobody", k=1000))
    assert sorted(ranked) == sorted(expected.items)


def _assert_profile(found, expected: Expected, user: str) -> None:
    log, newest_first = expected.events[user], expected.histories[user][::-1]
    assert [(i.event_time_ms, i.item_key, i.type, i.weight) for i in found.interactions] == [
        (r.time, r.target, r.type, _fp32(r.weight)) for r in newest_first
    ], user
    assert found.seen_size == len(expected.seen[user]), user
    reached = watermark(log, user)
    assert (found.watermark_ms if found.HasField("watermark_ms") else -1) == reached, user
    assert found.freshness.profile_updated_at_ms == max(r.broker for r in log), user


def _assert_stored(server, expected: Expected) -> None:
    """What no answer shows: the seen sets, and the counters to the last one."""
    store = Store(Paths(server.data_dir).store, map_size_gib=256, write=False)
    fold = FoldSettings(history_cap=CAPS.history, seen_cap=CAPS.seen)
    with store.read() as view:
        for user, targets in expected.seen.items():
            found = ProfileStore(fold).seen_targets(view, user.encode()).tolist()
            assert found == targets, user
        stored = [int.from_bytes(key, "little") for key, _ in view.items_from("counters", b"")]
        counts = {(key, b): n for key in stored for b, n in read_counter(view, key)}
    store.close()
    assert counts == expected.counts


def _logged(server, record) -> Logged:
    made = events_pb2.Event.FromString(record.value)
    at = made.event_time_ms if made.HasField("event_time_ms") else record.timestamp
    if made.type == "$reset":
        return Logged(made.user_id, 0, at, 0, "$reset", 0.0, record.timestamp)
    name = made.event_id or f"{server.topics['events']}/{record.partition}/{record.offset}"
    digest = hashlib.blake2b(name.encode(), digest_size=8, person=b"event").digest()
    weight = made.weight if made.HasField("weight") else 1.0
    if made.type == "rate":
        weight *= (made.value - 3) / 2
    return Logged(
        made.user_id,
        int.from_bytes(digest, "little"),
        at,
        item_key(made.item_id),
        made.type,
        weight + 0.0,
        record.timestamp,
    )


def _fp32(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]
