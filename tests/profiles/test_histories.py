"""Reading profiles: ragged arrays for ranking, objects for people."""

import numpy as np
from profile_memory import MemoryProfiles, settings_of
from profile_oracle import RESET, TYPE_IDS, Caps, Logged, history

from rankstream.server.profiles.history import Interaction, gather_histories, read_profile

CAPS = Caps(history=6, seen=9)


def a_store(rng):
    log = [
        Logged(
            user=int(rng.integers(5)),
            key=int(rng.integers(2**63)) * 2 + 1,
            time=int(rng.integers(1_000)),
            target=int(rng.integers(2**63)) * 2,
            type=str(rng.choice(["impression", "view", "click", "search"])),
            weight=float(rng.choice([1.0, -1.0, 0.25])),
        )
        for _ in range(120)
    ]
    log.append(Logged(3, 0, 900, type=RESET))
    store = MemoryProfiles(settings_of(CAPS, recent_cap=4))
    return log, store.fold_all([log[i : i + 7] for i in range(0, len(log), 7)])


def test_many_histories_are_gathered_oldest_first():
    log, store = a_store(np.random.default_rng(4))
    users = [4, 99, 0, 3, 2, 1]
    values = [store.values(user) for user in users]

    found = gather_histories(store.settings, [r for r, _ in values], [s for _, s in values])

    wanted = [history(CAPS, log, user) for user in users]
    flat = [record for records in wanted for record in records]
    assert found.indptr.tolist() == np.cumsum([0, *map(len, wanted)]).tolist()
    assert found.target_keys.tolist() == [r.target for r in flat]
    assert found.event_keys.tolist() == [r.key for r in flat]
    assert found.event_times_ms.tolist() == [r.time for r in flat]
    assert found.types.tolist() == [TYPE_IDS[r.type] for r in flat]
    assert found.weights.tolist() == [r.weight for r in flat]


def test_gathered_arrays_are_contiguous_and_typed():
    _, store = a_store(np.random.default_rng(5))

    found = gather_histories(store.settings, *zip(store.values(0), strict=True))

    arrays = found.target_keys, found.weights, found.event_times_ms, found.types, found.event_keys
    assert [a.dtype.str for a in arrays] == ["<u8", "<f4", "<i8", "<u2", "<u8"]
    assert all(a.flags.c_contiguous for a in arrays)


def test_nobody_has_no_histories():
    settings = settings_of(CAPS)

    assert gather_histories(settings, [], []).indptr.tolist() == [0]


def test_a_profile_shows_the_newest_first():
    store = MemoryProfiles(settings_of(CAPS))
    store.fold([Logged(0, 1, 10, 5, "rate", -0.5, 70), Logged(0, 2, 20, 6, "click", 1.0, 80)])

    profile = store.profile(0)

    newest, oldest = profile.interactions
    assert newest == Interaction(20, 2, 6, 1.0, TYPE_IDS["click"])
    assert oldest == Interaction(10, 1, 5, -0.5, TYPE_IDS["rate"])
    assert (profile.known, profile.watermark_ms, profile.updated_at_ms) == (True, None, 80)


def test_an_unknown_user_has_an_empty_profile():
    profile = read_profile(settings_of(CAPS), b"", b"")

    assert (profile.known, profile.updated_at_ms, profile.interactions) == (False, None, ())


def test_seen_targets_are_distinct_and_sorted():
    store = MemoryProfiles(settings_of(CAPS, recent_cap=2))
    targets = [9, 2**64 - 1, 3, 3, 9, 1]

    for i, target in enumerate(targets):
        store.fold([Logged(0, i, i, target, "impression")])

    assert store.seen_targets(0) == [1, 3, 9, 2**64 - 1]
