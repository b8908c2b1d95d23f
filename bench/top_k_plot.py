"""The picture of ``top_k.py``: what each method gets done, under what the machine can do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from top_k_contender import READ, VNNI, Contender
from top_k_data import QUERIES
from top_k_figures import Figures, Reached
from top_k_peers import OURS

_BATCHES = [1 << power for power in range(QUERIES.bit_length())]


@dataclass(frozen=True, slots=True)
class Point:
    """One method and batch.

    Attributes:
        name: the method's.
        batch: queries of a call.
        intensity: operations for each byte that has to be read.
        ops_per_s: operations a second; a multiplication and an addition are two.
    """

    name: str
    batch: int
    intensity: float
    ops_per_s: float


def points(
    figures: Figures, contenders: Mapping[str, Contender], k: int, known: Path
) -> list[Point]:
    """Of the peers those of the rounds; ours are asked batches of 1 to 256 for it."""

    def point(name: str, batch: int, ms: float) -> Point:
        ops = 2.0 * batch * figures.elements
        read = contenders[name].one_bytes if batch == 1 else contenders[name].pass_bytes
        return Point(name, batch, ops / read, 1e3 * ops / ms)

    found = []
    for batch in _BATCHES:
        asked = contenders[OURS].time(known, batch=batch, k=k, seconds=0.5, calls=7)
        found.append(point(OURS, batch, asked["p50_ms"]))
    for batch, name in figures.turns:
        if name != OURS:
            found.append(point(name, batch, float(np.median(figures.ms(batch, name)))))
    return found


def draw(found: list[Point], limits: Mapping[str, list[Reached]], path: Path) -> None:
    """Writes a roofline: operations a second by intensity, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 6))
    span = np.geomspace(
        min(point.intensity for point in found) / 2, max(point.intensity for point in found) * 2, 99
    )
    bytes_per_s = _median(limits[READ])
    label = f"{bytes_per_s / 1e9:.0f} GB/s read"
    axes.plot(span, span * bytes_per_s / 1e12, "k--", linewidth=1, label=label)
    peak = _median(limits[VNNI]) / 1e12
    if math.isfinite(peak):
        label = f"{peak:.1f} TOP/s of eight-bit multiply-adds"
        axes.axhline(peak, color="k", linewidth=1, label=label)
        axes.set_ylim(top=2 * peak)
    for name in dict.fromkeys(point.name for point in found):
        own = sorted(
            (point.intensity, point.ops_per_s / 1e12) for point in found if point.name == name
        )
        style = {"linewidth": 2.5} if name == OURS else {"linewidth": 0.8}
        axes.plot(*zip(*own, strict=True), marker="o", markersize=4, label=name, **style)
    axes.set(xscale="log", yscale="log", ylabel="TOP/s")
    axes.set_xlabel("operations a byte read, one pass over the items a batch")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _median(limits: list[Reached]) -> float:
    return float(np.median([one.limit_per_s for one in limits]))
