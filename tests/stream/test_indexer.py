"""Items to rows: what is encoded, what takes a new row, and what a commit leaves."""

import hashlib

import numpy as np
import pytest

from rankstream.proto.v1 import catalog_pb2
from rankstream.server.catalog.blocks import make_layout, normalise
from rankstream.server.catalog.segments import SegmentWriter, check_rows
from rankstream.server.config import Limits, Scoring
from rankstream.server.encoder.text import ItemTemplate, text_hash
from rankstream.server.facts import item_facts
from rankstream.server.store import Store
from rankstream.server.stream.checks import BadRecord
from rankstream.server.stream.indexer import ItemIndexer, ItemRecordIn, read_checksums
from rankstream.server.stream.item_codec import decode_item
from rankstream.server.types import Head, Position, item_key

TOPIC = b"items-topic-id.."
TEMPLATE = ItemTemplate.parse("{title}")
LAYOUT = make_layout(12, Scoring(vectors=""))


class Encoder:
    """Remembers its texts; a vector is a function of its text, and not normalised."""

    def __init__(self):
        self.asked = []

    def encode(self, texts):
        self.asked.append(texts)
        return np.array([vector_of(text) for text in texts], np.float32)


def vector_of(text):
    digest = hashlib.blake2b(text.encode(), digest_size=12).digest()
    return np.frombuffer(digest, np.uint8).astype(np.float32) - 100


class State:
    """A store, its segments and the indexer over them."""

    def __init__(self, folder, max_rows=8):
        self.store = Store(folder / "state", map_size_gib=1, write=True)
        self.segments = SegmentWriter(folder, 1, LAYOUT.stride, max_rows, 16)
        self.encoder = Encoder()
        self.indexer = ItemIndexer(self.store, self.segments, LAYOUT, self.encoder.encode)
        self.offset = 0

    def index(self, *records):
        self.offset += len(records)
        return self.indexer.index(list(records), Position("items", TOPIC, 0, self.offset))

    def commit(self, *records):
        commit = self.index(*records)
        with self.store.write() as txn:
            commit.apply(txn)
        commit.committed()
        return commit

    def read(self, item_id):
        with self.store.read() as view:
            return view.item(item_key(item_id))

    def head(self):
        with self.store.read() as view:
            return view.head()

    def row(self, item_id):
        return np.array(self.segments.segments.rows[self.read(item_id).row])

    def close(self):
        self.segments.close()
        self.store.close()


@pytest.fixture
def state(tmp_path):
    made = State(tmp_path)
    yield made
    made.close()


def upsert(item_id, title, at=5, **fields):
    payload = catalog_pb2.Item(item_id=item_id, title=title, **fields).SerializeToString()
    item = decode_item(None, payload, Limits(), (), TEMPLATE)
    return ItemRecordIn(item.key, item, payload, at)


def delete(item_id):
    return ItemRecordIn(item_key(item_id), None, b"", 5)


def test_a_new_item_gets_a_row_a_record_and_a_checksum(state):
    commit = state.commit(upsert("sea", "the sea", at=7), upsert("sky", "the sky"))

    record = state.read("sea")
    assert (record.row, record.updated_at_ms, record.item_id) == (0, 7, "sea")
    assert record.text_hash == text_hash("the sea")
    assert catalog_pb2.Item.FromString(record.payload).title == "the sea"
    assert state.head() == Head(1, 2, 1, 2)
    assert commit.appended[:2] == (0, 2)
    np.testing.assert_array_equal(state.row("sky")[:12], normalise(vector_of("the sky")[None])[0])
    assert state.segments.segments.keys[:2].tolist() == [item_key("sea"), item_key("sky")]
    assert state.segments.segments.id_ends[:2].tolist() == [3, 6]
    assert state.segments.segments.ids[:6].tobytes() == b"seasky"
    with state.store.read() as view:
        assert view.positions() == (Position("items", TOPIC, 0, 2),)
        for first, count, checksum in read_checksums(view):
            check_rows(state.segments.segments, first, count, checksum)


def test_an_unchanged_text_is_not_encoded_again(state):
    state.commit(upsert("sea", "the sea"), upsert("sky", "the sky"))
    before = state.row("sea")

    state.commit(upsert("sea", "the sea", brand="new"), upsert("sky", "other"))

    assert state.encoder.asked == [["the sea", "the sky"], ["other"]]
    after = state.row("sea")
    assert after[:12].tobytes() == before[:12].tobytes()
    assert after.tobytes() != before.tobytes()


def test_a_change_that_no_block_sees_keeps_the_row(state):
    state.commit(upsert("sea", "the sea"))

    commit = state.commit(upsert("sea", "the sea", at=9, description="not in the template"))

    assert commit.appended is None
    assert state.encoder.asked == [["the sea"]]
    assert (state.read("sea").row, state.read("sea").updated_at_ms) == (0, 9)
    assert (state.head().rows, state.head().catalogue_version) == (1, 2)
    with state.store.read() as view:
        assert view.tombstones_after(0).tolist() == []


def test_a_changed_fact_takes_a_new_row_with_the_same_vector(state):
    state.commit(upsert("sea", "the sea", price=3.0), upsert("sky", "the sky"))
    before = state.row("sea")

    # In the same bucket of prices, so that no block changes.
    state.commit(upsert("sea", "the sea", price=3.25))

    assert state.encoder.asked == [["the sea", "the sky"]]
    assert state.read("sea").row == 2
    assert state.row("sea").tobytes() == before.tobytes()
    kept = state.segments.segments
    assert kept.facts_of(0).tolist() == item_facts("", "", (), 3.0, {}).tolist()
    assert kept.facts_of(1).tolist() == []
    assert kept.facts_of(2).tolist() == item_facts("", "", (), 3.25, {}).tolist()
    with state.store.read() as view:
        assert view.tombstones_after(1).tolist() == [0]


def test_facts_in_another_order_keep_the_row(state):
    state.commit(upsert("sea", "the sea", tags=["a", "b"]))

    commit = state.commit(upsert("sea", "the sea", tags=["b", "a", "b"]))

    assert commit.appended is None


def test_a_changed_item_takes_a_new_row_and_leaves_the_old_as_it_is(state):
    state.commit(upsert("sea", "the sea"), upsert("sky", "the sky"))
    old = state.row("sea")

    state.commit(upsert("sea", "another sea"))

    assert state.read("sea").row == 2
    np.testing.assert_array_equal(state.segments.segments.rows[0], old)
    assert state.segments.segments.ids[:9].tobytes() == b"seaskysea"
    assert state.head() == Head(1, 3, 2, 2)
    with state.store.read() as view:
        assert view.tombstones_after(1).tolist() == [0]
        assert view.tombstones_after(2).tolist() == []


def test_a_deleted_item_is_gone_and_may_come_again(state):
    state.commit(upsert("sea", "the sea"))

    state.commit(delete("sea"), delete("never"))

    assert state.read("sea") is None
    assert (state.head().items, state.head().rows) == (0, 1)
    state.commit(upsert("sea", "the sea"))
    assert state.read("sea").row == 1
    assert state.encoder.asked == [["the sea"], ["the sea"]]
    assert state.head().items == 1


def test_deleting_what_is_not_there_moves_the_position_alone(state):
    state.commit(delete("never"))

    assert state.head().catalogue_version == 0
    with state.store.read() as view:
        assert [p.next_offset for p in view.positions()] == [1]


def test_a_commit_may_be_applied_again_after_an_abort(state):
    class Failed(Exception):
        pass

    commit = state.index(upsert("sea", "the sea"))

    def fail():
        with state.store.write() as txn:
            commit.apply(txn)
            raise Failed

    with pytest.raises(Failed):
        fail()
    assert state.head().rows == 0
    with state.store.write() as txn:
        commit.apply(txn)

    assert (state.head().rows, state.head().items) == (1, 1)


def test_rows_of_a_commit_that_was_lost_are_made_again(state):
    state.index(upsert("lost", "lost"))

    state.commit(upsert("sea", "the sea"))

    assert state.read("sea").row == 0
    assert state.segments.segments.keys[0] == item_key("sea")
    assert state.segments.segments.id_ends[0] == 3
    assert state.segments.segments.ids[:3].tobytes() == b"sea"


def test_a_full_generation_refuses(state):
    state.commit(*(upsert(f"i{n}", f"t{n}") for n in range(8)))

    with pytest.raises(OSError, match="9 rows do not fit"):
        state.index(upsert("more", "more"))

    assert state.head().rows == 8
    state.commit(upsert("i3", "t3"))
    assert state.head().rows == 8


def test_an_item_without_text_or_attributes_is_stored(state):
    state.commit(upsert("sea", ""))

    assert state.encoder.asked == [[""]]
    assert state.read("sea").row == 0


def test_another_item_with_the_same_key_is_refused(state):
    state.commit(upsert("sea", "the sea"))
    key, other = item_key("sea"), upsert("sky", "the sky")

    with pytest.raises(BadRecord, match="'sky' has the 64-bit key of 'sea'"):
        state.indexer.check_collision(key, other.item, None)
    with pytest.raises(BadRecord, match="'sky' has the 64-bit key of 'moon'"):
        state.indexer.check_collision(key, other.item, upsert("moon", "m"))
    state.indexer.check_collision(key, upsert("sea", "again").item, None)
    state.indexer.check_collision(key, None, None)


def test_waiting_ends_with_the_commit(state):
    commit = state.index(upsert("sea", "the sea"))
    commit.committed()

    commit.wait()
