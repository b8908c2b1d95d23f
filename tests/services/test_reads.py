"""Rankings, items and profiles, as a worker answers them."""

import pytest
from google.rpc import code_pb2
from service_calls import codes
from worker_services import after, ask, whole

from rankstream.proto.v1 import catalog_pb2, profiles_pb2, ranking_pb2
from rankstream.server.errors import NotFound, StaleState
from rankstream.server.types import item_key


def test_a_ranking_is_answered_with_its_freshness(services):
    response = ask(services.ranking.Rank, whole(request_id="r", read_after=after(2)))

    assert [i.item_id for i in response.items][0] == "sea"
    assert response.request_id == "r"
    assert response.freshness.profile_updated_at_ms == 6
    assert not response.freshness.stale
    assert [(a.topic, a.next_offset, a.lag) for a in response.freshness.applied] == [
        ("e", 2, -1), ("i", 1, -1)
    ]  # fmt: skip
    assert response.timing.batch_size == 1


def test_a_ranking_that_is_too_early_is_refused_or_stale(services):
    with pytest.raises(StaleState):
        ask(services.ranking.Rank, whole(read_after=after(3)))

    stale = ask(services.ranking.Rank, whole(read_after=after(3, allow_stale=True)))

    assert stale.freshness.stale
    assert len(stale.items) == 3


def test_one_bad_entry_of_a_batch_spoils_no_other(services):
    request = ranking_pb2.BatchRankRequest(
        requests=[
            whole(request_id="a"),
            whole(user=""),
            whole(request_id="c", read_after=after(99)),
            whole(user="nobody", request_id="d", k=1),
        ]
    )

    response = ask(services.ranking.BatchRank, request)

    first, second, third, fourth = response.entries
    assert codes(response.entries) == [
        code_pb2.OK, code_pb2.INVALID_ARGUMENT, code_pb2.DEADLINE_EXCEEDED, code_pb2.OK
    ]  # fmt: skip
    assert second.status.message.startswith("requests[1].user_id: ")
    assert (first.response.request_id, fourth.response.request_id) == ("a", "d")
    assert not second.HasField("response")
    assert third.status.message
    assert len(fourth.response.items) == 1
    assert first.response.timing.batch_size == 2


def test_an_empty_batch_is_an_empty_answer(services):
    assert len(ask(services.ranking.BatchRank, ranking_pb2.BatchRankRequest()).entries) == 0


def test_an_item_is_shown_as_it_is_ranked(services):
    found = ask(services.catalog.GetItem, catalog_pb2.GetItemRequest(item_id="sky"))

    assert found.item.title == "the sky"
    assert (found.text, found.item_row, found.generation) == ("the sky", 1, 1)
    assert found.catalogue_version == 1
    with pytest.raises(NotFound, match="does not hold 'never'"):
        ask(services.catalog.GetItem, catalog_pb2.GetItemRequest(item_id="never"))


def test_a_profile_is_shown_newest_first(services):
    found = ask(services.profiles.GetProfile, profiles_pb2.GetProfileRequest(user_id="ann"))

    shown = [(i.item_id, i.item_key, i.type, i.event_time_ms, i.weight) for i in found.interactions]
    assert shown == [
        ("", item_key("gone"), "view", 6, 0.5),
        ("sea", item_key("sea"), "click", 5, 1.0),
    ]
    assert (found.known, found.history_size, found.seen_size) == (True, 2, 2)
    assert not found.HasField("watermark_ms")


@pytest.mark.parametrize(("most", "shown"), [(0, 0), (1, 1), (99, 2)])
def test_a_profile_shows_no_more_than_asked(services, most, shown):
    request = profiles_pb2.GetProfileRequest(user_id="ann", max_interactions=most)

    found = ask(services.profiles.GetProfile, request)

    assert (len(found.interactions), found.history_size) == (shown, 2)


def test_a_user_that_nobody_knows_has_an_empty_profile(services):
    found = ask(services.profiles.GetProfile, profiles_pb2.GetProfileRequest(user_id="nobody"))

    assert (found.known, found.history_size) == (False, 0)
