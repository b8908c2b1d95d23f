"""What a caller may send on a stream: each message has its answer, or the stream a typed status."""

import random

import grpc
import pytest
from requests_to import catalogue, ids_of, rank, upsert

from rankstream.proto.v1 import catalog_pb2, encoder_pb2

FINE = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
}
EMBED = encoder_pb2.EmbedRequest(texts=["a text", "another"])
IMPORT = catalog_pb2.ImportItemsRequest(
    items=[catalog_pb2.Item(item_id="one", title="t", price=1), catalog_pb2.Item(item_id="two")]
)
LIST = catalog_pb2.ListItemsRequest(limit=3)
# No message of any method: a length that lies.
RUBBISH = b"\x0a\xff\xff\xff\xff\x07"


@pytest.fixture(scope="module")
def server(serve_shared):
    started = serve_shared(max_message_bytes=2 << 20).start()
    upsert(started, catalogue())
    yield started
    assert "Traceback" not in started.log


@pytest.fixture(autouse=True)
def _the_next_request_is_right(server):
    pids = server.children()
    yield
    assert set(ids_of(rank(server, "someone", ["toy", "alien"]))) == {"toy", "alien"}
    assert server.children() == pids


def sent(server, method, messages):
    """The answers' bytes and the status of a stream of raw messages."""
    call = server.channel().stream_stream(f"/rankstream.v1.{method}")(iter(messages), timeout=60)
    answers = []
    try:
        answers.extend(call)
    except grpc.RpcError:
        assert call.code() != grpc.StatusCode.OK
    return answers, call.code()


def mutated(draw, valid):
    data = bytearray(valid)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        data[at : at + draw.randrange(2)] = draw.randbytes(draw.randrange(3))
    return bytes(data)


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


def test_1_a_message_over_the_limit_ends_the_stream(server):
    large = encoder_pb2.EmbedRequest(texts=["x" * 90_000] * 30).SerializeToString()

    _, code = sent(server, "Encoder/EmbedStream", [EMBED.SerializeToString(), large])

    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_24_many_streams_that_are_dropped_leave_the_server_well(server):
    channel = server.channel()
    for method, message in (("Encoder/EmbedStream", EMBED), ("Catalog/ImportItems", IMPORT)):
        calls = [
            channel.stream_stream(f"/rankstream.v1.{method}")(
                iter([message.SerializeToString()] * 5), timeout=60
            )
            for _ in range(200)
        ]
        assert all([next(call) for call in calls])
        for call in calls:
            call.cancel()
