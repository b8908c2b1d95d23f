"""Requests and records in short, and the log read and written from outside."""

from __future__ import annotations

import gc
import hashlib
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from rankstream.proto.v1 import (
    admin_pb2,
    catalog_pb2,
    common_pb2,
    events_pb2,
    profiles_pb2,
    ranking_pb2,
)

TITLES = {
    "toy": ("Toy Story, an animation for children", "animation"),
    "nemo": ("Finding Nemo, an animated fish story for children", "animation"),
    "alien": ("Alien, horror on a spaceship", "horror"),
    "aliens": ("Aliens, marines fight monsters in space", "horror"),
    "godfather": ("The Godfather, a crime family drama", "crime"),
    "goodfellas": ("Goodfellas, a drama of gangsters and crime", "crime"),
    "casablanca": ("Casablanca, a romance in wartime", "romance"),
    "titanic": ("Titanic, a romance on a sinking ship", "romance"),
}
WHOLE = ranking_pb2.WholeCatalogue()


def catalogue() -> list[catalog_pb2.Item]:
    return [
        catalog_pb2.Item(item_id=name, title=title, category=category)
        for name, (title, category) in TITLES.items()
    ]


def after(token: bytes, max_wait_ms: int = 10_000, *, allow_stale: bool = False):
    return common_pb2.ReadAfter(min_token=token, max_wait_ms=max_wait_ms, allow_stale=allow_stale)


def beyond(token: bytes) -> bytes:
    """A token of records that the log does not hold, however long one waits."""
    return token[:-8] + (1 << 40).to_bytes(8, "little")


def upsert(server, items):
    """Writes items and waits until they can be ranked; the token."""
    answer = server.catalog.UpsertItems(catalog_pb2.UpsertItemsRequest(items=items), timeout=20)
    assert not [r.status for r in answer.results if r.status.code]
    request = catalog_pb2.GetItemRequest(item_id=items[-1].item_id, read_after=after(answer.token))
    server.catalog.GetItem(request, timeout=20)
    return answer.token


def blocks_of(answer, item) -> dict[str, float]:
    """An item's inner products by block."""
    return dict(zip(answer.block_names, item.parts.blocks, strict=True))


def rows_of(answer) -> np.ndarray:
    """An encoder's vectors, ``float32 [texts, dimensions]``."""
    return np.frombuffer(answer.embeddings.data, "<f4").reshape(answer.embeddings.shape)


def event(user: str, item: str, kind: str = "click", **fields) -> events_pb2.Event:
    return events_pb2.Event(user_id=user, item_id=item, type=kind, **fields)


def record(server, *events):
    """Writes events; the token."""
    request = events_pb2.RecordEventsRequest(events=events)
    answer = server.events.RecordEvents(request, timeout=20)
    assert not [r.status for r in answer.results if r.status.code]
    return answer.token


def rank(server, user, ids=None, token=b"", **fields):
    """Ranks given ids, or the whole catalogue."""
    chosen = {"whole_catalogue": WHOLE}
    if ids is not None:
        chosen = {"item_ids": ranking_pb2.ItemIds(item_ids=ids)}
    if token:
        fields["read_after"] = after(token)
    request = ranking_pb2.RankRequest(user_id=user, **chosen, **fields)
    return server.ranking.Rank(request, timeout=20)


def ids_of(answer) -> list[str]:
    return [item.item_id for item in answer.items]


def profile(server, user, token=b"", **fields):
    request = profiles_pb2.GetProfileRequest(user_id=user, read_after=after(token), **fields)
    return server.profiles.GetProfile(request, timeout=20)


def info(server) -> admin_pb2.GetServerInfoResponse:
    return server.admin.GetServerInfo(admin_pb2.GetServerInfoRequest(), timeout=10)


@contextmanager
def refused(code: grpc.StatusCode, *words: str, field: str = ""):
    """The block's call ends with ``code``, and a message that has all the words."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error = caught.value
    details = error.details() or ""
    assert error.code() == code, (error.code(), details)
    assert all(word in details for word in words), details
    assert not field or violated(error) == field


def violated(error: grpc.RpcError) -> str:
    """The field that google.rpc.BadRequest names."""
    bad = error_details_pb2.BadRequest()
    for detail in rpc_status.from_call(error).details:
        if detail.Unpack(bad):
            return bad.field_violations[0].field
    return ""


def item_key(item_id: str) -> int:
    """The documented formula, written again."""
    return int.from_bytes(
        hashlib.blake2b(item_id.encode(), digest_size=8, person=b"item").digest(), "little"
    )


@contextmanager
def producer(server):
    """A plain Kafka producer to the server's log."""
    made = KafkaProducer(
        bootstrap_servers=server.bootstrap(),
        acks="all",
        linger_ms=5,
        max_block_ms=30_000,
        allow_auto_create_topics=False,
    )
    try:
        yield made
    finally:
        made.close()
        # kafka-python forgets the sockets of refused connections: here, where that is let pass.
        gc.collect()


def log_of(server, name: str) -> list:
    """All records of a topic, those of a partition in their order."""
    consumer = KafkaConsumer(
        bootstrap_servers=server.bootstrap(),
        group_id=None,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=20,
    )
    try:
        topic = server.topics[name]
        parts = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic))]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends = consumer.end_offsets(parts)
        found = []
        while any(consumer.position(p) < ends[p] for p in parts):
            for records in consumer.poll(timeout_ms=200, max_records=20_000).values():
                found += records
        return found
    finally:
        consumer.close()
