"""Codes on disk are those of the rows on disk, however they came there."""

import os

import numpy as np
import pytest

from rankstream.kernels.codes import code_items
from rankstream.server.catalog.code_file import CodePlaces
from rankstream.server.catalog.segments import (
    Segments,
    SegmentWriter,
    check_rows,
    generation_folder,
)
from rankstream.server.errors import CorruptState

OFFSETS = np.array([0, 9, 14], np.int64)
STRIDE, ROOM = 16, 300
RNG = np.random.default_rng(4)
ROWS = np.hstack([RNG.standard_normal((ROOM, 14)), np.zeros((ROOM, 2))]).astype(np.float32)
FACTS = np.empty((0, 2), np.uint64)


def open_writer(folder):
    return SegmentWriter(folder, 1, STRIDE, ROOM, 8, OFFSETS)


@pytest.fixture
def writer(tmp_path):
    made = open_writer(tmp_path)
    yield made
    made.close()


def put(writer, first, rows):
    keys = np.arange(len(rows), dtype=np.uint64)
    writer.append(first, rows, keys, ["n"] * len(rows), [FACTS] * len(rows))


def assert_codes(folder, count):
    """A reader finds the codes of the first rows; what is behind them may be anything."""
    segments = Segments(folder, 1, STRIDE, OFFSETS)
    found, wanted = segments.codes, code_items(ROWS[:count].copy(), OFFSETS)
    whole = 2 * (count // 64)
    assert found.row_count == ROOM
    for have, want in zip(found[:2], wanted[:2], strict=True):
        for name in ("codes", "scales", "errors"):
            pair = [as_rows(getattr(layer, name), layer)[:count] for layer in (have, want)]
            assert np.array_equal(*pair), name
        assert (have.tops[: len(want.tops)] >= want.tops).all()
        assert np.array_equal(have.tops[:whole], want.tops[:whole])


def as_rows(array, layer):
    """By row, whatever the array has of one."""
    tiles = len(layer.tops) // 2
    if array.dtype == np.uint8:
        return array.reshape(tiles, -1, 64, 4).transpose(0, 2, 1, 3).reshape(tiles * 64, -1)
    return array.reshape(tiles, 2, 64).transpose(0, 2, 1).reshape(tiles * 64, 2)


@pytest.mark.parametrize("ends", [[300], [1, 2, 63, 64, 65, 130, 300], [64, 128, 192], [100, 101]])
def test_appended_rows_have_their_codes(tmp_path, writer, ends):
    done = 0
    for end in ends:
        put(writer, done, ROWS[done:end])
        done = end
        assert_codes(tmp_path, done)


def test_a_writer_goes_on_where_another_stopped(tmp_path, writer):
    put(writer, 0, ROWS[:70])
    again = open_writer(tmp_path)
    put(again, 70, ROWS[70:90])
    again.close()

    assert_codes(tmp_path, 90)


def test_rows_that_were_never_counted_are_written_over(tmp_path, writer):
    put(writer, 0, ROWS[:70])
    # Larger than any: the tile's tops stay above what they would be, which is still a bound.
    put(writer, 70, 50.0 * ROWS[200:260])
    put(writer, 70, ROWS[70:100])

    assert_codes(tmp_path, 100)


def test_a_lost_or_shortened_file_is_refused(tmp_path, writer):
    put(writer, 0, ROWS[:70])
    path = generation_folder(tmp_path, 1) / "codes.bin"
    size = path.stat().st_size
    for left in (size - 1, 0):
        os.truncate(path, left)
        for opened in (open_writer, lambda folder: Segments(folder, 1, STRIDE, OFFSETS)):
            with pytest.raises(CorruptState, match=f"has {left} bytes, expected {size}"):
                opened(tmp_path)
    path.unlink()
    with pytest.raises(CorruptState, match="has 0 bytes"):
        open_writer(tmp_path)
    assert not path.exists()


@pytest.mark.parametrize("part", range(8))
def test_codes_that_are_not_the_rows_own_are_found_at_a_start(tmp_path, writer, part):
    put(writer, 0, ROWS[:70])
    keys = np.arange(30, dtype=np.uint64)
    counted = writer.append(70, ROWS[70:100], keys, ["n"] * 30, [FACTS] * 30)
    check_rows(writer.segments, 70, *counted)

    places = CodePlaces(ROOM, OFFSETS)
    start, a_tile = places.parts[part]
    with (generation_folder(tmp_path, 1) / "codes.bin").open("r+b") as file:
        file.seek(start + a_tile)
        file.write(b"\0" * a_tile)

    with pytest.raises(CorruptState, match="rows 70 to 99"):
        check_rows(writer.segments, 70, *counted)


def test_a_mapping_made_before_sees_what_comes(tmp_path, writer):
    early = Segments(tmp_path, 1, STRIDE, OFFSETS).codes
    put(writer, 0, ROWS[:100])

    late = Segments(tmp_path, 1, STRIDE, OFFSETS).codes
    assert all(np.array_equal(*pair) for pair in zip(early.arrays, late.arrays, strict=True))
    assert all(array.any() and not array.flags.writeable for array in early.arrays)


def test_the_codes_are_less_than_half_of_the_rows(tmp_path):
    stride = 448
    made = SegmentWriter(tmp_path, 1, stride, 6400, 8, np.array([0, 384, 448]))
    made.close()

    place = generation_folder(tmp_path, 1)
    share = (place / "codes.bin").stat().st_size / (place / "rows.f32").stat().st_size
    assert 0.44 < share < 0.46
