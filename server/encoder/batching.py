"""Length-sorted batches under a budget of padded tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from rankstream.server.encoder.base import TokenBatch

# A call of the backend costs about as much as this many tokens, so less padding is not worth one.
FREE_PADDING = 32
# Beyond that, the part of a batch that may be padding.
PADDING_PART = 1 / 16


def plan_batches(lengths: NDArray[np.int32], max_batch_tokens: int) -> Iterator[NDArray[np.intp]]:
    """Splits texts into batches, the longest first, each as large as two bounds allow.

    In a batch longest x texts <= ``max_batch_tokens``, and what of that is padding is at most
    ``FREE_PADDING`` tokens or ``PADDING_PART`` of it: one long text would otherwise pad many
    short ones. Texts of one length keep the order of the caller.

    Args:
        lengths: tokens of each text, [B] int32, each in 1..max_batch_tokens.
        max_batch_tokens: the budget.

    Yields:
        Positions of the texts of one batch, [b] intp.
    """
    order = np.argsort(-lengths, kind="stable")
    falling = lengths[order].astype(np.int64)
    start = 0
    while start < len(order):
        longest = int(falling[start])
        window = falling[start : start + max_batch_tokens // longest]
        padded = longest * np.arange(1, len(window) + 1)
        padding = padded - np.cumsum(window)
        worth = padding <= np.maximum(FREE_PADDING, padded * PADDING_PART)
        # The first text alone has no padding, so there is always one.
        stop = start + int(np.flatnonzero(worth)[-1]) + 1
        yield order[start:stop]
        start = stop


def pad_batch(rows: NDArray[np.intp], ids: Sequence[Sequence[int]], pad_id: int) -> TokenBatch:
    """The texts at ``rows`` as one rectangle, padded on the right to the longest."""
    chosen = [ids[row] for row in rows]
    lengths = np.fromiter(map(len, chosen), np.int64, len(chosen))
    present = np.arange(lengths.max()) < lengths[:, None]
    padded = np.full(present.shape, pad_id, np.int64)
    padded[present] = np.fromiter(chain.from_iterable(chosen), np.int64, int(lengths.sum()))
    return TokenBatch(rows, padded, present.astype(np.int64))
