"""Events to state: one fold, the positions after it, popularity once it is committed."""

import numpy as np
import pytest

from rankstream.kernels.counters import (
    add_to_newest,
    find_runs,
    levels_of,
    merge_counts,
    sum_rows,
)
from rankstream.kernels.profile_batch import finish, fold_fresh
from rankstream.server.catalog.popularity import Popularity
from rankstream.server.profiles.interaction import RESET_TYPE, event_key
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.profiles.stored import ProfileStore, chunk_key
from rankstream.server.profiles.texts import Keeping
from rankstream.server.store import Store
from rankstream.server.stream.apply import EventFolder, warm_up_fold
from rankstream.server.stream.event_columns import DecodedEvent
from rankstream.server.types import Position, item_key

TOPIC = b"events-topic-id."
FOLD = FoldSettings(history_cap=4, seen_cap=6, recent_cap=3, bucket_ms=100)


class State:
    """A store and the fold over it."""

    def __init__(self, folder):
        self.store = Store(folder, map_size_gib=1, write=True)
        self.popularity = Popularity(weight=1.0, half_life_s=1.0, bucket_s=1)
        self.folder = EventFolder(FOLD, self.popularity, Keeping(1000, int))
        self.profiles = ProfileStore(FOLD)
        self.offset = 0

    def fold(self, *events):
        self.offset += len(events)
        batch = self.folder.batch(events, [Position("events", TOPIC, 0, self.offset)])
        with self.store.write() as txn:
            batch.apply(txn)
        batch.committed()
        return batch

    def history(self, *users):
        with self.store.read() as view:
            return self.profiles.read(view, [u.encode() for u in users])

    def seen(self, user):
        with self.store.read() as view:
            return set(self.profiles.seen_targets(view, user.encode()).tolist())

    def positions(self):
        with self.store.read() as view:
            return view.positions()

    def bias(self, *items):
        return self.popularity.bias(np.array([item_key(i) for i in items], np.uint64)).tolist()


@pytest.fixture
def state(tmp_path):
    made = State(tmp_path)
    yield made
    made.store.close()


def event(user, item_id, at, kind="click", name=None, weight=1.0):
    number = RESET_TYPE if kind == "$reset" else FOLD.type_ids[kind]
    key = event_key(name or f"{user}/{item_id}/{at}")
    return DecodedEvent(user.encode(), at, key, item_key(item_id), weight, number, at + 1000)


def test_each_user_gets_the_own_events_in_order_of_time(state):
    state.fold(
        event("bob", "sea", 20), event("ann", "sky", 7, weight=-0.5), event("bob", "sun", 10)
    )

    found = state.history("ann", "nobody", "bob")

    histories = found.histories
    assert histories.indptr.tolist() == [0, 1, 1, 3]
    assert histories.target_keys.tolist() == [item_key(i) for i in ("sky", "sun", "sea")]
    assert histories.event_times_ms.tolist() == [7, 10, 20]
    assert histories.weights.tolist() == [-0.5, 1.0, 1.0]
    assert found.known.tolist() == [True, False, True]
    assert found.updated_at_ms.tolist() == [1007, -1, 1020]
    assert found.watermark_ms.tolist() == [-1, -1, -1]


def test_the_positions_move_with_the_events(state):
    batch = state.fold(event("ann", "sea", 1))

    assert state.positions() == (Position("events", TOPIC, 0, 1),)
    assert len(batch.users) == 1


def test_a_batch_without_events_moves_the_positions_alone(state):
    batch = state.folder.batch([], [Position("events", TOPIC, 0, 77)])
    with state.store.write() as txn:
        batch.apply(txn)
    batch.committed()

    assert [p.next_offset for p in state.positions()] == [77]
    assert state.popularity.revision == 0


@pytest.mark.parametrize("kind", ["impression", "search", "$reset", "dislike"])
def test_a_batch_that_counts_nothing_is_folded(state, kind):
    state.fold(event("ann", "sea", 5, kind))

    assert state.history("ann").known.tolist() == [True]
    assert state.bias("sea") == [0.0]


def test_a_long_history_is_cut_at_its_cap_whatever_the_batches(state, tmp_path):
    events = [event("ann", f"i{n}", 10 * n) for n in range(12)]
    other = State(tmp_path / "other")

    state.fold(*events)
    for one in reversed(events):
        other.fold(one)

    for made in (state, other):
        kept = made.history("ann").histories.target_keys.tolist()
        assert kept == [item_key(f"i{n}") for n in range(8, 12)]
        assert made.seen("ann") == {item_key(f"i{n}") for n in range(6, 12)}
    other.store.close()


def test_a_reset_forgets_what_was_before(state):
    state.fold(event("ann", "sea", 10), event("ann", "sky", 20), event("bob", "sea", 10))

    state.fold(event("ann", "", 10, "$reset"))

    found = state.history("ann", "bob")
    assert found.histories.target_keys.tolist() == [item_key("sky"), item_key("sea")]
    assert found.watermark_ms.tolist() == [10, -1]
    assert state.seen("ann") == {item_key("sky")}


def test_popularity_follows_a_commit_and_only_once(state):
    once = [event("ann", "sea", 10), event("bob", "sea", 10), event("bob", "sky", 10)]
    state.fold(*once)
    before = state.bias("sea", "sky")

    state.fold(*once)

    assert before[0] == 1.0
    assert before[1] == pytest.approx(np.log(2) / np.log(3), rel=1e-6)
    assert state.bias("sea", "sky") == before


def test_an_aborted_batch_leaves_nothing_and_can_be_applied_again(state):
    class Failed(Exception):
        pass

    batch = state.folder.batch([event("ann", "sea", 10)], [Position("events", TOPIC, 0, 1)])

    def fail():
        with state.store.write() as txn:
            batch.apply(txn)
            raise Failed

    with pytest.raises(Failed):
        fail()
    assert state.positions() == ()
    assert state.bias("sea") == [0.0]
    with state.store.write() as txn:
        batch.apply(txn)
    batch.committed()

    assert len(state.history("ann").histories.target_keys) == 1
    assert state.bias("sea") == [1.0]


def test_a_warm_fold_compiles_nothing_under_traffic(state):
    kernels = [fold_fresh, finish, sum_rows, find_runs, add_to_newest, merge_counts, levels_of]
    warm_up_fold(FOLD)
    before = [len(kernel.signatures) for kernel in kernels]

    for at in (0, 250, 20, 30):
        state.fold(*(event("ann", f"i{n}", at + 50 * n) for n in range(6)))

    assert [len(kernel.signatures) for kernel in kernels] == before
    assert before == [1] * len(kernels)


def test_no_users_chunk_key_begins_with_anothers():
    users = [b"a", b"a\0", b"a\0\0\0\0", b"", b"\0", b"aa", b"a" * 256]
    keys = [chunk_key(user, number) for user in users for number in (0, 1, 256)]

    assert len(set(keys)) == len(keys)
    for user in users:
        prefix = chunk_key(user, 0)[:-4]
        assert [k for k in keys if k.startswith(prefix)] == [
            chunk_key(user, n) for n in (0, 1, 256)
        ]
