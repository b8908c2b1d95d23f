import pytest

from rankstream.server.stream.positions import (
    OffsetOutsideLog,
    PartitionCountChanged,
    TopicRecreated,
    check_highwater,
    check_positions,
)
from rankstream.server.stream.topics import LogBounds, TopicDescription

ID = bytes(range(16))
COUNTS = {"events": 2}
DESCRIBED = {"events": TopicDescription(ID, 2)}
BOUNDS = {("events", 0): LogBounds(10, 100), ("events", 1): LogBounds(0, 0)}


@pytest.mark.parametrize("next_offset", [10, 99, 100])
def test_a_position_inside_the_log_is_accepted(next_offset):
    check_positions({(ID, 0): next_offset, (ID, 1): 0}, COUNTS, DESCRIBED, BOUNDS)


def test_no_positions_are_accepted():
    check_positions({}, COUNTS, DESCRIBED, BOUNDS)


def test_an_id_that_no_topic_has_is_a_recreated_topic():
    with pytest.raises(TopicRecreated, match=r"events has id 0001.*--data-dir"):
        check_positions({(b"x" * 16, 0): 50}, COUNTS, DESCRIBED, BOUNDS)


def test_a_missing_topic_is_refused():
    with pytest.raises(TopicRecreated, match="events does not exist"):
        check_positions({(ID, 0): 50}, COUNTS, {}, {})


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_partitions_is_refused(count):
    described = {"events": TopicDescription(ID, count)}

    with pytest.raises(PartitionCountChanged, match=rf"{count} partitions.*built with 2"):
        check_positions({(ID, 0): 50}, COUNTS, described, BOUNDS)


def test_a_position_past_the_end_is_refused_and_says_by_how_much():
    with pytest.raises(OffsetOutsideLog, match=r"events/0 ends at offset 100.*1 records"):
        check_positions({(ID, 0): 101}, COUNTS, DESCRIBED, BOUNDS)


def test_a_position_before_the_log_is_refused_unless_partial_history_is_accepted():
    stored = {(ID, 0): 4}

    with pytest.raises(OffsetOutsideLog, match=r"6 records.*--accept-partial-history"):
        check_positions(stored, COUNTS, DESCRIBED, BOUNDS)
    check_positions(stored, COUNTS, DESCRIBED, BOUNDS, accept_partial_history=True)


def test_partial_history_does_not_excuse_a_position_past_the_end():
    with pytest.raises(OffsetOutsideLog):
        check_positions({(ID, 0): 101}, COUNTS, DESCRIBED, BOUNDS, accept_partial_history=True)


def test_a_position_at_the_highwater_is_accepted_and_one_past_it_is_not():
    check_highwater("events", 0, 7, 7)
    with pytest.raises(OffsetOutsideLog):
        check_highwater("events", 0, 8, 7)
