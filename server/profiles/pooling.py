"""How much each past interaction counts: what is set; ``kernels/query.py`` has the formula."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.query import Weighing, weigh


@dataclass(frozen=True, eq=False)
class Pooling:
    """Weights of a deployment.

    Attributes:
        half_life_ms: age at which an interaction counts half, of types that do not say.
        type_weights: ``float64 [types]``, indexed by type id.
        half_lives_ms: ``float64 [types]``: age at which one of the type counts half.
        caps: ``int64 [types]``: of the type, only so many of the newest are pooled.
    """

    half_life_ms: float
    type_weights: NDArray[np.float64]
    half_lives_ms: NDArray[np.float64]
    caps: NDArray[np.int64]

    @staticmethod
    def uniform(half_life_ms: float, type_weights: NDArray[np.float64]) -> Pooling:
        """All types fade alike, and none is capped."""
        shape = type_weights.shape
        caps = np.full(shape, np.iinfo(np.int64).max)
        return Pooling(half_life_ms, type_weights, np.full(shape, half_life_ms), caps)

    @cached_property
    def weighing(self) -> Weighing:
        """As the kernels take it."""
        weights = self.type_weights.view()
        weights.flags.writeable = False
        return Weighing(float(self.half_life_ms), weights)

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
