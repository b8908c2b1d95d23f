"""A batch in the broker's own files that does not match its checksum: it is never applied."""

import pytest
from requests_to import event, producer, profile, record
from server_process import wait_for


@pytest.mark.parametrize("own_broker", ["kafka"], indirect=True)
def test_29_a_wrong_checksum_holds_its_partition_alone_and_loses_nothing(
    own_broker, serve, topic_prefix, tmp_path
):
    own_broker.start()
    server = serve(own_broker.bootstrap, topic_prefix, events_partitions=2).start()
    token = record(server, event("early", "toy"))
    assert profile(server, "early", token).known
    assert server.stop() == 0
    segment = next(tmp_path.glob(f"broker/**/{topic_prefix}events-0/*0.log"))
    size = segment.stat().st_size
    produce(server, "late", 0)
    right = segment.read_bytes()[size:]
    assert b"late" in right

    overwrite(segment, size, right.replace(b"late", b"lost"))
    server.start()
    wait_for(lambda: "failed crc check" in server.log, "the refusal")
    produce(server, "beside", 1)
    wait_for(lambda: profile(server, "beside").known, "the other partition's event", 60)
    # The guard asks the broker itself where the log ends.
    wait_for(lambda: events_lag(server) == [1, 0], "the lag", 30)
    assert profile(server, "early").known
    assert not profile(server, "late").known
    assert not profile(server, "lost").known

    overwrite(segment, size, right)
    wait_for(lambda: profile(server, "late").known, "the event", 60)
    wait_for(lambda: events_lag(server) == [0, 0], "no lag")
    assert not profile(server, "lost").known


def events_lag(server):
    """Records of each partition that are not applied."""
    topic = server.topics["events"]
    return [p.lag for p in server.lag().partitions if p.topic == topic]


def produce(server, user, partition):
    """Writes an event as an outsider does."""
    with producer(server) as out:
        value = event(user, "toy").SerializeToString()
        out.send(server.topics["events"], value, user.encode(), partition=partition).get(10)


def overwrite(file, start, data):
    with file.open("r+b") as opened:
        opened.seek(start)
        opened.write(data)
