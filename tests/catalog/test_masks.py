"""Which items a filter passes: against plain Python, over commits, restarts and small caches."""

import dataclasses
import itertools

import filter_oracle
import numpy as np
import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_server import SmallServer, item, keys_of

from rankstream.proto.v1 import ranking_pb2
from rankstream.server.catalog.masks import Masks
from rankstream.server.config import Limits
from rankstream.server.filter_wire import filter_from_pb
from rankstream.server.filters import AllOf, NoneOf, equals, exists

LIMITS = Limits()
NAMES = [f"i{n}" for n in range(12)]
COLUMNS = ["category", "brand", "tags", "price", "colour", "size", "unknown"]
_folders = itertools.count()

texts = st.sampled_from(["", "red", "blue", "grün", "1"])
numbers = st.sampled_from([-1e300, -1.0, -0.0, 0.0, 1.0, 2.5, 1e300])
values = st.one_of(texts, numbers, st.booleans())
attribute_values = st.one_of(values, st.lists(texts, max_size=3))
items = st.builds(
    item,
    st.sampled_from(NAMES),
    category=texts,
    brand=texts,
    tags=st.lists(texts, max_size=3),
    price=st.one_of(st.none(), st.sampled_from([0.0, 1.0, 2.5])),
    attributes=st.dictionaries(st.sampled_from(["colour", "size", "new"]), attribute_values),
)
users = st.dictionaries(
    st.sampled_from(["mine", "low", "high"]), st.one_of(values, st.just(("blue", "red")))
)


def as_json(value):
    kind = "flag" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
    return {kind: value}


ends = st.one_of(
    st.just({}),
    st.builds(lambda n: {"number": n}, numbers),
    st.sampled_from([{"user": "low"}, {"user": "high"}]),
)


def as_range(low, high):
    names = {"number": ("min", "max"), "user": ("minUserAttribute", "maxUserAttribute")}
    found = {names[k][side]: v for side, end in enumerate((low, high)) for k, v in end.items()}
    return {"range": found}


tests = st.one_of(
    st.builds(lambda v: {"equals": as_json(v)}, values),
    st.builds(
        lambda v: {"oneOf": {"values": [as_json(x) for x in v]}}, st.lists(values, max_size=4)
    ),
    st.builds(as_range, ends, ends),
    st.builds(lambda b: {"exists": b}, st.booleans()),
    st.just({"equalsUserAttribute": "mine"}),
)
conditions = st.builds(
    lambda column, test: {"condition": {"column": column, **test}}, st.sampled_from(COLUMNS), tests
)
questions = st.recursive(
    conditions,
    lambda inner: st.builds(
        lambda kind, some: {kind: {"filters": some}},
        st.sampled_from(["all", "any", "none"]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=8,
)


class Passing:
    """Names of the items that a worker's masks pass."""

    def __init__(self, server, limits=LIMITS):
        self.server, self.catalogue = server, server.new_catalogue()
        self.masks = Masks(self.catalogue, limits)

    def sync(self):
        with self.server.store.read() as view:
            self.catalogue.sync(view, 0)

    def names(self, test):
        mask = self.masks.mask(test)
        rows = self.catalogue.table.lookup(keys_of(NAMES))
        named = {row: name for name, row in zip(NAMES, rows.tolist(), strict=True) if row >= 0}
        return {named[r] for r in np.flatnonzero(np.unpackbits(mask, bitorder="little")).tolist()}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    commits=st.lists(st.lists(items, max_size=8, unique_by=lambda i: i.item_id), max_size=4),
    asked=st.lists(questions, min_size=1, max_size=8),
    user=users,
)
def test_any_filter_passes_what_its_meaning_says(tmp_path, commits, asked, user):
    server = SmallServer(tmp_path / str(next(_folders)), vectors="")
    follower, live = Passing(server), {}
    messages = [ParseDict(question, ranking_pb2.Filter()) for question in asked]
    for commit in [[], *commits]:
        fresh = {made.item_id: made for made in commit}
        gone = [name for name in live if name not in fresh][:1]
        server.put(*commit, delete=gone)
        live = {n: made for n, made in live.items() if n not in gone} | fresh
        follower.sync()
        for message in messages:
            test = filter_from_pb(message, LIMITS, "filter").resolve(user)

            found = follower.names(test)

            wanted = {n for n, made in live.items() if filter_oracle.passes(made, message, user)}
            assert found == wanted
            assert follower.names(test) == wanted
    server.close()


def condition(column, **test):
    return ParseDict({"condition": {"column": column, **test}}, ranking_pb2.Filter())


@pytest.fixture
def passing(server):
    server.put(
        item("i0", "a", brand="acme", price=1.0),
        item("i1", "b", brand="acme", price=2.0),
        item("i2", "c", brand="best", attributes={"new": True}),
    )
    made = Passing(server)
    made.sync()
    return made


def test_a_mask_is_remembered_until_the_catalogue_changes(server, passing):
    test = equals("brand", "acme")
    first = passing.masks.mask(test)
    assert passing.masks.mask(equals("brand", "acme")) is first
    assert not first.flags.writeable

    server.put(item("i3", "d", brand="acme"), delete=["i0"])
    assert passing.masks.mask(test) is first
    passing.sync()

    assert passing.names(test) == {"i1", "i3"}


def test_a_changed_fact_is_seen_and_its_old_row_is_dead(server, passing):
    test = equals("brand", "acme")
    assert passing.names(test) == {"i0", "i1"}

    server.put(item("i0", "a", brand="best", price=1.0))
    passing.sync()

    assert passing.names(test) == {"i1"}
    assert passing.names(equals("brand", "best")) == {"i0", "i2"}


def test_few_columns_and_masks_at_hand_change_no_answer(server):
    bounds = dataclasses.replace(LIMITS, max_columns=1, max_column_bytes=100, max_masks=1)
    small, usual = Passing(server, bounds), Passing(server)
    acme, tagged = equals("brand", "acme"), equals("tags", "t1")
    questions = [acme, tagged, exists("price"), AllOf((acme, tagged)), NoneOf((equals("a", True),))]
    for round_ in range(3):
        start = 4 * round_
        server.put(
            *(
                item(NAMES[n], "t", brand="acme", tags=[f"t{n % 2}"], price=float(n))
                for n in range(start, start + 4)
            )
        )
        small.sync()
        usual.sync()
        for test in questions:
            assert small.names(test) == usual.names(test)
    assert usual.names(tagged) == set(NAMES[1::2])


def test_an_empty_catalogue_passes_nothing(server):
    nothing = Passing(server)
    assert nothing.masks.mask(NoneOf(())).tolist() == []
    nothing.sync()
    assert nothing.masks.mask(exists("brand")).tolist() == []


def test_names_that_no_item_has_are_not_kept(passing):
    for n in range(1000):
        assert passing.names(exists(f"no such column {n}")) == set()

    assert passing.masks._columns._held.held_bytes == 0


def test_facts_survive_a_restart(server, passing):
    again = Passing(server)
    again.sync()

    for test in (equals("brand", "acme"), exists("new"), exists("price")):
        assert again.names(test) == passing.names(test)
    assert again.names(exists("price")) == {"i0", "i1"}
