"""A benchmark's result: printed as a table, written as JSON.

A *ratio* is a key that is followed over time. It compares two things that were measured in the same
run, larger being better; or it is a plain figure whose name ends in ``_ms`` or ``_bytes``, smaller
being better, as are ``.widened`` and what ends in ``_share``. It is the median of at least
five repeats, between which the cases take turns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

REPEATS = 5
_PLAIN = ("_ms", "_bytes")
_SMALLER = (*_PLAIN, ".widened", "_share")


@dataclass(frozen=True, slots=True)
class Report:
    """What a benchmark found.

    Attributes:
        environment: see ``environment.py``.
        workload: the sizes, in words and numbers.
        results: raw figures, one entry a case and repeat.
        ratios: by key.
        problems: why a key is missing.
    """

    environment: Mapping[str, Any]
    workload: Mapping[str, Any]
    results: list[dict[str, Any]] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def add_result(self, case: str, repeat: int, found: Mapping[str, Any]) -> None:
        """Notes one measurement, and shows it."""
        entry = {"case": case, "repeat": repeat, **found}
        self.results.append(entry)
        shown = ", ".join(f"{k} {_shown(v)}" for k, v in found.items() if v != {})
        print(f"{case} #{repeat}: {shown}", flush=True)

    def add_plain(self, key: str, samples: Sequence[float]) -> None:
        """Adds a key that ends in a unit.

        Args:
            key: as ``stream.visible_at_1000.p99_ms``.
            samples: one a repeat.
        """
        if not key.endswith(_PLAIN):
            msg = f"{key} ends in none of {_PLAIN}: compare it with something, or name its unit"
            raise ValueError(msg)
        self._add(key, np.array(samples))

    def add_ratio(self, key: str, ours: Sequence[float], theirs: Sequence[float]) -> None:
        """Adds ours / theirs, repeat by repeat.

        Args:
            key: as ``stream.catch_up.vs_bare_poll``.
            ours: one a repeat, larger is better.
            theirs: likewise, of the peer in the same repeat.
        """
        self._add(key, np.array(ours) / np.array(theirs))

    def print_and_write(self, out: Path | None) -> bool:
        """Prints the table, writes the file; True where no key failed."""
        table = Table("key", "median", "", title="ratios")
        for key, value in self.ratios.items():
            better = "smaller is better" if key.endswith(_SMALLER) else "larger is better"
            table.add_row(key, _shown(value), better)
        for key, problem in self.problems.items():
            table.add_row(key, "missing", problem)
        Console().print(table)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(self.as_json(), indent=1) + "\n")
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """What is written."""
        return {
            "environment": self.environment,
            "workload": self.workload,
            "results": self.results,
            "ratios": self.ratios,
        }

    def _add(self, key: str, samples: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        if len(samples) < REPEATS:
            msg = f"{key} has {len(samples)} repeats, expected at least {REPEATS}"
            raise ValueError(msg)
        median = float(np.median(samples))
        if np.isfinite(median):
            self.ratios[key] = median
        else:
            self.problems[key] = f"failed in most repeats: {samples.tolist()}"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{k} {_shown(v)}" for k, v in value.items() if v != {}) + ")"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)
