"""The freshness token: what a write reached, and nothing else reads as one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankstream.server.errors import InvalidArgument, NotOwned
from rankstream.server.stream.token import is_reached, pack_token, unpack_token
from rankstream.server.types import Position

EVENTS, ITEMS = b"events-topic-id.", b"items-topic-id.."

positions = st.builds(
    Position,
    st.sampled_from(["events", "items"]),
    st.sampled_from([EVENTS, ITEMS]),
    st.integers(0, 5),
    st.integers(0, 2**63 - 1),
)


def applied(*positions_reached):
    return {(p.lane, p.topic_id, p.partition): p.next_offset for p in positions_reached}


@given(st.lists(positions, max_size=20))
def test_a_token_names_the_furthest_offset_of_each_partition(given_positions):
    furthest = {}
    for p in given_positions:
        name = (p.lane, p.topic_id, p.partition)
        furthest[name] = max(furthest.get(name, 0), p.next_offset)

    found = unpack_token(pack_token(given_positions))

    assert applied(*found) == furthest
    assert len(found) == len(furthest)


@given(st.lists(positions, max_size=20), st.randoms())
def test_a_token_does_not_depend_on_the_order(given_positions, random):
    shuffled = list(given_positions)
    random.shuffle(shuffled)

    assert pack_token(shuffled) == pack_token(given_positions)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(token):
    try:
        found = unpack_token(token)
    except InvalidArgument:
        return
    assert token.startswith(b"R1")
    assert applied(*unpack_token(pack_token(found))).keys() == applied(*found).keys()


@given(st.lists(positions, min_size=1, max_size=4), st.data())
def test_a_damaged_token_is_read_or_refused(given_positions, data):
    token = bytearray(pack_token(given_positions))
    token[data.draw(st.integers(0, len(token) - 1))] ^= data.draw(st.integers(1, 255))

    try:
        found = unpack_token(bytes(token))
    except InvalidArgument:
        return
    assert all(p.next_offset >= 0 for p in found)


@pytest.mark.parametrize(
    "token",
    [
        b"R",
        b"R2",
        b"R1x",
        pack_token([Position("items", ITEMS, 0, 1)])[:-1],
        pack_token([Position("items", ITEMS, 0, 1)]) + b"\0",
        b"R1" + bytes(29 * 4097),
        b"R1\x03" + bytes(28),
        b"R1" + bytes(21) + b"\xff" * 8,
    ],
    ids=["short", "magic", "rest", "cut", "long", "many", "lane", "offset"],
)
def test_what_is_no_token_is_refused(token):
    with pytest.raises(InvalidArgument, match="pass (it|a write's token) on unchanged") as refused:
        unpack_token(token, "requests[1].min_token")

    assert refused.value.field == "requests[1].min_token"


def test_a_token_is_reached_when_every_partition_is():
    wanted = [Position("events", EVENTS, 0, 5), Position("items", ITEMS, 0, 2)]

    assert is_reached(wanted, applied(*wanted))
    assert is_reached([], {})
    behind = applied(Position("events", EVENTS, 0, 99), Position("items", ITEMS, 0, 1))
    assert not is_reached(wanted, behind)


@pytest.mark.parametrize(
    "foreign",
    [
        Position("events", EVENTS, 1, 0),
        Position("events", ITEMS, 0, 0),
        Position("items", EVENTS, 0, 0),
    ],
)
def test_a_partition_that_is_not_folded_is_named_even_behind_one_not_reached(foreign):
    here = applied(Position("events", EVENTS, 0, 5))

    with pytest.raises(NotOwned, match=f"partition {foreign.partition} .*does not fold"):
        is_reached([Position("events", EVENTS, 0, 6), foreign], here)
