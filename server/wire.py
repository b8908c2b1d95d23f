"""Protobuf to the server's own values and back. Nothing here decides anything but validity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream import kernels
from rankstream.proto.v1 import common_pb2, ranking_pb2
from rankstream.server.announce import Announcements, slot_of
from rankstream.server.asked_wire import RequestForm, asked_from_pb, block_weights_from_pb
from rankstream.server.candidates import Given, GivenIds, count_candidates, id_at
from rankstream.server.catalog.blocks import Layout
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument
from rankstream.server.explanation import ExplainAnswer
from rankstream.server.filter_wire import filter_from_pb
from rankstream.server.filters import Filter
from rankstream.server.stream.checks import check_id
from rankstream.server.stream.token import unpack_token
from rankstream.server.subjects import TYPE_NAMES
from rankstream.server.types import (
    Asked,
    ExplainTask,
    Position,
    RankAnswer,
    RankTask,
    ReadAfter,
    item_keys,
)

ANY_STATE = ReadAfter((), None, allow_stale=False)

_DEFAULT_K = 10
_DEFAULT_EXPLAINED = 10
_DEFAULT_REASONS = 3
_NO_KEYS = item_keys(())


@dataclass(frozen=True, slots=True)
class Names:
    """What an answer calls things: this process, its vector space, its topics and types."""

    server_version: str
    worker: str
    space: str
    topics: Mapping[str, str]
    types: Mapping[int, str]


def rank_task_from_pb(request: ranking_pb2.RankRequest, form: RequestForm, field: str) -> RankTask:
    """Validates a request.

    Args:
        request: the message.
        form: what it is checked against.
        field: where it stands, as ``requests[3].``; "" for a request of its own.

    Raises:
        InvalidArgument: names the field.
    """
    limits, asked = form.limits, asked_from_pb(request, form, field)
    if request.WhichOneof("subject") == "user_id":
        check_id(request.user_id, field + "user_id", limits.max_id_bytes)
    candidates = _candidates_from_pb(request, field, limits)
    count = None if candidates is None else count_candidates(candidates)
    default_k = min(_DEFAULT_K if count is None else count, limits.max_k)
    k = request.k if request.HasField("k") else default_k
    if count is not None:
        k = min(k, count)
    if k > limits.max_k:
        raise InvalidArgument(field + "k", f"{k}, the limit is {limits.max_k}")
    explained, reasons = _explain_from_pb(request.explain, limits, field + "explain.")
    return RankTask(
        user=request.user_id.encode(),
        candidates=candidates,
        k=k,
        excluded=_excluded_keys(request.exclude_item_ids, field + "exclude_item_ids", limits),
        exclude_seen=request.exclude_seen,
        explained=explained,
        reasons=reasons,
        filter=_filter_from_pb(request, form.limits, field + "filter"),
        asked=asked,
    )


def similar_task_from_pb(request: ranking_pb2.SimilarItemsRequest, form: RequestForm) -> RankTask:
    """Validates a request for an item's neighbours.

    Raises:
        InvalidArgument: names the field.
    """
    limits = form.limits
    check_id(request.item_id, "item_id", limits.max_id_bytes)
    k = request.k if request.HasField("k") else min(_DEFAULT_K, limits.max_k)
    if k > limits.max_k:
        raise InvalidArgument(field="k", problem=f"{k}, the limit is {limits.max_k}")
    excluded = _excluded_keys(request.exclude_item_ids, "exclude_item_ids", limits)
    key = item_keys([request.item_id])
    return RankTask(
        user=b"",
        candidates=None,
        k=k,
        excluded=np.concatenate([excluded, key]),
        exclude_seen=False,
        explained=0,
        reasons=0,
        asked=Asked(
            item_key=int(key[0]),
            block_weights=block_weights_from_pb(request.block_weights, form, ""),
            with_bias=request.with_bias,
        ),
        filter=(
            filter_from_pb(request.filter, limits, "filter") if request.HasField("filter") else None
        ),
    )


def explain_task_from_pb(request: ranking_pb2.ExplainRequest, form: RequestForm) -> ExplainTask:
    """Validates a request to take scores apart.

    Raises:
        InvalidArgument: names the field.
    """
    ranking, limit = request.request, form.limits.max_explained_scores
    kind = ranking.WhichOneof("candidates")
    if kind != "item_ids":
        raise InvalidArgument(
            field="request.candidates", problem=f"{kind or 'not set'}, expected item_ids"
        )
    if len(ranking.item_ids.item_ids) > limit:
        problem = f"{len(ranking.item_ids.item_ids)} items, the limit is {limit}"
        raise InvalidArgument(field="request.item_ids.item_ids", problem=problem)
    for name in ("k", "explain"):
        if ranking.HasField(name):
            raise InvalidArgument(field=f"request.{name}", problem="set; every item is explained")
    if ranking.exclude_item_ids or ranking.exclude_seen:
        name = "exclude_item_ids" if ranking.exclude_item_ids else "exclude_seen"
        raise InvalidArgument(field=f"request.{name}", problem="set; every item is explained")
    return ExplainTask(rank_task_from_pb(ranking, form, "request."))


def read_after_from_pb(message: common_pb2.ReadAfter, limits: Limits, field: str = "") -> ReadAfter:
    """Validates a freshness contract.

    Args:
        message: the request's ``read_after``.
        limits: the longest wait.
        field: where the request stands, as ``requests[3].``.

    Raises:
        InvalidArgument: the token or the wait is not valid.
    """
    if not message.min_token:
        return ANY_STATE
    field += "read_after."
    wanted = tuple(unpack_token(message.min_token, field + "min_token"))
    wait_s = message.max_wait_ms / 1000 if message.HasField("max_wait_ms") else None
    if message.max_wait_ms > limits.max_wait_ms:
        problem = f"{message.max_wait_ms}, the limit is {limits.max_wait_ms}"
        raise InvalidArgument(field + "max_wait_ms", problem)
    return ReadAfter(wanted, wait_s, message.allow_stale)


@dataclass(frozen=True, slots=True)
class RankEncoder:
    """Encodes answers: what they have in common is a message made once, and copied.

    Attributes:
        common: the names of the blocks, and ``served_by`` but for what differs.
        types: names of interactions by number.
    """

    common: ranking_pb2.RankResponse
    types: Mapping[int, str]

    @classmethod
    def make(cls, layout: Layout, names: Names) -> RankEncoder:
        """For a worker's blocks and names."""
        served = common_pb2.ServedBy(
            server_version=names.server_version,
            worker=names.worker,
            space_fingerprint=names.space,
        )
        blocks = [block.name for block in layout.blocks]
        common = ranking_pb2.RankResponse(block_names=blocks, served_by=served)
        return cls(common, {**names.types, **TYPE_NAMES})

    def encode(
        self,
        answer: RankAnswer,
        task: RankTask,
        request_id: str,
        freshness: common_pb2.Freshness,
        total_us: int,
    ) -> bytes:
        """A ``RankResponse``: protobuf reads the messages behind one another as one."""
        head = ranking_pb2.RankResponse(request_id=request_id, freshness=freshness)
        head.MergeFrom(self.common)
        for name in answer.missing:
            if isinstance(name, str):
                head.missing_item_ids.append(name)
            else:
                head.missing_item_keys.append(name)
        served, timing, times = head.served_by, head.timing, answer.times
        served.fallback, served.generation = answer.fallback, answer.head.generation
        timing.queue_us, timing.batch_size = answer.queue_us, times.batch_size
        timing.gather_us, timing.pool_us = times.gather_us, times.pool_us
        timing.score_us, timing.present_us = times.score_us, times.present_us
        timing.total_us = total_us
        return b"".join((head.SerializeToString(), answer.items))

    def encode_explained(
        self,
        answer: ExplainAnswer,
        task: ExplainTask,
        request_id: str,
        freshness: common_pb2.Freshness,
        total_us: int,
    ) -> ranking_pb2.ExplainResponse:
        """An ``ExplainResponse``."""
        given = task.ranking.candidates
        assert isinstance(given, GivenIds)
        asked = given.read()
        response = ranking_pb2.ExplainResponse(
            request_id=request_id,
            freshness=freshness,
            served_by=self.common.served_by,
            block_names=self.common.block_names,
            missing_item_ids=[id_at(asked, place) for place in answer.missing],
        )
        response.served_by.fallback = answer.fallback
        response.served_by.generation = answer.head.generation
        response.timing.queue_us, response.timing.total_us = answer.queue_us, total_us
        for explained in answer.scores:
            item = response.items.add(item_id=id_at(asked, explained.place), score=explained.score)
            item.parts.blocks.extend(explained.parts.tolist())
            item.parts.bias = explained.bias
            totals = explained.contributions.sum(axis=1)
            for c in np.argsort(-totals, kind="stable").tolist():
                cause = answer.causes[c]
                reason = ranking_pb2.Reason(
                    item_id=cause.item_id,
                    text=cause.text,
                    type=self.types.get(cause.type_id, ""),
                    event_time_ms=cause.event_time_ms,
                    contribution=float(totals[c]),
                )
                blocks = explained.contributions[c].tolist()
                item.contributions.add(reason=reason, blocks=blocks)
        return response


def encode_field(number: int, *parts: bytes) -> tuple[bytes, ...]:
    """A message, in parts, as field ``number``, 1 to 15, of another one, in parts."""
    size, header = sum(map(len, parts)), bytearray([number << 3 | 2])
    while size > 127:
        header.append(size & 127 | 128)
        size >>= 7
    header.append(size)
    return bytes(header), *parts


def freshness_to_pb(
    applied: Sequence[Position],
    page: Announcements,
    topics: Mapping[str, str],
    catalogue_version: int,
) -> common_pb2.Freshness:
    """Which offsets an answer has seen, and how far the log is ahead of them."""
    freshness = common_pb2.Freshness(catalogue_version=catalogue_version)
    for p in applied:
        highwater = page.highwater(slot_of(p.lane, p.partition))
        freshness.applied.add(
            topic=topics[p.lane],
            partition=p.partition,
            next_offset=p.next_offset,
            lag=max(0, highwater - p.next_offset) if highwater >= 0 else -1,
        )
    return freshness


def vector_to_pb(values: NDArray[np.float32]) -> common_pb2.Vector:
    """A float32 array of any shape as little-endian bytes."""
    return common_pb2.Vector(
        data=np.ascontiguousarray(values, "<f4").tobytes(),
        dtype=common_pb2.Vector.FLOAT32,
        shape=values.shape,
    )


def _candidates_from_pb(
    request: ranking_pb2.RankRequest, field: str, limits: Limits
) -> Given | None:
    """The candidates; None: the whole catalogue, or what a filter passes of it."""
    kind = request.WhichOneof("candidates")
    if kind == "item_ids":
        return _given_ids(request.item_ids, field + "item_ids.item_ids", limits)
    if kind == "item_keys":
        keys = request.item_keys.item_keys
        _check_count(len(keys), field + "item_keys.item_keys", limits)
        return kernels.distinct_keys(np.array(keys, np.uint64))
    if kind is None:
        problem = "not set: give item_ids, item_keys or whole_catalogue, or a filter"
        raise InvalidArgument(field + "candidates", problem)
    return None


def _filter_from_pb(request: ranking_pb2.RankRequest, limits: Limits, field: str) -> Filter | None:
    if request.WhichOneof("candidates") != "filter":
        return None
    return filter_from_pb(request.filter, limits, field)


def _given_ids(message: ranking_pb2.ItemIds, field: str, limits: Limits) -> GivenIds:
    count = len(message.item_ids)
    _check_count(count, field, limits)
    return GivenIds(message.SerializeToString(), count, limits.max_id_bytes, field)


def _check_count(count: int, field: str, limits: Limits) -> None:
    if count > limits.max_candidates:
        raise InvalidArgument(field, f"{count} candidates, the limit is {limits.max_candidates}")


def _excluded_keys(ids: Sequence[str], field: str, limits: Limits) -> NDArray[np.uint64]:
    if len(ids) > limits.max_exclusions:
        raise InvalidArgument(field, f"{len(ids)} exclusions, the limit is {limits.max_exclusions}")
    return item_keys(ids) if ids else _NO_KEYS


def _explain_from_pb(explain: ranking_pb2.Explain, limits: Limits, field: str) -> tuple[int, int]:
    most, longest = limits.max_explained, limits.max_reasons
    items = explain.items if explain.HasField("items") else min(_DEFAULT_EXPLAINED, most)
    reasons = explain.reasons if explain.HasField("reasons") else min(_DEFAULT_REASONS, longest)
    if items > most:
        raise InvalidArgument(field + "items", f"{items}, the limit is {most}")
    if reasons > longest:
        raise InvalidArgument(field + "reasons", f"{reasons}, the limit is {longest}")
    return (items, reasons) if reasons else (0, 0)
