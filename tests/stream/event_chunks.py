"""Chunks of events, and that they are read as their records are one by one."""

from google.protobuf.message import DecodeError
from kafka.partitioner.default import murmur2
from memory_log import Record

from rankstream.proto.v1 import common_pb2, events_pb2
from rankstream.server.config import Limits
from rankstream.server.errors import RankstreamError
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.stream.consumer import Chunk
from rankstream.server.stream.event_codec import EventCodec
from rankstream.server.stream.event_columns import EventColumns

LIMITS = Limits(
    max_id_bytes=16,
    max_record_bytes=200,
    max_event_text_chars=20,
    max_attributes=2,
    max_attribute_name_bytes=16,
    max_attribute_bytes=20,
    max_attribute_texts=2,
)
FOLD = FoldSettings(
    custom_types=("gift", "click on a picture", "read", "watch", "again"),
    curves=("read:centred(30,30)", "watch:linear(0.5,2)", "again:constant(-2.5)"),
)
NOW = 1_000_000


def wire(**fields):
    return events_pb2.Event(**fields).SerializeToString()


def text(value):
    return common_pb2.AttributeValue(text=value)


def plain(number=0, **fields):
    defaults = {
        "event_id": f"e{number}",
        "event_time_ms": NOW - number,
        "user_id": f"user-{number}",
        "type": "click",
        "item_id": f"item-{number}",
    }
    return wire(**{**defaults, **fields})


def chunk_of(values, partition=0):
    records = [Record(7 + i, value, timestamp=NOW) for i, value in enumerate(values)]
    return Chunk(partition, records, 7 + len(values))


def assert_read_as_one_by_one(values, partition=0):
    """What ``decode_chunks`` makes of a chunk is what ``decode`` makes of each record."""
    codec = EventCodec(FOLD, LIMITS, "events", 4)
    chunk = chunk_of(values, partition)
    good, refused, owned = [], [], []
    for record in chunk.records:
        try:
            where = record.timestamp, partition, record.offset
            good += (found := codec.decode(record.value, *where, record.headers))
            owned.append(found[0].user)
        except (RankstreamError, DecodeError) as error:
            refused.append((record, str(error)))
    expected = EventColumns.of(good)

    (decoded,) = codec.decode_chunks([chunk])

    assert decoded.chunks == [chunk]
    assert decoded.refused == refused
    assert decoded.events.users == expected.users
    assert decoded.events.rows.tobytes() == expected.rows.tobytes()
    assert decoded.events.texts == expected.texts
    owners = [(murmur2(user) & 0x7FFFFFFF) % 4 for user in owned]
    assert decoded.misplaced == sum(owner != partition for owner in owners)
    return decoded


def unread(values):
    """Which of the values the kernel leaves to ``decode``."""
    codec = EventCodec(FOLD, LIMITS, "events", 4)
    left = []
    decode = codec.decode
    codec.decode = lambda value, *rest: (left.append(value), decode(value, *rest))[1]
    codec.decode_chunks([chunk_of(values)])
    return left
