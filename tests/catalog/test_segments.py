"""The catalogue on disk: appended, synced, checked, never rewritten."""

import itertools

import crc32c
import numpy as np
import pytest

from rankstream.server.catalog.segments import (
    FACTS_A_ROW,
    Segments,
    SegmentWriter,
    check_rows,
    generation_folder,
)
from rankstream.server.errors import CorruptState

STRIDE = 16
ROOM, ID_BYTES = 100, 40
ENDS_AT, FACT_ENDS_AT, FACTS_AT = ROOM * 8, ROOM * 16, ROOM * 24
IDS_AT = FACTS_AT + ROOM * FACTS_A_ROW * 16


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
        [facts_of(n) for n in numbers],
    )


def facts_of(number):
    """None to three."""
    facts = [(5, number), (7, number), (7, 1 << 63)]
    return np.array(facts[: number % 4], np.uint64).reshape(-1, 2)


def facts_in(segments, rows):
    """Read as a worker does."""
    ends = [0, *segments.fact_ends[:rows].tolist()]
    return [segments.facts[a:b].tolist() for a, b in itertools.pairwise(ends)]


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

    rows, keys, ids, facts = rows_from(0, 44)
    for mapped in (reader, writer.segments):
        np.testing.assert_array_equal(mapped.rows[:44], rows)
        np.testing.assert_array_equal(mapped.keys[:44], keys)
        assert ids_of(mapped, 44) == ids
        assert facts_in(mapped, 44) == [f.tolist() for f in facts]
        assert mapped.facts_of(7).tolist() == facts[7].tolist()
        assert mapped.capacity == ROOM
        assert mapped.rows.shape == (ROOM, STRIDE)
        assert mapped.id_ends.shape == (ROOM,)
        assert mapped.ids.shape == (ROOM * ID_BYTES,)
        assert mapped.fact_ends.shape == (ROOM,)
        assert mapped.facts.shape == (ROOM * FACTS_A_ROW, 2)


def test_keys_and_ends_are_contiguous_for_the_kernels(writer):
    segments = writer.segments

    by_row = (segments.rows, segments.keys, segments.id_ends, segments.fact_ends)
    for array in (*by_row, segments.facts, segments.ids):
        assert array.flags.c_contiguous
        assert array.flags.aligned


def test_an_append_leaves_every_byte_before_it(tmp_path, writer):
    writer.append(0, *rows_from(0, 30))
    place = generation_folder(tmp_path, 1)
    id_bytes = sum(len(name.encode()) for name in rows_from(0, 30)[2])
    fact_bytes = sum(f.nbytes for f in rows_from(0, 30)[3])
    parts = (
        ("rows.f32", 0, 30 * STRIDE * 4, ROOM * STRIDE * 4),
        ("about.bin", 0, 30 * 8, ENDS_AT),
        ("about.bin", ENDS_AT, ENDS_AT + 30 * 8, FACT_ENDS_AT),
        ("about.bin", FACT_ENDS_AT, FACT_ENDS_AT + 30 * 8, FACTS_AT),
        ("about.bin", FACTS_AT, FACTS_AT + fact_bytes, IDS_AT),
        ("about.bin", IDS_AT, IDS_AT + id_bytes, IDS_AT + ROOM * ID_BYTES),
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

    with pytest.raises(OSError, match=r"101 rows do not fit .* of 100: .*--max-rows"):
        writer.append(99, *rows_from(99, 2))

    assert not writer.segments.rows[99].any()
    assert writer.append(99, *rows_from(99, 1))[0] == 1


def test_ids_longer_than_the_generation_was_made_for_are_refused(writer):
    rows, keys, _, facts = rows_from(0, 50)
    writer.append(0, rows, keys, ["a" * (2 * ID_BYTES)] * 50, facts)

    with pytest.raises(OSError, match=r"4001 bytes do not .* 4000: .*--max-id-bytes"):
        writer.append(50, *rows_from(50, 1)[:2], ["b"], [facts_of(50)])

    assert not writer.segments.keys[50]


def test_more_facts_than_the_generation_was_made_for_are_refused(writer):
    many = np.ones((FACTS_A_ROW * 2, 2), np.uint64)
    writer.append(0, *rows_from(0, 50)[:3], [many] * 50)
    rows, keys, ids, _ = rows_from(50, 1)

    with pytest.raises(OSError, match=r"25601 facts do not .* 25600: .*--max-rows"):
        writer.append(50, rows, keys, ids, [many[:1]])

    assert not writer.segments.keys[50]
    writer.append(50, rows, keys, ids, [many[:0]])
    assert writer.segments.fact_ends[50] == writer.segments.fact_ends[49] == 25_600


def test_ids_of_no_bytes_leave_the_end_where_it_was(writer):
    none = [facts_of(0)] * 2
    writer.append(0, *rows_from(0, 2)[:2], ["", "a"], none)
    writer.append(2, *rows_from(2, 2)[:2], ["", ""], none)

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
    (generation_folder(tmp_path, 1) / "about.bin").unlink()

    again = SegmentWriter(tmp_path, 1, STRIDE, 2 * ROOM, ID_BYTES)

    assert len(again.segments.keys) == len(again.segments.rows) == ROOM
    again.close()


def test_rows_of_a_lost_commit_are_written_again_in_their_place(writer):
    kept = writer.append(0, *rows_from(0, 2))
    longer = ["longer than what comes in its place"], [facts_of(3)]
    writer.append(2, *rows_from(2, 1)[:2], *longer)
    writer.append(2, *rows_from(50, 4))

    counted = writer.append(2, *rows_from(2, 3))

    check_rows(writer.segments, 0, *kept)
    check_rows(writer.segments, 2, *counted)
    np.testing.assert_array_equal(writer.segments.rows[:5], rows_from(0, 5)[0])
    assert ids_of(writer.segments, 5) == rows_from(0, 5)[2]
    assert facts_in(writer.segments, 5) == [facts_of(n).tolist() for n in range(5)]


@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_whatever_a_power_loss_leaves_behind_the_counted_rows_is_written_over(
    tmp_path, writer, fill
):
    kept = writer.append(0, *rows_from(0, 3))
    writer.append(3, *rows_from(60, 5))
    writer.close()
    place = generation_folder(tmp_path, 1)
    id_bytes = sum(len(name.encode()) for name in rows_from(0, 3)[2])
    fact_bytes = sum(f.nbytes for f in rows_from(0, 3)[3])
    for name, start, end in (
        ("rows.f32", 3 * STRIDE * 4, ROOM * STRIDE * 4),
        ("about.bin", 3 * 8, ENDS_AT),
        ("about.bin", ENDS_AT + 3 * 8, FACT_ENDS_AT),
        ("about.bin", FACT_ENDS_AT + 3 * 8, FACTS_AT),
        ("about.bin", FACTS_AT + fact_bytes, IDS_AT),
        ("about.bin", IDS_AT + id_bytes, IDS_AT + ROOM * ID_BYTES),
    ):
        with (place / name).open("r+b") as file:
            file.seek(start)
            file.write(fill * (end - start))

    again = SegmentWriter(tmp_path, 1, STRIDE, ROOM, ID_BYTES)
    counted = again.append(3, *rows_from(3, 4))

    check_rows(again.segments, 0, *kept)
    check_rows(again.segments, 3, *counted)
    assert ids_of(again.segments, 7) == rows_from(0, 7)[2]
    assert facts_in(again.segments, 7) == [facts_of(n).tolist() for n in range(7)]
    again.close()
    writer.__init__(tmp_path, 1, STRIDE, ROOM, ID_BYTES)


def test_the_checksum_is_of_all_that_is_written(writer):
    writer.append(0, *rows_from(1, 1))
    rows, keys, _, _ = rows_from(2, 3)

    facts = [facts_of(n) for n in (3, 0, 1)]
    _, checksum = writer.append(1, rows, keys, ["a", "", "üb"], facts)

    # The row before has an id of five bytes, and one fact.
    ends = [np.array(e, "<i8").tobytes() for e in ([6, 6, 9], [4, 4, 5])]
    texts = (np.concatenate(facts).tobytes(), "aüb".encode())
    assert checksum == crc32c.crc32c(b"".join((rows.tobytes(), keys.tobytes(), *ends, *texts)))


def test_files_are_given_disk_before_they_are_written(tmp_path):
    wide = SegmentWriter(tmp_path, 3, 1 << 18, 20, 1 << 20)
    place = generation_folder(tmp_path, 3)
    assert (place / "rows.f32").stat().st_blocks < 64

    # Rows of 1 MiB: over the bound of a step of 4 MiB, to the end of the file, which ends a step.
    for first, count, given in ((0, 5, 8), (5, 14, 20), (19, 1, 20)):
        rows = np.full((count, 1 << 18), first + 1, np.float32)
        keys, ids = np.arange(count, dtype=np.uint64), ["n" * 900_000] * count
        wide.append(first, rows, keys, ids, [facts_of(3)] * count)
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
        ("about.bin", 9),
        *(("about.bin", ENDS_AT + byte) for byte in (0, 7, 15, 17, 23)),
        *(("about.bin", FACT_ENDS_AT + byte) for byte in (0, 7, 15, 17, 23)),
        *(("about.bin", FACTS_AT + byte) for byte in (0, 15, 47)),
        ("about.bin", IDS_AT),
        ("about.bin", IDS_AT + 14),
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
