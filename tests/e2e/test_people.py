"""Who users are: what is kept of them, merged, forgotten and given out, over a whole server."""

import time

import grpc
import pytest
from requests_to import after, catalogue, event, profile, record, refused, upsert

from rankstream.proto.v1 import common_pb2, profiles_pb2, ranking_pb2

StatusCode = grpc.StatusCode
WHOLE = {"whole_catalogue": ranking_pb2.WholeCatalogue()}


@pytest.fixture(scope="module")
def server(serve_on):
    started = serve_on("people.", bias_weight=0.0).start()
    upsert(started, catalogue())
    yield started
    assert "Traceback" not in started.log


def say(server, user_id, **fields):
    request = profiles_pb2.UpsertUserRequest(user={"user_id": user_id, **fields})
    return server.profiles.UpsertUser(request, timeout=20).token


def ask(server, **fields):
    return server.ranking.Rank(ranking_pb2.RankRequest(**{**WHOLE, **fields}), timeout=20)


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
