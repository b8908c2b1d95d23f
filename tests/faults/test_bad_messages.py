"""What may arrive, whatever the method: messages too large, damaged, many or none at all.

The numbers are those of the project's list of bad input. Deadlines and full queues are in
``test_overload.py``, streams in ``test_bad_streams.py``.
"""

import random
import socket

import grpc
import numpy as np
import pytest
from drafts import EXHAUSTED, INVALID, MESSAGE_BYTES, embed, whole
from google import protobuf
from google.protobuf.internal import api_implementation
from requests_to import event, rank, refused, rows_of
from rubbish import mutated, padded
from valid_messages import BASES

from rankstream.proto.v1 import catalog_pb2, encoder_pb2, events_pb2, profiles_pb2, ranking_pb2

pytestmark = pytest.mark.usefixtures("next_request_is_right")
GOAWAY_FOR_PINGS = b"too_many_pings"


FINE = {
    grpc.StatusCode.OK,
    INVALID,
    EXHAUSTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


OVER_LIMIT = {
    "entries": ("ranking/BatchRank", ranking_pb2.BatchRankRequest(requests=[whole()] * 1025)),
    "events": (
        "events/RecordEvents",
        events_pb2.RecordEventsRequest(events=[event("u", "i")] * 5001),
    ),
    "items": (
        "catalog/UpsertItems",
        catalog_pb2.UpsertItemsRequest(items=[catalog_pb2.Item(item_id="i")] * 1001),
    ),
    "texts": ("encoder/Embed", embed(*["x"] * 513)),
}


@pytest.mark.parametrize("what", OVER_LIMIT)
def test_20_a_batch_over_its_limit_is_refused_whole(server, what):
    path, request = OVER_LIMIT[what]

    with refused(INVALID, "the limit is"):
        method_of(server, path)(request, timeout=10)


EMPTY = {
    "ranking/BatchRank": (ranking_pb2.BatchRankRequest(), "entries"),
    "events/RecordEvents": (events_pb2.RecordEventsRequest(), "results"),
    "catalog/UpsertItems": (catalog_pb2.UpsertItemsRequest(), "results"),
    "encoder/Embed": (encoder_pb2.EmbedRequest(), "results"),
}


@pytest.mark.parametrize("path", EMPTY)
def test_13_an_empty_batch_is_an_empty_answer(server, path):
    request, field = EMPTY[path]

    assert len(getattr(method_of(server, path)(request, timeout=10), field)) == 0


def test_13_no_candidates_and_no_text(server):
    assert not rank(server, "known", []).items
    answer = server.encoder.Embed(embed("", " \n"), timeout=10)
    assert [r.status.code for r in answer.results] == [0, 0]
    assert np.isfinite(rows_of(answer)).all()


def test_14_a_long_text_is_refused_and_a_longish_one_flagged(server):
    answer = server.encoder.Embed(embed("x" * 100_001, "word " * 2000, "fine"), timeout=20)

    assert [r.status.code for r in answer.results] == [INVALID.value[0], 0, 0]
    assert answer.results[0].status.message == "texts[0]: 100001 characters, the limit is 100000"
    assert [r.truncated for r in answer.results] == [False, True, False]


def test_4_a_decompression_bomb(server):
    with refused(EXHAUSTED):
        server.encoder.Embed(embed("x" * (50 << 20)), timeout=20, compression=grpc.Compression.Gzip)


def test_4_a_compressed_message_within_the_limit(server):
    answer = server.encoder.Embed(
        embed("word " * 2000), timeout=20, compression=grpc.Compression.Gzip
    )
    assert answer.results[0].truncated


def test_24_huge_metadata(server):
    with refused(EXHAUSTED):
        server.ranking.Rank(whole(), timeout=10, metadata=[("x-long", "v" * 100_000)])


def test_24_many_streams_on_one_connection(server):
    calls = [server.ranking.Rank.future(whole(k=1), timeout=20) for _ in range(1000)]

    codes = {call.code() for call in calls}

    assert codes <= {grpc.StatusCode.OK, EXHAUSTED}
    assert grpc.StatusCode.OK in codes


def test_34_messages_and_logs_stay_on_their_line(server):
    forged = "x\n2026-01-01 00:00:00,000 ERROR forged line\r\x1b[2J"
    with pytest.raises(grpc.RpcError) as caught:
        server.catalog.GetItem(catalog_pb2.GetItemRequest(item_id=forged), timeout=10)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert caught.value.details().isprintable()

    bad = event("u", "i", forged)
    answer = server.events.RecordEvents(events_pb2.RecordEventsRequest(events=[bad]), timeout=10)
    assert answer.results[0].status.message.isprintable()
    assert not [line for line in server.log.splitlines() if line.startswith("2026-01-01")]


@pytest.mark.parametrize("path", BASES)
def test_1_a_message_over_the_limit(server, path):
    send = raw_method(server, path, BASES[path])

    with refused(EXHAUSTED):
        send(padded(BASES[path].SerializeToString(), MESSAGE_BYTES), timeout=20)


@pytest.mark.parametrize("path", BASES)
def test_2_mutated_messages(server, path):
    draw = random.Random(path)
    send = raw_method(server, path, BASES[path])
    valid = BASES[path].SerializeToString()

    calls = [send.future(mutated(draw, valid), timeout=20) for _ in range(1500)]

    for call in calls:
        assert call.code() in FINE, call.details()


@pytest.mark.parametrize("path", BASES)
def test_2_3_truncated_random_and_nested_bytes(server, path):
    draw = random.Random(path)
    send = raw_method(server, path, BASES[path])
    valid = BASES[path].SerializeToString()
    requests = [valid[:n] for n in range(0, len(valid), max(1, len(valid) // 30))]
    requests += [draw.randbytes(draw.randrange(1, 200)) for _ in range(50)]
    # Groups of an unknown field in each other, and lengths that lie.
    requests += [b"\xfb\x01" * 50_000, b"\x0a\xff\xff\xff\xff\x07", b"\x0a" * 5000, b"\xff" * 11]

    for call in [send.future(request, timeout=20) for request in requests]:
        assert call.code() in FINE, call.details()


def test_2_every_call_of_one_message_is_among_them():
    files = (catalog_pb2, encoder_pb2, events_pb2, profiles_pb2, ranking_pb2)
    declared = {
        f"{service.name.lower()}/{method.name}"
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if not (method.client_streaming or method.server_streaming)
    }

    assert set(BASES) == declared


def test_3_protobuf_is_parsed_by_the_implementation_that_bounds_depth():
    assert api_implementation.Type() == "upb"
    assert tuple(map(int, protobuf.__version__.split("."))) >= (6, 33, 5)


def test_24_a_flood_of_pings_ends_that_connection_alone(server):
    ping, settings = b"\0\0\x08\x06\0" + bytes(12), b"\0\0\0\x04\0\0\0\0\0"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as flood:
        flood.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
        said = b""
        try:
            while GOAWAY_FOR_PINGS not in said:
                flood.sendall(ping * 100)
                received = flood.recv(1 << 16)
                said += received
                if not received:
                    break
        except ConnectionError:
            # Closed while there were still pings to read.
            pass

    assert GOAWAY_FOR_PINGS in said


def test_27_fields_of_a_later_version_are_ignored(server):
    send = raw_method(server, "ranking/Rank", whole())
    later = whole(k=1).SerializeToString() + b"\xfa\x7f\x03new\xf0\x7f\x2a"

    answer = ranking_pb2.RankResponse.FromString(send(later, timeout=10))

    assert len(answer.items) == 1


def test_an_unknown_method(server):
    send = server.channel().unary_unary("/rankstream.v1.Ranking/Explode")

    with refused(grpc.StatusCode.UNIMPLEMENTED):
        send(b"", timeout=10)


def method_of(server, path):
    service, method = path.split("/")
    return getattr(getattr(server, service), method)


def raw_method(server, path, request):
    """The method as bytes in, bytes out."""
    service, method = path.split("/")
    package = request.DESCRIPTOR.file.package
    return server.channel().unary_unary(f"/{package}.{service.capitalize()}/{method}")
