"""A state that contradicts the log or the settings is refused in words, never folded on."""

import shutil
import socket

import pytest
from kafka import KafkaAdminClient, TopicPartition
from requests_to import event, producer, profile, rank, record
from server_process import REFUSED, wait_for


@pytest.fixture
def embedded(serve):
    """A stopped server over the embedded broker, with one user's state."""
    server = serve()
    with_state(server)
    return server


@pytest.fixture
def apache(serve, kafka_broker, topic_prefix):
    """The same over Apache Kafka."""
    server = serve(kafka_broker.bootstrap, topic_prefix)
    with_state(server)
    return server


@pytest.fixture
def admin(kafka_broker):
    client = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap)
    yield client
    client.close()


def with_state(server):
    server.start()
    token = record(server, *(event("someone", "toy", event_id=f"{n}") for n in range(5)))
    assert profile(server, "someone", token).history_size == 5
    assert server.stop() == 0


def assert_refused(server, *words, code=REFUSED):
    server.launch()
    assert server.wait(60) == code
    last = server.log.splitlines()[-1]
    assert last.startswith("refused: " if code == REFUSED else "error: "), server.log[-2000:]
    for word in words:
        assert word in last


def test_other_fold_settings(embedded):
    embedded.flags = {"history_cap": 10}
    assert_refused(embedded, "fold_version", "give the old value again", "--data-dir")

    embedded.flags = {"vectors": "image:3"}
    assert_refused(embedded, "blocks", "image")

    embedded.flags = {"half_life_s": 1000.0}
    embedded.start()
    assert profile(embedded, "someone").history_size == 5


def test_another_log_under_the_same_state(embedded):
    shutil.rmtree(embedded.data_dir / "broker")

    assert_refused(embedded, "deleted and created again", "--data-dir")


def test_a_log_that_was_set_back_to_before_the_state(embedded):
    broker, kept = embedded.data_dir / "broker", embedded.data_dir.with_suffix(".backup")
    shutil.copytree(broker, kept)
    embedded.start()
    token = record(embedded, *(event("someone", "toy") for _ in range(5)))
    profile(embedded, "someone", token)
    assert embedded.stop() == 0
    shutil.rmtree(broker)
    shutil.copytree(kept, broker)

    assert_refused(embedded, "5 records that were applied are no longer in the log", "--data-dir")


def test_a_topic_that_was_deleted_and_created_again(apache, admin):
    recreate(admin, apache.topics["events"])

    assert_refused(apache, "deleted and created again", "start over with an empty --data-dir")


def test_a_topic_that_is_recreated_under_a_running_server(apache, admin):
    apache.start()

    recreate(admin, apache.topics["events"])

    assert apache.wait(60) == REFUSED
    assert "refused: " in apache.log.splitlines()[-1]


def test_records_that_retention_removed_before_they_were_applied(apache, admin):
    events = apache.topics["events"]
    with producer(apache) as out:
        value = event("someone", "nemo").SerializeToString()
        sent = [out.send(events, value, b"someone").get(10) for _ in range(3)]
    removed = TopicPartition(events, sent[0].partition)
    admin.delete_records({removed: sent[-1].offset})

    assert_refused(apache, "2 records were removed by retention", "--accept-partial-history")
    apache.flags = {"accept_partial_history": True}
    apache.start()
    wait_for(lambda: profile(apache, "someone").history_size == 6, "what was left")


def test_another_number_of_partitions(apache, admin):
    apache.flags = {"events_partitions": 5}
    assert_refused(apache, "4 partitions, expected 5", "--events-partitions 4")

    apache.flags = {}
    admin.create_partitions({apache.topics["events"]: 6})
    assert_refused(apache, "6 partitions, expected 4")


@pytest.mark.parametrize("flag", ["port", "admin_port"])
def test_a_port_in_use(serve, flag):
    server = serve()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", getattr(server, flag)))
        taken.listen()

        name = "--" + flag.replace("_", "-")
        assert_refused(server, f"{getattr(server, flag)} cannot be bound", name, code=1)
    server.start()


def test_a_second_server_over_the_same_folder_and_broker(serve, apache):
    apache.start()
    second = serve(apache.bootstrap(), apache.prefix, data_dir=apache.data_dir)

    assert_refused(second, "in use by the server", "--data-dir")

    assert rank(apache, "someone").served_by.worker
    token = record(apache, event("someone", "nemo"))
    assert profile(apache, "someone", token).history_size == 6


def test_a_second_server_over_the_same_embedded_broker(serve, embedded):
    embedded.start()
    second = serve(data_dir=embedded.data_dir)

    assert_refused(second, "in use by the server", "--data-dir", code=1)

    token = record(embedded, event("someone", "nemo"))
    assert profile(embedded, "someone", token).history_size == 6


def recreate(admin, topic):
    admin.delete_topics([topic])
    wait_for(lambda: topic not in admin.list_topics(), "the topic's end")
    settings = {"message.timestamp.type": "LogAppendTime", "cleanup.policy": "delete"}
    asked = {topic: {"num_partitions": 4, "replication_factor": 1, "configs": settings}}
    admin.create_topics(asked, wait_for_metadata=True)
