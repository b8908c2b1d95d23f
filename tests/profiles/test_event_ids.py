"""One event_id is one interaction, and when its versions count."""

import pytest
from profile_memory import MemoryProfiles, settings_of
from profile_oracle import RESET, Caps, Counters, Logged

CAPS = Caps(history=3, seen=5, bucket_ms=100)


def folded(*batches, recent_cap=2, caps=CAPS):
    return MemoryProfiles(settings_of(caps, recent_cap)).fold_all(batches)


def kept(store, user=0):
    return [(i.event_key, i.event_time_ms, i.target_key) for i in store.profile(user).interactions]


@pytest.mark.parametrize("swap", [False, True])
def test_the_later_content_of_an_event_id_wins(swap):
    log = [Logged(0, 7, 10, target=1), Logged(0, 7, 250, target=2)]

    store = folded(*[[r] for r in (log[::-1] if swap else log)])

    assert kept(store) == [(7, 250, 2)]
    assert store.counted() == {(2, 2): 1}


@pytest.mark.parametrize("swap", [False, True])
def test_at_one_time_the_greater_bytes_win(swap):
    log = [Logged(0, 7, 10, target=2), Logged(0, 7, 10, target=2**63), Logged(0, 7, 10, target=9)]

    store = folded(log[::-1] if swap else log)

    assert kept(store) == [(7, 10, 2**63)]
    assert store.counted() == {(2**63, 0): 1}


def test_events_of_one_time_are_ordered_by_their_unsigned_keys():
    log = [Logged(0, key, 5) for key in (2**64 - 1, 0, 2**63, 1)]

    store = folded(log)

    assert [key for key, _, _ in kept(store)] == [2**64 - 1, 2**63, 1]


def test_an_event_id_in_two_users_is_two_interactions():
    store = folded([Logged(0, 7, 10, target=1), Logged(1, 7, 10, target=1)])

    assert kept(store, 0) == kept(store, 1) == [(7, 10, 1)]
    assert store.counted() == {(1, 0): 2}


def test_history_and_seen_set_each_have_their_own_version_of_an_event_id():
    store = folded([Logged(0, 7, 10, target=1), Logged(0, 7, 20, target=2, type="impression")])

    assert kept(store) == [(7, 10, 1)]
    assert store.seen_targets(0) == [1, 2]


@pytest.mark.parametrize("batches", [1, 5])
def test_duplicate_log_records_within_the_retained_set_are_harmless(batches):
    log = [Logged(0, key, key * 10, target=key) for key in range(5)]

    store = folded(log, *[log] * batches)

    assert store.counted() == {(key, 0): 1 for key in range(5)}


def test_the_documented_limit_a_duplicate_beyond_the_retained_set_counts_again():
    log = [Logged(0, key, key * 10, target=key) for key in range(6)]
    store = folded(log)
    before = store.profile_bytes(0), store.seen_bytes(0)

    store.fold(log)

    assert store.counted() == {(0, 0): 2} | {(key, 0): 1 for key in range(1, 6)}
    assert (store.profile_bytes(0), store.seen_bytes(0)) == before


def test_the_documented_limit_a_newer_version_of_what_left_the_history_counts_again():
    log = [Logged(0, key, key * 10, target=key) for key in range(5)]
    store = folded(log)

    store.fold([Logged(0, 0, 90, target=9)])

    assert store.counted() == {(key, 0): 1 for key in (0, 1, 2, 3, 4, 9)}
    assert store.seen_targets(0) == [1, 2, 3, 4, 9]


def test_the_documented_limit_a_reset_forgets_what_was_counted():
    event = Logged(0, 7, 10, target=1)
    store = folded([event], [Logged(0, 0, 50, type=RESET)])

    store.fold([event])

    assert store.counted() == {(1, 0): 2}
    assert kept(store) == []


@pytest.mark.parametrize("reset_at", [0, 1, 2, 3])
def test_distinct_events_count_whenever_the_reset_comes(reset_at):
    log = [Logged(0, key, key * 10, target=key) for key in range(3)]
    log.insert(reset_at, Logged(0, 0, 10, type=RESET))

    store = folded(*[[r] for r in log])

    assert kept(store) == [(2, 20, 2)]
    assert store.counted() == {(key, 0): 1 for key in range(3)}


def test_the_greatest_watermark_wins():
    store = folded([Logged(0, 0, 50, type=RESET)], [Logged(0, 0, 20, type=RESET)])

    store.fold([Logged(0, 1, 50), Logged(0, 2, 51)])

    assert [key for key, _, _ in kept(store)] == [2]
    assert store.profile(0).watermark_ms == 50


def test_an_archived_version_does_not_vouch_for_a_newer_event():
    """Found by fuzzing: an impression at the same time makes the event late."""
    log = [
        Logged(0, 1, 56, target=2, type="search"),
        Logged(0, 2, 57, type="view"),
        Logged(0, 16, 54, type="view"),
        Logged(0, 17, 54, target=2),
        Logged(0, 3, 55, type="view"),
        Logged(0, 4, 57, type="impression"),
        Logged(0, 16, 57, target=2, type="view"),
    ]
    caps = Caps(history=4, seen=13, bucket_ms=4)

    store = folded(*[[r] for r in log], recent_cap=1, caps=caps)

    assert store.counted() == Counters(caps).fold(log)


def test_versions_that_lost_take_no_place_in_the_history():
    caps = Caps(history=2, seen=9, bucket_ms=100)
    store = folded([Logged(0, 1, 10, 1)], [Logged(0, 2, 20, 2)], recent_cap=1, caps=caps)

    store.fold([Logged(0, 2, 30, 3), Logged(0, 1, 40, 4)])

    assert store.counted() == {(3, 0): 1, (4, 0): 1}


def test_versions_that_lost_take_no_place_in_the_seen_set():
    caps = Caps(history=1, seen=4, bucket_ms=100)
    times = (1, 5), (2, 10), (3, 60), (4, 55), (2, 50)
    log = [Logged(0, key, time, target=time) for key, time in times]
    store = folded(*[[r] for r in log], recent_cap=1, caps=caps)
    before = store.counted()

    store.fold([log[0]])

    assert store.counted() == before
    assert store.seen_targets(0) == [5, 50, 55, 60]


def test_a_reset_forgets_at_once_what_the_same_batch_repeats():
    log = [Logged(0, key, key * 10, target=key) for key in range(1, 4)]
    store = folded(*[[r] for r in log])

    store.fold([Logged(0, 0, 20, type=RESET), *log])

    assert store.counted() == {(1, 0): 2, (2, 0): 2, (3, 0): 1}
    assert kept(store) == [(3, 30, 3)]


def test_archiving_late_events_does_not_move_the_end_of_the_archive_back():
    caps = Caps(history=1, seen=9, bucket_ms=100)
    times = (10, 80, 90, 99, 50, 55)
    log = [Logged(0, key, time, target=key) for key, time in enumerate(times)]
    store = folded(*[[r] for r in log], recent_cap=1, caps=caps)

    store.fold([log[1]])

    assert store.counted() == {(key, 0): 1 for key in range(6)}


def test_a_redelivered_record_changes_nothing_and_writes_nothing():
    log = [Logged(0, 1, 10, broker=99)]
    store = folded(log)

    changes, _ = store.fold(log)

    assert changes.recent == changes.settled == changes.archives == []
    assert changes.counts.deltas.size == 0


def test_updated_at_is_the_greatest_broker_time_of_any_record():
    store = folded([Logged(0, 1, 10, broker=30)], [Logged(0, 1, 10, broker=90)])

    store.fold([Logged(0, 2, 10, broker=60)])

    assert store.profile(0).updated_at_ms == 90


def test_a_type_in_neither_set_makes_a_user_known_and_no_more():
    caps = Caps(history_types=("click",), seen_types=("click",), counted_types=())
    store = folded([Logged(0, 1, 10, type="view", broker=5)], caps=caps)

    profile = store.profile(0)
    assert (profile.known, profile.updated_at_ms, profile.interactions) == (True, 5, ())
