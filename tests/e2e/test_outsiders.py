"""Who knows only the topics and the ports: producers, probes and operators, over each broker."""

import time

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from requests_to import (
    TITLES,
    catalogue,
    event,
    ids_of,
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

from rankstream.proto.v1 import admin_pb2, admin_pb2_grpc, catalog_pb2, events_pb2

StatusCode = grpc.StatusCode


@pytest.fixture(scope="module")
def server(serve_on):
    """A server with a small catalogue; tests write for users of their own."""
    started = serve_on("outsiders.", reflection=True, vectors="image:3:0.5").start()
    upsert(started, catalogue())
    return started


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
