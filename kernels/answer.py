"""Rankings of given candidates, from stored profiles to the answers' bytes, in one call.

The stages are those of ``query.py``, ``rank.py`` and ``present.py``, and give the same bits. One
user after the other passes through all of them, so that the rows of a user's history and candidates
are still in the nearer caches when they are asked for again. And a request that comes alone finds
Python's own code and data gone from the caches: what runs between ten calls of kernels then takes
longer than the kernels do.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from rankstream.kernels.arrays import Float32, Float64, Int32, Int64, UInt8, UInt64, freeze, frozen
from rankstream.kernels.compilation import compiled
from rankstream.kernels.encode import Ranked, Why, encode_batch
from rankstream.kernels.explain_cpu import explain_entry, sum_entry
from rankstream.kernels.heap import row_of, score_of
from rankstream.kernels.item_ids import ItemIds
from rankstream.kernels.key_table import KeyTable, find_named
from rankstream.kernels.pool_cpu import pool_entry
from rankstream.kernels.present import Wanted
from rankstream.kernels.query import Added, Extras, Past, Space, Weighing, gather_past
from rankstream.kernels.rank_cpu import best_keys, score_span
from rankstream.kernels.retained import Rules
from rankstream.kernels.texts import Texts

BAD_PROFILE: Final = 1
"""A profile is not what its header says."""
BAD_BIAS: Final = 2
"""A candidate's bias is not finite."""


class Profiles(NamedTuple):
    """Stored profiles of B users, as ``gather_columns`` takes them.

    Attributes:
        words: int64[.].
        sizes: int64[2 B].
        layout: the only one that is read.
        rules: types and limits.
        extras: vectors of their texts.
        added: what counts beside their histories.
    """

    words: Int64
    sizes: Int64
    layout: int
    rules: Rules
    extras: Extras
    added: Added


class Catalogue(NamedTuple):
    """The items.

    Attributes:
        space: the rows and their blocks.
        bias: float32[.], 0 for rows behind its end.
        ids: item ids by row.
        kinds: names of event types by number.
    """

    space: Space
    bias: Float32
    ids: Texts
    kinds: Texts


class Candidates(NamedTuple):
    """The candidates of B users, each once a user; those of b are ``indptr[b]:indptr[b + 1]``.

    Attributes:
        text: uint8[T], what holds the ids.
        starts: int64[C]; id c is ``text[starts[c]:stops[c]]``.
        stops: int64[C]; below ``starts``: there is a key only.
        keys: uint64[C].
        indptr: int64[B + 1].
    """

    text: UInt8
    starts: Int64
    stops: Int64
    keys: UInt64
    indptr: Int64


class Answers(NamedTuple):
    """Rankings of B users.

    Attributes:
        items: uint8[.]: ``RankResponse.items``, encoded, of one user after the other.
        ends: int64[B], where each one's end.
        missing: int64[.], the candidates that do not exist, ascending.
        headers: int64[B, 4] of the profiles, see ``cells.py``; -1 where nothing is stored.
        personal: uint8[B], whether the history says anything about any block.
        bad: ``BAD_PROFILE`` or ``BAD_BIAS``, and then no items; else 0.
    """

    items: UInt8
    ends: Int64
    missing: Int64
    headers: Int64
    personal: UInt8
    bad: int


def joined(given: Sequence[ItemIds | UInt64]) -> Candidates:
    """The candidates of several users, each ids, or keys uint64[C]."""
    parts = [_named(ids) for ids in given]
    if len(parts) == 1:
        return Candidates(*parts[0][:4], frozen(np.array([0, len(parts[0].keys)])))
    counts = [len(ids.keys) for ids in parts]
    text, starts, stops, keys = (np.concatenate([ids[i] for ids in parts]) for i in range(4))
    ends = np.cumsum([len(ids.text) for ids in parts])
    shift = np.repeat(np.concatenate([[0], ends[:-1]]), counts)
    indptr = np.cumsum([0, *counts], dtype=np.int64)
    made = Candidates(text, starts + shift, stops + shift, keys, indptr)
    freeze(made)
    return made


def _named(given: ItemIds | UInt64) -> ItemIds:
    if isinstance(given, ItemIds):
        return given
    starts, stops = np.zeros(len(given), np.int64), np.full(len(given), -1, np.int64)
    named = ItemIds(np.empty(0, np.uint8), starts, stops, given, len(given))
    freeze(named[:4])
    return named


@compiled
def _drop(rows: Int32, excluded: Int32) -> None:
    """Sets rows that are excluded to -1."""
    ordered = np.sort(excluded)
    for i in range(rows.shape[0]):
        at = np.searchsorted(ordered, rows[i])
        if at < ordered.shape[0] and ordered[at] == rows[i]:
            rows[i] = -1


@compiled
def _nothing(past: Past, bad: int) -> Answers:
    none = np.empty(0, np.int64)
    return Answers(np.empty(0, np.uint8), none, none, past.headers, np.empty(0, np.uint8), bad)


@compiled
def _rank_entry(
    b: int,
    past: Past,
    extras: Extras,
    space: Space,
    bias: Float32,
    rows: Int32,
    span: tuple[int, int],
    k: int,
    queries: Float32,
    norms: Float64,
    scores: Float32,
) -> tuple[UInt64, int]:
    """Pools and scores; keys of the best ``k`` candidates, descending, and a bad place, or -1."""
    pool_entry(
        past.rows,
        past.indptr[b],
        past.indptr[b + 1],
        past.weights,
        space.items,
        extras.vectors,
        space.offsets,
        space.block_weights,
        queries[b],
        norms[b],
    )
    start, stop = span
    bad = score_span(queries, b, space.items, rows, bias, start, stop, scores)
    # What is bad has no scores to order.
    k = min(k, stop - start) if bad < 0 else 0
    return best_keys(rows, scores, start, stop, k), bad


@compiled
def _rank_given(
    profiles: Profiles,
    slots: UInt64,
    seed: np.uint64,
    weighing: Weighing,
    catalogue: Catalogue,
    candidates: Candidates,
    excluded_indptr: Int64,
    excluded: Int32,
    ks: Int64,
    wanted: Wanted,
) -> Answers:
    space, ids, extras = catalogue.space, catalogue.ids, profiles.extras
    items, bias, indptr = space.items, catalogue.bias, candidates.indptr
    past, bad = gather_past(
        profiles.words,
        profiles.sizes,
        profiles.layout,
        profiles.rules,
        slots,
        seed,
        weighing,
        extras.keys,
        profiles.added,
    )
    if bad >= 0:
        return _nothing(past, BAD_PROFILE)
    spans = candidates.text, candidates.starts, candidates.stops, candidates.keys
    rows = np.empty(candidates.keys.shape[0], np.int32)
    find_named(slots, seed, spans, ids.text, ids.ends, rows)
    missing = np.flatnonzero(rows < 0)
    batch, blocks = ks.shape[0], space.block_weights.shape[0]
    queries, norms = np.empty((batch, items.shape[1]), np.float32), np.empty((batch, blocks))
    scores, personal = np.empty(rows.shape[0], np.float32), np.zeros(batch, np.uint8)
    room = explained = 0
    for b in range(batch):
        room += min(ks[b], indptr[b + 1] - indptr[b])
        explained += min(wanted.items[b], ks[b], indptr[b + 1] - indptr[b])
    best_indptr, best_rows = np.zeros(batch + 1, np.int64), np.empty(room, np.int32)
    best_scores, biases = np.empty(room, np.float32), np.zeros(room, np.float32)
    parts, pair_indptr = np.zeros((room, blocks)), np.zeros(batch + 1, np.int64)
    shape = explained, np.max(wanted.reasons)
    interactions, contributions = np.empty(shape, np.int32), np.empty(shape)
    for b in range(batch):
        span = indptr[b], indptr[b + 1]
        out = excluded[excluded_indptr[b] : excluded_indptr[b + 1]]
        if out.shape[0] > 0:
            _drop(rows[span[0] : span[1]], out)
        keys, bad = _rank_entry(
            b, past, extras, space, bias, rows, span, ks[b], queries, norms, scores
        )
        if bad >= 0:
            return _nothing(past, BAD_BIAS)
        personal[b] = np.any(norms[b] > 0.0)
        first = best_indptr[b]
        last = first + keys.shape[0]
        best_indptr[b + 1] = last
        for i in range(keys.shape[0]):
            row = row_of(keys[i])
            best_rows[first + i], best_scores[first + i] = row, score_of(keys[i])
            if wanted.biased[b] and row < bias.shape[0]:
                biases[first + i] = bias[row]
        sum_entry(queries, b, items, best_rows, first, last, space.offsets, parts)
        pair = pair_indptr[b]
        count = min(wanted.items[b], last - first) if wanted.reasons[b] > 0 else 0
        pair_indptr[b + 1] = pair + count
        if count > 0:
            explain_entry(
                best_rows[first : first + count],
                past.rows,
                past.indptr[b],
                past.indptr[b + 1],
                past.weights,
                space.block_weights,
                norms[b],
                items,
                extras.vectors,
                space.offsets,
                interactions[pair : pair + count],
                contributions[pair : pair + count],
            )
    size = best_indptr[batch]
    ranked = Ranked(best_indptr, best_rows[:size], best_scores[:size], parts[:size], biases[:size])
    why = Why(pair_indptr, wanted.reasons, interactions, contributions)
    data, ends = encode_batch(ranked, ids, why, past, catalogue.kinds, extras.labels)
    return Answers(data, ends, missing, past.headers, personal, 0)


def rank_given(
    profiles: Profiles,
    table: KeyTable,
    weighing: Weighing,
    catalogue: Catalogue,
    candidates: Candidates,
    excluded: tuple[Int64, Int32],
    ks: Int64,
    wanted: Wanted,
) -> Answers:
    """Ranks candidates for B users.

    Args:
        profiles: the users'.
        table: item key -> row.
        weighing: how much an interaction counts.
        catalogue: the items; every row of the table is one (not checked).
        candidates: of each.
        excluded: ``(indptr int64 [B + 1], rows int32 [.])`` that must not be answered, read-only.
        ks: int64[B], how many to answer, from 0 up; read-only.
        wanted: which items have reasons; read-only.
    """
    return _rank_given(
        profiles,
        table.slots,
        table.seed,
        weighing,
        catalogue,
        candidates,
        *excluded,
        ks,
        wanted,
    )
