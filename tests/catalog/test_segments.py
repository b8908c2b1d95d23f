"""The catalogue on disk: appended, synced, checked, never rewritten."""

import itertools

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
ROOM, ID_BYTES = 100, 40
ENDS_AT, IDS_AT = ROOM * 8, ROOM * 16


@pytest.fixture
def writer(tmp_path):
    made = SegmentWriter(tmp_path, 1, STRIDE, ROOM, ID_BYTES)
    yield made
    made.close()


def rows_from(start, count):
    rows = np.arange(start * STRIDE, (start + count) * STRIDE, dtype=np.float32)
    numbers = range(start, start + count)
    return (
        rows.reshape(count, STRIDE),
        np.array([1000 + n for n in numbers], np.uint64),
        # One to three characters of two bytes, then the number.
        ["ü" * (1 + n % 3) + str(n) for n in numbers],
    )


def ids_of(segments, rows):
    """Read as a worker does: by the end of the row and of the one before."""
    ends = [0, *segments.id_ends[:rows].tolist()]
    raw = segments.ids.tobytes()
    return [raw[a:b].decode() for a, b in itertools.pairwise(ends)]


def test_appended_rows_are_mapped_at_their_place(tmp_path, writer):
    reader = Segments(tmp_path, 1, STRIDE)

    for start, count in ((0, 3), (3, 1), (4, 40)):
        written, _ = writer.append(start, *rows_from(start, count))
        assert written == count

    rows, keys, ids = rows_from(0, 44)
    for mapped in (reader, writer.segments):
        np.testing.assert_array_equal(mapped.rows[:44], rows)
        np.testing.assert_array_equal(mapped.keys[:44], keys)
        assert ids_of(mapped, 44) == ids
        assert mapped.capacity == ROOM
        assert mapped.rows.shape == (ROOM, STRIDE)
        assert mapped.id_ends.shape == (ROOM,)
        assert mapped.ids.shape == (ROOM * ID_BYTES,)


def test_keys_and_ends_are_contiguous_for_the_kernels(writer):
    segments = writer.segments

    for array in (segments.rows, segments.keys, segments.id_ends, segments.ids):
        assert array.flags.c_contiguous
        assert array.flags.aligned


def test_an_append_leaves_every_byte_before_it(tmp_path, writer):
    writer.append(0, *rows_from(0, 30))
    place = generation_folder(tmp_path, 1)
    id_bytes = sum(len(name.encode()) for name in rows_from(0, 30)[2])
    parts = (
        ("rows.f32", 0, 30 * STRIDE * 4, ROOM * STRIDE * 4),
        ("names.bin", 0, 30 * 8, ENDS_AT),
        ("names.bin", ENDS_AT, ENDS_AT + 30 * 8, IDS_AT),
        ("names.bin", IDS_AT, IDS_AT + id_bytes, IDS_AT + ROOM * ID_BYTES),
    )
    before = [(place / name).read_bytes() for name, *_ in parts]

    writer.append(30, *rows_from(30, 20))

    for (name, start, counted, end), old in zip(parts, before, strict=True):
        after = (place / name).read_bytes()
        assert len(after) == len(old)
        assert after[start:counted] == old[start:counted]
        assert after[counted:end] != old[counted:end]


def test_mapped_rows_cannot_be_written(writer):
    with pytest.raises(ValueError, match="read-only"):
        writer.segments.rows[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        writer.segments.ids[0] = 1


def test_a_full_generation_refuses_and_writes_nothing(tmp_path, writer):
    writer.append(0, *rows_from(0, 99))

    with pytest.raises(StateRefused, match=r"101 rows do not fit .* of 100: .*--max-rows"):
        writer.append(99, *rows_from(99, 2))

    assert not writer.segments.rows[99].any()
    assert writer.append(99, *rows_from(99, 1))[0] == 1


def test_ids_longer_than_the_generation_was_made_for_are_refused(writer):
    rows, keys, _ = rows_from(0, 50)
    writer.append(0, rows, keys, ["a" * (2 * ID_BYTES)] * 50)

    with pytest.raises(StateRefused, match=r"4001 bytes do not .* 4000: .*--max-id-bytes"):
        writer.append(50, *rows_from(50, 1)[:2], ["b"])

    assert not writer.segments.keys[50]


def test_ids_of_no_bytes_leave_the_end_where_it_was(writer):
    writer.append(0, *rows_from(0, 2)[:2], ["", "a"])
    writer.append(2, *rows_from(2, 2)[:2], ["", ""])

    assert ids_of(writer.segments, 4) == ["", "a", "", ""]


def test_a_reopened_generation_keeps_its_rows_and_goes_on(tmp_path, writer):
    first = writer.append(0, *rows_from(0, 5))
    writer.close()

    again = SegmentWriter(tmp_path, 1, STRIDE, ROOM, ID_BYTES)
    again.append(5, *rows_from(5, 5))

    check_rows(again.segments, 0, *first)
    np.testing.assert_array_equal(again.segments.rows[:10], rows_from(0, 10)[0])
    assert ids_of(again.segments, 10) == rows_from(0, 10)[2]
    again.close()
    # The fixture closes once more what this test closed.
    writer.__init__(tmp_path, 1, STRIDE, ROOM, ID_BYTES)


def test_other_limits_do_not_change_a_generation_that_is_there(tmp_path, writer):
    first = writer.append(0, *rows_from(0, 5))

    again = SegmentWriter(tmp_path, 1, STRIDE, 7, 9)

    assert again.segments.capacity == ROOM
    check_rows(again.segments, 0, *first)
    again.append(5, *rows_from(5, 5))
    assert ids_of(writer.segments, 10) == rows_from(0, 10)[2]
    again.close()


def test_a_generation_that_was_not_made_to_the_end_is_finished(tmp_path, writer):
    (generation_folder(tmp_path, 1) / "names.bin").unlink()

    again = SegmentWriter(tmp_path, 1, STRIDE, 2 * ROOM, ID_BYTES)

    assert len(again.segments.keys) == len(again.segments.rows) == ROOM
    again.close()


def test_rows_of_a_lost_commit_are_written_again_in_their_place(writer):
    kept = writer.append(0, *rows_from(0, 2))
    writer.append(2, *rows_from(2, 1)[:2], ["longer than what comes in its place"])
    writer.append(2, *rows_from(50, 4))

    counted = writer.append(2, *rows_from(2, 3))

    check_rows(writer.segments, 0, *kept)
    check_rows(writer.segments, 2, *counted)
    np.testing.assert_array_equal(writer.segments.rows[:5], rows_from(0, 5)[0])
    assert ids_of(writer.segments, 5) == rows_from(0, 5)[2]


@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_whatever_a_power_loss_leaves_behind_the_counted_rows_is_written_over(
    tmp_path, writer, fill
):
    kept = writer.append(0, *rows_from(0, 3))
    writer.append(3, *rows_from(60, 5))
    writer.close()
    place = generation_folder(tmp_path, 1)
    id_bytes = sum(len(name.encode()) for name in rows_from(0, 3)[2])
    for name, start, end in (
        ("rows.f32", 3 * STRIDE * 4, ROOM * STRIDE * 4),
        ("names.bin", 3 * 8, ENDS_AT),
        ("names.bin", ENDS_AT + 3 * 8, IDS_AT),
        ("names.bin", IDS_AT + id_bytes, IDS_AT + ROOM * ID_BYTES),
    ):
        with (place / name).open("r+b") as file:
            file.seek(start)
            file.write(fill * (end - start))

    again = SegmentWriter(tmp_path, 1, STRIDE, ROOM, ID_BYTES)
    counted = again.append(3, *rows_from(3, 4))

    check_rows(again.segments, 0, *kept)
    check_rows(again.segments, 3, *counted)
    assert ids_of(again.segments, 7) == rows_from(0, 7)[2]
    again.close()
    writer.__init__(tmp_path, 1, STRIDE, ROOM, ID_BYTES)


def test_the_checksum_is_of_rows_keys_ends_and_ids(writer):
    writer.append(0, *rows_from(0, 1))
    rows, keys, _ = rows_from(1, 3)

    _, checksum = writer.append(1, rows, keys, ["a", "", "üb"])

    ends = np.array([4, 4, 7], "<i8")
    parts = rows.tobytes() + keys.tobytes() + ends.tobytes() + "aüb".encode()
    assert checksum == crc32c.crc32c(parts)


def test_files_are_given_disk_before_they_are_written(tmp_path):
    wide = SegmentWriter(tmp_path, 3, 1 << 18, 20, 1 << 20)
    place = generation_folder(tmp_path, 3)
    assert (place / "rows.f32").stat().st_blocks < 64

    # Rows of 1 MiB: over the bound of a step of 4 MiB, to the end of the file, which ends a step.
    for first, count, given in ((0, 5, 8), (5, 14, 20), (19, 1, 20)):
        rows = np.full((count, 1 << 18), first + 1, np.float32)
        wide.append(first, rows, np.arange(count, dtype=np.uint64), ["n" * 900_000] * count)
        assert (place / "rows.f32").stat().st_blocks * 512 >= given << 20

    assert wide.segments.rows[:, 0].tolist() == [1] * 5 + [6] * 14 + [20]
    assert wide.segments.id_ends[-1] == 20 * 900_000
    assert (wide.segments.ids[: 20 * 900_000] == ord("n")).all()
    wide.close()


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("rows.f32", 0),
        ("rows.f32", 3 * 64 - 1),
        ("names.bin", 9),
        *(("names.bin", ENDS_AT + byte) for byte in (0, 7, 15, 17, 23)),
        ("names.bin", IDS_AT),
        ("names.bin", IDS_AT + 14),
    ],
)
def test_a_damaged_byte_is_found(tmp_path, writer, name, at):
    counted = writer.append(0, *rows_from(0, 3))
    check_rows(writer.segments, 0, *counted)
    path = generation_folder(tmp_path, 1) / name

    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 0x84]))

    with pytest.raises(CorruptState, match="rows 0 to 2 of the catalogue differ"):
        check_rows(writer.segments, 0, *counted)


def test_a_checksum_beyond_the_files_is_corrupt(writer):
    with pytest.raises(CorruptState, match="rows 99 to 108"):
        check_rows(writer.segments, 99, 10, 0)


def test_generations_have_folders_of_their_own(tmp_path, writer):
    other = SegmentWriter(tmp_path, 2, STRIDE, 10, ID_BYTES)
    other.append(0, *rows_from(7, 1))

    assert not writer.segments.rows[0].any()
    assert other.segments.capacity == 10
    other.close()
