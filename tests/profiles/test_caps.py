"""The caps at their real sizes, exactly at and over the edge."""

import random

import pytest
from profile_memory import MemoryProfiles, settings_of
from profile_oracle import RESET, Caps, Counters, Logged, profile_bytes, seen_bytes

CAPS = Caps(bucket_ms=1_000)


def clicks(count, user=0, first=0, type="click"):
    return [Logged(user, 10**6 + first + i, first + i, i % 97, type) for i in range(count)]


def folded(*batches, caps=CAPS):
    return MemoryProfiles(settings_of(caps)).fold_all(batches)


def in_batches(log, size):
    return [log[i : i + size] for i in range(0, len(log), size)]


@pytest.mark.parametrize("count", [1, 29, 30, 31, 254, 255, 256, 286, 600])
@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_a_history_keeps_the_latest_255(count, size):
    log = clicks(count)

    store = folded(*in_batches(log, size))

    assert len(store.profile(0).interactions) == min(count, 255)
    assert store.profile_bytes(0) == profile_bytes(CAPS, log, 0)


def test_settled_records_fill_two_overflow_pages_at_most():
    store = folded(*in_batches(clicks(600), 10))

    assert len(store.settled[0]) == 255 * 32 <= 2 * 4096 - 16


@pytest.mark.parametrize("count", [4_095, 4_096, 4_097, 5_500])
def test_a_seen_set_keeps_the_latest_4096(count):
    log = clicks(count, type="impression")
    log = random.Random(count).sample(log, count)

    store = folded(*in_batches(log, 500))

    assert len(store.seen_bytes(0)) == 32 * min(count, 4_096)
    assert store.seen_bytes(0) == seen_bytes(CAPS, log, 0)
    assert store.counted() == {}


def test_one_hot_user_fills_a_whole_batch():
    log = random.Random(1).sample(clicks(8_000), 8_000)

    store = folded(log)

    assert store.profile_bytes(0) == profile_bytes(CAPS, log, 0)
    assert store.seen_bytes(0) == seen_bytes(CAPS, log, 0)
    assert sum(store.counted().values()) == 8_000


def test_late_duplicates_of_all_that_is_retained_are_not_counted():
    log = clicks(4_096)
    store = folded(*in_batches(log, 300))

    for batch in in_batches(log[::-1], 512):
        store.fold(batch)

    assert store.counted() == Counters(CAPS).fold(log)


def test_appending_equals_merging():
    log = clicks(400)

    appended, merged = folded(*in_batches(log, 9)), folded(*in_batches(log[::-1], 9))

    assert appended.profile_bytes(0) == merged.profile_bytes(0)
    assert appended.seen_bytes(0) == merged.seen_bytes(0)
    assert appended.counted() == merged.counted()


def test_the_common_event_reads_neither_settled_nor_archive():
    store = folded(*in_batches(clicks(600), 10))
    reads = [store.fold(clicks(1, first=10_000 + i))[1] for i in range(15)]

    assert sum(r["settled"] for r in reads) <= 2
    assert sum(r["archive"] for r in reads) == 0


def test_purging_leaves_no_byte_of_what_it_purges():
    log = clicks(1_000) + clicks(60, first=2_000, type="impression")
    store = folded(*in_batches(log, 40))

    store.fold([Logged(0, 0, 1_500, type=RESET)])

    stored = store.stored_bytes()
    assert not any(r.key.to_bytes(8, "little") in stored for r in log if r.time <= 1_500)
    assert len(store.seen_bytes(0)) == 32 * 60
    assert store.profile(0).interactions == ()
    assert store.profile(0).watermark_ms == 1_500


def test_a_rewritten_archive_repeats_nothing_that_is_stored_elsewhere():
    store = folded(*in_batches(clicks(1_000), 40))

    store.fold([Logged(0, 0, 499, type=RESET)])

    assert len(store.settled[0]) == 255 * 32
    assert sum(map(len, store.archive(0))) == (500 - 255) * 32


def test_an_archive_never_has_many_small_chunks():
    log = clicks(3_000, type="impression")
    store = MemoryProfiles(settings_of(CAPS, recent_cap=2))
    chunks = []

    for batch in in_batches(log, 20):
        store.fold(batch)
        chunks.append(len(store.archive(0)))

    assert 50 < max(chunks) <= 64 + 5_120 // 127
    assert store.seen_bytes(0) == seen_bytes(CAPS, log, 0)
