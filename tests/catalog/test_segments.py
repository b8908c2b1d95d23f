"""The matrix on disk: appended, synced, checked, never rewritten."""

import crc32c
import numpy as np
import pytest

from rankstream.server.catalog.segments import (
    Segments,
    SegmentWriter,
    check_rows,
    generation_folder,
)
from rankstream.server.errors import CorruptState, StateRefused

STRIDE = 16


@pytest.fixture
def writer(tmp_path):
    made = SegmentWriter(tmp_path, 1, STRIDE, 100)
    yield made
    made.close()


def rows_from(start, count):
    rows = np.arange(start * STRIDE, (start + count) * STRIDE, dtype=np.float32)
    return rows.reshape(count, STRIDE), np.arange(start, start + count, dtype=np.uint64) + 1000


def test_appended_rows_are_mapped_at_their_place(tmp_path, writer):
    reader = Segments(tmp_path, 1, STRIDE)

    for start, count in ((0, 3), (3, 1), (4, 40)):
        written, _ = writer.append(start, *rows_from(start, count))
        assert written == count

    rows, keys = rows_from(0, 44)
    for mapped in (reader, writer.segments):
        np.testing.assert_array_equal(mapped.rows[:44], rows)
        np.testing.assert_array_equal(mapped.keys[:44], keys)
        assert mapped.capacity == 100
        assert mapped.rows.shape == (100, STRIDE)


def test_an_append_leaves_every_byte_before_it(tmp_path, writer):
    writer.append(0, *rows_from(0, 30))
    place = generation_folder(tmp_path, 1)
    before = {name: (place / name).read_bytes() for name in ("rows.f32", "keys.u64")}

    writer.append(30, *rows_from(30, 20))

    for name, upto in (("rows.f32", 30 * STRIDE * 4), ("keys.u64", 30 * 8)):
        after = (place / name).read_bytes()
        assert after[:upto] == before[name][:upto]
        assert after[upto:] != before[name][upto:]


def test_mapped_rows_cannot_be_written(writer):
    with pytest.raises(ValueError, match="read-only"):
        writer.segments.rows[0, 0] = 1


def test_a_full_generation_refuses_and_writes_nothing(tmp_path, writer):
    writer.append(0, *rows_from(0, 99))

    with pytest.raises(StateRefused, match=r"101 rows do not fit .* of 100: .*--max-rows"):
        writer.append(99, *rows_from(99, 2))

    assert not writer.segments.rows[99].any()
    assert writer.append(99, *rows_from(99, 1))[0] == 1


def test_a_reopened_generation_keeps_its_rows_and_goes_on(tmp_path, writer):
    first = writer.append(0, *rows_from(0, 5))
    writer.close()

    again = SegmentWriter(tmp_path, 1, STRIDE, 100)
    again.append(5, *rows_from(5, 5))

    check_rows(again.segments, 0, *first)
    np.testing.assert_array_equal(again.segments.rows[:10], rows_from(0, 10)[0])
    again.close()
    # The fixture closes once more what this test closed.
    writer.__init__(tmp_path, 1, STRIDE, 100)


def test_rows_of_a_lost_commit_are_written_again_in_their_place(writer):
    writer.append(0, *rows_from(50, 4))

    counted = writer.append(0, *rows_from(0, 3))

    check_rows(writer.segments, 0, *counted)
    np.testing.assert_array_equal(writer.segments.rows[:3], rows_from(0, 3)[0])


def test_the_checksum_is_of_rows_and_then_keys(writer):
    rows, keys = rows_from(0, 3)

    _, checksum = writer.append(0, rows, keys)

    assert checksum == crc32c.crc32c(rows.tobytes() + keys.tobytes())


@pytest.mark.parametrize(
    ("name", "at"), [("rows.f32", 0), ("rows.f32", 3 * 64 - 1), ("keys.u64", 9)]
)
def test_one_flipped_bit_is_found(tmp_path, writer, name, at):
    counted = writer.append(0, *rows_from(0, 3))
    check_rows(writer.segments, 0, *counted)
    path = generation_folder(tmp_path, 1) / name

    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 4]))

    with pytest.raises(CorruptState, match="rows 0 to 2 of the catalogue differ"):
        check_rows(writer.segments, 0, *counted)


def test_a_checksum_beyond_the_files_is_corrupt(writer):
    with pytest.raises(CorruptState, match="rows 99 to 108"):
        check_rows(writer.segments, 99, 10, 0)


def test_generations_have_folders_of_their_own(tmp_path, writer):
    other = SegmentWriter(tmp_path, 2, STRIDE, 10)
    other.append(0, *rows_from(7, 1))

    assert not writer.segments.rows[0].any()
    assert other.segments.capacity == 10
    other.close()
