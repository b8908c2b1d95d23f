"""Token vectors to one vector of a text, in torch; by the names of sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable

import torch

Pool = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pools the tokens whose mask is 1.

    Args:
        hidden: token vectors, [B, T, D] float32.
        mask: 1 where there is a token, first of all, and 0 where there is padding, [B, T] int64.
        pooling: one of ``sentence_modules.POOLINGS``.

    Returns:
        One vector a text, [B, D] float32.
    """
    return _POOLS[pooling](hidden, mask)


def _cls(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return hidden[:, 0]


def _last(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    # Padding stands on the right. A causal model's token reads what stands before it alone, so its
    # vector is the one that it has when padding stands on the left.
    last = (mask.sum(dim=1) - 1)[:, None, None].expand(-1, 1, hidden.shape[-1])
    return hidden.gather(1, last)[:, 0]


def _max(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    lowest = torch.finfo(hidden.dtype).min
    return hidden.masked_fill(mask.unsqueeze(-1) == 0, lowest).max(dim=1).values


def _mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def _mean_sqrt(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).sqrt()


def _weighted(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    # A token weighs its position, from 1 on: a causal model's later tokens have read more.
    return _mean(hidden, mask.cumsum(dim=1) * mask)


_POOLS: dict[str, Pool] = {
    "cls": _cls,
    "lasttoken": _last,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted,
}
