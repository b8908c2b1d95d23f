"""How much each past interaction counts: what is set; ``kernels/query.py`` has the formula."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.arrays import freeze
from rankstream.kernels.query import Weighing, weigh
from rankstream.server.types import PoolingChange


@dataclass(frozen=True, eq=False)
class Pooling:
    """Weights of a deployment.

    Attributes:
        half_life_ms: age at which an interaction counts half.
        type_weights: ``float64 [types]``, indexed by type id.
        interests_weight: of what a user says of themselves, all interests together, beside an
            interaction of weight 1 that has just happened.
    """

    half_life_ms: float
    type_weights: NDArray[np.float64]
    interests_weight: float = 0.0

    @cached_property
    def weighing(self) -> Weighing:
        """As the kernels take it."""
        weighing = Weighing(
            np.full(len(self.type_weights), float(self.half_life_ms)),
            self.type_weights.view(),
            np.empty(0, np.int64),
        )
        freeze(weighing[:3])
        return weighing

    def changed(self, change: PoolingChange | None, as_of_ms: int | None) -> Weighing:
        """As the kernels take it, with what one request changes."""
        lives, weights, caps, as_of = self.weighing
        if change is not None and change.half_life_ms is not None:
            lives = np.full(len(lives), change.half_life_ms)
        if change is not None and change.type_weights:
            weights = weights.copy()
            for type_id, weight in change.type_weights.items():
                weights[type_id] = weight
        freeze((lives, weights))
        return Weighing(lives, weights, caps, as_of if as_of_ms is None else as_of_ms)

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
