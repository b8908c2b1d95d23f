"""Requests to tasks: every limit has its answer; answers to responses."""

import numpy as np
import pytest
from google.protobuf.json_format import ParseDict

from rankstream.proto.v1 import common_pb2, ranking_pb2
from rankstream.server.announce import Announcements, slot_of
from rankstream.server.asked_wire import RequestForm
from rankstream.server.candidates import id_at
from rankstream.server.catalog.blocks import make_layout
from rankstream.server.config import Limits, Scoring
from rankstream.server.errors import InvalidArgument, SpaceMismatch
from rankstream.server.filters import Filter, equals, exists
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.stream.token import pack_token
from rankstream.server.types import (
    Head,
    Position,
    RankAnswer,
    StageTimes,
    item_key,
)
from rankstream.server.wire import (
    ANY_STATE,
    Names,
    RankEncoder,
    encode_field,
    freshness_to_pb,
    rank_task_from_pb,
    read_after_from_pb,
    similar_task_from_pb,
    vector_to_pb,
)

LIMITS = Limits(
    max_id_bytes=8,
    max_candidates=4,
    max_k=3,
    max_exclusions=2,
    max_explained=5,
    max_reasons=6,
    max_wait_ms=1000,
)
LAYOUT = make_layout(4, Scoring())
FORM = RequestForm(LIMITS, LAYOUT, FoldSettings(), "space")
WIDE = RequestForm(Limits(), LAYOUT, FoldSettings(), "space")
WHOLE = {"wholeCatalogue": {}}
NAMES = Names("1.2", "worker-0/1", "space", {"events": "e", "items": "i"}, {3: "click"})


def request(**fields):
    return ParseDict({"userId": "ann", **fields}, ranking_pb2.RankRequest())


def ids(*names):
    return {"itemIds": {"itemIds": list(names)}}


def ids_in(task):
    asked = task.candidates.read()
    return [id_at(asked, place) for place in range(len(asked.keys))]


def keys(*numbers):
    return {"itemKeys": {"itemKeys": list(numbers)}}


REFUSED = [
    (request(**WHOLE, userId=""), "user_id", "empty"),
    (request(**WHOLE, userId="a" * 9), "user_id", "longer than 8 bytes"),
    (request(**WHOLE, userId="ü" * 5), "user_id", "longer than 8 bytes"),
    (request(**WHOLE, userId="a\0b"), "user_id", "NUL"),
    (request(), "candidates", "not set"),
    (request(**ids(*"abcde")), "item_ids.item_ids", "5 candidates, the limit is 4"),
    (request(**keys(1, 2, 3, 4, 5)), "item_keys.item_keys", "5 candidates, the limit is 4"),
    (request(**WHOLE, k=4), "k", "4, the limit is 3"),
    (request(**ids(*"abcd"), k=4), "k", "4, the limit is 3"),
    (request(**WHOLE, k=2**32 - 1), "k", "the limit is 3"),
    (request(**WHOLE, excludeItemIds=["a", "b", "c"]), "exclude_item_ids", "3 exclusions"),
    (request(**WHOLE, explain={"items": 6}), "explain.items", "6, the limit is 5"),
    (request(**WHOLE, explain={"items": 1, "reasons": 7}), "explain.reasons", "the limit is 6"),
]


@pytest.mark.parametrize(("sent", "field", "problem"), REFUSED, ids=[r[1] for r in REFUSED])
def test_each_limit_names_its_field(sent, field, problem):
    with pytest.raises(InvalidArgument) as refused:
        rank_task_from_pb(sent, FORM, "requests[3].")

    assert refused.value.field == "requests[3]." + field
    assert problem in refused.value.problem


def test_what_is_exactly_at_a_limit_is_taken():
    task = rank_task_from_pb(
        request(
            userId="ü" * 4,
            **ids("a", "b", "c" * 8, "d"),
            k=3,
            excludeItemIds=["a", "b"],
            explain={"items": 5, "reasons": 6},
        ),
        FORM,
        "",
    )

    assert (task.user, task.k, task.explained, task.reasons) == ("üüüü".encode(), 3, 5, 6)
    assert task.excluded.tolist() == [item_key("a"), item_key("b")]
    assert ids_in(task) == ["a", "b", "c" * 8, "d"]


@pytest.mark.parametrize(
    ("sent", "k"),
    [
        (request(**WHOLE), 10),
        (request(**WHOLE, k=0), 0),
        (request(**ids("a", "b", "a")), 3),
        (request(**ids("a", "b"), k=1), 1),
        (request(**ids("a", "b"), k=900), 2),
        (request(**ids()), 0),
        (request(**keys(1, 2)), 2),
    ],
)
def test_k_has_a_default_and_never_exceeds_the_candidates_given(sent, k):
    assert rank_task_from_pb(sent, WIDE, "").k == k


def test_repeated_candidates_count_once_in_their_first_order():
    by_id = rank_task_from_pb(request(**ids("b", "a", "b", "c", "a")), WIDE, "")
    by_key = rank_task_from_pb(request(**keys(9, 2**64 - 1, 9, 5)), WIDE, "")

    assert ids_in(by_id) == ["b", "a", "c"]
    assert by_id.candidates.read().keys.tolist() == [item_key(n) for n in "bac"]
    assert by_key.candidates.tolist() == [9, 2**64 - 1, 5]


def test_an_id_and_its_key_ask_for_the_same_item():
    by_id = rank_task_from_pb(request(**ids("a")), WIDE, "")
    by_key = rank_task_from_pb(request(**keys(item_key("a"))), WIDE, "")

    np.testing.assert_array_equal(by_id.candidates.read().keys, by_key.candidates)


def test_the_whole_catalogue_has_no_candidates():
    task = rank_task_from_pb(request(**WHOLE, excludeSeen=True), WIDE, "")

    assert task.candidates is None
    assert task.exclude_seen
    assert (task.explained, task.reasons) == (10, 3)


def test_a_filter_has_no_candidates_and_the_default_k():
    asked = {"condition": {"column": "brand", "equals": {"text": "acme"}}}

    task = rank_task_from_pb(request(filter=asked), WIDE, "")

    assert (task.candidates, task.k) == (None, 10)
    assert task.filter == Filter.make(equals("brand", "acme"))
    assert rank_task_from_pb(request(**WHOLE), WIDE, "").filter is None


def test_a_filter_that_is_refused_names_its_place_in_the_request():
    with pytest.raises(InvalidArgument) as refused:
        rank_task_from_pb(request(filter={"all": {"filters": [{}]}}), FORM, "requests[3].")

    assert refused.value.field == "requests[3].filter.all.filters[0]"


def test_a_filter_of_similar_items():
    asked = {"condition": {"column": "brand", "exists": True}}
    sent = {"itemId": "sea", "filter": asked}
    task = similar_task_from_pb(ParseDict(sent, ranking_pb2.SimilarItemsRequest()), WIDE)

    assert task.filter == Filter.make(exists("brand"))
    plain = ranking_pb2.SimilarItemsRequest(item_id="sea")
    assert similar_task_from_pb(plain, WIDE).filter is None
    empty = ranking_pb2.SimilarItemsRequest(item_id="sea", filter=ranking_pb2.Filter())
    with pytest.raises(InvalidArgument, match="^filter: not set"):
        similar_task_from_pb(empty, WIDE)


def test_no_reasons_are_asked_of_no_item():
    task = rank_task_from_pb(request(**WHOLE, explain={"reasons": 0, "items": 4}), FORM, "")

    assert (task.explained, task.reasons) == (0, 0)


def test_a_freshness_contract_reads():
    wanted = Position("events", b"0123456789abcdef", 3, 17)
    token = pack_token([wanted])

    full = read_after_from_pb(
        common_pb2.ReadAfter(min_token=token, max_wait_ms=1000, allow_stale=True), LIMITS
    )
    plain = read_after_from_pb(common_pb2.ReadAfter(min_token=token), LIMITS)

    assert (full.wanted, full.max_wait_s, full.allow_stale) == ((wanted,), 1.0, True)
    assert (plain.max_wait_s, plain.allow_stale) == (None, False)
    assert read_after_from_pb(common_pb2.ReadAfter(max_wait_ms=10**6), LIMITS) is ANY_STATE


def test_a_contract_that_does_not_read_names_its_field():
    garbage = common_pb2.ReadAfter(min_token=b"garbage")
    long = common_pb2.ReadAfter(min_token=pack_token([]), max_wait_ms=1001)

    with pytest.raises(InvalidArgument) as token:
        read_after_from_pb(garbage, LIMITS, "requests[1].")
    with pytest.raises(InvalidArgument) as wait:
        read_after_from_pb(long, LIMITS)

    assert token.value.field == "requests[1].read_after.min_token"
    assert wait.value.field == "read_after.max_wait_ms"
    assert wait.value.problem == "1001, the limit is 1000"


ITEMS = [ranking_pb2.RankedItem(item_id="a", rank=1, score=1.5), ranking_pb2.RankedItem()]


def answer(**fields):
    defaults = {
        "items": memoryview(ranking_pb2.RankResponse(items=ITEMS).SerializeToString()),
        "missing": [],
        "fallback": "",
        "updated_at_ms": 5,
        "applied": [],
        "head": Head(2, 10, 7, 9),
        "queue_us": 11,
        "times": StageTimes(1, 2, 3, 4, 6),
    }
    return RankAnswer(**{**defaults, **fields})


def respond(found, task):
    layout = make_layout(3, Scoring(vectors="image:2"))
    fresh = common_pb2.Freshness(stale=True)
    encoded = RankEncoder.make(layout, NAMES).encode(found, task, "r1", fresh, 12)
    return ranking_pb2.RankResponse.FromString(encoded)


def test_a_response_holds_the_whole_answer():
    task = rank_task_from_pb(request(**WHOLE), WIDE, "")

    response = respond(answer(fallback="unknown_user"), task)

    assert list(response.items) == ITEMS
    assert list(response.block_names) == ["text", "attributes", "image"]
    assert (response.request_id, response.freshness.stale) == ("r1", True)
    served, timing = response.served_by, response.timing
    assert (served.server_version, served.worker) == ("1.2", "worker-0/1")
    assert (served.space_fingerprint, served.generation) == ("space", 2)
    assert served.fallback == "unknown_user"
    assert (timing.queue_us, timing.total_us, timing.batch_size) == (11, 12, 6)
    assert (timing.gather_us, timing.pool_us, timing.score_us, timing.present_us) == (1, 2, 3, 4)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 20_000, 3_000_000])
def test_an_encoded_field_is_what_protobuf_reads(size):
    response = ranking_pb2.RankResponse(request_id="r" * size).SerializeToString()

    whole = b"".join(encode_field(2, response))

    assert ranking_pb2.BatchRankEntry.FromString(whole).response.request_id == "r" * size


def test_missing_candidates_are_named_as_they_were_asked_for():
    task = rank_task_from_pb(request(**ids("a", "b", "c")), WIDE, "")

    ids_response = respond(answer(missing=["a", "c"]), task)
    keys_response = respond(answer(missing=[5, 7]), task)

    assert list(ids_response.missing_item_ids) == ["a", "c"]
    assert list(ids_response.missing_item_keys) == []
    assert list(keys_response.missing_item_keys) == [5, 7]


def test_lag_is_what_the_log_holds_behind_the_position(tmp_path):
    page = Announcements(tmp_path / "announce", write=True)
    page.set_partition(slot_of("events", 0), 10, 0)
    page.set_partition(slot_of("events", 1), 3, 0)
    topic = b"0123456789abcdef"
    applied = [
        Position("events", topic, 0, 7),
        Position("events", topic, 1, 4),
        Position("items", topic, 0, 9),
    ]

    fresh = freshness_to_pb(applied, page, NAMES.topics, 42)

    found = [(a.topic, a.partition, a.next_offset, a.lag) for a in fresh.applied]
    assert found == [("e", 0, 7, 3), ("e", 1, 4, 0), ("i", 0, 9, -1)]
    assert fresh.catalogue_version == 42


def test_a_vector_is_little_endian_bytes_with_its_shape():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::2]

    message = vector_to_pb(values)

    assert list(message.shape) == [2, 2]
    assert message.dtype == common_pb2.Vector.FLOAT32
    np.testing.assert_array_equal(
        np.frombuffer(message.data, "<f4").reshape(2, 2), [[0, 2], [3, 5]]
    )


def test_a_vector_of_another_space_is_refused_and_both_are_named():
    row = vector_to_pb(np.ones(LAYOUT.blocks[0].dimensions, np.float32))
    row.space = "space"
    sent = ranking_pb2.RankRequest(vector=row)
    sent.whole_catalogue.SetInParent()
    assert rank_task_from_pb(sent, FORM, "").asked.vector is not None

    sent.vector.space = "other"
    with pytest.raises(SpaceMismatch, match="of space other, expected space"):
        rank_task_from_pb(sent, FORM, "")
