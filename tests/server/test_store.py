"""The state: one commit or nothing, seen at once by other processes."""

import subprocess
import sys

import lmdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankstream.server.errors import CorruptState, StateRefused
from rankstream.server.item_record import ItemRecord, item_id_of
from rankstream.server.store import Store
from rankstream.server.types import Head, Position

TOPIC, OTHER = b"0123456789abcdef", b"fedcba9876543210"
RECORD = ItemRecord(7, b"h" * 16, 1234, "film-ü", b"payload")


def test_a_new_state_is_empty(store):
    with store.read() as view:
        assert view.head() == Head(1, 0, 0, 0)
        assert view.positions() == ()
        assert view.item(1) is None
        assert view.setting("blocks") is None
        assert view.tombstones_after(0).tolist() == []
        assert view.count("items") == 0


def test_head_positions_and_settings_read_back(store):
    head = Head(3, 2**40, 17, 5)
    positions = [Position("items", OTHER, 0, 2**50), Position("events", TOPIC, 3, 9)]

    with store.write() as txn:
        txn.set_head(head)
        txn.advance(positions)
        txn.fix_setting("blocks", b"some", "do this")

    with store.read() as view:
        assert view.head() == head
        assert view.positions() == tuple(sorted(positions))
        assert view.setting("blocks") == b"some"


def test_advance_keeps_the_positions_that_it_does_not_name(store):
    first = [Position("events", TOPIC, p, 10 + p) for p in range(3)]
    with store.write() as txn:
        txn.advance(first)

    with store.write() as txn:
        txn.advance([Position("events", TOPIC, 1, 99), Position("items", OTHER, 0, 5)])

    with store.read() as view:
        assert [p.next_offset for p in view.positions()] == [10, 99, 12, 5]
    with store.write() as txn:
        txn.replace_positions(first[:1])
    with store.read() as view:
        assert list(view.positions()) == first[:1]


def test_a_fixed_setting_takes_no_other_value(store):
    with store.write() as txn:
        txn.fix_setting("fold_version", b"old", "do this")
        txn.fix_setting("fold_version", b"old", "do this")

        with pytest.raises(
            StateRefused, match="fold_version 'old', this server has 'new': do this"
        ):
            txn.fix_setting("fold_version", b"new", "do this")

    with store.read() as view:
        assert view.setting("fold_version") == b"old"


def test_a_slot_has_items_and_a_lane_of_its_own_and_shares_the_rest(store):
    at = [Position("events", TOPIC, 0, 5), Position("items", OTHER, 0, 6)]
    with store.write() as txn:
        txn.advance(at)
        txn.put("items", b"k" * 8, RECORD.pack())
        txn.put("users", b"ann", b"record")
        other = txn.of("b")
        other.set_head(Head(2, 1, 1, 1))
        other.advance([Position("items", OTHER, 0, 3)])

    with store.of("b").read() as view:
        assert view.head() == Head(2, 1, 1, 1)
        assert view.positions() == (at[0], Position("items", OTHER, 0, 3))
        assert view.count("items") == 0
        assert bytes(view.get("users", b"ann")) == b"record"
        assert view.of("a").positions() == tuple(at)
        assert view.of("a").head() == Head(1, 0, 0, 0)
        assert bytes(view.of("a").get("items", b"k" * 8)) == RECORD.pack()


def test_a_setting_of_a_generation_is_its_slots(store):
    with store.write() as txn:
        txn.fix_setting("blocks", b"one", "", "generation")
        txn.of("b").fix_setting("blocks", b"two", "", "generation")

    with store.read() as view:
        assert view.setting("blocks") is None
        assert view.setting("blocks", "generation") == b"one"
        assert view.of("b").setting("blocks", "generation") == b"two"


def test_some_of_a_database_is_cleared_from_its_beginning(store):
    with store.write() as txn:
        for n in range(5):
            txn.put("items", bytes([n]) * 8, b"value")

        assert txn.clear("items", 3) == 3
        assert [key[0] for key, _ in txn.items_from("items", b"")] == [3, 4]
        assert txn.clear("items", 3) == 2


def test_an_abort_leaves_nothing(store):
    class Failed(Exception):
        pass

    def fail():
        with store.write() as txn:
            txn.put("items", b"k" * 8, RECORD.pack())
            txn.set_head(Head(1, 2, 3, 4))
            txn.advance([Position("events", TOPIC, 0, 1)])
            assert txn.item(int.from_bytes(b"k" * 8, "little")) == RECORD
            raise Failed

    with pytest.raises(Failed):
        fail()

    with store.read() as view:
        assert view.head() == Head(1, 0, 0, 0)
        assert view.positions() == ()
        assert view.count("items") == 0


def test_a_reader_keeps_its_picture_while_a_commit_happens(store):
    with store.read() as view:
        with store.write() as txn:
            txn.set_head(Head(1, 5, 1, 5))

        assert view.head().rows == 0

    with store.read() as view:
        assert view.head().rows == 5


_READER = """
import sys
from pathlib import Path
from rankstream.server.store import Store

store = Store(Path(sys.argv[1]), map_size_gib=1, write=False)
for line in sys.stdin:
    with store.read() as view:
        print(view.head().rows, [p.next_offset for p in view.positions()], flush=True)
"""


def test_another_process_sees_a_commit_at_once(tmp_path, store):
    reader = subprocess.Popen(
        [sys.executable, "-c", _READER, str(tmp_path / "state")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with reader:
        for rows in (1, 2):
            with store.write() as txn:
                txn.set_head(Head(1, rows, rows, rows))
                txn.advance([Position("events", TOPIC, 0, 10 * rows)])
            reader.stdin.write("\n")
            reader.stdin.flush()
            assert reader.stdout.readline() == f"{rows} [{10 * rows}]\n"
        reader.stdin.close()
    assert reader.returncode == 0


def test_readers_whose_process_died_are_reaped(tmp_path, store):
    script = _READER.replace(
        "for line", "view = store.read().__enter__()\nimport os\nos._exit(0)\nfor line"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "state")], check=True)

    assert store.reap_readers() == 1
    assert store.reap_readers() == 0


def test_a_reader_cannot_write_and_needs_a_state(tmp_path, store):
    with pytest.raises(lmdb.Error):
        Store(tmp_path / "nothing", map_size_gib=1, write=False)
    store.close()
    reader = Store(tmp_path / "state", map_size_gib=1, write=False)

    with pytest.raises(lmdb.ReadonlyError), reader.write():
        pass
    reader.close()
    store.__init__(tmp_path / "state", map_size_gib=1, write=True)


def test_get_many_answers_in_order_with_empty_for_what_is_not_there(store):
    with store.write() as txn:
        txn.put("recent", b"a", b"1")
        txn.put("recent", b"b", b"2")
        txn.delete("recent", b"c")

        assert [bytes(v) for v in txn.get_many("recent", [b"b", b"x", b"a"])] == [b"2", b"", b"1"]
        assert [(k, bytes(v)) for k, v in txn.items_from("recent", b"aa")] == [(b"b", b"2")]


def test_tombstones_are_found_by_version_across_byte_boundaries(store):
    with store.write() as txn:
        for version in (1, 255, 256, 65_536):
            txn.put("tombstones", version.to_bytes(8, "big"), np.array([version], "<i4").tobytes())

        assert txn.tombstones_after(0).tolist() == [1, 255, 256, 65_536]
        assert txn.tombstones_after(255).tolist() == [256, 65_536]
        assert txn.tombstones_after(65_536).tolist() == []


@given(
    st.builds(
        ItemRecord,
        st.integers(0, 2**31),
        st.binary(min_size=16, max_size=16),
        st.integers(0, 2**60),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
        st.binary(max_size=50),
    )
)
def test_an_item_record_reads_back(record):
    packed = record.pack()

    assert ItemRecord.unpack(packed) == ItemRecord.unpack(memoryview(packed)) == record
    assert item_id_of(memoryview(packed)) == record.item_id


@pytest.mark.parametrize(
    "damage",
    [
        lambda blob: b"",
        lambda blob: blob[:20],
        lambda blob: blob[:-1],
        lambda blob: blob + b"\0",
        lambda blob: blob.replace("ü".encode(), b"\xff\xff"),
    ],
)
def test_a_damaged_item_record_is_corrupt(store, damage):
    key = (9).to_bytes(8, "little")
    with store.write() as txn:
        txn.put("items", key, damage(RECORD.pack()))

    with store.read() as view, pytest.raises(CorruptState, match="an item record"):
        view.item(9)
