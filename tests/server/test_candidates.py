"""Candidates: bytes until a kernel reads them, names again where an answer lacks them."""

import numpy as np
import pytest

from rankstream.proto.v1 import ranking_pb2
from rankstream.server.candidates import GivenIds, count_candidates, id_at, joined, missing_names
from rankstream.server.errors import InvalidArgument


def given(*names):
    """Ids as a request has them."""
    wire = ranking_pb2.ItemIds(item_ids=names).SerializeToString()
    return GivenIds(wire, len(names), 8, "requests[3].item_ids.item_ids")


@pytest.mark.parametrize(
    ("names", "place", "problem"),
    [(("a", ""), 1, "empty, expected an id"), (("a", "b", "c" * 9), 2, "longer than 8 bytes")],
)
def test_a_bad_id_is_named_by_its_place(names, place, problem):
    with pytest.raises(InvalidArgument) as refused:
        given(*names).read()

    assert str(refused.value) == f"requests[3].item_ids.item_ids[{place}]: {problem}"


def test_ids_are_read_once_each():
    ids = given("ä", "b", "ä").read()

    assert [id_at(ids, place) for place in range(len(ids.keys))] == ["ä", "b"]


def test_what_is_missing_is_called_as_it_was_given():
    keys = np.array([7, 1 << 63], np.uint64)
    asked = [given("ab", "c"), keys, given("d")]
    candidates = joined(asked)
    text = candidates.wires.tobytes()

    missing = np.array([[0, text.index(b"c"), text.index(b"c") + 1], [1, 1, -1]])

    assert [count_candidates(one) for one in asked] == [2, 2, 1]
    assert candidates.counts.tolist() == [2, -1, 1]
    assert missing_names(missing, asked, candidates) == [["c"], [1 << 63], []]
