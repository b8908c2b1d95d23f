"""Stored values: their sizes, and that what does not read back is refused."""

import numpy as np
import pytest
from profile_memory import MemoryProfiles, settings_of
from profile_oracle import Caps, Logged

from rankstream.kernels.history import group
from rankstream.server.errors import CorruptState
from rankstream.server.profiles.interaction import EVENT, RECORD
from rankstream.server.profiles.layout import HEADER, read_header

CAPS = Caps(history=4, seen=8)


def a_store(events=12):
    store = MemoryProfiles(settings_of(CAPS, recent_cap=3))
    return store.fold_all([[Logged(0, i, i, i)] for i in range(events)])


def test_the_units_are_32_bytes():
    assert (RECORD.itemsize, HEADER.itemsize, EVENT.itemsize) == (32, 32, 40)


def test_a_header_reads_back():
    store = a_store()

    header = read_header(store.recent[0])

    assert header.layout == 1
    assert header.settled * 32 == len(store.settled[0])
    assert header.archived * 32 == sum(map(len, store.archive(0)))
    assert header.chunks == len(store.archive(0))


def test_no_value_reads_as_an_unknown_user():
    header = read_header(b"")

    assert (header.watermark_ms, header.updated_at_ms, header.archive_max_ms) == (-1, -1, -1)
    assert (header.settled, header.archived, header.chunks) == (0, 0, 0)


@pytest.mark.parametrize("length", [1, 31, 33, 32, 32 * 8])
def test_a_truncated_recent_value_is_refused(length):
    store = a_store()
    store.recent[0] = store.recent[0][:length]

    with pytest.raises(CorruptState, match="expected"):
        store.profile(0)
    with pytest.raises(CorruptState, match="expected"):
        store.fold([Logged(0, 99, 99)])


def test_another_layout_is_refused():
    store = a_store()
    store.recent[0] = store.recent[0][:24] + b"\x02" + store.recent[0][25:]

    with pytest.raises(CorruptState, match="layout 2; expected layout 1"):
        store.profile(0)


@pytest.mark.parametrize("settled", [b"", b"x", bytes(32), bytes(32 * 5)])
def test_settled_records_that_the_header_does_not_announce_are_refused(settled):
    store = a_store()
    store.settled[0] = settled

    with pytest.raises(CorruptState, match="settled value of user 0|stored value 0"):
        store.profile(0)


def test_a_missing_archive_chunk_is_refused():
    store = a_store()
    del store.chunks[0, 0]

    with pytest.raises(CorruptState, match="archive of user 0 of 1 has"):
        store.seen_targets(0)
    with pytest.raises(CorruptState, match="archive of user 0 of 1 has"):
        store.fold([Logged(0, 0, 0)])


def test_one_corrupt_user_is_named():
    store = a_store()
    store.recent[1] = b"123"

    with pytest.raises(CorruptState, match="stored value 1 of 2 has 3 bytes"):
        store.fold([Logged(0, 90, 90), Logged(1, 91, 90)])


def test_grouping_is_stable_and_complete():
    owners = np.random.default_rng(0).integers(0, 50, 2_000).astype(np.int32)

    order, offsets = group(owners, 50)

    assert order.tolist() == np.argsort(owners, kind="stable").tolist()
    assert offsets.tolist() == np.searchsorted(np.sort(owners), np.arange(51)).tolist()
