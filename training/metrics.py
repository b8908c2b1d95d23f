"""How good rankings are. Each function gives one number a user; the mean is over users.

A ranking is a row of item numbers, best first, without repeats; -1 is an empty place. Relevance is
binary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def hits(ranked: NDArray[np.int32], relevant: Sequence[NDArray[np.int32]]) -> NDArray[np.bool_]:
    """Which places hold a relevant item.

    Args:
        ranked: ``int32 [B, K]``.
        relevant: B arrays of item numbers.

    Returns:
        ``bool [B, K]``.

    Raises:
        ValueError: ``ranked`` is no matrix of B rows.
    """
    if ranked.ndim != 2 or len(ranked) != len(relevant):
        message = f"ranked has shape {ranked.shape}; expected [{len(relevant)}, K]"
        raise ValueError(message)
    found = np.zeros(ranked.shape, np.bool_)
    for row, wanted in enumerate(relevant):
        found[row] = np.isin(ranked[row], wanted) & (ranked[row] >= 0)
    return found


def hit_at_k(
    ranked: NDArray[np.int32], relevant: Sequence[NDArray[np.int32]], k: int
) -> NDArray[np.float64]:
    """Whether the first k places hold a relevant item: 1 or 0, ``float64 [B]``.

    The hit rate of Deshpande and Karypis, "Item-based top-N recommendation algorithms", ACM TOIS
    22, 1, 2004, section 6.1.2; there with one relevant item a user.
    """
    return np.asarray(hits(ranked, relevant)[:, :k].any(axis=1), np.float64)


def ndcg_at_k(
    ranked: NDArray[np.int32], relevant: Sequence[NDArray[np.int32]], k: int
) -> NDArray[np.float64]:
    """Normalised discounted cumulative gain of the first k places, ``float64 [B]``.

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20, 4,
    2002, with the discount 1 / log2(1 + place) that is usual since Burges et al., "Learning to rank
    using gradient descent", ICML 2005. The ideal ranking has min(k, relevant items) hits first; a
    user without relevant items gets 0.
    """
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    found = hits(ranked, relevant)[:, :k]
    gained = (found * discounts[: found.shape[1]]).sum(axis=1)
    most = np.array([min(k, len(np.unique(wanted))) for wanted in relevant], np.int64)
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[most]
    shares: NDArray[np.float64] = np.zeros(len(relevant))
    np.divide(gained, ideal, out=shares, where=ideal > 0)
    return shares
