"""Other sizes than the headline's: how time grows with the items, the batch and k."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from report import Report
from rich.console import Console
from rich.table import Table
from top_k_contender import running
from top_k_data import random_data
from top_k_peers import FLAT, FP32, OURS

_ITEMS = (10_000, 100_000, 1_000_000, 5_000_000)
_BATCHES = (1, 8, 64, 256)
_KS = (10, 100, 1_000)
_PEERS = (FLAT, "faiss 8bit", "torch bf16")
# In sizes of the fp32 matrix: its pages and the codes; and with the peers' copies.
_MEMORY_ALONE, _MEMORY_WITH_PEERS = 2.0, 4.5


def sweep(
    cache: Path, dimensions: int, threads: int, report: Report, items: Sequence[int] = _ITEMS
) -> None:
    """Asks ours, and few peers where memory suffices, once each; notes and prints the times."""
    scratch = cache / "top-k-known.npz"
    try:
        for count in items:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            matrices = free / (4 * count * dimensions)
            if matrices < _MEMORY_ALONE:
                print(f"{count:,} items left out: {free >> 30} GiB of free memory are too little")
                continue
            peers = _PEERS if matrices >= _MEMORY_WITH_PEERS else ()
            _sweep_one(cache, count, dimensions, threads, peers, scratch, report)
    finally:
        scratch.unlink(missing_ok=True)
    _print(report)


def _sweep_one(
    cache: Path,
    count: int,
    dimensions: int,
    threads: int,
    peers: Sequence[str],
    known: Path,
    report: Report,
) -> None:
    data = random_data(cache, count, dimensions)
    with running((OURS, FP32, *peers), data, threads) as contenders:
        for k in _KS:
            contenders[FP32].write_answer(k, known)
            for batch in _BATCHES:
                for name in (OURS, *peers):
                    if contenders[name].missing:
                        continue
                    wish = {"batch": batch, "k": k, "seconds": 0.2, "calls": 3}
                    found = contenders[name].time(known, **wish)
                    found["ns_per_item"] = 1e6 * found["p50_ms"] / count
                    size = {"method": name, "items": count, "batch": batch, "k": k}
                    report.add_result("sweep", 1, size | found)


def _print(report: Report) -> None:
    """Ours, where linear is: the same number in a column, once the codes exceed the cache."""
    table = Table("items", "k", *(f"B={batch}" for batch in _BATCHES), title="ours, ns an item")
    rows: dict[tuple[int, int], list[Any]] = {}
    for entry in report.results:
        if entry["case"] == "sweep" and entry["method"] == OURS:
            rows.setdefault((entry["items"], entry["k"]), []).append(entry["ns_per_item"])
    for (count, k), found in rows.items():
        table.add_row(f"{count:,}", str(k), *(f"{one:,.2f}" for one in found))
    Console().print(table)
