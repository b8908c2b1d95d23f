"""Answers as protobuf bytes: the repeated ``items`` of a ``RankResponse``, a whole batch at once.

Made through protobuf's own classes, 256 items with their parts took longer than finding them. What
is written here is what those classes read: ``proto/v1/ranking.proto`` has the messages, whose field
numbers stand below. Fields of value zero are written out, which readers accept.
"""

import itertools
from typing import Any, Final, NamedTuple

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from rankstream.kernels.arrays import Float32, Float64, Int32, Int64, UInt8, freeze
from rankstream.kernels.compilation import compiled, inlined
from rankstream.kernels.instructions import AHEAD, prefetch_byte
from rankstream.kernels.pool_cpu import text_at
from rankstream.kernels.query import Past
from rankstream.kernels.texts import Texts

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_ITEMS: Final = 2 << 3 | _BYTES
"""``RankResponse.items``, and below the fields of ``RankedItem``, ``ScoreParts`` and ``Reason``."""
_ITEM_ID: Final = 1 << 3 | _BYTES
_RANK: Final = 2 << 3 | _VARINT
_SCORE: Final = 3 << 3 | _FIXED32
_PARTS: Final = 4 << 3 | _BYTES
_REASONS: Final = 5 << 3 | _BYTES
_PARTS_BLOCKS: Final = 1 << 3 | _BYTES
_PARTS_BIAS: Final = 2 << 3 | _FIXED32
_REASON_ITEM_ID: Final = 1 << 3 | _BYTES
_REASON_TYPE: Final = 2 << 3 | _BYTES
_REASON_TIME: Final = 3 << 3 | _VARINT
_REASON_CONTRIBUTION: Final = 4 << 3 | _FIXED64
_REASON_TEXT: Final = 5 << 3 | _BYTES

_FLOAT_BYTES: Final = 5
_CONTRIBUTION_BYTES: Final = 9


class Ranked(NamedTuple):
    """What was found for B queries, ragged, best first.

    Attributes:
        indptr: int64[B + 1]; query b owns ``indptr[b]:indptr[b + 1]``.
        rows: int32[P] item rows.
        scores: float32[P].
        parts: float64[P, n_blocks].
        biases: float32[P].
    """

    indptr: Int64
    rows: Int32
    scores: Float32
    parts: Float64
    biases: Float32


class Why(NamedTuple):
    """Reasons of the first items of each query; see ``explain.Reasons``.

    Attributes:
        indptr: int64[B + 1]; the items that query b explains are ``indptr[b]:indptr[b + 1]``.
        limits: int64[B], reasons an item at most.
        interactions: int32[X, n_reasons], an index within the query's interactions, or -1.
        contributions: float64[X, n_reasons].
    """

    indptr: Int64
    limits: Int64
    interactions: Int32
    contributions: Float64


def encode_items(
    ranked: Ranked, ids: Texts, why: Why, past: Past, kinds: Texts, labels: Texts
) -> list[memoryview]:
    """``RankResponse.items`` of each query, encoded.

    Args:
        ranked: the items.
        ids: item ids by row; a row without one is written with an empty id.
        why: reasons, as ``contributions`` found them in ``past``.
        past: the interactions.
        kinds: names of event types; a number without one is written with an empty name.
        labels: what the texts among the interactions are called.

    The arrays must be as described; they are made read-only, and not checked.
    """
    freeze((*ranked, *why))
    data, ends = encode_batch(ranked, ids, why, past, kinds, labels)
    whole, bounds = data.data, [0, *ends.tolist()]
    return [whole[start:stop] for start, stop in itertools.pairwise(bounds)]


@compiled
def encode_batch(
    ranked: Ranked, ids: Texts, why: Why, past: Past, kinds: Texts, labels: Texts
) -> tuple[UInt8, Int64]:
    """The bytes of all queries, one after the other, and where each one's end."""
    batch, blocks = ranked.indptr.shape[0] - 1, ranked.parts.shape[1]
    rows, scores, parts, biases = ranked.rows, ranked.scores, ranked.parts, ranked.biases
    sizes, starts = np.empty(rows.shape[0], np.int64), _starts(ranked, ids)
    ends = np.empty(batch, np.int64)
    total = 0
    for b in range(batch):
        first, explained = ranked.indptr[b], why.indptr[b + 1] - why.indptr[b]
        for place in range(first, ranked.indptr[b + 1]):
            size = _base_size(ids, rows[place], place - first + 1, blocks)
            # What has no reasons is most, and is spared the passing of what they are made of.
            if place - first < explained:
                size += _reasons_size(ids, why, past, kinds, labels, b, place - first)
            sizes[place] = size
            total += 1 + _varint_size(size) + size
        ends[b] = total
    data = np.empty(total, np.uint8)
    at = 0
    for b in range(batch):
        first, explained = ranked.indptr[b], why.indptr[b + 1] - why.indptr[b]
        for place in range(first, ranked.indptr[b + 1]):
            if place + AHEAD < starts.shape[0]:
                prefetch_byte(ids.text, starts[place + AHEAD])
            at = _put_header(data, at, _ITEMS, sizes[place])
            at = _put_text(data, at, _ITEM_ID, ids, rows[place])
            data[at] = _RANK
            at = _put_varint(data, at + 1, place - first + 1)
            at = _put_float(data, at, _SCORE, scores[place])
            at = _put_header(data, at, _PARTS, _parts_size(blocks))
            at = _put_header(data, at, _PARTS_BLOCKS, 8 * blocks)
            for block in range(blocks):
                _store(data, at + 8 * block, parts[place, block])
            at = _put_float(data, at + 8 * blocks, _PARTS_BIAS, biases[place])
            if place - first < explained:
                at = _put_reasons(data, at, ids, why, past, kinds, labels, b, place - first)
    return data, ends


@compiled
def _starts(ranked: Ranked, ids: Texts) -> Int64:
    """Where each item's id begins. One loop of nothing else: its waits for memory overlap."""
    starts = np.empty(ranked.rows.shape[0], np.int64)
    for place in range(starts.shape[0]):
        starts[place] = _bounds(ids, ranked.rows[place])[0]
    return starts


@inlined
def _base_size(ids: Texts, row: int, rank: int, blocks: int) -> int:
    """Bytes of one RankedItem without reasons."""
    parts = _parts_size(blocks)
    return (
        _text_size(ids, row)
        + 1
        + _varint_size(rank)
        + _FLOAT_BYTES
        + 1
        + _varint_size(parts)
        + parts
    )


@inlined
def _reasons_size(
    ids: Texts, why: Why, past: Past, kinds: Texts, labels: Texts, b: int, item: int
) -> int:
    """Bytes of the reasons of one of a query's items."""
    pair, size = why.indptr[b] + item, 0
    for j in range(_count_reasons(why, b, pair)):
        t = past.indptr[b] + why.interactions[pair, j]
        reason = _reason_size(ids, past, kinds, labels, t)
        size += 1 + _varint_size(reason) + reason
    return size


@inlined
def _put_reasons(
    data: UInt8,
    at: int,
    ids: Texts,
    why: Why,
    past: Past,
    kinds: Texts,
    labels: Texts,
    b: int,
    item: int,
) -> int:
    pair = why.indptr[b] + item
    for j in range(_count_reasons(why, b, pair)):
        t = past.indptr[b] + why.interactions[pair, j]
        at = _put_header(data, at, _REASONS, _reason_size(ids, past, kinds, labels, t))
        if past.rows[t] < -1:
            at = _put_text(data, at, _REASON_TEXT, labels, text_at(past.rows[t]))
        else:
            at = _put_text(data, at, _REASON_ITEM_ID, ids, past.rows[t])
        at = _put_text(data, at, _REASON_TYPE, kinds, past.types[t])
        data[at] = _REASON_TIME
        at = _put_varint(data, at + 1, past.event_times_ms[t])
        data[at] = _REASON_CONTRIBUTION
        _store(data, at + 1, why.contributions[pair, j])
        at += _CONTRIBUTION_BYTES
    return at


@inlined
def _count_reasons(why: Why, b: int, pair: int) -> int:
    """How many reasons a pair has; they come first."""
    count = 0
    if pair >= 0:
        most = min(why.limits[b], why.interactions.shape[1])
        while count < most and why.interactions[pair, count] >= 0:
            count += 1
    return count


@compiled
def _parts_size(blocks: int) -> int:
    return 1 + _varint_size(8 * blocks) + 8 * blocks + _FLOAT_BYTES


@inlined
def _reason_size(ids: Texts, past: Past, kinds: Texts, labels: Texts, t: int) -> int:
    row = past.rows[t]
    named = _text_size(labels, text_at(row)) if row < -1 else _text_size(ids, row)
    size = named + _text_size(kinds, past.types[t])
    return size + 1 + _varint_size(past.event_times_ms[t]) + _CONTRIBUTION_BYTES


@inlined
def _bounds(texts: Texts, number: int) -> tuple[int, int]:
    """Where a text begins and ends; nowhere: an empty one."""
    if number < 0 or number >= texts.ends.shape[0]:
        return 0, 0
    return (texts.ends[number - 1] if number > 0 else 0), texts.ends[number]


@inlined
def _text_size(texts: Texts, number: int) -> int:
    """Bytes of a text's field, tag and length included."""
    start, stop = _bounds(texts, number)
    return 1 + _varint_size(stop - start) + stop - start


@inlined
def _put_text(data: UInt8, at: int, tag: int, texts: Texts, number: int) -> int:
    start, stop = _bounds(texts, number)
    at = _put_header(data, at, tag, stop - start)
    _copy(data, at, texts.text, start, stop - start)
    return at + stop - start


@compiled
def _put_header(data: UInt8, at: int, tag: int, size: int) -> int:
    """A tag below 128 and the length behind it."""
    data[at] = tag
    return _put_varint(data, at + 1, size)


@compiled
def _put_float(data: UInt8, at: int, tag: int, value: np.float32) -> int:
    data[at] = tag
    _store(data, at + 1, np.float32(value))
    return at + _FLOAT_BYTES


@intrinsic  # type: ignore[untyped-decorator]
def _store(typingctx: Any, data: Any, at: Any, value: Any) -> Any:
    """Writes the bytes of a number at ``data[at:]``: one store, which need not be aligned."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = context.make_array(sig.args[0])(context, builder, args[0])
        place = builder.gep(array.data, [args[1]])
        place = builder.bitcast(place, args[2].type.as_pointer())
        builder.store(args[2], place, align=1)
        return context.get_dummy_value()

    return types.void(data, types.intp, value), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _copy(typingctx: Any, data: Any, at: Any, text: Any, start: Any, count: Any) -> Any:
    """``data[at:at + count] = text[start:start + count]``."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        made = [context.make_array(sig.args[i])(context, builder, args[i]) for i in (0, 2)]
        target, source = (builder.gep(a.data, [args[i]]) for a, i in zip(made, (1, 3), strict=True))
        cgutils.raw_memcpy(builder, target, source, args[4], 1)
        return context.get_dummy_value()

    return types.void(data, types.intp, text, types.intp, types.intp), codegen


@compiled
def _varint_size(value: int) -> int:
    size, left = 1, np.uint64(value) >> np.uint64(7)
    while left > 0:
        size, left = size + 1, left >> np.uint64(7)
    return size


@compiled
def _put_varint(data: UInt8, at: int, value: int) -> int:
    left = np.uint64(value)
    while left > np.uint64(127):
        data[at] = np.uint8(left & np.uint64(127)) | np.uint8(128)
        left = left >> np.uint64(7)
        at += 1
    data[at] = np.uint8(left)
    return at + 1
