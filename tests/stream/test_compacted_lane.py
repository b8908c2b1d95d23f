"""The lane of items over a log in memory: what a commit has, and what is dead-lettered."""

import threading

import numpy as np
import pytest
from memory_log import Letters, Log, Record

from rankstream.proto.v1 import catalog_pb2
from rankstream.server.announce import slot_of
from rankstream.server.catalog.blocks import make_layout
from rankstream.server.catalog.segments import SegmentWriter
from rankstream.server.config import Limits, Scoring
from rankstream.server.encoder.base import EncoderError, EncoderUnavailable
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.store import Store
from rankstream.server.stream.compacted_lane import CompactedLane
from rankstream.server.stream.indexer import ItemIndexer
from rankstream.server.stream.item_folder import ItemFolder, ItemFormat
from rankstream.server.stream.item_texts import ItemTexts

ITEMS_ID = b"items-topic-id.."
LAYOUT = make_layout(4, Scoring())


class ItemsCase:
    """An items lane that commits into a store of its own."""

    def __init__(self, folder, page, log, letters=None):
        self.log, self.page = log, page
        self.letters = letters or Letters()
        self.store = Store(folder / "state", map_size_gib=1, write=True)
        self.segments = SegmentWriter(folder, 1, LAYOUT.stride, 64, 64)
        self.encoded, self.positions, self.full = [], [], 0
        self.broken = None
        form = ItemFormat(Limits(), LAYOUT, ItemTemplate.parse("{title}"))
        texts = ItemTexts(self.encode, self.check)
        indexer = ItemIndexer(self.store, self.segments, LAYOUT, texts.vectors)
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
        self.check()
        if any(text.startswith("bad") for text in texts):
            message = "no tokens for it"
            raise EncoderError(message)
        self.encoded += texts
        return np.array([[len(t), 1, 2, 3] for t in texts], np.float32)

    def check(self):
        if self.broken is not None:
            raise self.broken

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


def test_an_item_whose_text_cannot_be_encoded_is_dead_lettered_and_the_others_are_kept(items_case):
    records = [
        put_item("a", "one", 0),
        put_item("b", "bad two", 1),
        Record(2, b"\xff\xff", b"c"),
        put_item("d", "three", 3),
    ]
    case = items_case(Log({0: records}))

    case.run()

    assert case.titles() == ["one", "three"]
    assert case.letters.origins == ["items/0/2", "items/0/1"]
    (letter,) = case.letters.tickets[-1].letters
    assert letter.error == "the text cannot be encoded: no tokens for it"
    assert letter.value == records[1].value
    assert case.page.dead_letters == 2
    assert case.positions == [4]


def test_a_text_that_cannot_be_encoded_leaves_its_item_as_it_was(items_case):
    stored = put_item("a", "one", 0)
    case = items_case(Log({0: [stored]}))
    later = [
        put_item("a", "bad one", 1),
        put_item("b", "two", 2),
        put_item("b", "bad two", 3),
        put_item("b", "bad too", 4),
    ]
    case.log.idle[:0] = [lambda: case.log.partitions[0].extend(later)]

    case.run()

    assert case.titles() == ["one", "two"]
    assert sorted(case.letters.origins) == ["items/0/1", "items/0/3", "items/0/4"]
    assert case.positions == [1, 5]


def test_an_encoder_that_fails_for_every_text_ends_the_lane_and_dead_letters_nothing(items_case):
    case = items_case(Log({0: [put_item("a", "one", 0), put_item("b", "two", 1)]}))
    case.broken = EncoderError("it is closed")

    with pytest.raises(EncoderError, match="it is closed"):
        case.run()

    assert case.letters.origins == []
    assert case.positions == []


def test_an_encoder_that_is_away_is_waited_for(items_case):
    case = items_case(Log({0: [put_item("a", "one", 0)]}))
    case.broken = EncoderUnavailable("no library")
    opened = case.log.open

    def open_again(positions):
        if case.log.opened:
            case.broken = None
        return opened(positions)

    case.lane._open = open_again
    case.run()

    assert case.titles() == ["one"]
    assert case.letters.origins == []
