"""How near one encoder's vectors are to another's, and how near they have to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 10
# Texts whose neighbours are looked up; evenly spaced, so that a sorted list is covered.
MOST_ASKED = 1000
# Of them at a time: bounds the memory of their scores.
BLOCK = 64


@dataclass(frozen=True, slots=True)
class Quality:
    """What is left of a reference's vectors.

    Attributes:
        texts: how many were compared.
        min_cosine: of the worst text.
        mean_cosine: over all texts.
        max_difference: the greatest difference of two components.
        top_10_overlap: the part of a text's ten nearest others that stays the same, over at most
            ``MOST_ASKED`` texts; None where there are too few texts to tell.
    """

    texts: int
    min_cosine: float
    mean_cosine: float
    max_difference: float
    top_10_overlap: float | None


@dataclass(frozen=True, slots=True)
class Gate:
    """The least that is good enough.

    Attributes:
        min_cosine: of the worst text.
        mean_cosine: over all texts.
        top_10_overlap: see ``Quality``.
    """

    min_cosine: float
    mean_cosine: float
    top_10_overlap: float

    def problem(self, found: Quality) -> str:
        """What is below the gate, in words; "" where nothing is."""
        pairs = [
            ("minimum cosine", found.min_cosine, self.min_cosine),
            ("mean cosine", found.mean_cosine, self.mean_cosine),
        ]
        if found.top_10_overlap is not None:
            pairs.append(("top-10 overlap", found.top_10_overlap, self.top_10_overlap))
        # Written so that a NaN is a problem.
        return ", ".join(f"{n} {v:.5f} < {least}" for n, v, least in pairs if not v >= least)


GATES = {
    "f32": Gate(0.9999, 0.99999, 0.99),
    "bf16": Gate(0.999, 0.9995, 0.95),
    "int8": Gate(0.97, 0.985, 0.9),
}
"""What each precision must keep of fp32's vectors."""


def compare(expected: NDArray[np.float32], found: NDArray[np.float32]) -> Quality:
    """Compares vectors ``float32 [N, D]`` of the same texts, N at least 1, normalised or not."""
    a, b = _unit(expected), _unit(found)
    cosines = (a * b).sum(axis=1)
    return Quality(
        texts=len(a),
        min_cosine=float(cosines.min()),
        mean_cosine=float(cosines.mean()),
        max_difference=float(np.abs(a - b).max()),
        top_10_overlap=_overlap(a, b) if len(a) >= 10 * NEIGHBOURS else None,
    )


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    step = -(-len(a) // MOST_ASKED)
    asked = np.arange(0, len(a), step)
    both = zip(_nearest(a, asked), _nearest(b, asked), strict=True)
    return float(np.mean([len(np.intersect1d(x, y)) / NEIGHBOURS for x, y in both]))


def _nearest(vectors: NDArray[np.float64], asked: NDArray[np.intp]) -> NDArray[np.intp]:
    """Positions ``[len(asked), NEIGHBOURS]`` of the nearest other texts."""
    found = [_nearest_of(vectors, asked[i : i + BLOCK]) for i in range(0, len(asked), BLOCK)]
    return np.concatenate(found)


def _nearest_of(vectors: NDArray[np.float64], asked: NDArray[np.intp]) -> NDArray[np.intp]:
    # Rounded, so that texts that are equal to the last bit but one are equal; then the lower wins.
    scores = np.round(vectors[asked] @ vectors.T, 12)
    scores[np.arange(len(asked)), asked] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :NEIGHBOURS]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    norms: NDArray[np.float64] = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.maximum(norms, 1e-12)
