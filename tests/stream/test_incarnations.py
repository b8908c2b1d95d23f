import pytest

from rankstream.server.stream.incarnations import (
    MAX_INCARNATIONS,
    BrokerState,
    carry_positions,
    load_state,
    save_state,
)

FIRST = BrokerState(port=1234, clean=True, incarnations=()).begin({})


def test_a_state_reads_back_as_it_was_written(tmp_path):
    state = FIRST.begin({"events": (7, 8), "items": (9,)})

    save_state(tmp_path, state)

    assert load_state(tmp_path) == state


def test_a_folder_without_a_state_has_none(tmp_path):
    assert load_state(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"port":1,"clean":true,"incarnations":[{}]}']
)
def test_a_damaged_state_is_an_error_and_not_a_new_beginning(tmp_path, text):
    (tmp_path / "broker.json").write_text(text)

    with pytest.raises(ValueError, match="."):
        load_state(tmp_path)


def test_the_number_of_incarnations_is_bounded_and_the_oldest_go():
    state = FIRST
    for _ in range(MAX_INCARNATIONS):
        state = state.begin({})

    assert len(state.incarnations) == MAX_INCARNATIONS
    assert FIRST.incarnations[0] not in state.incarnations


def test_a_position_of_the_current_incarnation_stays():
    (life,) = FIRST.incarnations
    stored = {(life.topic_id("events"), 1): 5}

    assert carry_positions(stored, ["events"], [life]) == stored


def test_a_position_is_lowered_to_the_least_end_of_the_lives_since():
    state = FIRST.begin({"events": (40, 100)}).begin({"events": (60, 70)})
    old, _, now = state.incarnations
    stored = {(old.topic_id("events"), 0): 50, (old.topic_id("events"), 1): 90}

    carried = carry_positions(stored, ["items", "events"], state.incarnations)

    assert carried == {(now.topic_id("events"), 0): 40, (now.topic_id("events"), 1): 70}


def test_a_position_is_not_lowered_by_the_end_its_own_life_began_with():
    state = FIRST.begin({"events": (10,)})
    now = state.incarnations[-1]
    stored = {(now.topic_id("events"), 0): 25}

    assert carry_positions(stored, ["events"], state.incarnations) == stored


def test_a_topic_that_a_crash_lost_begins_at_zero():
    state = FIRST.begin({"items": (3,)})
    old, now = state.incarnations

    carried = carry_positions({(old.topic_id("events"), 0): 50}, ["events"], state.incarnations)

    assert carried == {(now.topic_id("events"), 0): 0}


def test_an_unknown_id_is_kept_for_the_check_to_refuse():
    stored = {(b"?" * 16, 0): 5}

    assert carry_positions(stored, ["events"], FIRST.incarnations) == stored
