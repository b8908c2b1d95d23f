"""The figures of ``cold_start.py``: means, intervals, and the table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from cold_trials import DECAYED, OURS, POPULAR, RANDOM, Samples
from demo_screen import Screen, grid
from report import Report
from rich.text import Text

from rankstream.training.intervals import mean_interval, share_interval

_METRICS = ("hit@10", "hit@50", "ndcg@10")
_SEED = 1

Systems = dict[str, dict[str, Any]]


def figures(samples: Samples) -> Systems:
    """Means and intervals by system, and how much ours is above each other one."""
    joined = {
        name: {metric: np.concatenate(parts) for metric, parts in metrics.items()}
        for name, metrics in samples.values.items()
    }
    found: Systems = {}
    for name, metrics in joined.items():
        found[name] = {"users": len(metrics["ndcg@10"])}
        for metric, values in metrics.items():
            share = share_interval(int(values.sum()), len(values))
            interval = share if metric.startswith("hit") else mean_interval(values, _SEED)
            found[name][metric] = _rounded(values.mean())
            found[name][f"{metric}_interval"] = [_rounded(end) for end in interval]
            if name != OURS:
                ends = mean_interval(joined[OURS][metric] - values, _SEED)
                found[name][f"{metric}_ours_above"] = [_rounded(end) for end in ends]
    return found


def add_ratios(report: Report, data: str, found: Mapping[str, Systems]) -> None:
    """The keys that are followed; see the module."""
    users = found["new users"]
    for name, key in ((DECAYED, "decayed"), (POPULAR, "popularity")):
        _add_ratio(report, f"{data}.new_users.ndcg_vs_{key}", "ndcg@10", users, name)
    _add_ratio(report, f"{data}.new_items.hit50_vs_random", "hit@50", found["new items"], RANDOM)
    among = found["new items among themselves"]
    _add_ratio(report, f"{data}.new_items_among.ndcg_vs_random", "ndcg@10", among, RANDOM)


def show(data: str, found: Mapping[str, Systems], screen: Screen) -> None:
    """A table of one data set, the best first; *ours above*: of NDCG@10, as an interval."""
    table = grid(data, *_METRICS, "ours above")
    for question, systems in found.items():
        users = max((system["users"] for system in systems.values()), default=0)
        table.add_row(Text(f"{question}: {users:,}", style="bold"))
        for name, system in sorted(systems.items(), key=lambda s: -s[1]["ndcg@10"]):
            above = system.get("ndcg@10_ours_above")
            difference = f"{above[0]:+.3f} {above[1]:+.3f}".replace("0.", ".") if above else ""
            table.add_row(f" {name}", *(_shown(system, m) for m in _METRICS), difference)
    screen.show(table)


def _add_ratio(report: Report, key: str, metric: str, systems: Systems, other: str) -> None:
    name = f"cold_start.{key}"
    if OURS not in systems:
        report.problems[name] = "nobody to ask"
    elif systems[other][metric] == 0:
        report.problems[name] = f"{other} has no hit: {metric} is {systems[OURS][metric]} to 0"
    else:
        report.ratios[name] = systems[OURS][metric] / systems[other][metric]


def _shown(system: Mapping[str, Any], metric: str) -> str:
    if metric not in system:
        return "-"
    low, high = system[f"{metric}_interval"]
    return f"{system[metric]:.3f} {low:.3f}-{high:.3f}".replace("0.", ".")


def _rounded(value: float) -> float:
    return round(float(value), 5)
