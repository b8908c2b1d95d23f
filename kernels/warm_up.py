"""Compiling, or loading from the cache, every kernel before a server says that it serves."""

import numpy as np

from rankstream.kernels.arrays import Float32
from rankstream.kernels.device import PARALLEL_WORK, require_omp, thread_count
from rankstream.kernels.explain import block_parts, contributions
from rankstream.kernels.key_table import KeyTable
from rankstream.kernels.pool import pool
from rankstream.kernels.rank import rank_candidates
from rankstream.kernels.top_k import top_k


def warm_up(dimensions: int, n_blocks: int = 1) -> None:
    """Runs every kernel, alone and in parallel, and asserts the threading layer.

    Args:
        dimensions: D of the catalogue that will be served.
        n_blocks: Blocks of its rows.

    Raises:
        KernelConfigurationError: kernels run on another layer than OpenMP.
    """
    table = KeyTable()
    table.insert(np.arange(1, dtype=np.uint64), np.zeros(1, np.int32))
    table.lookup(np.arange(2, dtype=np.uint64))
    items = np.zeros((PARALLEL_WORK // dimensions + 1, dimensions), np.float32)
    for count in (1, items.shape[0]):
        _answer(items[:count], max(1, min(n_blocks, dimensions)))
    if thread_count() > 1:
        require_omp()


def _answer(items: Float32, n_blocks: int) -> None:
    """Pools a history of all items, retrieves, ranks and explains."""
    rows = np.arange(items.shape[0], dtype=np.int32)
    indptr = np.array([0, rows.size], np.int64)
    weights = np.ones(rows.size)
    offsets = np.linspace(0, items.shape[1], n_blocks + 1).astype(np.int64)
    block_weights = np.ones((1, n_blocks))
    queries, norms = pool(rows, indptr, weights, items, offsets, block_weights)
    top_k(queries, items, 1, excluded=(indptr, rows))
    rank_candidates(queries, items, indptr, rows, 1)
    block_parts(queries, items, indptr, rows, offsets)
    contributions(
        rows, indptr, weights, norms, items, offsets, block_weights, rows[:1], np.array([0, 1]), 1
    )
