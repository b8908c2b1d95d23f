"""The picture of a load: latency by percentile, and over time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from histogram import Histogram
from load_report import Found

_CURVE = [100 * (1 - 10 ** (-nines / 10)) for nines in range(1, 51)]


def write_plot(found: Found, path: Path) -> None:
    """Draws latency by percentile for each kind, and of all calls over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (by_percentile, over_time) = pyplot.subplots(1, 2, figsize=(12, 4.5))
    _draw_percentiles(by_percentile, found)
    _draw_time(over_time, found)
    figure.suptitle(f"{found.plan.rate:g} calls/s for {found.plan.seconds:g} s")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _draw_percentiles(axes: Any, found: Found) -> None:
    for kind, tally in found.tallies.items():
        whole = Histogram.merged(tally.intervals)
        # Beyond one call in as many as there are, a percentile is the maximum.
        shown = [p for p in _CURVE if whole.total * (1 - p / 100) >= 1] or _CURVE[:1]
        heights = [whole.percentile_ms(p) for p in shown]
        axes.plot([1 / (1 - p / 100) for p in shown], [_or_gap(h) for h in heights], label=kind)
    ticks = {2: "50", 10: "90", 100: "99", 1_000: "99.9", 10_000: "99.99", 100_000: "99.999"}
    axes.set_xscale("log")
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.set_yscale("log")
    axes.set(xlabel="percentile", ylabel="latency from the intended time, ms")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()


def _draw_time(axes: Any, found: Found) -> None:
    step = found.plan.seconds / found.plan.intervals
    intervals = found.together.intervals
    times = [step * (number + 0.5) for number in range(len(intervals))]
    for percent in (50.0, 99.0, 100.0):
        heights = [_or_gap(one.percentile_ms(percent)) for one in intervals]
        label = "max" if percent == 100 else f"p{percent:g}"
        axes.plot(times, heights, marker=".", label=label)
    failed = [(at, one.failed) for at, one in zip(times, intervals, strict=True) if one.failed]
    for at, count in failed:
        axes.annotate(f"{count} failed", (at, 0.97), xycoords=("data", "axes fraction"), size=7)
    axes.set_yscale("log")
    axes.set(xlabel="s", ylabel="ms")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()


def _or_gap(value: float) -> float:
    return value if math.isfinite(value) else math.nan
