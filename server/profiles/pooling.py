"""How much each past interaction counts when a profile becomes a query vector.

``weight = type_weight[type] * signed_weight * 2^(-(newest - event_time) / half_life)``, in fp64.
Ages are taken from the profile's own newest interaction: an age common to all of them would cancel
in the normalisation that follows, and so no clock is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Pooling:
    """Weights of a deployment.

    Attributes:
        half_life_ms: age at which an interaction counts half.
        type_weights: ``float64 [types]``, indexed by type id.
    """

    half_life_ms: float
    type_weights: NDArray[np.float64]

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
        lengths = np.diff(indptr)
        owned = lengths > 0
        newest = np.repeat(times_ms[indptr[1:][owned] - 1], lengths[owned])
        ages = (newest - times_ms).astype(np.float64)
        weights: NDArray[np.float64] = (
            self.type_weights[types] * signed * np.exp2(-ages / self.half_life_ms)
        )
        return weights
