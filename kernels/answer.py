"""Rankings of given candidates, from stored profiles to the answers' bytes, in one call.

The stages are those of ``query.py``, ``rank.py`` and ``present.py``, and give the same bits. One
user after the other passes through all of them, so that the rows of a user's history and candidates
are still in the nearer caches when they are asked for again. And a request that comes alone finds
Python's own code and data gone from the caches: what runs between ten calls of kernels then takes
longer than the kernels do.
"""

from typing import Final, NamedTuple

import numpy as np

from rankstream.kernels.arrays import Float32, Float64, Int32, Int64, UInt8, UInt64
from rankstream.kernels.compilation import compiled
from rankstream.kernels.encode import Ranked, Why, encode_batch
from rankstream.kernels.explain_cpu import explain_entry, sum_entry
from rankstream.kernels.heap import row_of, score_of
from rankstream.kernels.item_ids import read_into
from rankstream.kernels.key_table import KeyTable, find_named
from rankstream.kernels.pool_cpu import pool_entry
from rankstream.kernels.present import Wanted
from rankstream.kernels.query import Added, Extras, Past, Space, Weighing, gather_past, trust_in
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
    """The candidates of B users: each gives ids, or keys.

    Attributes:
        wires: uint8[T]: messages of ``item_ids.py``, one after the other.
        ends: int64[B], where each user's ends.
        counts: int64[B], ids in it, repeats counted; -1: this user gives keys.
        keys: uint64[.], each once a user.
        key_ends: int64[B].
        longest: bytes of an id at most.
    """

    wires: UInt8
    ends: Int64
    counts: Int64
    keys: UInt64
    key_ends: Int64
    longest: int


class Read(NamedTuple):
    """Candidates without repeats; those of b are ``indptr[b]:indptr[b + 1]``.

    Attributes:
        indptr: int64[B + 1].
        starts: int64[C], where the id begins in ``wires``; of a key, its place among the keys.
        stops: int64[C], where the id ends; of a key, -1.
        keys: uint64[C].
        refused: int64[B, 2]: the first id of each that is empty or too long, and its bytes; or
            where the message is malformed, and -1. -1 twice: nothing. Who gave one has no
            candidates.
    """

    indptr: Int64
    starts: Int64
    stops: Int64
    keys: UInt64
    refused: Int64


class Answers(NamedTuple):
    """Rankings of B users.

    Attributes:
        items: uint8[.]: ``RankResponse.items``, encoded, of one user after the other.
        ends: int64[B], where each one's end.
        missing: int64[., 3], the candidates that do not exist: whose, and where it starts and
            stops, as in ``Read``.
        refused: int64[B, 2], as in ``Read``.
        headers: int64[B, 4] of the profiles, see ``cells.py``; -1 where nothing is stored.
        personal: uint8[B], whether the history says anything about any block.
        bad: ``BAD_PROFILE`` or ``BAD_BIAS``, and then no items; else 0.
    """

    items: UInt8
    ends: Int64
    missing: Int64
    refused: Int64
    headers: Int64
    personal: UInt8
    bad: int


@compiled
def _read(candidates: Candidates, seed: np.uint64) -> Read:
    batch, total = candidates.ends.shape[0], candidates.keys.shape[0]
    for b in range(batch):
        total += max(candidates.counts[b], 0)
    starts, stops = np.empty(total, np.int64), np.empty(total, np.int64)
    keys, indptr = np.empty(total, np.uint64), np.zeros(batch + 1, np.int64)
    refused = np.full((batch, 2), -1)
    at = first = first_key = 0
    for b in range(batch):
        if candidates.counts[b] < 0:
            for place in range(first_key, candidates.key_ends[b]):
                starts[at], stops[at], keys[at] = place, -1, candidates.keys[place]
                at += 1
        else:
            end = at + candidates.counts[b]
            wire = candidates.wires[first : candidates.ends[b]]
            into = starts[at:end], stops[at:end], keys[at:end]
            kept, bad, malformed = read_into(wire, candidates.longest, seed, *into)
            if bad >= 0:
                refused[b, 0], refused[b, 1] = bad, into[1][bad] - into[0][bad]
            if malformed >= 0:
                refused[b, 0] = malformed
            for place in range(at, at + kept):
                starts[place] += first
                stops[place] += first
            at += kept
        indptr[b + 1] = at
        first, first_key = candidates.ends[b], candidates.key_ends[b]
    return Read(indptr, starts[:at], stops[:at], keys[:at], refused)


@compiled
def _missing(read: Read, rows: Int32) -> Int64:
    """As ``Answers.missing``."""
    count = 0
    for place in range(rows.shape[0]):
        count += rows[place] < 0
    found, at = np.empty((count, 3), np.int64), 0
    for b in range(read.indptr.shape[0] - 1 if count > 0 else 0):
        for place in range(read.indptr[b], read.indptr[b + 1]):
            if rows[place] < 0:
                found[at, 0], found[at, 1], found[at, 2] = b, read.starts[place], read.stops[place]
                at += 1
    return found


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
    none, bits = np.empty((0, 3), np.int64), np.empty(0, np.uint8)
    return Answers(bits, np.empty(0, np.int64), none, none, past.headers, bits, bad)


@compiled
def _rank_entry(
    b: int,
    past: Past,
    extras: Extras,
    space: Space,
    lengths: Float64,
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
        lengths,
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
    items, bias = space.items, catalogue.bias
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
    read = _read(candidates, seed)
    indptr, rows = read.indptr, np.empty(read.keys.shape[0], np.int32)
    spans = candidates.wires, read.starts, read.stops, read.keys
    find_named(slots, seed, spans, ids.text, ids.ends, rows)
    missing = _missing(read, rows)
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
        lengths = space.block_weights * trust_in(past, b, weighing)
        keys, bad = _rank_entry(
            b, past, extras, space, lengths, bias, rows, span, ks[b], queries, norms, scores
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
                lengths,
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
    return Answers(data, ends, missing, read.refused, past.headers, personal, 0)


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
        table: item key -> row; its seed also scatters the candidates.
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
