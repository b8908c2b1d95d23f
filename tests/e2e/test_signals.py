"""What people search, write and say of themselves, over a whole server and a real log."""

import itertools
import time

import grpc
import pytest
from requests_to import (
    TITLES,
    after,
    catalogue,
    event,
    ids_of,
    info,
    profile,
    rank,
    record,
    refused,
    upsert,
)
from server_process import wait_for

from rankstream.proto.v1 import profiles_pb2, ranking_pb2

StatusCode = grpc.StatusCode
WHOLE = {"whole_catalogue": ranking_pb2.WholeCatalogue()}


@pytest.fixture(scope="module")
def server(serve_on):
    started = serve_on("signals.", bias_weight=0.0).start()
    upsert(started, catalogue())
    yield started
    assert "Traceback" not in started.log


def say(server, user_id, **fields):
    request = profiles_pb2.UpsertUserRequest(user={"user_id": user_id, **fields})
    return server.profiles.UpsertUser(request, timeout=20).token


def ask(server, **fields):
    return server.ranking.Rank(ranking_pb2.RankRequest(**{**WHOLE, **fields}), timeout=20)


def until_first(server, wanted, **fields):
    """Waits until a text is encoded, which no token promises."""
    wait_for(lambda: ask(server, **fields).items[0].item_id == wanted, f"{wanted} to come first")
    return ask(server, **fields)


def until_reason(server, text, **fields):
    """Waits until a text of a profile is encoded."""

    def is_there():
        reasons = (r for item in ask(server, **fields).items for r in item.reasons)
        return any(reason.text == text for reason in reasons)

    wait_for(is_there, f"{text!r} to be encoded")


def test_a_search_decides_what_comes_first(server):
    token = record(server, event("seeker", "", "search", text="  a sinking \n ship "))
    found = until_first(server, "titanic", user_id="seeker", read_after=after(token))

    reason = found.items[0].reasons[0]
    assert (reason.type, reason.text, reason.item_id) == ("search", "a sinking ship", "")
    known = profile(server, "seeker")
    assert [(i.text, i.item_id) for i in known.interactions] == [("a sinking ship", "")]


def test_a_bad_review_pushes_away_from_its_item_and_its_words(server):
    record(server, event("critic", "casablanca", "click", event_time_ms=1_700_000_000_000))
    review = event("critic", "alien", "review", value=1, text="monsters in space bored me")
    token = record(server, review)
    wait_for(
        lambda: any(
            reason.text and reason.contribution < 0
            for item in rank(
                server, "critic", ["aliens"], token, explain={"items": 1, "reasons": 3}
            ).items
            for reason in item.reasons
        ),
        "the review's words to be encoded",
    )
    assert ids_of(rank(server, "critic", token=token))[-2:] in (
        ["alien", "aliens"],
        ["aliens", "alien"],
    )


def test_a_new_user_with_a_sentence_about_themselves_has_a_personal_answer(server):
    token = say(server, "newcomer", interests=["people in love on a big ship"])
    found = until_first(server, "titanic", user_id="newcomer", read_after=after(token))

    assert found.served_by.fallback == ""
    assert found.items[0].reasons[0].type == "$interest"
    assert rank(server, "stranger").served_by.fallback == "unknown_user"


def test_a_session_and_a_query_need_no_user(server):
    session = ranking_pb2.Session(events=[event("", "alien"), event("", "", "search", text="war")])

    by_session = ask(server, session=session, k=2)
    by_query = ask(server, query={"text": "two friends fish under the sea"}, k=1)

    assert "alien" in ids_of(by_session)
    assert {r.text for i in by_session.items for r in i.reasons} >= {"war"}
    assert ids_of(by_query) == ["nemo"]


def test_a_query_joins_a_user(server):
    token = record(server, event("joiner", "godfather"))

    plain = ask(server, user_id="joiner", read_after=after(token))
    asked = ask(server, user_id="joiner", query={"text": "a sinking ship", "weight": 10.0})

    assert ids_of(plain)[0] == "godfather"
    assert ids_of(asked)[0] == "titanic"


def test_similar_items(server):
    request = ranking_pb2.SimilarItemsRequest(item_id="alien", k=3, request_id="s")

    found = server.ranking.SimilarItems(request, timeout=20)

    assert found.request_id == "s"
    assert ids_of(found)[0] == "aliens"
    assert "alien" not in ids_of(found)
    with refused(StatusCode.NOT_FOUND, "nothing"):
        server.ranking.SimilarItems(ranking_pb2.SimilarItemsRequest(item_id="nothing"), timeout=20)


def test_an_explanation_adds_up(server):
    token = record(server, event("asker", "alien"), event("asker", "", "search", text="the sea"))
    until_reason(server, "the sea", user_id="asker", read_after=after(token))
    request = ranking_pb2.RankRequest(
        user_id="asker",
        item_ids={"item_ids": ["aliens", "no-such", "nemo"]},
        query={"text": "fish"},
        read_after=after(token),
    )
    wrong = ranking_pb2.ExplainRequest(request=request)
    wrong.request.exclude_seen = True
    with refused(StatusCode.INVALID_ARGUMENT, field="request.exclude_seen"):
        server.ranking.Explain(wrong, timeout=20)

    ranked = server.ranking.Rank(request, timeout=20)
    found = server.ranking.Explain(ranking_pb2.ExplainRequest(request=request), timeout=20)

    assert [i.item_id for i in found.items] == ["aliens", "nemo"]
    assert list(found.missing_item_ids) == ["no-such"]
    scores = {i.item_id: i.score for i in ranked.items}
    for item in found.items:
        assert item.score == scores[item.item_id]
        for b in range(len(found.block_names)):
            total = sum(c.blocks[b] for c in item.contributions)
            assert total == pytest.approx(item.parts.blocks[b], abs=1e-6)
        assert {"$query", "click"} <= {c.reason.type for c in item.contributions}


def test_a_stream_of_rankings_is_in_order_and_survives_a_bad_one(server):
    requests = [
        ranking_pb2.RankRequest(request_id=str(n), user_id="streamer", **WHOLE) for n in range(300)
    ]
    requests[100].ClearField("candidates")
    requests[200].query.text = " "
    sizes = itertools.cycle([1, 1, 7, 2])
    rest, messages = iter(requests), []
    while some := list(itertools.islice(rest, next(sizes))):
        messages.append(ranking_pb2.BatchRankRequest(requests=some))

    answers = list(server.ranking.StreamRank(iter(messages), timeout=60))

    entries = [entry for answer in answers for entry in answer.entries]
    assert len(entries) == 300
    for n, entry in enumerate(entries):
        if n in (100, 200):
            assert entry.status.code == StatusCode.INVALID_ARGUMENT.value[0]
        else:
            assert entry.response.request_id == str(n)
            assert len(entry.response.items) == len(TITLES)


def test_as_of_a_time_only_what_was_then_counts(server):
    day = 86_400_000
    now = int(time.time() * 1000)
    token = record(
        server,
        event("historian", "alien", event_time_ms=now - 10 * day),
        event("historian", "titanic", event_time_ms=now - 2 * day),
    )

    then = ask(server, user_id="historian", as_of_ms=now - 5 * day, read_after=after(token))
    today = ask(server, user_id="historian", exclude_seen=True)

    assert ids_of(then)[0] == "alien"
    assert {r.item_id for i in then.items for r in i.reasons} == {"alien"}
    assert {"alien", "titanic"}.isdisjoint(ids_of(today))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "subject"),
        ({"user_id": "a", "query": {"text": ""}}, "query.text"),
        ({"user_id": "a", "block_weights": {"nothing": 1}}, "block_weights['nothing']"),
        ({"user_id": "a", "block_weights": {"text": float("nan")}}, "block_weights['text']"),
        ({"user_id": "a", "pooling": {"half_life_s": 0}}, "pooling.half_life_s"),
        ({"user_id": "a", "pooling": {"ttl_s": -1}}, "pooling.ttl_s"),
        ({"user_id": "a", "pooling": {"type_weights": {"x": 1}}}, "pooling.type_weights['x']"),
        ({"user_id": "a", "as_of_ms": -1}, "as_of_ms"),
        ({"user_id": "a", "context": {"page": {}}}, "context['page']"),
        ({"vector": {"dtype": 1, "shape": [2], "data": b"\0" * 8}}, "vector.shape"),
        ({"session": {"events": [{"type": "click"}]}}, "session.events[0].item_id"),
        (
            {"session": {"events": [{"type": "click", "item_id": "a", "user_id": "b"}]}},
            "session.events[0].user_id",
        ),
    ],
)
def test_bad_requests_name_their_field(server, fields, field):
    with refused(StatusCode.INVALID_ARGUMENT, field=field):
        ask(server, **fields)


def test_every_new_limit_is_published(server):
    names = {limit.name for limit in info(server).limits}

    assert {"max_interests", "max_identities", "max_session_events", "max_kept_texts"} <= names
