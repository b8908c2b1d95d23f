"""Text in, events in, rankings out: the whole line, over each broker."""

import time

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from requests_to import (
    TITLES,
    WHOLE,
    after,
    blocks_of,
    catalogue,
    event,
    ids_of,
    info,
    item_key,
    log_of,
    producer,
    profile,
    rank,
    record,
    refused,
    upsert,
)
from server_process import wait_for

from rankstream.proto.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    catalog_pb2,
    encoder_pb2,
    events_pb2,
    ranking_pb2,
)

FLAGS = {"reflection": True, "vectors": "image:3:0.5"}
StatusCode = grpc.StatusCode


@pytest.fixture(scope="module", params=["embedded", "kafka"])
def server(request, serve_shared):
    """A server with a small catalogue; tests write for users of their own."""
    bootstrap = ""
    if request.param == "kafka":
        bootstrap = request.getfixturevalue("kafka_broker").bootstrap
    started = serve_shared(bootstrap, f"line-{request.param}.", **FLAGS).start()
    if not bootstrap:
        started.prefix = "rankstream."
    upsert(started, catalogue())
    return started


def assert_parts_add_up(answer):
    for item in answer.items:
        total = sum(item.parts.blocks) + item.parts.bias
        assert item.score == pytest.approx(total, rel=2**-22, abs=1e-9)


def test_an_item_goes_in_is_encoded_and_comes_out(server):
    item = catalog_pb2.Item(
        item_id="café/1", title="Amélie", description="Paris", category="romance", tags=["fr"]
    )

    token = upsert(server, [item])

    found = server.catalog.GetItem(
        catalog_pb2.GetItemRequest(item_id="café/1", read_after=after(token)), timeout=20
    )
    assert found.item == item
    assert "Amélie" in found.text
    assert "Paris" in found.text
    assert ids_of(rank(server, "someone", ["café/1"])) == ["café/1"]


def test_an_event_changes_the_ranking_and_says_why(server):
    before = rank(server, "line", list(TITLES))
    assert before.served_by.fallback == "unknown_user"

    token = record(server, event("line", "alien"))
    answer = rank(server, "line", list(TITLES), token)

    assert answer.served_by.fallback == ""
    assert ids_of(answer)[:2] == ["alien", "aliens"]
    assert not answer.freshness.stale
    assert answer.items[1].reasons[0].item_id == "alien"
    assert answer.items[1].reasons[0].type == "click"
    assert_parts_add_up(answer)
    assert [i.rank for i in answer.items] == list(range(1, len(TITLES) + 1))
    assert [i.score for i in answer.items] == sorted((i.score for i in answer.items), reverse=True)


def test_the_whole_catalogue_and_given_candidates_agree_to_the_last_bit(server):
    token = record(server, event("agree", "toy"), event("agree", "titanic", "view"))

    given = rank(server, "agree", list(TITLES), token)
    retrieved = rank(server, "agree", token=token, k=1000)

    scores = {i.item_id: i.score for i in retrieved.items}
    assert {i.item_id: i.score for i in given.items} == {n: scores[n] for n in TITLES}


def test_reasons_add_up_to_what_the_blocks_contribute(server):
    liked = [event("sum", "toy"), event("sum", "godfather", "purchase", value=2)]
    token = record(server, *liked, event("sum", "titanic", "rate", value=1))

    answer = rank(
        server, "sum", token=token, k=1000, explain=ranking_pb2.Explain(items=100, reasons=16)
    )

    assert_parts_add_up(answer)
    for item in answer.items:
        explained = sum(reason.contribution for reason in item.reasons)
        assert explained == pytest.approx(sum(item.parts.blocks), abs=1e-5)
    contributions = {r.item_id: r.contribution for r in answer.items[0].reasons}
    assert contributions.keys() == {"toy", "godfather", "titanic"}


def test_one_click_scores_text_as_the_encoder_sees_it(server):
    token = record(server, event("cosine", "nemo"))
    texts = [
        server.catalog.GetItem(catalog_pb2.GetItemRequest(item_id=name), timeout=20).text
        for name in TITLES
    ]
    answer = server.encoder.Embed(encoder_pb2.EmbedRequest(texts=texts), timeout=20)
    vectors = np.frombuffer(answer.embeddings.data, "<f4").reshape(answer.embeddings.shape)
    own = vectors[list(TITLES).index("nemo")]

    ranked = rank(server, "cosine", list(TITLES), token)

    weights = {b.name: b.weight for b in info(server).blocks}
    for item in ranked.items:
        cosine = float(vectors[list(TITLES).index(item.item_id)] @ own)
        # bfloat16, and other texts in the encoder's batch
        text = blocks_of(ranked, item)["text"]
        assert text == pytest.approx(weights["text"] * cosine, abs=0.03)


def test_a_bad_rating_repels(server):
    token = record(server, event("critic", "alien", "rate", value=1))

    answer = rank(server, "critic", list(TITLES), token)

    # Whatever others think of it, which is in the bias.
    similar = {i.item_id: blocks_of(answer, i)["text"] for i in answer.items}
    assert min(similar, key=similar.get) == "alien"
    assert similar["alien"] < 0
    assert profile(server, "critic", token).interactions[0].weight == -1


def test_a_caller_supplied_vector_is_a_block_of_its_own(server):
    def with_image(name, *values):
        vector = catalog_pb2.Item().vectors[""]
        vector.data, vector.dtype = np.array(values, "<f4").tobytes(), 1
        vector.shape.append(len(values))
        item = catalog_pb2.Item(item_id=name, title="a picture")
        item.vectors["image"].CopyFrom(vector)
        return item

    upsert(
        server, [with_image("red", 2, 0, 0), with_image("pink", 1, 1, 0), with_image("z", 0, 0, 0)]
    )
    token = record(server, event("painter", "red"))

    answer = rank(server, "painter", ["red", "pink", "z"], token)

    image = {i.item_id: blocks_of(answer, i)["image"] for i in answer.items}
    assert image["red"] == pytest.approx(0.5)
    assert image["pink"] == pytest.approx(0.5 * np.sqrt(0.5))
    assert image["z"] == 0


def test_popularity_is_in_the_bias_of_everyone(server):
    upsert(server, [catalog_pb2.Item(item_id="hit", title="a hit"), *catalogue()])
    record(server, *(event(f"fan-{i}", "hit") for i in range(200)))

    def biased():
        bias = {i.item_id: i.parts.bias for i in rank(server, "newcomer", ["hit", "toy"]).items}
        return bias["hit"] > bias["toy"]

    wait_for(biased, "a bias for what 200 people clicked")
    answer = rank(server, "newcomer", k=1)
    assert ids_of(answer) == ["hit"]
    assert answer.served_by.fallback == "unknown_user"


class TestFreshness:
    def test_every_write_is_seen_by_a_read_that_carries_its_token(self, server):
        for n in range(20):
            token = record(server, event("fresh", "toy", event_id=f"fresh-{n}"))
            assert profile(server, "fresh", token).history_size == n + 1

    def test_a_token_not_reached_in_time(self, server):
        future = self.beyond(server, "slow")
        request = {"candidates": WHOLE, "read_after": after(future, 50)}

        with refused(StatusCode.DEADLINE_EXCEEDED, "min_token", "50 ms", "allow_stale"):
            server.ranking.Rank(self.request(**request), timeout=10)

    def test_a_stale_answer_says_so(self, server):
        future = self.beyond(server, "stale")
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

    @staticmethod
    def beyond(server, user):
        """A token one record past what the log holds."""
        token = record(server, event(user, "toy"))
        offset = int.from_bytes(token[-8:], "little")
        return token[:-8] + (offset + 1_000_000).to_bytes(8, "little")


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
    never = TestFreshness.beyond(server, "never")
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


def test_an_event_before_its_item_counts_once_the_item_arrives(server):
    token = record(server, event("early", "sequel"))
    assert rank(server, "early", list(TITLES), token).served_by.fallback == "no_usable_history"

    upsert(server, [catalog_pb2.Item(item_id="sequel", title="Alien, horror on a spaceship 2")])

    answer = rank(server, "early", list(TITLES))
    assert answer.served_by.fallback == ""
    assert ids_of(answer)[0] in ("alien", "aliens")


def test_texts_are_embedded_and_a_long_one_is_flagged(server):
    request = encoder_pb2.EmbedRequest(texts=["a film", "", "word " * 2000, "a film"])

    answer = server.encoder.Embed(request, timeout=20)

    vectors = np.frombuffer(answer.embeddings.data, "<f4").reshape(answer.embeddings.shape)
    assert vectors.shape == (4, info(server).encoder.dimensions)
    assert [r.truncated for r in answer.results] == [False, False, True, False]
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-3)
    assert vectors[0] @ vectors[3] == pytest.approx(1, abs=1e-3)


class TestFromOutside:
    """Producers that know only the topic and the proto."""

    def test_events_of_a_plain_producer_arrive(self, server):
        with producer(server) as out:
            for user, item in (("out-1", "toy"), ("out-2", "alien")):
                value = event(user, item, event_id=f"{user}-{item}").SerializeToString()
                sent = out.send(server.topics["events"], value, user.encode())
            sent.get(10)

        wait_for(lambda: profile(server, "out-2").known, "the event of out-2")
        wait_for(lambda: profile(server, "out-1").known, "the event of out-1")
        assert ids_of(rank(server, "out-2", list(TITLES)))[0] == "alien"

    def test_bytes_written_by_hand_arrive(self, server):
        def text(number, value):
            return bytes([number << 3 | 2, len(value)]) + value

        value = text(3, b"raw") + text(6, b"click") + text(7, b"titanic") + text(15, b"unknown")
        with producer(server) as out:
            out.send(server.topics["events"], value).get(10)

        found = wait_for(lambda: profile(server, "raw").interactions, "the raw event")
        assert found[0].item_id == "titanic"
        assert abs(found[0].event_time_ms - time.time() * 1000) < 60_000

    def test_another_partitioner_is_noticed_and_nothing_is_lost(self, server):
        before = server.lag().misplaced_records
        with producer(server) as out:
            value = event("astray", "toy").SerializeToString()
            for partition in range(4):
                out.send(server.topics["events"], value, b"astray", partition=partition).get(10)

        # Without an event_id, a record's place in the log is its name.
        wait_for(lambda: profile(server, "astray").history_size == 4, "all four records")
        assert server.lag().misplaced_records == before + 3

    def test_the_log_holds_what_came_over_grpc(self, server):
        token = record(server, event("logged", "toy", event_id="only-once"))
        profile(server, "logged", token)

        found = [r for r in log_of(server, "events") if r.key == b"logged"]

        (only,) = found
        assert events_pb2.Event.FromString(only.value).event_id == "only-once"

    def test_a_deletion_in_the_log_removes_the_item(self, server):
        upsert(server, [catalog_pb2.Item(item_id="doomed", title="soon gone")])
        record(server, event("mourner", "doomed"))
        with producer(server) as out:
            out.send(server.topics["items"], None, b"doomed").get(10)

        wait_for(lambda: not ids_of(rank(server, "m", ["doomed"])), "the deletion")
        assert list(rank(server, "m", ["doomed"]).missing_item_ids) == ["doomed"]
        with refused(StatusCode.NOT_FOUND, "doomed"):
            server.catalog.GetItem(catalog_pb2.GetItemRequest(item_id="doomed"), timeout=10)


def test_admin_has_a_port_of_its_own(server):
    request = admin_pb2.GetServerInfoRequest()

    assert info(server).server_version
    with refused(StatusCode.UNIMPLEMENTED):
        admin_pb2_grpc.AdminStub(server.channel()).GetServerInfo(request, timeout=10)


def test_every_limit_is_published(server):
    found = info(server)

    limits = {limit.name: limit.value for limit in found.limits}
    assert {"max_k", "max_candidates", "max_message_bytes", "history_cap", "max_queued"} <= set(
        limits
    )
    assert all(limit.value > 0 for limit in found.limits)
    assert [b.name for b in found.blocks] == ["text", "attributes", "image"]
    assert found.items >= len(TITLES)
    assert found.encoder.space_fingerprint == rank(server, "i").served_by.space_fingerprint


def test_health_says_serving_to_check_and_watch(server):
    stub = health_pb2_grpc.HealthStub(server.channel())
    serving = health_pb2.HealthCheckResponse.SERVING

    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status == serving
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)
    assert next(iter(watch)).status == serving
    watch.cancel()


def test_reflection_describes_the_services_when_asked_for(server):
    stub = reflection_pb2_grpc.ServerReflectionStub(server.channel())
    ask = reflection_pb2.ServerReflectionRequest(file_containing_symbol="rankstream.v1.Ranking")

    (answer,) = stub.ServerReflectionInfo(iter([ask]), timeout=10)

    described = FileDescriptorProto.FromString(
        answer.file_descriptor_response.file_descriptor_proto[0]
    )
    assert [s.name for s in described.service] == ["Ranking"]


def test_the_lag_goes_to_zero(server):
    token = record(server, *(event(f"lag-{i}", "toy") for i in range(2000)))
    profile(server, "lag-0", token)

    def caught_up():
        lag = server.lag()
        return lag.healthy and {p.lag for p in lag.partitions} == {0}

    wait_for(caught_up, "no lag")
    assert {p.state for p in server.lag().partitions} == {"running"}
    assert sum(p.next_offset for p in server.lag().partitions if "events" in p.topic) >= 2000


def test_a_restart_keeps_the_state_and_answers_the_same(server):
    token = record(server, event("keeper", "goodfellas"), event("keeper", "toy", "view"))
    item = upsert(server, catalogue())
    profile(server, "keeper", token)

    def parts():
        ranked = rank(server, "keeper", list(TITLES), item)
        return {i.item_id: i.parts for i in ranked.items}

    wait_for(lambda: parts()["goodfellas"].bias > 0, "a bias for what was clicked")
    before = parts()
    positions = server.positions()

    server.restart()

    assert server.positions() == positions
    assert profile(server, "keeper", token).history_size == 2
    again = parts()
    assert {name: found.blocks for name, found in again.items()} == {
        name: found.blocks for name, found in before.items()
    }
    # From the first answer on, not from the next refresh.
    assert again["goodfellas"].bias > 0
    token = record(server, event("keeper", "titanic"))
    assert profile(server, "keeper", token).history_size == 3
