import pytest
from kafka import KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType

from rankstream.server.stream.positions import (
    OffsetOutsideLog,
    PartitionCountChanged,
    TopicRecreated,
    fetched_highwater,
    verify_positions,
)
from rankstream.server.stream.topics import (
    BrokerUnavailable,
    LogBounds,
    TopicSettings,
    TopicSettingsError,
    connected_admin,
    describe,
    ensure_topics,
    log_bounds,
)


def incarnation(broker):
    return broker.incarnations[-1] if broker.incarnations else None


def produce(bootstrap, topic, values, partition=0):
    producer = KafkaProducer(bootstrap_servers=bootstrap, bootstrap_timeout_ms=5000)
    for value in values:
        producer.send(topic, key=b"k", value=value, partition=partition)
    producer.close()


def delete(bootstrap, topic):
    with connected_admin(bootstrap, 10) as admin:
        admin.delete_topics([topic])


def create(bootstrap, topic, partitions, configs):
    request = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
    with connected_admin(bootstrap, 10) as admin:
        admin.create_topics({topic: request}, wait_for_metadata=True)


@pytest.fixture
def settings(broker, topic_prefix):
    """Topics that exist."""
    settings = TopicSettings(prefix=topic_prefix, events_partitions=3)
    ensure_topics(broker.bootstrap, settings)
    return settings


def test_topics_are_created_with_their_partitions_and_ids_of_their_own(broker, settings):
    topics = describe(broker.bootstrap, settings.wanted(), incarnation(broker))

    assert {name: t.partitions for name, t in topics.items()} == {
        settings.events: 3,
        settings.items: 1,
        settings.users: 3,
        settings.dead_letters: 1,
    }
    assert len({t.topic_id for t in topics.values()}) == 4
    assert all(len(t.topic_id) == 16 for t in topics.values())


def test_topics_have_the_settings_that_the_design_needs(broker, settings):
    expected = {
        settings.events: {
            "message.timestamp.type": "LogAppendTime",
            "cleanup.policy": "delete",
            "retention.ms": "-1",
        },
        settings.items: {"cleanup.policy": "compact", "delete.retention.ms": "604800000"},
        settings.users: {
            "message.timestamp.type": "LogAppendTime",
            "cleanup.policy": "compact",
            "delete.retention.ms": "604800000",
        },
    }
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in expected]
    with connected_admin(broker.bootstrap, 10) as admin:
        reply = admin.describe_configs(resources, config_filter="all")["topic"]

    for topic, configs in expected.items():
        assert {name: reply[topic][name]["value"] for name in configs} == configs


def test_ensuring_again_changes_nothing(broker, settings):
    before = describe(broker.bootstrap, settings.wanted(), incarnation(broker))

    ensure_topics(broker.bootstrap, settings)

    assert describe(broker.bootstrap, settings.wanted(), incarnation(broker)) == before


def test_another_partition_count_is_refused_with_the_flag_that_resolves_it(broker, settings):
    other = TopicSettings(prefix=settings.prefix, events_partitions=4)

    with pytest.raises(TopicSettingsError, match="has 3 partitions.*--events-partitions 3"):
        ensure_topics(broker.bootstrap, other)


@pytest.mark.parametrize(
    ("topic", "partitions", "configs", "problem"),
    [
        ("events", 4, {"cleanup.policy": "delete"}, "message.timestamp.type=CreateTime"),
        ("items", 1, {"cleanup.policy": "delete"}, "cleanup.policy=delete, expected compact"),
    ],
)
def test_wrong_settings_are_refused_with_the_command_that_resolves_them(
    broker, topic_prefix, topic, partitions, configs, problem
):
    create(broker.bootstrap, topic_prefix + topic, partitions, configs)

    with pytest.raises(TopicSettingsError, match=f"{problem}.*kafka-configs.sh"):
        ensure_topics(broker.bootstrap, TopicSettings(prefix=topic_prefix))


def test_a_missing_topic_is_left_out_of_the_description(broker, topic_prefix):
    assert describe(broker.bootstrap, [f"{topic_prefix}none"], incarnation(broker)) == {}


def test_bounds_are_exact_after_many_records_in_few_batches(broker, settings):
    produce(broker.bootstrap, settings.events, [b"v"] * 100, partition=1)

    bounds = log_bounds(broker.bootstrap, [(settings.events, 0), (settings.events, 1)])

    assert bounds == {
        (settings.events, 0): LogBounds(0, 0),
        (settings.events, 1): LogBounds(0, 100),
    }
    assert fetched_highwater(broker.bootstrap, settings.events, 1, 50, 10) == 100


def test_positions_inside_the_log_are_accepted(broker, settings):
    produce(broker.bootstrap, settings.events, [b"v"] * 10)
    known = describe(broker.bootstrap, [settings.events], incarnation(broker))[settings.events]

    described = verify_positions(
        broker.bootstrap,
        {(known.topic_id, 0): 10, (known.topic_id, 1): 0},
        {settings.events: 3},
        incarnation(broker),
    )

    assert described[settings.events] == known


def test_a_position_past_the_end_is_refused(broker, settings):
    produce(broker.bootstrap, settings.events, [b"v"] * 10)
    known = describe(broker.bootstrap, [settings.events], incarnation(broker))[settings.events]

    with pytest.raises(OffsetOutsideLog, match="ends at offset 10"):
        verify_positions(
            broker.bootstrap,
            {(known.topic_id, 0): 11},
            {settings.events: 3},
            incarnation(broker),
        )


def test_a_topic_with_another_partition_count_than_the_state_is_refused(broker, settings):
    with pytest.raises(PartitionCountChanged):
        verify_positions(broker.bootstrap, {}, {settings.events: 2}, incarnation(broker))


def test_a_topic_created_again_is_refused_by_kafka_and_by_its_length_on_the_embedded_broker(
    broker, settings
):
    produce(broker.bootstrap, settings.events, [b"v"] * 10)
    known = describe(broker.bootstrap, [settings.events], incarnation(broker))[settings.events]
    delete(broker.bootstrap, settings.events)
    create(broker.bootstrap, settings.events, 3, {})
    produce(broker.bootstrap, settings.events, [b"v"] * 3)

    with pytest.raises(OffsetOutsideLog if broker.incarnations else TopicRecreated):
        verify_positions(
            broker.bootstrap,
            {(known.topic_id, 0): 10},
            {settings.events: 3},
            incarnation(broker),
        )


def test_a_broker_without_topic_ids_is_refused_where_none_stand_in(embedded_broker, topic_prefix):
    settings = TopicSettings(prefix=topic_prefix)
    ensure_topics(embedded_broker.bootstrap, settings)

    with pytest.raises(TopicSettingsError, match="no id"):
        describe(embedded_broker.bootstrap, [settings.events])


def test_a_refusal_of_the_broker_is_told_as_such(kafka_broker, topic_prefix):
    settings = TopicSettings(prefix=topic_prefix, replication_factor=3)

    with pytest.raises(TopicSettingsError, match="refused"):
        ensure_topics(kafka_broker.bootstrap, settings)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:1,127.0.0.1:2"])
def test_no_broker_is_an_error_with_the_address_and_what_to_do(address):
    with pytest.raises(BrokerUnavailable, match=f"{address}.*--bootstrap-servers"):
        ensure_topics(address, TopicSettings(), timeout_s=0.2)
