"""What may be asked: freshness, candidates, batches and profiles, over each broker."""

import time

import grpc
import pytest
from requests_to import (
    TITLES,
    WHOLE,
    after,
    beyond,
    catalogue,
    event,
    ids_of,
    item_key,
    profile,
    rank,
    record,
    refused,
    upsert,
)

from rankstream.proto.v1 import ranking_pb2

StatusCode = grpc.StatusCode


@pytest.fixture(scope="module")
def server(serve_on):
    """A server with a small catalogue; tests write for users of their own."""
    started = serve_on("reads.", vectors="image:3:0.5").start()
    upsert(started, catalogue())
    return started


class TestFreshness:
    def test_every_write_is_seen_by_a_read_that_carries_its_token(self, server):
        for n in range(20):
            token = record(server, event("fresh", "toy", event_id=f"fresh-{n}"))
            assert profile(server, "fresh", token).history_size == n + 1

    def test_a_token_not_reached_in_time(self, server):
        future = beyond(record(server, event("slow", "toy")))
        request = {"candidates": WHOLE, "read_after": after(future, 50)}

        with refused(StatusCode.DEADLINE_EXCEEDED, "min_token", "50 ms", "allow_stale"):
            server.ranking.Rank(self.request(**request), timeout=10)

    def test_a_stale_answer_says_so(self, server):
        future = beyond(record(server, event("stale", "toy")))
        request = self.request(read_after=after(future, 20, allow_stale=True))

        answer = server.ranking.Rank(request, timeout=10)

        assert answer.freshness.stale
        assert answer.items

    def test_a_token_of_another_log_is_refused(self, server):
        token = record(server, event("foreign", "toy"))
        foreign = token[:3] + bytes(b ^ 0xFF for b in token[3:19]) + token[19:]

        with refused(StatusCode.FAILED_PRECONDITION, "does not fold"):
            server.ranking.Rank(self.request(read_after=after(foreign)), timeout=10)

    @pytest.mark.parametrize(
        "token", [b"x", b"R1garbage", b"R2" + b"\0" * 29, b"R1\x09" + b"\0" * 28]
    )
    def test_garbage_is_refused(self, server, token):
        with refused(StatusCode.INVALID_ARGUMENT, "token", field="read_after.min_token"):
            server.ranking.Rank(self.request(read_after=after(token)), timeout=10)

    def test_an_answer_says_what_it_has_seen(self, server):
        began = time.time_ns() // 1_000_000
        token = record(server, event("seen-by", "toy"))
        answer = rank(server, "seen-by", token=token)

        lag = {(p.topic, p.partition): p for p in answer.freshness.applied}
        assert len(lag) == 9
        assert answer.freshness.catalogue_version > 0
        assert abs(answer.freshness.profile_updated_at_ms - began) < 60_000

    @staticmethod
    def request(**fields):
        fields.pop("candidates", None)
        return ranking_pb2.RankRequest(user_id="late", whole_catalogue=WHOLE, **fields)


class TestCandidates:
    def test_what_the_catalogue_lacks_is_reported(self, server):
        answer = rank(server, "c", ["toy", "no such", "alien", "toy", "nor this"])

        assert sorted(ids_of(answer)) == ["alien", "toy"]
        assert list(answer.missing_item_ids) == ["no such", "nor this"]

    def test_keys_do_as_ids_do(self, server):
        token = record(server, event("keys", "nemo"))
        keys = ranking_pb2.ItemKeys(item_keys=[*map(item_key, TITLES), 0, 2**64 - 1])
        request = ranking_pb2.RankRequest(user_id="keys", item_keys=keys, read_after=after(token))

        answer = server.ranking.Rank(request, timeout=10)

        assert ids_of(answer) == ids_of(rank(server, "keys", list(TITLES)))
        assert list(answer.missing_item_keys) == [0, 2**64 - 1]

    def test_excluded_items_are_left_out(self, server):
        out = ["toy", "nemo", "unknown"]

        given = rank(server, "x", list(TITLES), exclude_item_ids=out)
        retrieved = rank(server, "x", k=1000, exclude_item_ids=out)

        assert set(ids_of(given)) == set(TITLES) - set(out)
        assert not set(ids_of(retrieved)) & set(out)
        assert not given.missing_item_ids

    def test_what_was_seen_is_left_out_when_asked(self, server):
        token = record(server, event("seer", "toy"), event("seer", "alien", "impression"))

        answer = rank(server, "seer", token=token, k=1000, exclude_seen=True)

        assert not set(ids_of(answer)) & {"toy", "alien"}
        assert {"nemo", "aliens"} <= set(ids_of(answer))
        assert "toy" in ids_of(rank(server, "seer", k=1000))


def test_a_batch_loses_only_its_bad_entry(server):
    token = record(server, event("b1", "toy"), event("b2", "godfather"))
    request = ranking_pb2.BatchRankRequest(
        requests=[
            ranking_pb2.RankRequest(
                request_id="first", user_id="b1", whole_catalogue=WHOLE, read_after=after(token)
            ),
            ranking_pb2.RankRequest(request_id="bad", user_id="", whole_catalogue=WHOLE),
            ranking_pb2.RankRequest(request_id="third", user_id="b2", whole_catalogue=WHOLE, k=2),
        ]
    )

    answer = server.ranking.BatchRank(request, timeout=20)

    first, bad, third = answer.entries
    assert (first.response.request_id, third.response.request_id) == ("first", "third")
    assert ids_of(first.response)[0] == "toy"
    assert ids_of(third.response)[0] == "godfather"
    assert len(third.response.items) == 2
    assert bad.status.code == StatusCode.INVALID_ARGUMENT.value[0]
    assert "requests[1].user_id" in bad.status.message


def test_a_batch_waits_once_for_tokens_that_never_come(server):
    never = beyond(record(server, event("never", "toy")))
    entry = ranking_pb2.RankRequest(
        user_id="n", whole_catalogue=WHOLE, read_after=after(never, 300)
    )
    good = ranking_pb2.RankRequest(user_id="n", whole_catalogue=WHOLE)

    answer = server.ranking.BatchRank(
        ranking_pb2.BatchRankRequest(requests=[*[entry] * 30, good]), timeout=5
    )

    codes = [e.status.code for e in answer.entries]
    assert codes == [StatusCode.DEADLINE_EXCEEDED.value[0]] * 30 + [0]


def test_a_profile_is_newest_first_with_signed_weights(server):
    day = 86_400_000
    now = time.time_ns() // 1_000_000
    token = record(
        server,
        event("p", "toy", "rate", value=5, event_time_ms=now - day, event_id="1"),
        event("p", "nemo", "click", event_time_ms=now, event_id="2"),
        event("p", "gone", "dislike", event_time_ms=now - 2 * day, event_id="3"),
        event("p", "nemo", "click", event_time_ms=now, event_id="2"),
        event("p", "alien", "impression", event_time_ms=now, event_id="4"),
    )

    found = profile(server, "p", token)

    shown = [(i.item_id, i.item_key, i.type, i.weight) for i in found.interactions]
    assert shown == [
        ("nemo", item_key("nemo"), "click", 1),
        ("toy", item_key("toy"), "rate", 1),
        ("", item_key("gone"), "dislike", -1),
    ]
    assert found.known
    assert (found.history_size, found.seen_size) == (3, 4)
    assert not found.HasField("watermark_ms")
    newest = profile(server, "p", max_interactions=1)
    assert [i.item_id for i in newest.interactions] == ["nemo"]
    assert newest.history_size == 3
