"""Generations in the state: begun, fed, switched, left and removed."""

import dataclasses
import json

import numpy as np
import pytest

from rankstream.server.config import Encoding
from rankstream.server.errors import InvalidArgument, StateRefused
from rankstream.server.generation import Change, Generation, other_slot
from rankstream.server.generations import (
    behind,
    clear_some,
    current_slot,
    fix_space,
    forget_generation,
    generation_in,
    held_slots,
    is_near,
    known_ids,
    left_at_ms,
    newest_change,
    next_number,
    put_change,
    put_generation,
    remove_files,
    space_of,
    switch,
)
from rankstream.server.profiles.texts import TextCommit, remember_texts, texts_to_encode
from rankstream.server.store import OF_A_SLOT
from rankstream.server.types import Head, Position, text_key

TOPIC = b"items-topic-id.."
FIRST = Generation("a", 1, Encoding())
SECOND = Generation("b", 2, Encoding(model="/other", precision="f32"))


@pytest.fixture
def two(store):
    """A state that serves one generation, of which another is made."""
    with store.write() as txn:
        put_generation(txn, FIRST)
        put_generation(txn, SECOND)
        txn.set_head(Head(1, 5, 40, 5))
    return store


def reach(store, slot, offset):
    with store.write() as txn:
        txn.of(slot).advance([Position("items", TOPIC, 0, offset)])


def switched(store, slot="b", at_ms=7):
    with store.write() as txn:
        return switch(txn, slot, at_ms)


def test_a_new_state_has_no_generation(store):
    with store.read() as view:
        assert held_slots(view) == []
        assert (current_slot(view), generation_in(view, "a"), next_number(view)) == ("a", None, 1)
        assert newest_change(view) is None


def test_a_generation_reads_back_and_the_served_one_is_first(two):
    with two.read() as view:
        assert generation_in(view, "a") == FIRST
        assert generation_in(view, "b") == SECOND
        assert held_slots(view) == ["a", "b"]
        assert next_number(view) == 3

    assert switched(two)

    with two.read() as view:
        assert held_slots(view) == ["b", "a"]


def test_other_settings_of_an_encoder_keep_the_rows(two):
    with two.write() as txn:
        put_generation(txn, dataclasses.replace(FIRST, encoding=Encoding(cache_mib=9)))

    with two.read() as view:
        assert generation_in(view, "a").encoding.cache_mib == 9
        assert view.head() == Head(1, 5, 40, 5)


def test_a_space_is_fixed_for_its_slot(two):
    with two.write() as txn:
        fix_space(txn, "a", "one", "")
        fix_space(txn, "b", "two", "")
        with pytest.raises(StateRefused, match="encoder space 'one', this server has 'two': so"):
            fix_space(txn, "a", "two", "so")

    with two.read() as view:
        assert (space_of(view, "a"), space_of(view, "b")) == ("one", "two")


def test_nothing_is_switched_that_is_behind_the_items(two):
    reach(two, "a", 9)
    reach(two, "b", 8)
    assert not switched(two)
    with two.read() as view:
        assert (current_slot(view), behind(view, "b"), is_near(view, "b")) == ("a", (1, 0), True)

    reach(two, "b", 9)

    assert switched(two)
    with two.read() as view:
        assert current_slot(view) == "b"


def test_nothing_is_switched_that_is_behind_the_texts(two):
    with two.write() as txn:
        remember_texts(txn, {text_key(t): t for t in ("red", "blue")}, 10)
        TextCommit({}, 2, "a").apply(txn)
        TextCommit({}, 1, "b").apply(txn)
    assert not switched(two)

    with two.write() as txn:
        TextCommit({}, 2, "b").apply(txn)

    assert switched(two)


def test_texts_that_are_forgotten_are_none_to_be_behind_in(two):
    with two.write() as txn:
        for text in ("red", "blue", "green"):
            remember_texts(txn, {text_key(text): text}, 1)
        TextCommit({}, 3, "a").apply(txn)
    with two.read() as view:
        assert behind(view, "b") == (0, 3)
        _, upto, _ = texts_to_encode(view.of("b"), 10)

    with two.write() as txn:
        TextCommit({}, upto, "b").apply(txn)

    with two.read() as view:
        assert behind(view, "b") == (0, 0)


def test_far_behind_is_not_near(two):
    reach(two, "a", 10_000)

    with two.read() as view:
        assert not is_near(view, "b")


def test_the_version_that_readers_see_only_grows(two):
    with two.write() as txn:
        txn.of("b").set_head(Head(2, 3, 4, 3))
    switched(two)
    with two.read() as view:
        assert view.of("b").head() == Head(2, 3, 41, 3)

    with two.write() as txn:
        switch(txn, "a", 8)

    with two.read() as view:
        assert view.head() == Head(1, 5, 42, 5)


def test_a_generation_knows_when_it_was_left(two):
    switched(two, at_ms=77)

    with two.read() as view:
        assert (left_at_ms(view, "a"), left_at_ms(view, "b")) == (77, 0)


def test_to_switch_to_what_is_served_changes_nothing(two):
    assert switched(two, "a")

    with two.read() as view:
        assert (view.head().catalogue_version, left_at_ms(view, "a")) == (40, 0)


def test_a_slot_is_cleared_in_steps_and_the_other_stays(two):
    with two.write() as txn:
        remember_texts(txn, {text_key("red"): "red"}, 10)
        for slot in ("a", "b"):
            own = txn.of(slot)
            for n in range(2_500):
                own.put("items", n.to_bytes(8, "big"), b"value")
            TextCommit({text_key("red").to_bytes(8, "little"): np.ones(2)}, 1, slot).apply(txn)

    steps = 0
    left = True
    while left:
        with two.write() as txn:
            left = clear_some(txn, "b")
            assert generation_in(txn, "b") is None
        steps += 1

    assert steps == 2
    with two.read() as view:
        assert [view.of("b").count(name) for name in OF_A_SLOT] == [0] * len(OF_A_SLOT)
        assert (view.count("items"), view.count("vectors"), view.count("texts")) == (2_500, 1, 1)
        # No two generations of a state ever have the same files.
        assert next_number(view) == 3


def test_what_is_forgotten_is_held_no_more(two):
    with two.write() as txn:
        forget_generation(txn, "b")

    with two.read() as view:
        assert held_slots(view) == ["a"]


def test_the_files_of_what_is_not_kept_are_removed(tmp_path):
    for number in (1, 2, 3):
        (tmp_path / f"generation-{number:08d}").mkdir()
        (tmp_path / f"generation-{number:08d}" / "rows.f32").touch()

    remove_files(tmp_path, [2])

    assert [p.name for p in tmp_path.iterdir()] == ["generation-00000002"]


def test_a_change_reads_back(store):
    change = Change("some-id", "rollback", SECOND, "failed", "why", 5, 6, 2)

    with store.write() as txn:
        put_change(txn, change)

    with store.read() as view:
        assert newest_change(view) == change
    assert change.ended
    assert not dataclasses.replace(change, phase="draining").ended


def test_the_ids_of_the_last_changes_are_known(store):
    for n in range(20):
        for phase in ("loading", "done"):
            with store.write() as txn:
                put_change(txn, Change(f"change-{n}", "reindex", SECOND, phase))

    with store.read() as view:
        assert known_ids(view) == [f"change-{n}" for n in range(4, 20)]


def test_a_generation_survives_its_way_to_a_process():
    assert Generation.from_json(SECOND.to_json()) == SECOND
    assert "\n" not in SECOND.to_json()
    assert (other_slot("a"), other_slot("b")) == ("b", "a")


def test_a_setting_that_this_version_does_not_have_is_named():
    told = json.loads(SECOND.to_json())
    told["encoding"]["colour"] = "red"

    with pytest.raises(InvalidArgument, match="colour: no such setting of an encoder"):
        Generation.from_json(json.dumps(told))
