"""The lanes over a log in memory: what is handed over, held back, read again, and dead-lettered."""

import threading
from dataclasses import dataclass, field

import numpy as np
import pytest

from rankstream.proto.v1 import catalog_pb2, events_pb2
from rankstream.server.announce import Announcements, slot_of
from rankstream.server.catalog.blocks import make_layout
from rankstream.server.catalog.popularity import Popularity
from rankstream.server.catalog.segments import SegmentWriter
from rankstream.server.config import Limits, Scoring
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.errors import StateRefused, Unavailable
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.profiles.texts import Keeping
from rankstream.server.store import Store
from rankstream.server.stream.apply import EventFolder
from rankstream.server.stream.compacted_lane import CompactedLane
from rankstream.server.stream.consumer import Chunk
from rankstream.server.stream.dead_letter import Ticket
from rankstream.server.stream.event_codec import EventCodec
from rankstream.server.stream.events_lane import EventsLane
from rankstream.server.stream.indexer import ItemIndexer
from rankstream.server.stream.item_folder import ItemFolder, ItemFormat
from rankstream.server.types import Position, item_key

EVENTS_ID, ITEMS_ID = b"events-topic-id.", b"items-topic-id.."
FOLD = FoldSettings()
LAYOUT = make_layout(4, Scoring())


@dataclass
class Record:
    """One record of the log."""

    offset: int
    value: bytes | None
    key: bytes | None = b"key"
    timestamp: int = 1000
    headers: tuple = ()


@dataclass
class Log:
    """Partitions in memory; ``idle`` is called when a poll finds nothing."""

    partitions: dict[int, list[Record]]
    idle: list = field(default_factory=list)
    opened: list = field(default_factory=list)
    closed: int = 0
    # Offsets that a transaction marker takes: a chunk ends behind them.
    markers: int = 0

    def open(self, positions):
        self.opened.append(dict(positions))
        return Consumer(self, dict(positions))


class Consumer:
    """What ``LogConsumer`` is to a lane, over a ``Log``."""

    def __init__(self, log, positions):
        self.log = log
        self.positions = positions
        self.paused = set()

    def poll(self, timeout_ms, max_records):
        chunks = []
        for partition in sorted(set(self.positions) - self.paused):
            at = self.positions[partition]
            found = [r for r in self.log.partitions[partition] if r.offset >= at][:max_records]
            if found:
                self.positions[partition] = found[-1].offset + 1 + self.log.markers
                chunks.append(Chunk(partition, found, self.positions[partition]))
        if not chunks:
            # The last one stays: it stops the lane.
            step = self.log.idle.pop(0) if len(self.log.idle) > 1 else self.log.idle[0]
            step()
        return chunks

    def highwater(self, partition):
        records = self.log.partitions[partition]
        return records[-1].offset + 1 if records else 0

    def pause(self, partition):
        self.paused.add(partition)

    def resume(self, partition):
        self.paused.discard(partition)

    def close(self):
        self.log.closed += 1


class Letters:
    """Takes dead letters; they are safe at once, or when told."""

    def __init__(self, at_once=True):
        self.at_once = at_once
        self.tickets = []

    def submit(self, letters):
        ticket = Ticket(letters)
        self.tickets.append(ticket)
        if self.at_once:
            ticket.finish()
        return ticket

    @property
    def origins(self):
        return [letter.origin for ticket in self.tickets for letter in ticket.letters]


@pytest.fixture
def page(tmp_path):
    return Announcements(tmp_path / "announce", write=True)


def click(user, item, offset):
    event = events_pb2.Event(user_id=user, item_id=item, type="click", event_id=f"{user}/{item}")
    return Record(offset, event.SerializeToString())


def bad(offset):
    return Record(offset, b"\xff\xff")


class EventsCase:
    """An events lane, what it handed over, and where it stood then."""

    def __init__(self, page, log, letters=None, max_records=100):
        self.log, self.page = log, page
        self.letters = letters or Letters()
        self.batches = []
        self.folder = EventFolder(
            FOLD, Popularity(weight=1.0, half_life_s=1.0, bucket_s=1), Keeping(1000, int)
        )
        self.lane = EventsLane(
            log.open,
            dict.fromkeys(log.partitions, 0),
            topic_id=EVENTS_ID,
            topic="events",
            codec=EventCodec(FOLD, Limits(), "events", 2),
            letters=self.letters,
            make_batch=self.folder.batch,
            put=self.batches.append,
            page=page,
            max_records=max_records,
        )
        log.idle.append(self.lane.stop)

    def handed(self):
        """(users, events, positions) of each batch."""
        return [
            (
                [u.decode() for u in b.users],
                len(b.events),
                [(p.partition, p.next_offset) for p in b.positions],
            )
            for b in self.batches
        ]


def test_events_are_handed_over_with_the_positions_behind_them(page):
    log = Log({0: [click("ann", "a", 0), click("bob", "b", 1)], 1: [click("ann", "c", 0)]})
    case = EventsCase(page, log)

    case.lane.run()

    assert case.handed() == [(["ann", "bob"], 3, [(0, 2), (1, 1)])]
    assert case.batches[0].owners.tolist() == [0, 1, 0]
    assert case.batches[0].events["target_key"].tolist() == [item_key(i) for i in "abc"]
    assert case.batches[0].positions[0] == Position("events", EVENTS_ID, 0, 2)
    assert case.lane.positions() == {0: 2, 1: 1}
    assert page.fetch_age_ms >= 0
    assert (page.highwater(slot_of("events", 0)), page.state(1)) == (2, "running")
    assert log.closed == 1


def test_a_position_is_what_the_log_says_not_the_last_offset_plus_one(page):
    case = EventsCase(page, Log({0: [click("ann", "a", 4)]}, markers=1))

    case.lane.run()

    assert case.handed() == [(["ann"], 1, [(0, 6)])]


def test_a_poll_takes_no_more_than_it_may(page):
    case = EventsCase(page, Log({0: [click("ann", f"i{n}", n) for n in range(5)]}), max_records=2)

    case.lane.run()

    assert [p for _, _, p in case.handed()] == [[(0, 2)], [(0, 4)], [(0, 5)]]


def test_a_bad_record_is_dead_lettered_and_the_others_are_kept(page):
    case = EventsCase(page, Log({0: [click("ann", "a", 0), bad(1), click("bob", "b", 2)]}))

    case.lane.run()

    assert case.handed() == [(["ann", "bob"], 2, [(0, 3)])]
    assert case.letters.origins == ["events/0/1"]
    assert case.letters.tickets[0].letters[0].value == b"\xff\xff"
    assert page.dead_letters == 1


def test_records_of_which_all_are_bad_still_move_the_position(page):
    case = EventsCase(page, Log({0: [bad(0), Record(1, None)]}))

    case.lane.run()

    assert case.handed() == [([], 0, [(0, 2)])]
    assert case.letters.origins == ["events/0/0", "events/0/1"]


def test_while_dead_letters_wait_their_partition_does_and_others_go_on(page):
    log = Log({0: [bad(0), click("ann", "a", 1)], 1: [click("bob", "b", 0)]})
    case = EventsCase(page, log, Letters(at_once=False))
    seen = []

    def others_went_on():
        seen.append((case.lane.positions(), page.state(slot_of("events", 0)), page.dead_letters))
        log.partitions[0].append(click("cat", "c", 2))
        log.partitions[1].append(click("dan", "d", 1))

    def letters_are_safe():
        seen.append(case.lane.positions())
        case.letters.tickets[0].finish()

    log.idle[:0] = [others_went_on, letters_are_safe]
    case.lane.run()

    assert seen == [({0: 0, 1: 1}, "paused", 0), {0: 0, 1: 2}]
    assert case.handed() == [
        (["bob"], 1, [(1, 1)]),
        (["dan"], 1, [(1, 2)]),
        (["ann"], 1, [(0, 2)]),
        (["cat"], 1, [(0, 3)]),
    ]
    assert (page.state(slot_of("events", 0)), page.dead_letters) == ("running", 1)


def test_a_new_consumer_reads_again_what_was_held_back(page):
    log = Log({0: [bad(0), click("ann", "a", 1)], 1: [click("bob", "b", 0)]})
    case = EventsCase(page, log, Letters(at_once=False))

    def finish_again():
        case.letters.tickets[1].finish()

    log.idle[:0] = [case.lane.reopen, finish_again]
    case.lane.run()

    assert log.opened == [{0: 0, 1: 0}, {0: 0, 1: 1}]
    assert log.closed == 2
    assert case.handed() == [(["bob"], 1, [(1, 1)]), (["ann"], 1, [(0, 2)])]
    assert [t.wanted() for t in case.letters.tickets] == [False, False]
    assert not case.letters.tickets[0].done()
    assert page.dead_letters == 1


def test_a_client_that_gives_up_is_replaced_where_it_stood(page):
    log = Log({0: [click("ann", "a", 0)]})
    case = EventsCase(page, log)

    def give_up():
        log.partitions[0].append(click("bob", "b", 1))
        raise Unavailable

    log.idle[:0] = [give_up]
    case.lane.run()

    assert log.opened == [{0: 0}, {0: 1}]
    assert [users for users, _, _ in case.handed()] == [["ann"], ["bob"]]


def test_a_position_outside_the_log_ends_the_lane(page):
    log = Log({0: []})
    case = EventsCase(page, log)

    def outside():
        raise StateRefused

    log.idle[:0] = [outside]

    with pytest.raises(StateRefused):
        case.lane.run()
    assert log.closed == 1


def test_events_on_a_partition_that_is_not_theirs_are_applied_and_counted(page):
    users = [f"u{n}" for n in range(30)]
    log = Log({0: [click(u, "a", n) for n, u in enumerate(users)], 1: []})
    case = EventsCase(page, log)

    case.lane.run()

    assert case.handed()[0][1] == 30
    assert 0 < page.misplaced < 30


class ItemsCase:
    """An items lane that commits into a store of its own."""

    def __init__(self, folder, page, log, letters=None):
        self.log, self.page = log, page
        self.letters = letters or Letters()
        self.store = Store(folder / "state", map_size_gib=1, write=True)
        self.segments = SegmentWriter(folder, 1, LAYOUT.stride, 64, 64)
        self.encoded, self.positions, self.full = [], [], 0
        form = ItemFormat(Limits(), LAYOUT, ItemTemplate.parse("{title}"))
        indexer = ItemIndexer(self.store, self.segments, LAYOUT, self.encode)
        self.lane = CompactedLane(
            "items",
            log.open,
            {0: 0},
            topic_id=ITEMS_ID,
            topic="items",
            folder=ItemFolder(form, indexer),
            letters=self.letters,
            put=self.put,
            page=page,
        )
        log.idle.append(self.lane.stop)

    def encode(self, texts):
        if self.full:
            self.full -= 1
            raise OSError(28, "No space left on device")
        self.encoded += texts
        return np.array([[len(t), 1, 2, 3] for t in texts], np.float32)

    def put(self, commit):
        with self.store.write() as txn:
            commit.apply(txn)
        self.positions.append(commit.position.next_offset)
        commit.committed()

    def run(self):
        """In a thread of its own, which the lane makes nicer than ours."""
        failed = []

        def guarded():
            try:
                self.lane.run()
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
        if failed:
            raise failed[0]

    def titles(self):
        with self.store.read() as view:
            blobs = [
                view.item(int.from_bytes(k, "little")) for k, _ in view.items_from("items", b"")
            ]
        return sorted(catalog_pb2.Item.FromString(r.payload).title for r in blobs)

    def close(self):
        self.segments.close()
        self.store.close()


@pytest.fixture
def items_case(tmp_path, page):
    made = []

    def make(log, letters=None):
        made.append(ItemsCase(tmp_path, page, log, letters))
        return made[-1]

    yield make
    for case in made:
        case.close()


def put_item(item_id, title, offset):
    item = catalog_pb2.Item(item_id=item_id, title=title)
    return Record(offset, item.SerializeToString(), item_id.encode())


def test_items_are_upserted_and_deleted(items_case):
    records = [put_item("a", "one", 0), put_item("b", "two", 1), Record(2, None, b"a")]
    case = items_case(Log({0: records[:2]}))
    case.log.idle[:0] = [lambda: case.log.partitions[0].append(records[2])]

    case.run()

    assert case.positions == [2, 3]
    assert case.titles() == ["two"]
    assert case.lane.positions() == {0: 3}
    assert case.page.highwater(slot_of("items", 0)) == 3


def test_within_a_poll_the_last_record_of_an_item_wins(items_case):
    records = [
        put_item("a", "one", 0),
        put_item("b", "two", 1),
        Record(2, None, b"b"),
        put_item("a", "three", 3),
    ]
    case = items_case(Log({0: records}))

    case.run()

    assert case.titles() == ["three"]
    assert case.encoded == ["three"]
    assert case.positions == [4]


def test_a_bad_item_is_dead_lettered_and_the_others_are_kept(items_case):
    records = [
        put_item("a", "one", 0),
        Record(1, b"\xff\xff", b"b"),
        Record(2, None, None),
        Record(3, None, b"\xff"),
        put_item("c", "three", 4),
        Record(5, put_item("d", "four", 5).value, b"other"),
    ]
    case = items_case(Log({0: records}))

    case.run()

    assert case.titles() == ["one", "three"]
    assert case.letters.origins == [f"items/0/{n}" for n in (1, 2, 3, 5)]
    assert case.page.dead_letters == 4
    assert case.lane.positions() == {0: 6}


def test_a_lane_that_is_stopped_while_its_dead_letters_wait_keeps_its_position(items_case):
    letters = Letters(at_once=False)
    case = items_case(Log({0: [put_item("a", "one", 0), Record(1, b"\xff", b"b")]}), letters)
    submit = letters.submit

    def submit_and_stop(given):
        case.lane.stop()
        return submit(given)

    letters.submit = submit_and_stop
    case.run()

    assert case.positions == []
    assert case.lane.positions() == {0: 0}


def test_rows_that_the_disk_refuses_are_tried_again(items_case):
    case = items_case(Log({0: [put_item("a", "one", 0)]}))
    case.full = 1

    case.run()

    assert case.titles() == ["one"]
    assert case.positions == [1]


def test_an_items_lane_opens_a_new_consumer_where_it_stood(items_case):
    case = items_case(Log({0: [put_item("a", "one", 0)]}))
    case.log.idle[:0] = [case.lane.reopen]

    case.run()

    assert case.log.opened == [{0: 0}, {0: 1}]
    assert case.positions == [1]
