"""How much each past interaction counts: what is set; ``kernels/query.py`` has the formula."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.arrays import freeze
from rankstream.kernels.query import Weighing, weigh
from rankstream.server.types import PoolingChange

INTEREST = 1000
"""The type of what users say of themselves; no event's type has this number."""


@dataclass(frozen=True, eq=False)
class Pooling:
    """Weights of a deployment.

    Attributes:
        half_life_ms: age at which an interaction counts half, of types that do not say.
        type_weights: ``float64 [types]``, indexed by type id.
        half_lives_ms: ``float64 [types]``: age at which one of the type counts half.
        caps: ``int64 [types]``: of the type, only so many of the newest are pooled.
        interests_weight: of what a user says of themselves, all interests together, beside an
            interaction of weight 1 that has just happened.
        interests_trust: how long the vector of a user is of whom nothing else is known.
    """

    half_life_ms: float
    type_weights: NDArray[np.float64]
    half_lives_ms: NDArray[np.float64]
    caps: NDArray[np.int64]
    interests_weight: float = 0.0
    interests_trust: float = 1.0

    @staticmethod
    def uniform(half_life_ms: float, type_weights: NDArray[np.float64]) -> Pooling:
        """All types fade alike, and none is capped."""
        shape = type_weights.shape
        caps = np.full(shape, np.iinfo(np.int64).max)
        return Pooling(half_life_ms, type_weights, np.full(shape, half_life_ms), caps)

    @cached_property
    def weighing(self) -> Weighing:
        """As the kernels take it."""
        # Where nothing is capped, nothing needs to be counted.
        capped = (self.caps < np.iinfo(np.int64).max).any()
        weighing = Weighing(
            self.half_lives_ms.view(),
            self.type_weights.view(),
            self.caps.view() if capped else self.caps[:0],
            stated=INTEREST,
            trust=self.interests_trust,
        )
        freeze(weighing[:3])
        return weighing

    def changed(self, change: PoolingChange | None, as_of_ms: int | None) -> Weighing:
        """As the kernels take it, with what one request changes."""
        lives, weights = self.weighing[:2]
        if change is not None and change.half_life_ms is not None:
            lives = np.full(len(lives), change.half_life_ms)
        if change is not None and change.type_weights:
            weights = weights.copy()
            for type_id, weight in change.type_weights.items():
                weights[type_id] = weight
        freeze((lives, weights))
        changed = self.weighing._replace(half_lives_ms=lives, type_weights=weights)
        return changed if as_of_ms is None else changed._replace(as_of_ms=as_of_ms)

    def weights(
        self,
        indptr: NDArray[np.int64],
        times_ms: NDArray[np.int64],
        types: NDArray[np.uint16],
        signed: NDArray[np.float32],
    ) -> NDArray[np.float64]:
        """Weights of ragged histories, each sorted by time.

        Args:
            indptr: ``int64 [B + 1]``; user b owns ``indptr[b]:indptr[b + 1]``.
            times_ms: ``int64 [T]``.
            types: ``uint16 [T]``.
            signed: ``float32 [T]``, the signed weights as stored.

        Returns:
            ``float64 [T]``.
        """
        return weigh(indptr, times_ms, types, signed, self.weighing)
