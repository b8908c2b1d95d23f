"""Which rows a filter passes, as a bitmask: remembered while the catalogue stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from rankstream.server.catalog.bounded_cache import BoundedCache
from rankstream.server.catalog.columns import Columns
from rankstream.server.catalog.view import Catalogue
from rankstream.server.config import Limits
from rankstream.server.filters import AllOf, AnyOf, NoneOf, Test, Within

Mask = NDArray[np.uint8]


class Masks:
    """Masks of one catalogue. For one thread at a time.

    Args:
        catalogue: whose rows.
        limits: how many columns and masks are held, and how heavy.
    """

    def __init__(self, catalogue: Catalogue, limits: Limits) -> None:
        self._catalogue = catalogue
        self._columns = Columns(catalogue, limits.max_columns, limits.max_column_bytes)
        self._held: BoundedCache[Test, Mask] = BoundedCache(limits.max_masks, limits.max_mask_bytes)
        self._version = (0, 0)

    def mask(self, test: Test) -> Mask:
        """The live rows that pass: ``uint8 [ceil(N / 8)]``, little bit order, read-only."""
        head = self._catalogue.head
        version = head.generation, head.catalogue_version
        if version != self._version:
            # Nobody asks for an older version: catalogues only move on.
            self._held.clear()
            self._version = version
        known = self._held.get(test)
        if known is not None:
            return known
        mask = self._evaluate(test) & self._catalogue.alive
        mask.flags.writeable = False
        self._held.put(test, mask, mask.nbytes)
        return mask

    def _evaluate(self, test: Test) -> Mask:
        """Rows dead or alive; the bits behind the last row may be anything."""
        match test:
            case Within():
                return self._columns.mark(test)
            case AllOf(tests):
                return self._joined(np.bitwise_and, tests, 0xFF)
            case AnyOf(tests):
                return self._joined(np.bitwise_or, tests, 0)
            case NoneOf(tests):
                return np.invert(self._joined(np.bitwise_or, tests, 0))
            case _:
                # Of a user of whom nothing is known.
                return self._joined(np.bitwise_or, (), 0)

    def _joined(self, join: Callable[..., Mask], tests: Iterable[Test], empty: int) -> Mask:
        joined = np.full(len(self._catalogue.alive), empty, np.uint8)
        for test in tests:
            join(joined, self._evaluate(test), out=joined)
        return joined
