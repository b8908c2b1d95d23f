"""Compiling, or loading from the cache, every kernel before a server says that it serves."""

import numpy as np

from rankstream.kernels.answer import Candidates, Catalogue, Profiles, rank_given
from rankstream.kernels.arrays import Float32, freeze, frozen
from rankstream.kernels.blake2b import hash_spans
from rankstream.kernels.cells import IN_HISTORY
from rankstream.kernels.code_layers import TILE
from rankstream.kernels.codes import code_items
from rankstream.kernels.device import always_split, require_omp, thread_count
from rankstream.kernels.explain import block_parts, contributions
from rankstream.kernels.filter import mark_rows, read_column
from rankstream.kernels.item_ids import ItemIds, distinct_keys, read_item_ids
from rankstream.kernels.key_table import KeyTable
from rankstream.kernels.pool import pool
from rankstream.kernels.present import Wanted, present
from rankstream.kernels.query import (
    Space,
    Weighing,
    append,
    make_queries,
    no_extras,
    nothing_added,
    text_targets,
)
from rankstream.kernels.rank import pick_candidates, rank_candidates
from rankstream.kernels.retained import Rules
from rankstream.kernels.scan import scan
from rankstream.kernels.terms import Terms
from rankstream.kernels.texts import numbered
from rankstream.kernels.top_k import top_k


def warm_up(dimensions: int, n_blocks: int = 1) -> None:
    """Runs every kernel, alone and in parallel, and asserts the threading layer.

    Args:
        dimensions: D of the catalogue that will be served.
        n_blocks: Blocks of its rows.

    Raises:
        KernelConfigurationError: kernels run on another layer than OpenMP.
    """
    _find_items()
    _filter_rows()
    items = np.zeros((1, dimensions), np.float32)
    _answer(items, max(1, min(n_blocks, dimensions)))
    with always_split():
        _filter_rows()
        _answer(items, max(1, min(n_blocks, dimensions)))
    if thread_count() > 1:
        require_omp()


def warm_up_codes() -> None:
    """What puts rows' codes beside them, for few rows and many: more than one tile."""
    rows = np.zeros((TILE + 1, 16), np.float32)
    code_items(rows)
    with always_split():
        code_items(rows)


def _find_items() -> None:
    """Reads ids and keys of a request and finds their rows."""
    ids = read_item_ids(b"\n\1a", 1)
    assert isinstance(ids, ItemIds)
    table = KeyTable()
    table.insert(hash_spans(ids.text, ids.starts, ids.stops, b"item"), np.zeros(1, np.int32))
    table.lookup(distinct_keys(ids.keys))
    table.find(ids, ids.text, ids.stops)


def _filter_rows() -> None:
    """Reads the column of one fact, and tests it."""
    facts = np.zeros((1, 2), np.uint64)
    freeze((facts,))
    rows, values = read_column(np.ones(1, np.int64), facts, 0, 1, 0)
    mark_rows(rows, values, values, values, 1)


def _answer(items: Float32, n_blocks: int) -> None:
    """Pools a history of one item, retrieves, ranks and explains: first as the engine does."""
    offsets = np.linspace(0, items.shape[1], n_blocks + 1).astype(np.int64)
    bias, row, indptr = np.zeros(1, np.float32), np.zeros(1, np.int32), np.array([0, 1])
    freeze((items, offsets, bias))
    table, space = KeyTable(), Space(items, offsets, np.ones(n_blocks))
    freeze(space)
    table.insert(_PROFILE[6:7].view(np.uint64), row)
    extras, added = no_extras(items.shape[1]), nothing_added(1)
    text_targets(_PROFILE, _SIZES)
    made = make_queries(_PROFILE, _SIZES, 1, _RULES, table, _WEIGHING, space, extras, added)
    assert made is not None
    past, pooled, lengths = made
    append(past, added)
    best = pick_candidates(pooled.queries, items, indptr, row, np.ones(1, np.int64), bias)
    texts = numbered({0: "a"})
    wanted, ones = Wanted(*np.ones((3, 1), np.int64)), np.ones((1, n_blocks))
    freeze((*wanted, row, ones))
    present(best, past, pooled, space, lengths, extras, bias, wanted, texts, texts)
    profiles = Profiles(_PROFILE, _SIZES, 1, _RULES, extras, added)
    catalogue = Catalogue(space, bias, texts, texts)
    ids = read_item_ids(b"\n\1a", 1)
    assert isinstance(ids, ItemIds)
    ks, keys = np.ones(1, np.int64), ids.keys[:0]
    candidates = Candidates(ids.text, np.full(1, ids.text.size), ks, keys, np.zeros(1, np.int64), 1)
    freeze((ks, indptr, *candidates[:5]))
    rank_given(profiles, table, _WEIGHING, catalogue, candidates, (indptr, row), ks, wanted)
    weights = np.ones(1)
    queries, norms = pool(row, indptr, weights, items, offsets, ones)
    top_k(queries, items, 1, bias=bias, excluded=(indptr, row))
    some = Terms(bias, bias.view(np.uint32), frozen(np.ones(1, np.uint8)), indptr, row)
    scan(1, frozen(queries), items, some, code_items(items, offsets))
    rank_candidates(queries, items, indptr, row, 1)
    block_parts(queries, items, indptr, row, offsets)
    contributions(row, indptr, weights, norms, items, offsets, ones, row, indptr, 1)


_PROFILE = np.array([-1, -1, -1, 1, 0, 1, 2, 0])
"""A header of layout 1 and one record, of type 0."""
_SIZES = np.array([64, 0])
_RULES = Rules(np.full(1 << 16, IN_HISTORY, np.uint8), np.full(4, 8))
_WEIGHING = Weighing(np.ones(1), np.ones(1), np.empty(0, np.int64), np.empty(0, np.int64))
freeze((_PROFILE, _SIZES, *_RULES, *_WEIGHING[:4]))
