"""One ranking of given candidates, from the stored profile to the answer's bytes, in one call.

The stages are those of ``query.py``, ``rank.py`` and ``present.py``, and give the same bits. A
request that comes alone finds Python's own code and data gone from the caches: what runs between
ten calls of kernels then takes longer than the kernels do.
"""

from typing import Final, NamedTuple

import numpy as np

from rankstream.kernels.arrays import Float32, Int32, Int64, UInt8, UInt64
from rankstream.kernels.compilation import compiled
from rankstream.kernels.encode import Ranked, Why, encode_batch
from rankstream.kernels.explain_cpu import explain_serial
from rankstream.kernels.item_ids import ItemIds
from rankstream.kernels.key_table import KeyTable, find_named, look_up
from rankstream.kernels.pool_cpu import pool_serial
from rankstream.kernels.present import Wanted, pick_explained, rank_parts
from rankstream.kernels.query import Added, Extras, Space, Weighing, gather_past
from rankstream.kernels.rank import Best
from rankstream.kernels.rank_cpu import pick, score_serial
from rankstream.kernels.retained import Rules
from rankstream.kernels.texts import Texts

BAD_PROFILE: Final = 1
"""The profile is not what its header says."""
BAD_BIAS: Final = 2
"""A candidate's bias is not finite."""


class Profile(NamedTuple):
    """One stored profile, as ``gather_columns`` takes it.

    Attributes:
        words: int64[.].
        sizes: int64[2].
        layout: the only one that is read.
        rules: types and limits.
        extras: vectors of its texts.
        added: what counts beside its history; of one profile.
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


class Answer(NamedTuple):
    """One ranking.

    Attributes:
        items: uint8[.]: ``RankResponse.items``, encoded.
        missing: int64[.], the candidates that do not exist.
        header: int64[4] of the profile, see ``cells.py``; -1 where nothing is stored.
        personal: whether the history says anything about any block.
        bad: ``BAD_PROFILE`` or ``BAD_BIAS``, and then no items; else 0.
    """

    items: UInt8
    missing: Int64
    header: Int64
    personal: bool
    bad: int


@compiled
def _find_rows(
    slots: UInt64,
    seed: np.uint64,
    text: UInt8,
    starts: Int64,
    stops: Int64,
    keys: UInt64,
    ids: Texts,
) -> Int32:
    """The row of each candidate, or -1; no spans: the keys alone decide."""
    rows = np.empty(keys.shape[0], np.int32)
    if starts.shape[0] == keys.shape[0]:
        find_named(slots, seed, (text, starts, stops, keys), ids.text, ids.ends, rows)
    else:
        look_up(slots, seed, keys, rows)
    return rows


@compiled
def _drop(rows: Int32, excluded: Int32) -> None:
    """Sets rows that are excluded to -1."""
    ordered = np.sort(excluded)
    for i in range(rows.shape[0]):
        at = np.searchsorted(ordered, rows[i])
        if at < ordered.shape[0] and ordered[at] == rows[i]:
            rows[i] = -1


@compiled
def _rank_one(
    profile: Profile,
    slots: UInt64,
    seed: np.uint64,
    weighing: Weighing,
    catalogue: Catalogue,
    text: UInt8,
    starts: Int64,
    stops: Int64,
    keys: UInt64,
    excluded: Int32,
    k: int,
    wanted: Wanted,
) -> Answer:
    space, ids = catalogue.space, catalogue.ids
    items, offsets, vectors = space.items, space.offsets, profile.extras.vectors
    past, bad = gather_past(
        profile.words,
        profile.sizes,
        profile.layout,
        profile.rules,
        slots,
        seed,
        weighing,
        profile.extras.keys,
        profile.added,
    )
    if bad >= 0:
        nothing = np.empty(0, np.int64)
        return Answer(np.empty(0, np.uint8), nothing, past.headers[0], False, BAD_PROFILE)
    rows = _find_rows(slots, seed, text, starts, stops, keys, ids)
    missing = np.flatnonzero(rows < 0)
    if excluded.shape[0] > 0:
        _drop(rows, excluded)
    weights = space.block_weights.copy().reshape(1, -1)
    queries, norms = np.empty((1, items.shape[1]), np.float32), np.empty(weights.shape)
    place = np.empty(1, np.int64)
    pool_serial(
        past.rows,
        past.indptr,
        past.weights,
        items,
        vectors,
        offsets,
        weights,
        queries,
        norms,
        place,
    )
    indptr, scores = np.array([0, rows.shape[0]]), np.empty(rows.shape[0], np.float32)
    score_serial(queries, items, indptr, rows, catalogue.bias, scores, place)
    best_indptr, best_rows, best_scores = pick(indptr, rows, scores, np.array([k]))
    best = Best(best_indptr, best_rows, best_scores)
    parts, biases = rank_parts(best, queries, items, offsets, catalogue.bias, wanted.biased)
    pair_indptr, pair_rows = pick_explained(best, wanted)
    shape = (pair_rows.shape[0], wanted.reasons[0])
    interactions, contributions = np.empty(shape, np.int32), np.empty(shape)
    if interactions.size > 0:
        explain_serial(
            past.rows,
            past.indptr,
            past.weights,
            weights,
            norms,
            items,
            vectors,
            offsets,
            pair_rows,
            pair_indptr,
            interactions,
            contributions,
        )
    ranked = Ranked(best.indptr, best.rows, best.scores, parts, biases)
    why = Why(pair_indptr, wanted.reasons, interactions, contributions)
    data, _ = encode_batch(ranked, ids, why, past, catalogue.kinds, profile.extras.labels)
    bad = BAD_BIAS if place[0] >= 0 else 0
    return Answer(data, missing, past.headers[0], bool(np.any(norms > 0.0)), bad)


_NO_TEXT, _NO_SPANS = np.empty(0, np.uint8), np.empty(0, np.int64)
for _array in (_NO_TEXT, _NO_SPANS):
    _array.flags.writeable = False


def rank_one(
    profile: Profile,
    table: KeyTable,
    weighing: Weighing,
    catalogue: Catalogue,
    candidates: ItemIds | UInt64,
    excluded: Int32,
    k: int,
    wanted: Wanted,
) -> Answer:
    """Ranks candidates for one user.

    Args:
        profile: the user's.
        table: item key -> row.
        weighing: how much an interaction counts.
        catalogue: the items; every row of the table is one (not checked).
        candidates: ids, or keys uint64[C], each once; read-only.
        excluded: int32[.] rows that must not be answered, read-only.
        k: how many to answer, from 0 up.
        wanted: which items have reasons; arrays of one element.
    """
    if isinstance(candidates, ItemIds):
        spans = candidates.text, candidates.starts, candidates.stops, candidates.keys
    else:
        spans = _NO_TEXT, _NO_SPANS, _NO_SPANS, candidates
    return _rank_one(
        profile, table.slots, table.seed, weighing, catalogue, *spans, excluded, k, wanted
    )
