"""Protobuf to the server's own values and back. Nothing here decides anything but validity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.proto.v1 import common_pb2, ranking_pb2
from rankstream.server.announce import Announcements, slot_of
from rankstream.server.catalog.blocks import Layout
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument
from rankstream.server.stream.codec import check_id
from rankstream.server.stream.token import unpack_token
from rankstream.server.types import Position, RankAnswer, RankTask, ReadAfter, item_keys

ANY_STATE = ReadAfter((), None, allow_stale=False)

_DEFAULT_K = 10
_DEFAULT_EXPLAINED = 10
_DEFAULT_REASONS = 3


@dataclass(frozen=True, slots=True)
class Names:
    """What an answer calls things: this process, its vector space, its topics and types."""

    server_version: str
    worker: str
    space: str
    topics: Mapping[str, str]
    types: Mapping[int, str]


def rank_task_from_pb(request: ranking_pb2.RankRequest, limits: Limits, field: str) -> RankTask:
    """Validates a request.

    Args:
        request: the message.
        limits: bounds.
        field: where it stands, as ``requests[3].``; "" for a request of its own.

    Raises:
        InvalidArgument: names the field.
    """
    check_id(request.user_id, field + "user_id", limits.max_id_bytes)
    kind = request.WhichOneof("candidates")
    keys, names = None, None
    if kind == "item_ids":
        names = _checked_ids(request.item_ids.item_ids, field + "item_ids.item_ids", limits)
        keys = item_keys(names)
    elif kind == "item_keys":
        keys = _checked_keys(request.item_keys, field + "item_keys.item_keys", limits)
    elif kind is None:
        problem = "not set: give item_ids, item_keys or whole_catalogue"
        raise InvalidArgument(field + "candidates", problem)
    default_k = min(_DEFAULT_K, limits.max_k) if keys is None else min(len(keys), limits.max_k)
    k = request.k if request.HasField("k") else default_k
    if keys is not None:
        k = min(k, len(keys))
    if k > limits.max_k:
        raise InvalidArgument(field + "k", f"{k}, the limit is {limits.max_k}")
    explained, reasons = _explain_from_pb(request.explain, limits, field + "explain.")
    return RankTask(
        user=request.user_id.encode(),
        candidates=keys,
        names=names,
        k=k,
        excluded=_excluded_keys(request.exclude_item_ids, field + "exclude_item_ids", limits),
        exclude_seen=request.exclude_seen,
        explained=explained,
        reasons=reasons,
    )


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


def rank_answer_to_pb(
    answer: RankAnswer,
    task: RankTask,
    request_id: str,
    layout: Layout,
    names: Names,
    freshness: common_pb2.Freshness,
) -> ranking_pb2.RankResponse:
    """The response; its ``timing.total_us`` is the caller's to set."""
    response = ranking_pb2.RankResponse(request_id=request_id, freshness=freshness)
    _add_items(response, answer, layout, names)
    if task.names is not None:
        response.missing_item_ids.extend(task.names[i] for i in answer.missing)
    elif task.candidates is not None:
        response.missing_item_keys.extend(task.candidates[answer.missing].tolist())
    served = response.served_by
    served.server_version, served.worker = names.server_version, names.worker
    served.space_fingerprint, served.fallback = names.space, answer.fallback
    served.generation = answer.head.generation
    timing, times = response.timing, answer.times
    timing.queue_us, timing.batch_size = answer.queue_us, times.batch_size
    timing.gather_us, timing.pool_us = times.gather_us, times.pool_us
    timing.score_us, timing.explain_us = times.score_us, times.explain_us
    return response


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


def _add_items(
    response: ranking_pb2.RankResponse, answer: RankAnswer, layout: Layout, names: Names
) -> None:
    blocks = [b.name for b in layout.blocks]
    scores, parts, biases = answer.scores.tolist(), answer.parts.tolist(), answer.biases.tolist()
    add = response.items.add
    for i, item_id in enumerate(answer.item_ids):
        item = add(item_id=item_id, rank=i + 1, score=scores[i])
        made = item.parts
        made.bias = biases[i]
        # One by one: update() of a protobuf map is Python, and twice as slow.
        block_parts = made.blocks
        for block, part in zip(blocks, parts[i], strict=True):
            block_parts[block] = part
        if i < len(answer.reasons):
            for reason in answer.reasons[i]:
                item.reasons.add(
                    item_id=reason.item_id,
                    type=names.types.get(reason.type_id, ""),
                    event_time_ms=reason.event_time_ms,
                    contribution=reason.contribution,
                )


def _checked_ids(ids: Sequence[str], field: str, limits: Limits) -> list[str]:
    if len(ids) > limits.max_candidates:
        raise InvalidArgument(field, f"{len(ids)} candidates, the limit is {limits.max_candidates}")
    if not all(ids) or max(map(len, ids), default=0) > limits.max_id_bytes:
        for i, name in enumerate(ids):
            check_id(name, f"{field}[{i}]", limits.max_id_bytes)
    return list(dict.fromkeys(ids))


def _checked_keys(message: ranking_pb2.ItemKeys, field: str, limits: Limits) -> NDArray[np.uint64]:
    if len(message.item_keys) > limits.max_candidates:
        count = len(message.item_keys)
        raise InvalidArgument(field, f"{count} candidates, the limit is {limits.max_candidates}")
    keys = np.array(message.item_keys, np.uint64)
    first = np.sort(np.unique(keys, return_index=True)[1])
    return keys if len(first) == len(keys) else keys[first]


def _excluded_keys(ids: Sequence[str], field: str, limits: Limits) -> NDArray[np.uint64]:
    if len(ids) > limits.max_exclusions:
        raise InvalidArgument(field, f"{len(ids)} exclusions, the limit is {limits.max_exclusions}")
    return item_keys(ids)


def _explain_from_pb(explain: ranking_pb2.Explain, limits: Limits, field: str) -> tuple[int, int]:
    most, longest = limits.max_explained, limits.max_reasons
    items = explain.items if explain.HasField("items") else min(_DEFAULT_EXPLAINED, most)
    reasons = explain.reasons if explain.HasField("reasons") else min(_DEFAULT_REASONS, longest)
    if items > most:
        raise InvalidArgument(field + "items", f"{items}, the limit is {most}")
    if reasons > longest:
        raise InvalidArgument(field + "reasons", f"{reasons}, the limit is {longest}")
    return (items, reasons) if reasons else (0, 0)
