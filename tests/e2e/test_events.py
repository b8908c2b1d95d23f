"""Events over a real server and its broker: streams, imports, texts, JSON, curves."""

import re
import threading
import time
from pathlib import Path

import grpc
import pytest
from google.rpc import code_pb2
from requests_to import (
    catalogue,
    event,
    info,
    log_of,
    producer,
    profile,
    rank,
    record,
    refused,
    upsert,
)
from server_process import wait_for

from rankstream.proto.v1 import common_pb2, events_pb2

NOW = time.time_ns() // 1_000_000
ACCEPTED, DUPLICATE, LATE, REJECTED = 1, 2, 3, 4
FLAGS = {
    "history_cap": 8,
    "custom_types": "read",
    "curves": "read:centred(30,30),rate:stars(10)",
    "half_lives": "view:7d",
    "type_caps": "view:5",
    "type_ttls": "view:30d",
    "max_import_failures": 2,
}


@pytest.fixture(scope="module")
def server(serve_shared):
    started = serve_shared(**FLAGS).start()
    upsert(started, catalogue())
    return started


def stream(server, *events):
    return list(server.events.StreamEvents(iter(events), timeout=30))


def causes_of(answer):
    """The items that reasons name."""
    return {r.item_id for item in answer.items for r in item.reasons}


def outcomes(acks):
    return [ack.outcome for ack in acks]


def written(server, user):
    """The user's events in the log."""
    found = [events_pb2.Event.FromString(r.value) for r in log_of(server, "events") if r.value]
    return [message for message in found if message.user_id == user]


def test_record_events_waits_until_they_are_applied(server):
    request = events_pb2.RecordEventsRequest(
        events=[event("waits", "toy")], wait_applied=True, max_wait_ms=10_000
    )

    answer = server.events.RecordEvents(request, timeout=20)

    assert answer.applied
    # Without a token: whoever waits for it reads it anyway.
    assert profile(server, "waits").history_size == 1
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "the limit is", field="max_wait_ms"):
        request.max_wait_ms = 1_000_000
        server.events.RecordEvents(request, timeout=20)


def test_a_stream_acknowledges_each_event_in_order(server):
    good = [event("streams", "toy", event_id=f"s{n}", event_time_ms=NOW + n) for n in range(300)]
    good[7].ClearField("event_id")
    good[9].type = "stare"

    acks = stream(server, *good)

    expected = [ACCEPTED] * 300
    expected[9] = REJECTED
    assert outcomes(acks) == expected
    assert acks[9].status.code == code_pb2.INVALID_ARGUMENT
    assert "type: 'stare'" in acks[9].status.message
    ids = [ack.event_id for ack in acks]
    assert ids[:7] == [f"s{n}" for n in range(7)]
    assert acks[7].event_id_assigned
    assert ids[8:] == [f"s{n}" for n in range(8, 300)]
    assert profile(server, "streams", acks[-1].token).history_size == 8
    assert len(written(server, "streams")) == 299


def test_duplicates_are_not_written_again_and_late_ones_are_said(server):
    events = [event("again", "toy", event_id=f"a{n}", event_time_ms=NOW - n) for n in range(8)]
    first = stream(server, *events, events[0])
    assert outcomes(first) == [ACCEPTED] * 8 + [DUPLICATE]
    assert first[8].token == first[0].token
    profile(server, "again", first[7].token)
    changed = events_pb2.Event()
    changed.CopyFrom(events[1])
    changed.item_id = "nemo"
    late = event("again", "toy", event_id="late", event_time_ms=NOW - 1000)
    untimed = event("again", "toy", event_id="untimed")

    second = stream(server, *events, changed, late, untimed)

    assert outcomes(second) == [DUPLICATE] * 8 + [ACCEPTED, LATE, ACCEPTED]
    profile(server, "again", second[-1].token)
    assert outcomes(stream(server, untimed)) == [DUPLICATE]
    assert len(written(server, "again")) == 11


def test_a_reset_makes_what_is_before_it_late(server):
    reset = event("resets", "", "$reset", event_time_ms=NOW)
    with producer(server) as out:
        out.send(server.topics["events"], reset.SerializeToString(), b"resets").get(20)
    wait_for(lambda: profile(server, "resets").watermark_ms == NOW, "the reset")

    before = event("resets", "toy", event_time_ms=NOW)
    after = event("resets", "toy", event_time_ms=NOW + 1)

    assert outcomes(stream(server, before, after)) == [LATE, ACCEPTED]


def test_a_stream_of_bytes_that_are_no_event_goes_on(server):
    call = server.channel().stream_stream("/rankstream.v1.Events/StreamEvents")
    good = event("garbage", "toy").SerializeToString()

    answers = list(call(iter([good, b"\xff\xff", good]), timeout=20))

    acks = [events_pb2.EventAck.FromString(answer) for answer in answers]
    assert outcomes(acks) == [ACCEPTED, REJECTED, ACCEPTED]
    assert acks[1].status.code == code_pb2.INVALID_ARGUMENT


def test_callers_that_go_leave_nothing_behind(server):
    gone = threading.Event()

    def unfinished():
        yield event("leaves", "toy")
        gone.wait(30)

    for _ in range(5):
        call = server.events.StreamEvents(unfinished(), timeout=30)
        assert next(call).outcome == ACCEPTED
        call.cancel()
    gone.set()

    assert outcomes(stream(server, event("stays", "toy"))) == [ACCEPTED]
    assert "Traceback" not in server.log
    assert "never retrieved" not in server.log


def test_an_import_is_counted_and_its_token_covers_it(server):
    parts = [
        events_pb2.ImportEventsRequest(
            events=[event(f"import-{n}", "toy", event_id=f"i{n}-{m}") for m in range(300)]
        )
        for n in range(10)
    ]
    for n in (3, 4, 5):
        parts[n].events[7].type = "stare"

    answer = server.events.ImportEvents(iter(parts), timeout=60)

    assert (answer.accepted, answer.rejected) == (2997, 3)
    assert [failure.index for failure in answer.failures] == [907, 1207]
    for n in range(10):
        assert profile(server, f"import-{n}", answer.token).history_size == 8


def test_texts_are_interactions_of_their_own(server):
    token = record(
        server,
        event("searches", "", "search", text="crime drama", event_time_ms=NOW),
        event("searches", "toy", "review", text="Lovely!", value=5.0, event_time_ms=NOW + 1),
        event(
            "searches", "toy", "impression", position=3, session_id="s1", platform="web",
            event_time_ms=NOW + 2, attributes={"page": common_pb2.AttributeValue(text="home")},
        ),
    )  # fmt: skip

    found = profile(server, "searches", token)

    assert sorted(i.type for i in found.interactions) == ["review", "review", "search"]
    assert found.seen_size == 1 or found.seen_size == 2
    (shown,) = [e for e in written(server, "searches") if e.type == "impression"]
    assert (shown.position, shown.session_id, shown.platform) == (3, "s1", "web")
    assert shown.attributes["page"].text == "home"


LARGE_ATTRIBUTES = {f"page-{n}": common_pb2.AttributeValue(text="x" * 900) for n in range(8)}
REFUSED = {
    "events[0].text": event("bad", "toy", "search"),
    "events[0].item_id": event("bad", "", "impression", text="red"),
    "events[0].session_id": event("bad", "toy", session_id="s" * 257),
    "events[0].attributes": event(
        "bad", "toy", attributes={str(n): common_pb2.AttributeValue(flag=True) for n in range(65)}
    ),
    "events[0].type": event("bad", "", "$merge", moved=events_pb2.MovedInteractions()),
    "events[0].moved": event("bad", "toy", moved=events_pb2.MovedInteractions()),
}


@pytest.mark.parametrize("field", REFUSED)
def test_what_the_fold_would_not_take_is_refused(server, field):
    request = events_pb2.RecordEventsRequest(events=[REFUSED[field]])

    (result,) = server.events.RecordEvents(request, timeout=20).results

    assert result.status.code == code_pb2.INVALID_ARGUMENT
    assert result.status.message.startswith(field + ": ")


def test_json_from_any_producer_is_folded_and_bad_json_is_a_dead_letter(server):
    headers = [("content-type", b"application/json; charset=utf-8")]
    topic, good = server.topics["events"], b'{"userId":"json","type":"view","itemId":"toy"}'
    with producer(server) as out:
        out.send(topic, good, b"json", headers)
        bad = out.send(topic, b'{"userId":', b"json", headers).get(20)
        unlabelled = out.send(topic, good, b"json").get(20)
        last = out.send(topic, good.replace(b"toy", b"nemo"), b"json", headers).get(20)

    at = "events", last.partition
    wait_for(lambda: server.positions()[at] > last.offset, "the position behind them")
    assert [i.item_id for i in profile(server, "json").interactions] == ["nemo", "toy"]
    letters = {}
    for letter in log_of(server, "dead-letters"):
        named = dict(letter.headers)
        if int(named["partition"]) == last.partition:
            letters[int(named["offset"])] = letter.value, named.get("content-type")
    assert letters[bad.offset] == (b'{"userId":', headers[0][1])
    assert letters[unlabelled.offset] == (good, None)


def test_a_merge_from_the_log_is_the_guests_interactions(server):
    guest = profile(server, "guest", record(server, event("guest", "alien", "cart", value=3.0)))
    (seen,) = guest.interactions
    moved = events_pb2.MovedInteractions(
        event_keys=[7],
        target_keys=[seen.item_key],
        event_times_ms=[seen.event_time_ms],
        weights=[seen.weight],
        kinds=[4],
    )
    broken = events_pb2.MovedInteractions(event_keys=[7])
    merges = [event("merged", "", "$merge", moved=each) for each in (broken, moved, moved)]
    with producer(server) as out:
        for each in merges:
            out.send(server.topics["events"], each.SerializeToString(), b"merged").get(20)

    wait_for(lambda: profile(server, "merged").history_size == 1, "the merge")
    (found,) = profile(server, "merged").interactions
    assert (found.item_id, found.type, found.weight) == ("alien", "cart", 2.0)


def test_curves_make_weights_and_are_published(server):
    token = record(
        server,
        event("curves", "toy", "read", value=0.0, event_time_ms=NOW),
        event("curves", "toy", "rate", value=10.0, event_time_ms=NOW + 1),
        event("curves", "toy", "rate", value=5.5, event_time_ms=NOW + 2),
    )

    weights = [i.weight for i in profile(server, "curves", token).interactions]

    assert weights == [0.0, 1.0, -1.0]
    types = {each.name: each for each in info(server).event_types}
    assert types["view"].half_life_s == 7 * 86_400
    assert types["view"].pooled_at_most == 5
    assert (types["view"].ttl_s, types["click"].ttl_s) == (30 * 86_400, 0)
    assert (types["read"].curve, types["click"].curve) == ("centred(30,30)", "constant(1)")
    limits = {limit.name for limit in info(server).limits}
    assert {"max_event_text_chars", "max_attributes", "max_stream_events"} <= limits


def test_what_has_expired_is_stored_and_counts_no_longer(server):
    day = 86_400_000
    token = record(
        server,
        event("forgetful", "alien", "view", event_time_ms=NOW - 31 * day),
        event("forgetful", "titanic", "view", event_time_ms=NOW - 29 * day),
    )

    stored = profile(server, "forgetful", token)
    now, then, today = (
        rank(server, "forgetful", **more)
        for more in ({}, {"as_of_ms": NOW - 20 * day}, {"pooling": {"ttl_s": 86_400.0}})
    )

    assert {i.item_id for i in stored.interactions} == {"alien", "titanic"}
    assert causes_of(now) == {"titanic"}
    assert causes_of(then) == {"alien", "titanic"}
    assert today.served_by.fallback == "no_usable_history"


def test_many_large_events_come_through_in_order(server):
    events = (
        event("large", "toy", event_id=f"w{n}", attributes=LARGE_ATTRIBUTES) for n in range(5_000)
    )

    acks = stream(server, *events)

    assert [ack.event_id for ack in acks] == [f"w{n}" for n in range(5_000)]
    assert outcomes(acks) == [ACCEPTED] * 5_000


def test_the_examples_of_the_page_run(server, capsys):
    page = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)

    for example in examples:
        example = example.replace("127.0.0.1:9092", server.bootstrap())
        exec(
            compile(example.replace("127.0.0.1:50051", server.target), "docs/events.md", "exec"), {}
        )

    assert len(examples) == 2
    assert capsys.readouterr().out.split() == [
        "i1", "ACCEPTED", "i2", "ACCEPTED", "i3", "ACCEPTED", "i1", "DUPLICATE", "True", "3"
    ]  # fmt: skip
    bought = wait_for(lambda: profile(server, "ann").interactions, "the purchase")
    assert (bought[0].type, bought[0].weight) == ("purchase", pytest.approx(1.6))
