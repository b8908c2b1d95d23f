"""What comes of several chunks: interactions, texts and refusals stay with their own."""

from event_chunks import FOLD, LIMITS, NOW, assert_read_as_one_by_one, chunk_of, plain, wire
from kafka.partitioner.default import murmur2
from memory_log import Record

from rankstream.server.profiles.interaction import event_key
from rankstream.server.stream.consumer import Chunk
from rankstream.server.stream.event_codec import EventCodec
from rankstream.server.types import text_key


def test_several_interactions_of_an_event_stay_at_its_place():
    both = plain(2, type="review", text=" blue\tshoes ")
    values = [plain(1), both, plain(3), plain(4, type="search", text="red"), both]

    decoded = assert_read_as_one_by_one(values)

    users = [b"user-1", b"user-2", b"user-2", b"user-3", b"user-4", b"user-4", b"user-2", b"user-2"]
    assert decoded.events.users == users
    assert decoded.events.texts == {text_key("blue shoes"): "blue shoes", text_key("red"): "red"}
    texts = [0x8000 & ext for ext in decoded.events.rows["ext"]]
    assert texts == [0, 0, 0x8000, 0, 0, 0x8000, 0, 0x8000]


def test_texts_stay_with_their_chunk_where_another_has_a_bad_record():
    codec = EventCodec(FOLD, LIMITS, "events", 4)
    chunks = [
        chunk_of([plain(1, type="search", text="one"), b"\xff"], 0),
        chunk_of([plain(2), plain(3, type="search", text="two")], 1),
    ]

    first, second = codec.decode_chunks(chunks)

    assert list(first.events.texts.values()) == ["one"]
    assert list(second.events.texts.values()) == ["two"]
    assert second.events.users == [b"user-2", b"user-3", b"user-3"]


def test_json_is_read_where_the_header_says_so():
    codec = EventCodec(FOLD, LIMITS, "events", 4)
    json = b'{"eventId":"e","userId":"u","type":"click","itemId":"i"}'
    binary = wire(event_id="e", user_id="u", type="click", item_id="i")
    labels = [
        ("content-type", b"application/json"),
        ("Content-Type", b"Application/JSON; charset=utf-8"),
        ("other", None),
        ("content-type", b"text/plain"),
        ("content-type", None),
    ]
    records = [Record(n, json, headers=[label]) for n, label in enumerate(labels)]
    records += [Record(5, binary, headers=[("x", b"y")]), Record(6, binary, headers=labels[:1])]

    (decoded,) = codec.decode_chunks([Chunk(0, records, 7)])

    assert [record.offset for record, _ in decoded.refused] == [2, 3, 4, 6]
    assert decoded.events.rows["event_key"].tolist() == 3 * [event_key("e")]


def test_chunks_keep_their_own_records():
    codec = EventCodec(FOLD, LIMITS, "events", 4)
    chunks = [
        chunk_of([plain(1), b"\xff", plain(2)], 0),
        chunk_of([plain(3), plain(4, event_id="")], 2),
    ]

    first, second = codec.decode_chunks(chunks)

    assert [first.chunks, second.chunks] == [[chunk] for chunk in chunks]
    assert first.events.users == [b"user-1", b"user-2"]
    assert [record.offset for record, _ in first.refused] == [8]
    assert second.events.users == [b"user-3", b"user-4"]
    assert second.events.rows["event_time_ms"].tolist() == [NOW - 3, NOW - 4]
    assert second.refused == []


def test_the_misplaced_are_counted():
    codec = EventCodec(FOLD, LIMITS, "events", 4)
    users = [f"u{n}" for n in range(40)]
    owners = [(murmur2(user.encode()) & 0x7FFFFFFF) % 4 for user in users]
    values = [plain(user_id=user, event_id="" if n % 3 else "e") for n, user in enumerate(users)]

    whole = codec.decode_chunks([chunk_of(values, 1), chunk_of(values, 2)])
    apart = codec.decode_chunks([chunk_of([*values, b""], 1), chunk_of([*values, None], 2)])

    expected = [sum(owner != partition for owner in owners) for partition in (1, 2)]
    assert [decoded.misplaced for decoded in whole] == [sum(expected)]
    assert len(whole[0].events.users) == 80
    assert [decoded.misplaced for decoded in apart] == expected
