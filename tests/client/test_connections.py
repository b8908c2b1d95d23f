"""Deadlines, retries, connections and errors: what every call has."""

from __future__ import annotations

import contextlib
import socket

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from rankstream.client import (
    Client,
    DeadlineExceeded,
    Event,
    FieldViolation,
    Internal,
    InvalidArgument,
    RankQuery,
    RankstreamError,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from rankstream.client.connections import MAX_MESSAGE_BYTES
from rankstream.client.errors import error_from_status


def away(make_status, count):
    return [make_status(grpc.StatusCode.UNAVAILABLE, "restarting")] * count


def test_a_read_is_retried_until_it_is_answered(client, fake, make_status):
    fake.fail("Rank", *away(make_status, 2))

    assert client.rank("u1").item_ids == ["toy", "b", "c"]
    assert len(fake.requests["Rank"]) == 3


def test_a_call_that_met_a_draining_worker_is_retried(client, fake, make_status):
    fake.fail("Rank", make_status(grpc.StatusCode.CANCELLED, ""))

    assert client.rank("u1").item_ids == ["toy", "b", "c"]
    assert len(fake.requests["Rank"]) == 2


def test_a_full_queue_is_retried(client, fake, make_status):
    fake.fail("Rank", make_status(grpc.StatusCode.RESOURCE_EXHAUSTED, "full"))

    client.rank("u1")

    assert len(fake.requests["Rank"]) == 2


def test_retries_end_after_four_attempts(client, fake, make_status):
    fake.fail("Rank", *away(make_status, 9))

    with pytest.raises(Unavailable, match="restarting"):
        client.rank("u1")
    assert len(fake.requests["Rank"]) == 4


def test_a_retried_event_keeps_its_id(client, fake, make_status):
    fake.fail("RecordEvents", *away(make_status, 2))

    client.record_events([Event("u1", "click", "toy")])

    ids = [request.events[0].event_id for request in fake.requests["RecordEvents"]]
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert len(ids[0]) == 32


@pytest.mark.parametrize("code", ["INTERNAL", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "ABORTED"])
def test_what_a_retry_cannot_cure_is_not_retried(client, fake, make_status, code):
    fake.fail("Rank", make_status(grpc.StatusCode[code], "no"))

    with pytest.raises(RankstreamError) as caught:
        client.rank("u1")
    assert caught.value.code == code
    assert len(fake.requests["Rank"]) == 1


def test_the_deadline_ends_a_call(client, fake):
    fake.answers.clear()

    with pytest.raises(DeadlineExceeded):
        client.rank("u1", timeout_s=0.1)


def test_a_timeout_of_zero_is_not_the_default(client, fake):
    with contextlib.suppress(DeadlineExceeded):
        client.rank("u1", timeout_s=0.0)

    assert fake.deadlines_s.get("Rank", 0.0) < 1


def test_every_call_has_a_deadline_and_a_wait_comes_on_top(running, fake):
    with running.client(timeout_s=5.0) as client:
        client.embed(["a"])
        client.rank("u1")
        client.batch_rank([RankQuery("u1")])
        client.record_events([])
        client.upsert_items([])
        client.get_item("toy")
        client.get_profile("u1")
        client.server_info()
        client.consumer_lag()
        assert len(fake.deadlines_s) == 9
        assert all(0 < left_s < 6 for left_s in fake.deadlines_s.values())
        client.rank("u1", min_token=b"t", max_wait_ms=60_000)
        assert 6 < fake.deadlines_s["Rank"] < 66


def test_connections_are_distinct_and_used_in_turn(running, fake):
    with running.client(connections=3) as client:
        for _ in range(6):
            client.rank("u1")

    assert len(fake.peers) == 3


def test_one_connection_is_one(running, fake):
    with running.client(connections=1) as client:
        for _ in range(4):
            client.rank("u1")

    assert len(fake.peers) == 1


def test_no_connections_are_refused():
    with pytest.raises(InvalidArgument, match="^connections: "):
        Client(connections=0)


def test_field_violations_are_carried(client, fake, make_status):
    violation = error_details_pb2.BadRequest.FieldViolation(field="k", description="is 0")
    detail = error_details_pb2.BadRequest(field_violations=[violation])
    fake.fail("Rank", make_status(grpc.StatusCode.INVALID_ARGUMENT, "k: is 0", detail))

    with pytest.raises(InvalidArgument, match="k: is 0") as caught:
        client.rank("u1")

    assert caught.value.field_violations == (FieldViolation("k", "is 0"),)
    assert caught.value.retry_after_s is None


def test_when_to_retry_is_carried(client, fake, make_status):
    detail = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=250_000_000))
    full = make_status(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue of 2048", detail)
    fake.fail("Rank", *[full] * 4)

    with pytest.raises(ResourceExhausted, match="queue of 2048") as caught:
        client.rank("u1")

    assert caught.value.retry_after_s == 1.25


def test_the_message_names_the_target(client, running, fake, make_status):
    fake.fail("Rank", make_status(grpc.StatusCode.INTERNAL, "broke"))

    with pytest.raises(Internal) as caught:
        client.rank("u1")
    assert str(caught.value) == f"{running.target}: broke"


def test_a_detail_that_does_not_read_back_adds_nothing():
    damaged = AnyMessage(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff")

    error = error_from_status(status_pb2.Status(code=8, message="full", details=[damaged]))

    assert isinstance(error, ResourceExhausted)
    assert error.retry_after_s is None


def test_codes_without_a_class_keep_their_name():
    assert error_from_status(status_pb2.Status(code=7, message="no")).code == "PERMISSION_DENIED"
    strange = error_from_status(status_pb2.Status(code=99))
    assert (type(strange), strange.code, str(strange)) == (RankstreamError, "UNKNOWN", "UNKNOWN")


def test_nobody_there_is_unavailable():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{taken.getsockname()[1]}"
        with Client(target) as client, pytest.raises(Unavailable, match=target):
            client.rank("u1")


def test_another_server_is_unimplemented():
    from concurrent import futures

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Client(f"127.0.0.1:{port}") as client, pytest.raises(Unimplemented):
        client.rank("u1")
    server.stop(None).wait()


def test_a_large_request_is_retried_too(client, fake, make_status):
    fake.fail("Rank", *away(make_status, 1))

    client.rank("u1", [str(n) for n in range(200_000)])

    assert len(fake.requests["Rank"]) == 2


def test_messages_beyond_grpcs_4_mib_pass(client):
    large = "x" * (6 << 20)

    assert client.rank("u1", request_id=large).request_id == large
    assert MAX_MESSAGE_BYTES == 64 << 20
