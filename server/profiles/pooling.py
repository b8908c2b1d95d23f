"""How much each past interaction counts: what is set; ``kernels/query.py`` has the formula."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.arrays import freeze, frozen
from rankstream.kernels.query import Weighing
from rankstream.server.types import PoolingChange

INTEREST = 1000
"""The type of what users say of themselves; no event's type has this number."""

LONGEST_TTL_MS: Final = 1 << 62
"""Longer than any age, and short enough to be subtracted from any time."""


@dataclass(frozen=True, eq=False)
class Pooling:
    """Weights of a deployment.

    Attributes:
        half_life_ms: age at which an interaction counts half, of types that do not say.
        type_weights: ``float64 [types]``, indexed by type id.
        half_lives_ms: ``float64 [types]``: age at which one of the type counts half.
        caps: ``int64 [types]``: of the type, only so many of the newest are pooled.
        ttls_ms: ``int64 [types]``: age beyond which one of the type is not pooled; None: all are.
        interests_weight: of what a user says of themselves, all interests together, beside an
            interaction of weight 1 that has just happened.
        interests_trust: how long the vector of a user is of whom nothing else is known.
    """

    half_life_ms: float
    type_weights: NDArray[np.float64]
    half_lives_ms: NDArray[np.float64]
    caps: NDArray[np.int64]
    ttls_ms: NDArray[np.int64] | None = None
    interests_weight: float = 0.0
    interests_trust: float = 1.0

    @staticmethod
    def uniform(half_life_ms: float, type_weights: NDArray[np.float64]) -> Pooling:
        """All types fade alike, and none is capped."""
        shape = type_weights.shape
        caps = np.full(shape, np.iinfo(np.int64).max)
        return Pooling(half_life_ms, type_weights, np.full(shape, half_life_ms), caps)

    @cached_property
    def _lasting(self) -> Weighing:
        """Where nothing expires."""
        # Where nothing is capped, nothing needs to be counted.
        capped = (self.caps < np.iinfo(np.int64).max).any()
        weighing = Weighing(
            self.half_lives_ms.view(),
            self.type_weights.view(),
            self.caps.view() if capped else self.caps[:0],
            self.caps[:0],
            stated=INTEREST,
            trust=self.interests_trust,
        )
        freeze(weighing[:4])
        return weighing

    def weighing(
        self, now_ms: int, change: PoolingChange | None = None, as_of_ms: int | None = None
    ) -> Weighing:
        """As the kernels take it.

        Args:
            now_ms: when it is read, which says what has expired; ``as_of_ms`` stands above it.
            change: what one request weighs differently.
            as_of_ms: what is later does not count; None: all does.
        """
        found, ttls = self._lasting, self.ttls_ms
        if change is not None:
            if change.half_life_ms is not None:
                lives = np.full(len(found.half_lives_ms), change.half_life_ms)
                found = found._replace(half_lives_ms=frozen(lives))
            if change.type_weights:
                weights = found.type_weights.copy()
                for type_id, weight in change.type_weights.items():
                    weights[type_id] = weight
                found = found._replace(type_weights=frozen(weights))
            if change.ttl_ms is not None:
                ttls = np.full(len(found.type_weights), change.ttl_ms)
        if as_of_ms is not None:
            found = found._replace(as_of_ms=as_of_ms)
        if ttls is None:
            return found
        return found._replace(oldest_ms=frozen((now_ms if as_of_ms is None else as_of_ms) - ttls))


def whole_ttl_ms(ttl_ms: float) -> int:
    """A time to live in whole milliseconds, at most ``LONGEST_TTL_MS``."""
    return int(min(ttl_ms, LONGEST_TTL_MS))
