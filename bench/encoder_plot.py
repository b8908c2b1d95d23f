"""The picture of ``encoder.py``: tokens a second by contender and precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from encoder_figures import Figures
from encoder_roster import OURS, PRECISIONS, RAW

_COLOURS = {"f32": "C0", "bf16": "C1", "int8": "C3"}


def draw(figures: Figures, path: Path) -> None:
    """Writes a panel a mix: medians as bars, the fastest on top; least to greatest as a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    mixes = figures.mixes
    figure, panels = pyplot.subplots(
        1, len(mixes), figsize=(1 + 5.5 * len(mixes), 6), squeeze=False, layout="constrained"
    )
    for axes, mix in zip(panels[0], mixes, strict=True):
        names = [name for other, name in figures.paces if other == mix]
        names.sort(key=lambda name: figures.median(mix, name))
        for place, name in enumerate(names):
            peer, _, precision = name.rpartition(" ")
            rates = [pace.tokens_per_s / 1e3 for pace in figures.paces[mix, name]]
            edge = "black" if peer == OURS else "none"
            hatch = "//" if peer == RAW else ""
            axes.barh(
                place, np.median(rates), color=_COLOURS[precision], edgecolor=edge, hatch=hatch
            )
            axes.plot([min(rates), max(rates)], [place, place], color="black", linewidth=1)
        axes.set(title=mix, xlabel="thousand tokens a second, without padding")
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.grid(visible=True, axis="x", alpha=0.3)
    shown = [pyplot.Rectangle((0, 0), 1, 1, color=_COLOURS[one]) for one in PRECISIONS]
    figure.legend(shown, PRECISIONS, loc="outside lower right", ncols=3, frameon=False)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
