"""The server that ``load.py`` is pointed at: what it holds, and which kinds of calls it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
from entries import batch_of
from google.protobuf.message import Message
from load_calls import KINDS

from rankstream.proto.v1 import catalog_pb2, catalog_pb2_grpc, ranking_pb2, ranking_pb2_grpc

_TIMEOUT_S = 10.0
_MAX_K = 1_000


class NotUsable(Exception):
    """There is nothing to send, or nobody who answers it; the message says what to change."""


def listed_items(channel: grpc.Channel, limit: int) -> list[str]:
    """Ids of at most ``limit`` items of the catalogue.

    A server without ListItems is asked for its best thousand instead.

    Raises:
        NotUsable: it holds none, or cannot be reached.
    """
    listing = catalog_pb2_grpc.CatalogStub(channel).ListItems
    try:
        request = catalog_pb2.ListItemsRequest(limit=limit)
        found = [one.item.item_id for one in _stream(listing, request)]
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.UNIMPLEMENTED:
            raise unusable(error, "ListItems") from error
        found = _best_items(channel, limit)
    if not found:
        msg = "the catalogue is empty: write items first, with `rankstream items import`"
        raise NotUsable(msg)
    return found


def answers_stream_rank(channel: grpc.Channel) -> bool:
    """Whether StreamRank is implemented.

    Raises:
        NotUsable: another error than UNIMPLEMENTED.
    """
    call = ranking_pb2_grpc.RankingStub(channel).StreamRank
    try:
        list(_stream(call, iter([ranking_pb2.BatchRankRequest()])))
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNIMPLEMENTED:
            return False
        raise unusable(error, "StreamRank") from error
    return True


def require_kind(channel: grpc.Channel, kind: str, request: Message) -> None:
    """Sends one request of a kind.

    Raises:
        NotUsable: it is not answered.
    """
    known = KINDS[kind]
    connect: Callable[[str], Any] = channel.stream_stream if known.streams else channel.unary_unary
    call = connect(known.method)
    serialised = request.SerializeToString()
    try:
        if known.streams:
            list(_stream(call, iter([batch_of([serialised])])))
        else:
            call(serialised, timeout=_TIMEOUT_S, wait_for_ready=True)
    except grpc.RpcError as error:
        raise unusable(error, f"{kind} of --mix ({known.method})") from error


def _best_items(channel: grpc.Channel, limit: int) -> list[str]:
    request = ranking_pb2.RankRequest(
        user_id="load", whole_catalogue=ranking_pb2.WholeCatalogue(), k=min(limit, _MAX_K)
    )
    rank = ranking_pb2_grpc.RankingStub(channel).Rank
    try:
        return [item.item_id for item in rank(request, timeout=_TIMEOUT_S).items]
    except grpc.RpcError as error:
        raise unusable(error, "Rank") from error


def _stream(call: Callable[..., Any], request: object) -> Iterator[Any]:
    answers: Iterator[Any] = call(request, timeout=_TIMEOUT_S, wait_for_ready=True)
    return answers


def unusable(error: grpc.RpcError, what: str) -> NotUsable:
    """Says of a call that failed what it was and why."""
    return NotUsable(f"{what}: {error.code().name}: {error.details()}")
