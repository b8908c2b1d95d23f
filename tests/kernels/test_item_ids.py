import contextlib
import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankstream.kernels import (
    BadItemId,
    ItemIds,
    KernelArgumentError,
    KeyTable,
    distinct_keys,
    item_ids,
    key_table,
    read_item_ids,
)

STEADY = settings(derandomize=True, database=None, deadline=None, max_examples=100)
MAX_BYTES = 60
SOME_IDS = st.lists(st.text(min_size=1, max_size=12) | st.sampled_from(["a", "é-1", "b" * 40]))


def varint(value):
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number, kind, payload):
    return varint(number << 3 | kind) + payload


def text_field(number, text):
    return field(number, 2, varint(len(text)) + text)


def wire_of(ids):
    return b"".join(text_field(1, text) for text in ids)


def encoded(ids):
    return [text.encode() for text in ids]


def texts_of(ids):
    whole = ids.text.tobytes()
    return [whole[start:stop] for start, stop in zip(ids.starts, ids.stops, strict=True)]


def key_of(text):
    digest = hashlib.blake2b(text, digest_size=8, person=b"item").digest()
    return int.from_bytes(digest, "little")


def assert_read(wire, given_ids):
    ids = read_item_ids(wire, MAX_BYTES)
    assert isinstance(ids, ItemIds)
    want = list(dict.fromkeys(given_ids))
    assert texts_of(ids) == want
    assert ids.keys.tolist() == [key_of(text) for text in want]
    assert ids.given == len(given_ids)


UNKNOWN = {
    "a varint": field(2, 0, varint(2**64 - 1)),
    "item ids as a varint": field(1, 0, varint(10)),
    "eight bytes": field(3, 1, b"\n\1a\n\1b\n\1"),
    "a text": text_field(2, b"\n\1x"),
    "an empty text": text_field(2, b""),
    "a long number": text_field(2**29 - 1, b"x"),
    "a group": field(4, 3, text_field(1, b"inside") + field(4, 4, b"")),
    "groups in groups": field(4, 3, field(5, 3, wire_of([b"x"]) + field(5, 4, b"")) + b"\x24"),
    "four bytes": field(3, 5, b"\n\2ab"),
}


@STEADY
@given(SOME_IDS, st.data())
def test_equals_a_plain_reading(ids, data):
    ids, wire = encoded(ids), b""
    for text in ids:
        wire += b"".join(data.draw(st.lists(st.sampled_from([*UNKNOWN.values()]), max_size=1)))
        wire += text_field(1, text)
    assert_read(wire, ids)


@pytest.mark.parametrize("unknown", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_skips_unknown_fields(unknown):
    assert_read(unknown, [])
    assert_read(unknown + wire_of([b"a"]) + unknown + wire_of([b"b"]) + unknown, [b"a", b"b"])


def test_no_ids():
    assert_read(b"", [])


def test_keeps_the_first_of_each_id():
    assert_read(wire_of([b"b", b"a", b"b", b"c", b"a", b"b"]), [b"b", b"a", b"b", b"c", b"a", b"b"])


def test_ten_thousand_ids_half_of_them_twice():
    ids = [b"item-%06d" % (i * 7919 % 5000) for i in range(10_000)]
    assert_read(wire_of(ids), ids)


def test_different_ids_of_one_key_are_both_kept():
    text = np.frombuffer(b"abcdefgh-1abcdefgh-2abcdefgh-1abc", np.uint8)
    starts, stops = np.array([0, 10, 20, 30]), np.array([10, 20, 30, 33])
    keys = np.full(4, 7, np.uint64)
    assert item_ids._drop_repeats(text, starts, stops, keys, np.uint64(0)) == 3
    assert starts[:3].tolist() == [0, 10, 30]
    assert stops[:3].tolist() == [10, 20, 33]


@pytest.mark.parametrize(
    ("ids", "bad"),
    [
        (["a", "", "c"], BadItemId(1, 0)),
        (["", ""], BadItemId(0, 0)),
        (["a" * 60, "é" * 31, ""], BadItemId(1, 62)),
        (["a", "a", "b" * 300], BadItemId(2, 300)),
    ],
)
def test_names_the_first_bad_id(ids, bad):
    assert read_item_ids(wire_of(encoded(ids)), MAX_BYTES) == bad


def test_a_wire_cut_anywhere_is_read_or_refused():
    wire = b"".join(UNKNOWN.values()) + wire_of([b"abc", b"x" * 50]) + UNKNOWN["groups in groups"]
    whole = 0
    for size in range(len(wire) + 1):
        with contextlib.suppress(KernelArgumentError):
            read_item_ids(wire[:size], MAX_BYTES)
            whole += 1
    assert whole == len(UNKNOWN) + 2 + 1 + 1  # the ends of fields, and the empty wire


@pytest.mark.parametrize(
    "wire",
    [
        b"\x0a",
        b"\x0a\x02a",
        field(1, 2, varint(2**64 - 1) + b"a"),
        field(1, 2, varint(2**63) + b"a"),
        field(1, 2, b"\x80" * 11),
        field(2, 0, b"\xff" * 10 + b"\1"),
        field(0, 0, b"\1"),
        field(2, 6, b""),
        field(2, 7, b""),
        field(2, 1, b"1234567"),
        field(2, 5, b"123"),
        field(2, 3, b""),
        field(2, 4, b""),
    ],
)
def test_refuses_what_is_no_message(wire):
    good = wire_of([b"a"])
    with pytest.raises(KernelArgumentError, match="wire: is malformed from byte [3-9]"):
        read_item_ids(good + wire, MAX_BYTES)


@STEADY
@given(st.binary(max_size=80))
def test_random_bytes_are_read_or_refused(wire):
    try:
        ids = read_item_ids(wire, MAX_BYTES)
    except KernelArgumentError:
        return
    if isinstance(ids, ItemIds):
        assert all(0 < len(text) <= MAX_BYTES for text in texts_of(ids))


@STEADY
@given(st.lists(st.integers(0, 9) | st.integers(0, 2**64 - 1)))
def test_distinct_keys_equals_a_dict(keys):
    have = distinct_keys(np.array(keys, np.uint64))
    assert have.dtype == np.uint64
    assert have.tolist() == list(dict.fromkeys(keys))


def catalogue(names):
    """A table of every name's row, the names end to end, and where each ends."""
    keys = np.array([key_of(name) for name in names], np.uint64)
    table = KeyTable()
    table.insert(keys, np.arange(len(names), dtype=np.int32))
    ends = np.cumsum([len(name) for name in names], dtype=np.int64)
    return table, np.frombuffer(b"".join(names), np.uint8), ends


def find(table, asked, names, ends):
    ids = read_item_ids(wire_of(asked), MAX_BYTES)
    rows = table.find(ids, names, ends)
    assert rows.dtype == np.int32
    return rows.tolist()


@STEADY
@given(SOME_IDS, SOME_IDS)
def test_finds_rows_as_a_dict_does(stored, asked):
    stored, asked = list(dict.fromkeys(encoded(stored))), list(dict.fromkeys(encoded(asked)))
    asked += [name for name in stored[::2] if name not in asked]
    table, names, ends = catalogue(stored)
    rows = {name: row for row, name in enumerate(stored)}
    assert find(table, asked, names, ends) == [rows.get(name, -1) for name in asked]


def test_finds_names_of_every_length():
    stored = [b"%02d" % n + b"x" * n for n in range(50)]
    table, names, ends = catalogue(stored)
    assert find(table, stored, names, ends) == list(range(50))


@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 17, 40])
def test_a_collision_is_a_missing_item(length):
    asked = bytes(range(65, 65 + length))
    keys = np.array([key_of(asked)], np.uint64)
    for at in range(length):
        other = asked[:at] + b"!" + asked[at + 1 :]
        table, names, ends = catalogue([b"first", other, b"last"])
        table.insert(keys, np.array([1], np.int32))
        assert find(table, [asked, b"last"], names, ends) == [-1, 2]
    table, names, ends = catalogue([b"first", asked + b"!", asked[1:], b"last"])
    for row in (1, 2):
        table.insert(keys, np.array([row], np.int32))
        assert find(table, [asked, b"last"], names, ends) == [-1, 3]


def test_rows_that_are_deleted_or_have_no_name_are_missing():
    table, names, ends = catalogue([b"a", b"b", b"c"])
    table.insert(np.array([key_of(b"a")], np.uint64), np.array([-1], np.int32))
    assert find(table, [b"a", b"b", b"c"], names, ends[:2]) == [-1, 1, -1]
    assert find(table, [b"b", b"c"], names[:2], ends) == [1, -1]


def test_arrays_that_can_be_written_are_no_second_signature():
    table, names, ends = catalogue([b"a"])
    kernels = item_ids._read, item_ids._distinct, key_table.find_named
    counts = []
    for copy in (False, True):
        asked = wire_of([b"a"])
        ids = read_item_ids(asked, MAX_BYTES)
        distinct_keys(ids.keys.copy() if copy else ids.keys)
        table.find(ids, names.copy() if copy else names, ends)
        counts.append([len(kernel.signatures) for kernel in kernels])
    assert counts[0] == counts[1]
