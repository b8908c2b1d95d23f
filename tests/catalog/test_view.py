"""A worker's catalogue: it follows commits one by one or several at once, to the same end."""

import itertools

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_server import SmallServer, item, items_of, keys_of, task

from rankstream.server.catalog.view import clear_bits, set_bits

NAMES = [f"i{n}" for n in range(6)]
operations = st.lists(
    st.tuples(st.sampled_from(NAMES), st.one_of(st.none(), st.integers(0, 3))), max_size=25
)
_folders = itertools.count()


def at(server, catalogue, bias_sequence=0):
    """The live items that a catalogue holds after a sync: name -> row."""
    with server.store.read() as view:
        catalogue.sync(view, bias_sequence)
    rows = catalogue.table.lookup(keys_of(NAMES))
    alive = np.unpackbits(catalogue.alive, bitorder="little", count=catalogue.head.rows)
    assert sorted(np.flatnonzero(alive)) == sorted(rows[rows >= 0])
    return {name: row for name, row in zip(NAMES, rows.tolist(), strict=True) if row >= 0}


def test_items_appear_with_their_keys(server):
    catalogue = server.new_catalogue()
    assert at(server, catalogue) == {}
    assert catalogue.rows.shape == (0, server.layout.stride)
    assert catalogue.id_ends.tolist() == []

    server.put(item("i0", "a"), item("i1", "b"))

    assert at(server, catalogue) == {"i0": 0, "i1": 1}
    np.testing.assert_array_equal(catalogue.keys, keys_of(["i0", "i1"]))
    np.testing.assert_array_equal(catalogue.bias, [0, 0])
    assert catalogue.head == server.head()


def test_each_row_dead_or_alive_has_its_item_id(server):
    catalogue = server.new_catalogue()
    assert catalogue.ids.tolist() == catalogue.id_ends.tolist() == []
    server.put(item("i0", "a"), item("i1-ü", "b"))
    with server.store.read() as view:
        catalogue.sync(view, 0)
    assert (catalogue.id_ends.dtype, catalogue.id_ends.tolist()) == (np.int64, [2, 7])

    server.put(item("i0", "changed"), item("i2", "c"), delete=["i1-ü"])
    assert len(catalogue.id_ends) == 2
    with server.store.read() as view:
        catalogue.sync(view, 0)

    assert catalogue.id_ends.tolist() == [2, 7, 9, 11]
    assert catalogue.ids[:11].tobytes().decode() == "i0i1-üi0i2"


def test_several_versions_at_once_are_the_same_as_one_by_one(server):
    follower, late = server.new_catalogue(), server.new_catalogue()
    commits = [
        lambda: server.put(*(item(name, "first") for name in NAMES)),
        lambda: server.put(item("i1", "second"), item("i2", "second")),
        lambda: server.put(delete=["i1", "i3"]),
        lambda: server.put(item("i3", "third")),
        lambda: server.put(item("i3", "fourth"), delete=["i4"]),
    ]
    for commit in commits:
        commit()
        at(server, follower)

    assert at(server, follower) == at(server, late) == {"i0": 0, "i2": 7, "i3": 9, "i5": 5}
    assert late.head.catalogue_version == len(commits)
    assert late.head.items == 4


def test_a_commit_that_changes_nothing_changes_no_version(server):
    server.put(item("i0", "a"))
    before = server.head()

    server.put(delete=["i5"])

    assert server.head() == before


def test_a_bias_of_fewer_or_more_rows_fits(server):
    catalogue = server.new_catalogue()
    server.put(*(item(name, "first") for name in NAMES))
    server.set_bias([0.5, 0.25])
    at(server, catalogue, 1)
    assert catalogue.bias.tolist() == [0.5, 0.25, 0, 0, 0, 0]

    server.set_bias(np.full(5000, 0.125))
    at(server, catalogue, 2)

    assert catalogue.bias.tolist() == [0.125] * 6
    server.put(item("i0", "other"))
    assert len(at(server, catalogue, 2)) == 6


def test_a_bias_that_was_replaced_meanwhile_is_read_with_the_next(server):
    catalogue = server.new_catalogue()
    server.put(item("i0", "a"))
    at(server, catalogue, 7)
    assert catalogue.bias.tolist() == [0.0]

    server.set_bias([0.5])
    at(server, catalogue, 1)

    assert catalogue.bias.tolist() == [0.5]


def test_a_catalogue_that_grows_beyond_its_first_room_keeps_everything(tmp_path):
    server = SmallServer(tmp_path, max_rows=3000)
    catalogue = server.new_catalogue()
    server.set_bias([0.5])
    for start in (0, 1000, 2000):
        names = [f"n{n}" for n in range(start, start + 900)]
        server.put(*(item(name, "t") for name in names))
        with server.store.read() as view:
            catalogue.sync(view, 1)

    every = np.unpackbits(catalogue.alive, bitorder="little", count=2700)
    assert every.all()
    assert catalogue.bias[0] == 0.5
    assert not catalogue.bias[1:].any()
    server.close()


def test_bits_are_set_and_cleared_in_little_order():
    mask = np.zeros(3, np.uint8)

    set_bits(mask, np.array([0, 9, 9, 23, 8], np.int32))
    clear_bits(mask, np.array([9, 1, 9], np.int32))

    bits = np.flatnonzero(np.unpackbits(mask, bitorder="little"))
    assert bits.tolist() == [0, 8, 23]


def fold(folder, batches):
    """Answers of a server that got these commits; ties are told apart by name, not row."""
    server = SmallServer(folder, vectors="")
    server.events(("ann", "i1", 10, "click", 1.0), ("ann", "i2", 20, "rate", -0.5))
    for batch in batches:
        # As the lane does: within a batch the last record of an item wins.
        last = {}
        for name, version in batch:
            last.pop(name, None)
            last[name] = version
        puts = [item(name, f"text {v}", price=v) for name, v in last.items() if v is not None]
        server.put(*puts, delete=[name for name, v in last.items() if v is None])
    everything = server.rank(task("ann", k=50), task("ann", item_ids=NAMES, k=50))
    found = [sorted((i.item_id, i.score) for i in items_of(a)) for a in everything]
    with server.store.read() as view:
        stored = [view.item(int(key)) for key in keys_of(NAMES)]
    missing, items = [a.missing for a in everything], everything[0].head.items
    server.close()
    return found, missing, items, [r and (r.item_id, r.payload) for r in stored]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(log=operations, cuts=st.lists(st.integers(0, 25), max_size=6))
def test_item_commits_in_any_batching_give_the_same_catalogue(tmp_path, log, cuts):
    bounds = sorted({0, len(log), *(c for c in cuts if c < len(log))})
    batches = [log[a:b] for a, b in itertools.pairwise(bounds)]

    one_by_one = fold(tmp_path / str(next(_folders)), [[entry] for entry in log])
    cut = fold(tmp_path / str(next(_folders)), batches)

    assert cut == one_by_one
    alive = {name for name, version in dict(log).items() if version is not None}
    assert {name for name, _ in cut[0][0]} == alive
    assert cut[2] == len(alive)
