"""An item's row: named, separately normalised blocks side by side.

A row is ``[text | attributes | caller's vectors ... | zero padding]``. Because each block is
normalised on its own and the query carries the block weights, one inner product over the row is the
fused score, and the sum over one block is that block's exact part of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.server.config import Scoring
from rankstream.server.errors import InvalidArgument

ATTRIBUTE_DIMENSIONS = 64
# Rows start on a cache line.
_ROW_MULTIPLE = 16


@dataclass(frozen=True, slots=True)
class Block:
    """One named part of a row: ``row[start:start + dimensions]``."""

    name: str
    start: int
    dimensions: int
    weight: float

    @property
    def stop(self) -> int:
        """The first dimension behind it."""
        return self.start + self.dimensions


@dataclass(frozen=True, slots=True)
class Layout:
    """All blocks of a row, in order.

    Attributes:
        blocks: first ``text``, then ``attributes``, then the caller's in their declared order.
    """

    blocks: tuple[Block, ...]

    @property
    def stride(self) -> int:
        """Floats from one row to the next: the blocks and the padding."""
        return -(-self.blocks[-1].stop // _ROW_MULTIPLE) * _ROW_MULTIPLE

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where the blocks start, and where the last one ends: ``int64 [n_blocks + 1]``."""
        return np.array([0, *(b.stop for b in self.blocks)], np.int64)

    @property
    def weights(self) -> NDArray[np.float64]:
        """The default block weights ``float64 [n_blocks]``."""
        return np.array([b.weight for b in self.blocks])

    @property
    def vectors(self) -> tuple[Block, ...]:
        """The caller-supplied blocks."""
        return self.blocks[2:]

    def describe(self) -> bytes:
        """What must not change while rows exist: names and dimensions, not weights."""
        return json.dumps([[b.name, b.dimensions] for b in self.blocks]).encode()

    def fuse(self, parts: Mapping[str, NDArray[np.float32]], rows: int) -> NDArray[np.float32]:
        """Puts normalised blocks together.

        Args:
            parts: block name -> ``float32 [rows, dimensions]``; a missing block is zero.
            rows: how many.

        Returns:
            ``float32 [rows, stride]``, each block of each row of norm 1 or 0.
        """
        fused = np.zeros((rows, self.stride), np.float32)
        for block in self.blocks:
            if block.name in parts:
                fused[:, block.start : block.stop] = normalise(parts[block.name])
        return fused


def make_layout(text_dimensions: int, scoring: Scoring) -> Layout:
    """The layout that the settings ask for.

    Raises:
        InvalidArgument: ``scoring.vectors`` does not read as NAME:DIM[:WEIGHT],...
    """
    declared = [
        ("text", text_dimensions, scoring.text_weight),
        ("attributes", ATTRIBUTE_DIMENSIONS, scoring.attributes_weight),
        *_declared_vectors(scoring.vectors),
    ]
    names = [name for name, _, _ in declared]
    if len(set(names)) != len(names):
        raise InvalidArgument(field="vectors", problem=f"block names repeat in {names}")
    blocks, start = [], 0
    for name, dimensions, weight in declared:
        blocks.append(Block(name, start, dimensions, weight))
        start += dimensions
    return Layout(tuple(blocks))


def normalise(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to norm 1 in fp64; a zero row, or one whose norm underflows, stays zero."""
    wide = vectors.astype(np.float64)
    norms = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    scaled = np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0)
    narrow: NDArray[np.float32] = scaled.astype(np.float32)
    return narrow


def hash_attributes(features: Iterable[str]) -> NDArray[np.float32]:
    """Signed feature hashing (Weinberger et al. 2009) into ``float32 [ATTRIBUTE_DIMENSIONS]``.

    Each feature adds +1 or -1 to one dimension, so that the expected inner product of two items is
    the number of features they share.
    """
    out = np.zeros(ATTRIBUTE_DIMENSIONS, np.float32)
    for feature in features:
        digest = hashlib.blake2b(feature.encode(), digest_size=8, person=b"attribute").digest()
        value = int.from_bytes(digest, "little")
        out[value % ATTRIBUTE_DIMENSIONS] += 1.0 if value >> 63 else -1.0
    return out


def attribute_features(
    category: str, brand: str, tags: Iterable[str], price: float | None
) -> list[str]:
    """What ``hash_attributes`` sees of an item. A price falls into a bucket half an octave wide."""
    features = [f"tag={t.casefold()}" for t in dict.fromkeys(tags) if t]
    if category:
        features.append(f"category={category.casefold()}")
    if brand:
        features.append(f"brand={brand.casefold()}")
    if price is not None and price > 0:
        features.append(f"price={math.floor(2 * math.log2(price))}")
    return features


def _declared_vectors(declared: str) -> list[tuple[str, int, float]]:
    found = []
    for entry in filter(None, (e.strip() for e in declared.split(","))):
        try:
            name, dimensions, *weight = entry.split(":")
            size, factor = int(dimensions), float(*weight) if weight else 1.0
        except (ValueError, TypeError):
            problem = f"{entry!r}, expected NAME:DIM[:WEIGHT]"
            raise InvalidArgument(field="vectors", problem=problem) from None
        if not name or not 0 < size <= 4096 or not math.isfinite(factor):
            problem = f"{entry!r}, expected a name, 1 to 4096 dimensions and a finite weight"
            raise InvalidArgument(field="vectors", problem=problem)
        found.append((name, size, factor))
    return found
