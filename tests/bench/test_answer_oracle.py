"""The oracle passes what is right, and names what is not."""

import numpy as np
import pytest
from answer_oracle import AnswerOracle
from fake_ranking import right_answer
from load_calls import MADE_UP

from rankstream.proto.v1 import events_pb2, ranking_pb2

IDS = ["a", "b", "c", "d"]
GHOST = f"{MADE_UP}1"


class KnownRows:
    """Rows of a small catalogue."""

    def of(self, item_id):
        return IDS.index(item_id) if item_id in IDS else None


def asked(**fields):
    ids = ranking_pb2.ItemIds(item_ids=[*IDS, GHOST])
    return ranking_pb2.RankRequest(request_id="r", user_id="u", item_ids=ids, **fields)


def problems(request, response):
    return AnswerOracle(KnownRows()).problems(
        "rank", request.SerializeToString(), response.SerializeToString()
    )


def set_score(item, part):
    item.parts.blocks[0] = part
    item.score = float(np.float32(part + item.parts.bias))


def tie_in_wrong_order(response):
    response.items[0].item_id, response.items[1].item_id = "b", "a"
    for item in response.items[:2]:
        set_score(item, 1.0)


def hide_missing(response):
    response.missing_item_ids.remove(GHOST)


def miss_what_exists(response):
    gone = response.items.pop()
    response.missing_item_ids.append(gone.item_id)


def swap(response):
    response.items[1].CopyFrom(response.items[2])
    response.items[2].CopyFrom(right_answer(asked()).items[1])
    response.items[1].rank, response.items[2].rank = 2, 3


TAMPERED = {
    "a score that is not its parts'": (
        lambda r: setattr(r.items[2], "score", r.items[2].score + 1e-6),
        "c has score",
    ),
    "a score that is no number": (
        lambda r: setattr(r.items[0], "score", float("nan")),
        "a has score",
    ),
    "parts of too many blocks": (lambda r: r.items[0].parts.blocks.append(0.0), "2 parts"),
    "another order": (swap, "b (1.49"),
    "tied in wrong order": (tie_in_wrong_order, "tied"),
    "an item twice": (lambda r: setattr(r.items[1], "item_id", "a"), "more than once"),
    "an item less": (lambda r: r.items.pop(), "3 items, expected 4"),
    "a stranger": (lambda r: setattr(r.items[3], "item_id", "z"), "no candidates"),
    "what is missing is hidden": (hide_missing, "is not reported missing"),
    "what exists is missing": (miss_what_exists, "d, which exists"),
    "ranked and missing": (lambda r: r.missing_item_ids.append("a"), "are ranked, and reported"),
    "ranks from zero": (lambda r: setattr(r.items[0], "rank", 0), "ranks are"),
    "another's answer": (lambda r: setattr(r, "request_id", "s"), "request_id is 's'"),
}


def test_a_right_answer_has_no_problems():
    assert problems(asked(), right_answer(asked())) == []
    assert problems(asked(k=2), right_answer(asked(k=2))) == []
    tied = right_answer(asked())
    set_score(tied.items[1], tied.items[0].parts.blocks[0])
    assert problems(asked(), tied) == []


@pytest.mark.parametrize("case", TAMPERED)
def test_a_tampered_answer_is_caught(case):
    tamper, words = TAMPERED[case]
    response = right_answer(asked())
    tamper(response)

    found = problems(asked(), response)

    assert any(words in problem for problem in found), found


def test_excluded_items_must_stay_out():
    request = asked(exclude_item_ids=["b"])

    assert any("excluded" in p for p in problems(request, right_answer(request)))


def test_every_entry_of_a_batch_is_checked():
    batch = ranking_pb2.BatchRankRequest(requests=[asked(), asked()])
    response = ranking_pb2.BatchRankResponse()
    for request in batch.requests:
        response.entries.add(response=right_answer(request))
    response.entries[1].response.items[0].score += 1
    oracle = AnswerOracle(KnownRows())

    (found,) = oracle.problems("batch", batch.SerializeToString(), response.SerializeToString())
    assert "a has score" in found
    del response.entries[1]
    (found,) = oracle.problems("batch", batch.SerializeToString(), response.SerializeToString())
    assert found == "batch: 1 entries answer 2"


def test_events_have_an_answer_each():
    request = events_pb2.RecordEventsRequest(events=[events_pb2.Event(user_id="u")])
    answer = events_pb2.RecordEventsResponse()

    (found,) = AnswerOracle(KnownRows()).problems(
        "events", request.SerializeToString(), answer.SerializeToString()
    )
    assert found == "events: 0 entries answer 1"
