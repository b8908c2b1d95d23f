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

from rankstream.proto.v1 import common_pb2, profiles_pb2, ranking_pb2

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


def test_a_user_is_returned_as_written_and_can_be_replaced(server):
    first = {"city": common_pb2.AttributeValue(text="Rome")}
    say(server, "roman", attributes=first, interests=["a"])
    token = say(server, "roman", attributes={"age": common_pb2.AttributeValue(number=30)})

    found = profile(server, "roman", token).user

    assert found.attributes["age"].number == 30
    assert "city" not in found.attributes
    assert not found.interests


def test_the_ids_of_one_person_share_one_profile(server):
    record(server, event("web-7", "alien", event_id="w1"), event("app-7", "nemo", event_id="a1"))
    token = say(server, "person", identities=["web-7", "app-7"])
    later = record(server, event("person", "toy", event_id="p1"))

    for user in ("person", "web-7", "app-7"):
        found = profile(server, user, token)
        profile(server, user, later)
        assert {"alien", "nemo"} <= {i.item_id for i in found.interactions}
        assert found.canonical_user_id == ("" if user == "person" else "person")
    answers = [ask(server, user_id=user) for user in ("person", "web-7")]
    assert answers[0].items == answers[1].items


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


def test_a_reset_forgets_and_a_purge_forgets_more(server):
    token = say(server, "leaver", interests=["jazz"], identities=["leaver-web"])
    recorded = record(server, event("leaver", "alien"), event("leaver-web", "nemo"))
    profile(server, "leaver", token)
    assert profile(server, "leaver", recorded).history_size == 2

    reset = server.profiles.ResetProfile(
        profiles_pb2.ResetProfileRequest(user_id="leaver"), timeout=20
    )
    forgotten = profile(server, "leaver", reset.token)
    assert (forgotten.history_size, forgotten.seen_size) == (0, 0)
    assert forgotten.user.interests == ["jazz"]
    assert forgotten.watermark_ms == reset.watermark_ms

    purge = server.profiles.PurgeUser(profiles_pb2.PurgeUserRequest(user_id="leaver"), timeout=20)
    gone = profile(server, "leaver", purge.token)
    assert not gone.HasField("user")
    assert profile(server, "leaver-web", purge.token).canonical_user_id == ""
    assert {r.place for r in purge.remains} == {"log", "dead_letters", "counters", "texts"}


def test_what_is_recorded_just_before_a_merge_moves_along(server):
    """Without a token: the merge itself waits for what the log has."""
    record(server, *(event("visitor", "alien", event_id=f"v{n}") for n in range(50)))
    request = profiles_pb2.MergeProfilesRequest(from_user_id="visitor", into_user_id="settled")

    merged = server.profiles.MergeProfiles(request, timeout=20)

    assert merged.moved == 50
    assert profile(server, "settled", merged.token).history_size == 50
    request.read_after.allow_stale = True
    with refused(StatusCode.INVALID_ARGUMENT, field="read_after.allow_stale"):
        server.profiles.MergeProfiles(request, timeout=20)


def test_a_purge_reaches_what_a_clock_ahead_has_written(server):
    ahead = int(time.time() * 1000) + 100_000
    token = record(server, event("early", "alien", event_time_ms=ahead))
    assert profile(server, "early", token).history_size == 1

    purge = server.profiles.PurgeUser(profiles_pb2.PurgeUserRequest(user_id="early"), timeout=20)

    assert purge.watermark_ms == ahead
    assert profile(server, "early", purge.token).history_size == 0


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


def test_a_merge_gives_a_guests_interactions_to_a_user(server):
    token = record(
        server,
        event("guest", "alien", event_id="g1"),
        event("guest", "nemo", "impression", event_id="g2"),
        event("guest", "", "search", text="the mafia", event_id="g3"),
    )
    record(server, event("member", "toy", event_id="m1"))
    before = profile(server, "guest", token)
    request = profiles_pb2.MergeProfilesRequest(
        from_user_id="guest", into_user_id="member", read_after=after(token)
    )

    merged = server.profiles.MergeProfiles(request, timeout=20)
    again = server.profiles.MergeProfiles(
        profiles_pb2.MergeProfilesRequest(
            from_user_id="guest", into_user_id="member", read_after=after(merged.token)
        ),
        timeout=20,
    )

    assert merged.moved == before.history_size + 1 == 3
    assert again.moved == 0
    found = profile(server, "member", merged.token)
    assert {(i.item_id, i.text) for i in found.interactions} == {
        ("alien", ""),
        ("toy", ""),
        ("", "the mafia"),
    }
    assert profile(server, "guest", merged.token).history_size == 0
    with refused(StatusCode.INVALID_ARGUMENT, field="into_user_id"):
        server.profiles.MergeProfiles(
            profiles_pb2.MergeProfilesRequest(from_user_id="a", into_user_id="a"), timeout=20
        )


def test_an_export_holds_everything(server):
    token = say(server, "exporter", interests=["jazz"])
    later = record(
        server,
        event("exporter", "alien", event_id="x1"),
        event("exporter", "nemo", "impression", event_id="x2", position=3),
    )
    profile(server, "exporter", token)
    request = profiles_pb2.ExportUserRequest(user_id="exporter", read_after=after(later))

    found = list(server.profiles.ExportUser(request, timeout=20))

    assert found[0].user.interests == ["jazz"]
    exported = [(r.interaction.item_id, r.interaction.position) for r in found[1:]]
    assert sorted(exported) == [("alien", 0), ("nemo", 3)]


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


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"user_id": ""}, "user.user_id"),
        ({"user_id": "a", "identities": ["a"]}, "user.identities[0]"),
        ({"user_id": "a", "identities": [str(n) for n in range(17)]}, "user.identities"),
        ({"user_id": "a", "interests": ["x" * 2001]}, "user.interests[0]"),
        ({"user_id": "a", "attributes": {"x": {}}}, "user.attributes['x']"),
        (
            {"user_id": "a", "attributes": {"x": {"number": float("inf")}}},
            "user.attributes['x'].number",
        ),
    ],
)
def test_bad_users_name_their_field(server, fields, field):
    with refused(StatusCode.INVALID_ARGUMENT, field=field):
        say(server, **fields)


def test_every_new_limit_is_published(server):
    names = {limit.name for limit in info(server).limits}

    assert {"max_interests", "max_identities", "max_session_events", "max_kept_texts"} <= names
