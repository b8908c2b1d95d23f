"""Where a score comes from: its exact share by block, and by past interaction."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rankstream import kernels
from rankstream.server.catalog.view import Catalogue
from rankstream.server.profiles.history import Histories
from rankstream.server.ragged import ragged
from rankstream.server.store import View, item_id_of
from rankstream.server.types import ItemReason


class Pooled(Protocol):
    """What a batch of profiles became; see ``engine.Queries``."""

    @property
    def rows(self) -> NDArray[np.int32]:
        """``int32 [T]``: each interaction's item row, or -1."""

    @property
    def weights(self) -> NDArray[np.float64]:
        """``float64 [T]``."""

    @property
    def norms(self) -> NDArray[np.float64]:
        """``float64 [B, n_blocks]`` before normalisation."""

    @property
    def block_weights(self) -> NDArray[np.float64]:
        """``float64 [B, n_blocks]``."""


class Explainer:
    """Explains rows that were picked, one call for the whole batch."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def parts(
        self, vectors: NDArray[np.float32], picked: list[NDArray[np.int32]]
    ) -> list[NDArray[np.float64]]:
        """Each picked row's inner product by block: ``float64 [K, n_blocks]`` a query.

        Args:
            vectors: queries ``float32 [B, stride]``.
            picked: rows of each query.
        """
        indptr, rows = ragged(picked)
        found = kernels.block_parts(
            vectors, self._catalogue.rows, indptr, rows, self._catalogue.layout.offsets
        )
        return np.split(found, indptr[1:-1])

    def reasons(
        self,
        view: View,
        histories: Histories,
        queries: Pooled,
        picked: list[NDArray[np.int32]],
        limits: list[int],
    ) -> list[list[list[ItemReason]]]:
        """The interactions that add most to each picked row.

        Args:
            view: names the items.
            histories: what was pooled.
            queries: what it became.
            picked: rows of each query that want reasons.
            limits: reasons a row, by query.
        """
        n_reasons = max(limits, default=0)
        indptr, rows = ragged(picked)
        if n_reasons == 0 or not len(rows) or not len(queries.rows):
            return [[] for _ in picked]
        found = kernels.contributions(
            queries.rows,
            histories.indptr,
            queries.weights,
            queries.norms,
            self._catalogue.rows,
            self._catalogue.layout.offsets,
            queries.block_weights,
            rows,
            indptr,
            n_reasons,
        )
        named = _Named(view, histories)
        interactions, amounts = found.interactions.tolist(), found.contributions.tolist()
        return [
            [
                [
                    named.reason(int(histories.indptr[b]) + t, amounts[p][i])
                    for i, t in enumerate(interactions[p][: limits[b]])
                    if t >= 0
                ]
                for p in range(int(indptr[b]), int(indptr[b + 1]))
            ]
            for b in range(len(picked))
        ]


class _Named:
    """Interactions by their place in the batch, as reasons; each item's name is read once."""

    def __init__(self, view: View, histories: Histories) -> None:
        self._view = view
        self._histories = histories
        self._names: dict[int, str] = {}

    def reason(self, t: int, contribution: float) -> ItemReason:
        histories = self._histories
        key = int(histories.target_keys[t])
        name = self._names.get(key)
        if name is None:
            blob = self._view.get("items", key.to_bytes(8, "little"))
            name = self._names[key] = item_id_of(blob) if blob is not None else ""
        return ItemReason(
            name, int(histories.types[t]), int(histories.event_times_ms[t]), contribution
        )
