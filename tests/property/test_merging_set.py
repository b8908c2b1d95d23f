"""Whatever is done to the log, the fold is the merging set of its definition."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profile_memory import MemoryProfiles, settings_of
from profile_oracle import (
    RESET,
    Caps,
    Counters,
    Logged,
    canonical,
    identity,
    profile_bytes,
    seen_bytes,
)

settings.register_profile("merging-set", derandomize=True, deadline=None, database=None)
deterministic = settings(settings.get_profile("merging-set"), max_examples=250)

KEYS = (0, 1, 2, 3, 2**31, 2**63 - 1, 2**63, 2**64 - 1)
FEW_KEYS = st.sampled_from(KEYS)
TYPES = ("impression", "view", "click", "search")

caps = st.builds(Caps, history=st.integers(1, 5), seen=st.integers(1, 12))
recent_caps = st.integers(1, 4)


@st.composite
def logs(draw, max_size=50, keys=FEW_KEYS, types=TYPES, resets=True):
    """A log of few users, events, times and contents, so that everything collides."""
    kinds = st.sampled_from((*types * 4, RESET) if resets else types)
    record = st.builds(
        Logged,
        user=st.integers(0, 1),
        key=keys,
        time=st.integers(0, 20),
        target=st.sampled_from((0, 1, 2**64 - 1)),
        type=kinds,
        weight=st.sampled_from((1.0, -1.0, 0.5)),
        ext=st.just(0),
    )
    log = draw(st.lists(record, min_size=1, max_size=max_size))
    return [r._replace(broker=1_000 + i) for i, r in enumerate(log)]


@st.composite
def cuts(draw, log):
    """The log in batches."""
    at = sorted(draw(st.sets(st.integers(1, max(1, len(log) - 1)), max_size=len(log))))
    ends = [0, *(n for n in at if n < len(log)), len(log)]
    return [log[a:b] for a, b in zip(ends, ends[1:], strict=False)]


def folded(caps, recent_cap, batches):
    return MemoryProfiles(settings_of(caps, recent_cap)).fold_all(batches)


def assert_profiles_are_defined_by(log, caps, store):
    for user in {r.user for r in log}:
        assert store.profile_bytes(user) == profile_bytes(caps, log, user)
        assert store.seen_bytes(user) == seen_bytes(caps, log, user)
        mine = [r.broker for r in log if r.user == user]
        assert store.profile(user).updated_at_ms == max(mine)


@deterministic
@given(st.data(), caps, recent_caps, logs())
def test_any_log_cut_anyhow_folds_to_its_definition(data, caps, recent_cap, log):
    store = folded(caps, recent_cap, data.draw(cuts(log)))

    assert_profiles_are_defined_by(log, caps, store)
    assert store.counted() == Counters(caps).fold(log)


@deterministic
@given(st.data(), caps, recent_caps, logs(keys=st.integers(0, 40), max_size=120))
def test_many_events_overflow_every_cap(data, caps, recent_cap, log):
    store = folded(caps, recent_cap, data.draw(cuts(log)))

    assert_profiles_are_defined_by(log, caps, store)
    assert store.counted() == Counters(caps).fold(log)


@deterministic
@given(st.data(), caps, recent_caps, logs())
def test_order_and_redelivery_change_no_profile(data, caps, recent_cap, log):
    again = data.draw(st.lists(st.sampled_from(log), max_size=20))
    shuffled = data.draw(st.permutations(log + again))
    store = folded(caps, recent_cap, data.draw(cuts(shuffled)))

    assert_profiles_are_defined_by(log, caps, store)


@deterministic
@given(st.data(), caps, recent_caps, logs(keys=st.integers(0, 2**64 - 1)))
def test_distinct_events_are_counted_once_in_any_order(data, caps, recent_cap, log):
    distinct = list({(r.user, identity(caps, r)): r for r in log}.values())
    store = folded(caps, recent_cap, data.draw(cuts(data.draw(st.permutations(distinct)))))

    assert store.counted() == Counters(caps).fold(distinct)


@deterministic
@given(st.data(), recent_caps, logs(resets=False, types=("view", "click")))
def test_within_what_is_retained_the_winning_version_counts(data, recent_cap, log):
    caps = Caps(history=len(KEYS), seen=len(KEYS))
    shuffled = data.draw(st.permutations(log * 2))
    store = folded(caps, recent_cap, data.draw(cuts(shuffled)))

    winners = {}
    for record in log:
        mine = record.user, record.key
        winners[mine] = max(winners.get(mine, record), record, key=canonical)
    assert store.counted() == Counters(caps).fold(winners.values())


@pytest.mark.parametrize("recent_cap", [1, 30, 255])
@deterministic
@given(log=logs(keys=st.integers(0, 30)))
def test_where_records_are_stored_changes_nothing(recent_cap, log):
    small = Caps(history=3, seen=6)
    one, other = folded(small, recent_cap, [log]), folded(small, 2, [[r] for r in log])

    assert one.counted() == other.counted()
    for user in {r.user for r in log}:
        assert one.profile_bytes(user) == other.profile_bytes(user)
        assert one.seen_bytes(user) == other.seen_bytes(user)
