"""The picture of ``top_k.py``: what each method gets done, under what the machine can do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    figure, axes = pyplot.subplots(figsize=(10, 6))
    axes.set(xscale="log", yscale="log", ylabel="TOP/s (a multiplication and an addition are two)")
    axes.set_xlabel("operations a byte, if a batch reads its items once")
    places = [point.intensity for point in found]
    peak, bytes_per_s = _median(limits[VNNI]) / 1e12, _median(limits[READ])
    span = np.geomspace(min(places) / 1.5, max(places) * 1.5, 99)
    roof = np.fmin(span * bytes_per_s / 1e12, peak)
    label = f"{bytes_per_s / 1e9:.0f} GB/s read"
    if math.isfinite(peak):
        label += f",\n{peak:.1f} TOP/s of eight-bit\nmultiply-adds"
    axes.plot(span, roof, "k", linewidth=1, label=label)
    for name in sorted({point.name for point in found}, key=lambda name: (name != OURS, name)):
        own = sorted(
            (point.intensity, point.ops_per_s / 1e12) for point in found if point.name == name
        )
        label = name.replace(OURS, "rankstream")
        axes.plot(*zip(*own, strict=True), label=label, **_style(name))
    axes.set_ylim(min(point.ops_per_s for point in found) / 2e12, 2 * np.max(roof))
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _style(name: str) -> dict[str, Any]:
    """A colour a library, a mark a kind: of a dozen lines, each is found again."""
    library, _, kind = name.partition(" ")
    if name == OURS:
        return {"color": "C3", "marker": "o", "markersize": 5, "linewidth": 2.5}
    colours = {"ours": "C3", "faiss": "C0", "usearch": "C2", "torch": "C1", "numpy": "0.5"}
    marks = {"fp32": "s", "f32": "s", "flat": "s", "bf16": "^", "fp16": "v", "8bit": "D", "i8": "D"}
    mark = marks.get(kind, "P" if kind else "s")
    return {"color": colours[library], "marker": mark, "markersize": 4, "linewidth": 0.8}


def _median(limits: list[Reached]) -> float:
    return float(np.median([one.limit_per_s for one in limits]))
