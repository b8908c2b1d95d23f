"""Texts to vectors on the CPU: ours beside the libraries that one would use instead.

    python bench/encoder.py --prepare [--cache DIR]
    python bench/encoder.py [--quick] [--cache DIR] [--data DIR] [--out FILE] [--plot FILE.png]

all-MiniLM-L6-v2 from its PyPI package, two threads for everybody. ``--prepare`` needs a package
index: it makes a virtual environment for each family of peers (``bench/peers/*.txt`` pins their
versions), exports the model to ONNX and OpenVINO with their own tools, in f32 and int8, and has
``rankstream model optimize`` make our int8. Afterwards nothing is looked for in the network. pip
takes torch's large CUDA build unless PIP_FIND_LINKS or PIP_INDEX_URL leads to the CPU's.

Each contender is a process that loads, warms up, and waits for its turn; a round gives everybody
one turn a mix of lengths, and a ratio is the median of the ratios of five rounds. Tokens are those
of the texts, without padding. ``OpenVINO alone`` and ``onnxruntime alone`` are given tokens, sorted
by length: limits, not peers. int8 goes without saying in a key, f32 and bf16 are named:

- ``encoder.mixed.vs_sentence_transformers``: our rate over that of its default, torch in f32.
- ``encoder.mixed.vs_best_peer``: over the fastest of sentence-transformers (torch, ONNX, OpenVINO),
  FastEmbed and Infinity's engine in the same precision. The workload's ``best_peer`` names it.
- ``encoder.mixed.vs_raw_openvino``: over our own graph, computed with nothing around it.
- ``encoder.mixed.grpc_vs_in_process``: through a server, 64 texts a call, over calls in process.
- ``encoder.mixed.tokenisation_share``: what of our time goes into it.
- ``encoder.titles.cosine_min`` and ``cosine_mean``: to sentence-transformers' vectors;
  ``top_10_overlap``: of each title's neighbours, the least of all catalogues; ``ndcg_change_low``:
  lower end of the 95% interval of what NDCG@10 loses, as a part of it. The last two need --data.
- ``encoder.interactive_under_bulk_p99_ms``, ``encoder.bulk_kept``: see ``encoder_bulk.py``.

and likewise for ``titles`` and ``reviews``. ``--data`` is a folder of data sets (see
``training/titled_log.py``); without it titles are made up. A whole run takes three quarters of an
hour on two cores without VNNI. ``--quick`` has ours, our graph alone and sentence-transformers
encode some of the mixed texts.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from encoder_bulk import KEYS as BULK_KEYS
from encoder_bulk import BulkFailed, measure_bulk
from encoder_contender import Contender, ContenderFailed, running, without_folders
from encoder_figures import CALL, Figures, key_of, verdicts
from encoder_ours import encoder_server
from encoder_peers import Spec
from encoder_plot import draw
from encoder_prepare import absence, prepare
from encoder_quality import read_data_sets
from encoder_roster import BF16, INT8, NO_BF16, OURS, PRECISIONS, QUICK, ROSTER, Entry, Places
from encoder_rounds import Plan, compare, measure
from encoder_texts import MIXED, MIXES, REVIEWS, TITLES, Workload, calibration_texts, workloads
from environment import environment
from report import Report
from rich.console import Console
from rich.table import Table
from serving import NotServing
from sizes import SEED

from rankstream.client.errors import RankstreamError
from rankstream.server.encoder.find import find_model
from rankstream.server.encoder.instruction_set import cpu_flags, has_bf16
from rankstream.training.titled_log import TitledLog

_THREADS = 2
_FULL = Plan(MIXES, 1.0, 40)
_QUICK = Plan((MIXED,), 0.0, 0)
_QUICK_TEXTS = 128
_BULK_PART_S = 10.0


def taking_part(places: Places, *, quick: bool) -> tuple[list[Entry], dict[str, str]]:
    """Who can be started, and by name why others do not take part at all.

    One that should be there and is not is started nevertheless: it says what it lacks.
    """
    left_out = {}
    for entry in ROSTER:
        if quick and entry.peer not in QUICK:
            left_out[entry.name] = "--quick asks few"
        elif entry.precision == BF16 and not has_bf16(cpu_flags()):
            left_out[entry.name] = NO_BF16
        elif entry.model == "optimised" and (reason := absence(entry, places)):
            left_out[entry.name] = reason
    return [entry for entry in ROSTER if entry.name not in left_out], left_out


def _run(
    flags: argparse.Namespace,
    places: Places,
    loads: Mapping[str, Workload],
    data: list[TitledLog],
    scratch: Path,
) -> Report:
    entries, left_out = taking_part(places, quick=flags.quick)
    absent = {entry.name: reason for entry in entries if (reason := absence(entry, places))}
    plan = _QUICK if flags.quick else _FULL
    if flags.quick:
        loads = {name: load.first(_QUICK_TEXTS) for name, load in loads.items()}
    files = {name: load.write(scratch) for name, load in loads.items()}
    about = environment(flags.cache, SEED, ()) | {"command": _command()}
    report = Report(about, _workload(plan, loads, data))
    startable = [entry for entry in entries if entry.name not in absent]
    with running(startable, places, _THREADS, files[MIXED]) as contenders:
        figures = measure(plan, loads, files, contenders, report)
        if not flags.quick:
            compare(contenders, files[TITLES], data, scratch, report)
    figures.left_out.update(left_out)
    figures.missing.update(absent)
    if not flags.quick:
        _bulk(places, loads, figures, report)
    _conclude(figures, contenders, report)
    _print_paces(figures)
    _print_targets(report)
    if flags.plot:
        draw(figures, flags.plot)
    return report


def _bulk(places: Places, loads: Mapping[str, Workload], figures: Figures, report: Report) -> None:
    """With ours in the precision that is fastest here."""
    precision = our_fastest(figures)
    model = "optimised" if precision == INT8 else "source"
    spec = Spec("ours-grpc", precision, str(places.export(model)), _THREADS, str(places.own))
    with encoder_server(spec) as server:
        singles, long = loads[TITLES].texts, loads[REVIEWS].texts
        try:
            measure_bulk(server.address, singles, long, _BULK_PART_S, report)
        except (BulkFailed, RankstreamError) as error:
            report.problems.update(dict.fromkeys(BULK_KEYS, str(error)))


def our_fastest(figures: Figures) -> str:
    """The precision in which ours encodes the mixed texts fastest."""
    there = [one for one in PRECISIONS if (MIXED, f"{OURS} {one}") in figures.paces]
    return max(there, key=lambda one: figures.median(MIXED, f"{OURS} {one}"))


def _conclude(figures: Figures, contenders: Mapping[str, Contender], report: Report) -> None:
    """The ratios, what is missing, and who took part with what."""
    for key, series in figures.ratios().items():
        report.add_ratio(key, *series)
    for (mix, name), shares in figures.shares.items():
        key = key_of(mix, name.rpartition(" ")[2], "tokenisation_share")
        report.add_ratio(key, shares, [1.0] * len(shares))
    report.problems.update(figures.problems())
    workload = report.workload
    assert isinstance(workload, dict)
    workload["best_peer"] = {
        key_of(mix, precision, "best_peer"): best
        for mix in figures.mixes
        for precision in PRECISIONS
        if (best := figures.best_peer(mix, precision))
    }
    workload["contenders"] = {
        one.name: {"settings": one.settings, "versions": one.versions}
        for one in contenders.values()
        if not one.missing
    }
    workload["memory"] = figures.memory
    workload["one_text"] = figures.latencies()
    workload["missing"] = figures.missing
    workload["problems"] = report.problems
    workload["left_out"] = figures.omissions()


def _workload(plan: Plan, loads: Mapping[str, Workload], data: list[TitledLog]) -> dict[str, Any]:
    return {
        "model": "all-MiniLM-L6-v2",
        "threads": _THREADS,
        "texts": {mix: loads[mix].summary() for mix in plan.mixes},
        "titles_of": [one.name for one in data] or "made up",
        "texts_a_call_over_grpc": CALL,
        "bulk_part_s": _BULK_PART_S,
    }


def _print_paces(figures: Figures) -> None:
    heads = [f"{mix}, tokens/s" for mix in figures.mixes]
    more = ("texts/s, mixed", "one text, p50 / p99 ms", "peak / PSS, MiB")
    table = Table("contender", *heads, *more, title="medians of the rounds")
    times = figures.latencies()
    for name in figures.memory:
        there = figures.paces if (MIXED, name) in figures.paces else figures.calls
        paces = [sorted(one.tokens_per_s for one in there[mix, name]) for mix in figures.mixes]
        texts = sorted(one.texts_per_s for one in there[MIXED, name])
        one = f"{times[name]['p50_ms']:.2f} / {times[name]['p99_ms']:.2f}" if times else ""
        memory = figures.memory[name]
        table.add_row(
            name,
            *(f"{pace[len(pace) // 2]:,.0f}" for pace in paces),
            f"{texts[len(texts) // 2]:,.0f}",
            one,
            f"{memory['peak_rss_mib']:,.0f} / {memory['pss_mib']:,.0f}",
        )
    Console(width=150).print(table)


def _print_targets(report: Report) -> None:
    table = Table("key", "value", "target", "", title="targets")
    for key, (target, met) in verdicts(report.ratios).items():
        table.add_row(key, f"{report.ratios[key]:.3f}", f"{target:g}", "met" if met else "missed")
    left_out = report.workload["left_out"]
    for key, reason in left_out.items():
        if f".{MIXED}." in key:
            table.add_row(key, "left out", "", reason)
    Console(width=150).print(table)


def _command() -> str:
    """As it was called, folders by their names."""
    return without_folders(" ".join(["python", "bench/encoder.py", *sys.argv[1:]]))


def _read_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--prepare", action="store_true", help="make environments and models, and end")
    add("--quick", action="store_true", help="within 60 s; leaves keys out")
    add("--cache", type=Path, default=Path(".cache"), help="default: %(default)s")
    named = os.environ.get("RANKSTREAM_DATA")
    add("--data", type=Path, default=Path(named) if named else None, help="folder of data sets")
    add("--out", type=Path, help="write the result there, as JSON")
    add("--plot", type=Path, metavar="FILE.png", help="tokens a second, as bars")
    flags = parser.parse_args()
    if flags.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot draws with matplotlib: pip install 'rankstream[bench]'")
    flags.cache = flags.cache.resolve()
    return flags


def main() -> int:
    """Runs it; the exit status is 1 where a key failed."""
    flags = _read_flags()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    places = Places(flags.cache / "encoder", find_model("").root)
    places.own.mkdir(parents=True, exist_ok=True)
    try:
        data = read_data_sets(flags.data)
        titles = [title for one in data for title in one.titles]
        loads = workloads(places.source / "tokenizer.json", list(dict.fromkeys(titles)))
        with tempfile.TemporaryDirectory(dir=places.root) as scratch:
            if flags.prepare:
                texts = Workload("calibration", calibration_texts(titles), ())
                problems = prepare(places, texts.write(Path(scratch)))
                for name, problem in problems.items():
                    print(f"{name}: {problem}", file=sys.stderr)
                return 1 if problems.keys() - {"optimised"} else 0
            report = _run(flags, places, loads, data, Path(scratch))
    except (ContenderFailed, NotServing, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if report.print_and_write(flags.out) else 1


if __name__ == "__main__":
    sys.exit(main())
