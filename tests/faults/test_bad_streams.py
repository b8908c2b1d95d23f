"""What a caller may send on a stream: each message has its answer, or the stream a typed status."""

import random

import grpc
import pytest
from google.protobuf.message import DecodeError
from rubbish import mutated, padded

from rankstream.proto.v1 import catalog_pb2, encoder_pb2, events_pb2, profiles_pb2, ranking_pb2
from rankstream.server.config import Limits

pytestmark = pytest.mark.usefixtures("next_request_is_right")
FINE = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
}
CODES = {code.value[0] for code in FINE}
EMBED = encoder_pb2.EmbedRequest(texts=["a text", "another"])
IMPORT = catalog_pb2.ImportItemsRequest(
    items=[catalog_pb2.Item(item_id="one", title="t", price=1), catalog_pb2.Item(item_id="two")]
)
LIST = catalog_pb2.ListItemsRequest(limit=3)
RANK = ranking_pb2.RankRequest(
    user_id="someone", item_ids=ranking_pb2.ItemIds(item_ids=["toy", "alien"]), k=1
)
RANKS = ranking_pb2.BatchRankRequest(requests=[RANK, RANK])
EVENT = events_pb2.Event(user_id="fuzz", type="rate", item_id="toy", value=3, event_id="fuzz")
IMPORT_EVENTS = events_pb2.ImportEventsRequest(events=[EVENT, EVENT])
EXPORT = profiles_pb2.ExportUserRequest(user_id="fuzz")
# No message of any method: a length that lies.
RUBBISH = b"\x0a\xff\xff\xff\xff\x07"


def sent(server, method, messages):
    """The answers' bytes and the status of a stream of raw messages."""
    call = server.channel().stream_stream(f"/rankstream.v1.{method}")(iter(messages), timeout=60)
    answers = []
    try:
        answers.extend(call)
    except grpc.RpcError:
        assert call.code() != grpc.StatusCode.OK
    return answers, call.code()


def rubbish(draw, valid):
    yield from (valid[:n] for n in range(len(valid)))
    yield from (draw.randbytes(draw.randrange(1, 100)) for _ in range(50))
    yield from (mutated(draw, valid) for _ in range(300))
    yield from (b"\xfb\x01" * 50_000, RUBBISH, b"\x0a" * 5000, b"")


def test_2_a_stream_of_rubbish_has_an_answer_a_message(server):
    messages = list(rubbish(random.Random(1), EMBED.SerializeToString()))

    answers, code = sent(server, "Encoder/EmbedStream", [*messages, EMBED.SerializeToString()])

    assert code == grpc.StatusCode.OK
    assert len(answers) == len(messages) + 1
    last = encoder_pb2.EmbedResponse.FromString(answers[-1])
    assert [r.status.code for r in last.results] == [0, 0]


def test_2_a_stream_of_rankings_has_an_entry_a_request(server):
    messages = [*rubbish(random.Random(3), RANKS.SerializeToString()), RANKS.SerializeToString()]

    answers, code = sent(server, "Ranking/StreamRank", messages)

    found = [ranking_pb2.BatchRankResponse.FromString(answer).entries for answer in answers]
    entries = [entry for some in found for entry in some]
    assert code == grpc.StatusCode.OK
    assert len(entries) == sum(map(rankings_in, messages))
    assert {entry.status.code for entry in entries} <= CODES
    assert [len(entry.response.items) for entry in entries[-2:]] == [1, 1]


def rankings_in(message):
    """Requests in a message of StreamRank; what cannot be read counts as one."""
    try:
        return len(ranking_pb2.BatchRankRequest.FromString(message).requests)
    except DecodeError:
        return 1


def test_1_a_message_of_too_many_rankings_ends_the_stream(server):
    limit = Limits().max_batch_rank_entries
    many = ranking_pb2.BatchRankRequest(requests=[ranking_pb2.RankRequest()] * (limit + 1))

    answers, code = sent(
        server, "Ranking/StreamRank", [m.SerializeToString() for m in (RANKS, many, RANKS)]
    )

    found = [ranking_pb2.BatchRankResponse.FromString(answer).entries for answer in answers]
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert [entry.status.code for some in found for entry in some] == [0, 0]


def test_20_large_answers_come_in_several_messages(server):
    """A client takes messages of 4 MiB unless it is told to take more."""
    ids = ranking_pb2.ItemIds(item_ids=[f"{n:0250}" for n in range(1000)])
    asked = ranking_pb2.RankRequest(user_id="someone", item_ids=ids, k=1)
    many = ranking_pb2.BatchRankRequest(requests=[asked] * 7)

    answers, code = sent(server, "Ranking/StreamRank", [many.SerializeToString()])

    found = [ranking_pb2.BatchRankResponse.FromString(answer).entries for answer in answers]
    assert code == grpc.StatusCode.OK
    assert [len(e.response.missing_item_ids) for some in found for e in some] == [1000] * 7
    assert len(answers) == 2
    assert max(map(len, answers)) <= 1 << 20


def test_2_a_stream_of_events_has_an_acknowledgement_a_message(server):
    messages = [*rubbish(random.Random(4), EVENT.SerializeToString()), EVENT.SerializeToString()]

    answers, code = sent(server, "Events/StreamEvents", messages)

    acks = [events_pb2.EventAck.FromString(answer) for answer in answers]
    assert code == grpc.StatusCode.OK
    assert len(acks) == len(messages)
    assert {ack.status.code for ack in acks} <= CODES
    assert acks[-1].outcome in (events_pb2.EventAck.ACCEPTED, events_pb2.EventAck.DUPLICATE)


def test_2_an_import_of_events_ends_with_a_typed_status(server):
    for message in rubbish(random.Random(5), IMPORT_EVENTS.SerializeToString()):
        messages = [IMPORT_EVENTS.SerializeToString(), message]
        answers, code = sent(server, "Events/ImportEvents", messages)
        assert code in FINE
        for answer in answers:
            assert events_pb2.ImportEventsResponse.FromString(answer).accepted >= 2


def test_2_an_export_that_is_asked_for_in_rubbish_has_a_typed_status(server):
    for message in rubbish(random.Random(6), EXPORT.SerializeToString()):
        answers, code = sent(server, "Profiles/ExportUser", [message])
        assert code in FINE
        for answer in answers:
            profiles_pb2.ExportedRecord.FromString(answer)


@pytest.mark.parametrize("seed", range(4))
def test_2_an_import_of_rubbish_ends_with_a_typed_status(server, seed):
    draw = random.Random(seed)

    for message in rubbish(draw, IMPORT.SerializeToString()):
        answers, code = sent(server, "Catalog/ImportItems", [IMPORT.SerializeToString(), message])
        assert code in FINE
        first = catalog_pb2.ImportItemsProgress.FromString(answers[0])
        assert (first.accepted, first.rejected) == (2, 0)


def test_2_a_list_that_is_asked_for_in_rubbish_has_a_typed_status(server):
    for message in rubbish(random.Random(2), LIST.SerializeToString()):
        answers, code = sent(server, "Catalog/ListItems", [message])
        assert code in FINE
        assert all(catalog_pb2.ListedItem.FromString(a).item.item_id for a in answers)


STREAMS = {
    "Encoder/EmbedStream": EMBED,
    "Ranking/StreamRank": RANKS,
    "Events/StreamEvents": EVENT,
    "Events/ImportEvents": IMPORT_EVENTS,
    "Catalog/ImportItems": IMPORT,
}


@pytest.mark.parametrize("method", STREAMS)
def test_1_a_message_over_the_limit_ends_the_stream(server, method):
    valid = STREAMS[method].SerializeToString()

    _, code = sent(server, method, [valid, padded(valid, 3 << 20)])

    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_24_many_streams_that_are_dropped_leave_the_server_well(server):
    channel = server.channel()
    for method in ("Encoder/EmbedStream", "Catalog/ImportItems", "Ranking/StreamRank"):
        message = STREAMS[method]
        calls = [
            channel.stream_stream(f"/rankstream.v1.{method}")(
                iter([message.SerializeToString()] * 5), timeout=60
            )
            for _ in range(200)
        ]
        assert all([next(call) for call in calls])
        for call in calls:
            call.cancel()
