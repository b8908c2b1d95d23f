"""Exact kernels on the CPU: top-k, candidate ranking, pooling, explanation, ids and their rows.

The definition of a score is in ``lanes.py``. Call ``configure_threads`` and ``warm_up`` before
serving.
"""

from rankstream.kernels.blake2b import hash_spans
from rankstream.kernels.codes import Codes, code_items
from rankstream.kernels.device import configure_threads, require_omp, thread_count
from rankstream.kernels.errors import (
    KernelArgumentError,
    KernelConfigurationError,
    KernelError,
)
from rankstream.kernels.explain import Reasons, block_parts, contributions
from rankstream.kernels.filter import mark_rows, read_column
from rankstream.kernels.item_ids import BadItemId, ItemIds, distinct_keys, read_item_ids
from rankstream.kernels.key_table import KeyTable
from rankstream.kernels.pool import MAX_WEIGHT, Pooled, pool
from rankstream.kernels.rank import Ranking, rank_candidates, score_rows
from rankstream.kernels.top_k import TopK, pack_allowed, top_k
from rankstream.kernels.warm_up import warm_up

__all__ = [
    "MAX_WEIGHT",
    "BadItemId",
    "Codes",
    "ItemIds",
    "KernelArgumentError",
    "KernelConfigurationError",
    "KernelError",
    "KeyTable",
    "Pooled",
    "Ranking",
    "Reasons",
    "TopK",
    "block_parts",
    "configure_threads",
    "contributions",
    "distinct_keys",
    "code_items",
    "hash_spans",
    "mark_rows",
    "pack_allowed",
    "pool",
    "rank_candidates",
    "read_column",
    "read_item_ids",
    "require_omp",
    "score_rows",
    "thread_count",
    "top_k",
    "warm_up",
]
