"""The broker goes and comes back: reads go on, writes say so, nothing is lost."""

import os
import signal
import threading

import grpc
import pytest
from requests_to import event, log_of, profile, rank, record, refused, upsert
from server_process import alive, wait_for

from rankstream.proto.v1 import catalog_pb2, events_pb2

FLAGS = {"publish_timeout_s": 2.0}


@pytest.mark.parametrize("own_broker", ["kafka"], indirect=True)
def test_apache_kafka_restarts_under_load_and_is_away_at_start(own_broker, serve, topic_prefix):
    own_broker.start()
    server = serve(own_broker.bootstrap, topic_prefix, **FLAGS).start()
    upsert(server, [catalog_pb2.Item(item_id="toy", title="Toy Story")])
    pids = server.children()

    with Writer(server) as writer:
        wait_for(lambda: len(writer.accepted) > 100, "a load")
        own_broker.restart()
        before = len(writer.accepted)
        wait_for(lambda: len(writer.accepted) > before + 100, "writes that go through again", 60)
    assert_all_is_there(server, writer.accepted)
    assert server.children() == pids
    size = profile(server, "writer").history_size

    assert server.stop() == 0
    own_broker.stop()
    server.start()
    assert profile(server, "writer").history_size == size
    assert rank(server, "writer", ["toy"]).served_by.fallback == ""
    with refused(grpc.StatusCode.UNAVAILABLE):
        write(server, "while away")
    assert not server.lag().healthy

    own_broker.start()
    # A write may wait for the producer's own pause between two attempts.
    wait_for(lambda: accepted(server, "back again"), "a write that goes through", 60)
    wait_for(lambda: server.lag().healthy, "a healthy lag")
    wait_for(lambda: profile(server, "back again").known, "the event")


def test_the_embedded_broker_is_killed_under_load(serve):
    server = serve(**FLAGS).start()
    with Writer(server) as writer:
        wait_for(lambda: len(writer.accepted) > 200, "a load")
        broker = server.broker_pid()
        os.kill(broker, signal.SIGKILL)
        wait_for(lambda: not alive(broker), "its end")
        # The old broker may have taken the one under way, whose answer comes only now.
        under_way = writer.begun
        wait_for(lambda: writer.begun > under_way, "the next write")
        before = len(writer.accepted)
        wait_for(lambda: len(writer.accepted) > before + 100, "writes that go through again", 60)

    # What its log kept is what counts: the last second before the kill may be gone from it.
    kept = [r.value for r in log_of(server, "events")]
    ids = {events_pb2.Event.FromString(value).event_id for value in kept}
    assert set(writer.accepted[before:]) <= ids
    ends = {**ends_of(server), ("items", 0): 0}
    wait_for(lambda: server.positions() == ends, "the end of the log")
    assert server.process.poll() is None


def test_a_broker_killed_with_the_whole_server_loses_nothing_that_is_applied(serve):
    server = serve().start()
    token = record(server, *(event(f"u{n}", "toy", event_id=f"{n}") for n in range(500)))
    profile(server, "u0", token)

    server.kill()
    server.start()

    assert all(profile(server, f"u{n}").history_size == 1 for n in range(500))
    # New records take the offsets of lost ones; none is skipped and none counts twice.
    token = record(server, *(event(f"u{n}", "nemo", event_id=f"new {n}") for n in range(500)))
    profile(server, "u0", token)
    assert all(profile(server, f"u{n}").history_size == 2 for n in range(500))


class Writer:
    """A thread that writes event after event and remembers which the server accepted."""

    def __init__(self, server):
        self.accepted = []
        self.begun = 0
        self._server = server
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._thread.join()

    def _run(self):
        while not self._stopping.is_set():
            self.begun += 1
            name = f"write {self.begun}"
            if accepted(self._server, "writer", name):
                self.accepted.append(name)


def write(server, user, event_id=""):
    request = events_pb2.RecordEventsRequest(events=[event(user, "toy", event_id=event_id)])
    answer = server.events.RecordEvents(request, timeout=20)
    return answer.results[0].status


def accepted(server, user, event_id=""):
    try:
        return write(server, user, event_id).code == 0
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.UNAVAILABLE:
            raise
        return False


def assert_all_is_there(server, ids):
    logged = [events_pb2.Event.FromString(r.value).event_id for r in log_of(server, "events")]
    assert set(ids) <= set(logged)
    at_end = {**ends_of(server), ("items", 0): 1}
    wait_for(lambda: server.positions() == at_end, "the end of the log", 60)
    assert profile(server, "writer").history_size == min(255, len(set(logged)))


def ends_of(server):
    """The end of each partition of events, as the log itself says."""
    ends = {("events", p): 0 for p in range(4)}
    for found in log_of(server, "events"):
        ends["events", found.partition] = found.offset + 1
    return ends
