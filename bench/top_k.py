"""Exact top-k of a whole catalogue, against other libraries and against what the machine can do.

    python bench/top_k.py [--prepare] [--quick] [--cache DIR] [--out FILE] [--json]
                          [--titles DIR | --vectors FILE.npy] [--sweep] [--plot FILE.png]

500,000 random unit vectors of 384 dimensions, the best 100, for batches of 1, 8 and 64 queries;
each method in a process of its own on two threads. A round asks ours, a peer, ours, the next peer,
and so on; a ratio is taken between neighbours, and is the median of five rounds. Every answer of
ours is compared to the last bit with the scan of the fp32 rows: one difference ends the run. The
peers' recall is against the same.

- ``top_k.b1.vs_faiss_flat``, and ``b8``, ``b64``: time of faiss-cpu's IndexFlatIP over ours.
- ``top_k.b1.vs_best_peer``, and ``b8``, ``b64``: time of the fastest of the other peers over ours;
  many of them are not exact. The workload's ``best_peer`` names it.
- ``top_k.b1.of_read_bandwidth``: bytes of our codes that one query reads, over our time, over
  what two threads can read.
- ``top_k.b64.of_vnni_peak``: 2 B N D over our time, over what two threads can multiply and add.
- ``top_k.widened``: queries that took a scan of the rows after all, of all that ours were asked.

``--quick`` asks faiss flat alone of the peers. ``--sweep`` adds other N, B and k to the results, of
few peers. ``--titles`` searches 100,000 encoded titles of the data sets in a folder (see
``training/titled_log.py``), for profiles: means of five of them; ``--vectors`` any items of yours.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from environment import environment
from report import REPEATS, Report
from rich.console import Console
from rich.table import Table
from sizes import SEED
from top_k_contender import LIMITS, Contender, ContenderFailed, WrongAnswer, running, serve
from top_k_data import QUERIES, Data, given_data, random_data
from top_k_figures import LIMIT_OF, Figures, Reached, Turn
from top_k_peers import FLAT, FP32, OUR_WAYS, OURS, PEERS
from top_k_plot import draw, points
from top_k_sweep import sweep

_ITEMS, _DIMENSIONS, _K = 500_000, 384, 100
_TITLES = 100_000
_BATCHES = (1, 8, 64)
_THREADS = 2
_VERSIONS_OF = ("faiss-cpu", "usearch", "numkong")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        k: results of a query.
        batches: queries of a call.
        names: of the methods beside ours, in the order of a round.
        seconds: a peer is asked for so long in a round.
        calls: and so often, at least; ours, asked before every peer, half as long.
    """

    k: int
    batches: Sequence[int]
    names: Sequence[str]
    seconds: float
    calls: int


_FULL = Plan(_K, _BATCHES, (*list(OUR_WAYS)[1:], *PEERS), 0.5, 7)
_QUICK = Plan(_K, _BATCHES, (FLAT,), 0.2, 2)


def measure(
    plan: Plan, elements: int, contenders: Mapping[str, Contender], known: Path, report: Report
) -> Figures:
    """The rounds.

    Args:
        plan: what is measured.
        elements: N D.
        contenders: ours, those that the plan names, and the limits, unless they do not matter.
        known: has the right answers.
        report: takes what is found, and the ratios.

    Raises:
        WrongAnswer: one of ours is not what is known.
    """
    ours = contenders[OURS]
    figures = Figures(elements, ours.one_bytes)
    for name in plan.names:
        if problem := contenders[name].missing:
            figures.missing[name] = problem
    asked = [contenders[name] for name in plan.names if name not in figures.missing]
    for repeat in range(1, REPEATS + 1):
        for batch in plan.batches:
            wish = {"batch": batch, "k": plan.k, "calls": plan.calls}
            if LIMITS in contenders and (limit := LIMIT_OF.get(batch)):
                our = ours.time(known, **wish, seconds=plan.seconds)
                figures.add(batch, OURS, Turn.of(our, our))
                reached = Reached(contenders[LIMITS].limit(limit), our["p50_ms"])
                figures.limits.setdefault(limit, []).append(reached)
                report.add_result(f"b{batch} {limit}", repeat, reached.as_json())
            for other in asked:
                our = ours.time(known, **wish, seconds=plan.seconds / 2)
                their = other.time(known, **wish, seconds=plan.seconds)
                figures.add(batch, OURS, Turn.of(our, our))
                turn = figures.add(batch, other.name, Turn.of(their, our))
                report.add_result(f"b{batch} {other.name}", repeat, turn.as_json())
    for key, series in figures.ratios().items():
        report.add_ratio(key, *series)
    report.problems.update(figures.problems())
    return figures


def _print_times(figures: Figures, contenders: Mapping[str, Contender], plan: Plan) -> None:
    heads = [f"B={batch}" for batch in plan.batches]
    title = f"top-{plan.k}, ms a batch: median (spread of the rounds)"
    table = Table("method", *heads, "recall", "read, MB", title=title)
    for name in (OURS, *plan.names):
        if name in figures.missing:
            table.add_row(name, *("missing" for _ in heads), "", "")
            continue
        turns = [figures.turns[batch, name] for batch in plan.batches]
        recall = np.mean([turn.recall for one in turns for turn in one])
        read = dict.fromkeys((contenders[name].one_bytes, contenders[name].pass_bytes))
        size = " / ".join(f"{one / 1e6:,.0f}" for one in read)
        times = [_spread(figures.ms(batch, name)) for batch in plan.batches]
        table.add_row(name, *times, f"{recall:.4f}", size)
    Console().print(table)


def _print_targets(figures: Figures) -> None:
    table = Table("ratio", "median (spread)", "target", "", title="targets")
    for key, target in figures.targets().items():
        samples = np.divide(*figures.ratios()[key])
        met = "met" if np.median(samples) >= target else "missed"
        table.add_row(key, _spread(samples), f"{target:g}", met)
    Console().print(table)


def _spread(samples: Any) -> str:
    return f"{np.median(samples):.3g} ({np.min(samples):.3g} to {np.max(samples):.3g})"


def _run(flags: argparse.Namespace, data: Data, scratch: Path) -> Report:
    plan = _QUICK if flags.quick else _FULL
    count, dimensions = data.shape()
    workload: dict[str, Any] = {
        "items": count,
        "dimensions": dimensions,
        "vectors": _vectors(flags),
        "k": plan.k,
        "queries": QUERIES,
        "threads": _THREADS,
    }
    report = Report(environment(flags.cache, SEED, _VERSIONS_OF), workload)
    known = scratch / "known.npz"
    with running((OURS, LIMITS, *dict.fromkeys((FP32, *plan.names))), data, _THREADS) as contenders:
        contenders[FP32].write_answer(plan.k, known)
        figures = measure(plan, count * dimensions, contenders, known, report)
        if flags.plot:
            draw(points(figures, contenders, plan.k, known), figures.limits, flags.plot)
    workload["bytes_read"] = {"b1": contenders[OURS].one_bytes, "more": contenders[OURS].pass_bytes}
    workload["best_peer"] = figures.best_peers()
    workload["missing"] = figures.missing
    if flags.sweep:
        sweep(flags.cache, dimensions, _THREADS, report)
    _print_times(figures, contenders, plan)
    _print_targets(figures)
    return report


def _read_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--prepare", action="store_true", help="make the vectors and end")
    add("--quick", action="store_true", help="within 60 s; leaves keys out")
    add("--cache", type=Path, default=Path(".cache/bench"), help="default: %(default)s")
    add("--out", type=Path, help="write the result there, as JSON")
    add("--json", action="store_true", help="print the result as JSON too")
    given = parser.add_mutually_exclusive_group().add_argument
    given("--vectors", type=Path, metavar="FILE.npy", help="items to search: float32 [N, D]")
    given("--titles", type=Path, metavar="DIR", help="data sets whose titles are encoded")
    add("--sweep", action="store_true", help="other sizes, too; minutes")
    add("--plot", type=Path, metavar="FILE.png", help="operations a second under the limits")
    add("--peer", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot draws with matplotlib: pip install 'rankstream[bench]'")
    return flags


def main() -> int:
    """Runs it; the exit status is 1 where a key failed, or an answer was wrong."""
    flags = _read_flags()
    if flags.peer:
        serve(flags.peer)
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    flags.cache.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=flags.cache) as scratch:
            data = _data(flags, Path(scratch))
            if flags.prepare:
                return 0
            report = _run(flags, data, Path(scratch))
    except (ContenderFailed, WrongAnswer, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if flags.json:
        print(json.dumps(report.as_json()))
    return 0 if report.print_and_write(flags.out) else 1


def _vectors(flags: argparse.Namespace) -> str:
    if flags.titles:
        names = ", ".join(sorted(one.name for one in flags.titles.iterdir() if one.is_dir()))
        return f"titles of {names}; two of them where there are no more"
    return flags.vectors.name if flags.vectors else "random unit vectors"


def _data(flags: argparse.Namespace, scratch: Path) -> Data:
    if flags.titles:
        from top_k_titles import title_data

        return title_data(flags.titles, flags.cache, _TITLES)
    if flags.vectors:
        return given_data(flags.vectors, scratch)
    return random_data(flags.cache, _ITEMS, _DIMENSIONS)


if __name__ == "__main__":
    sys.exit(main())
