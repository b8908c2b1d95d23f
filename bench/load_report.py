"""What ``load.py`` found: for people, for programs, and as a picture."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from histogram import Histogram
from load_check import Verdict
from load_plan import Plan
from rich.console import Console
from rich.table import Table
from tally import Tally

ALL = "all"
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
_SHOWN_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class Found:
    """The whole result.

    Attributes:
        plan: of the first process.
        tallies: by kind.
        late: how late calls were sent; it is part of the latencies.
        verdict: the oracles'.
    """

    plan: Plan
    tallies: Mapping[str, Tally]
    late: Histogram
    verdict: Verdict

    @classmethod
    def read(cls, shares: Sequence[Plan], verdict: Verdict) -> Found:
        """Adds up what the processes left."""
        first = shares[0]
        tallies = {kind: _empty(first.intervals) for kind in first.mix}
        late = Histogram()
        for share in shares:
            said = json.loads(share.result.read_text())
            late.add(Histogram.from_json(said["late"]))
            for kind, tally in tallies.items():
                tally.add(Tally.from_json(said["kinds"][kind]))
        return cls(first, tallies, late, verdict)

    @property
    def together(self) -> Tally:
        """All kinds."""
        total = _empty(self.plan.intervals)
        for tally in self.tallies.values():
            total.add(tally)
        return total

    def summaries(self) -> dict[str, dict[str, Any]]:
        """By kind, and of all."""
        return {
            kind: _summary(tally, self.plan.seconds)
            for kind, tally in (*self.tallies.items(), (ALL, self.together))
        }

    def write(
        self,
        out: Path,
        environment: Mapping[str, Any],
        workload: Mapping[str, Any],
        notes: Sequence[str],
    ) -> None:
        """Writes it as JSON; what is not finite is null."""
        step = self.plan.seconds / self.plan.intervals
        intervals = self.together.intervals
        found = {
            "environment": dict(environment),
            "workload": dict(workload) | {"mix": self.plan.mix},
            "notes": list(notes),
            "results": [{"case": kind, **one} for kind, one in self.summaries().items()],
            "late_p99_ms": self.late.percentile_ms(99),
            "over_time": [
                {"from_s": step * number, **_latencies(one)} for number, one in enumerate(intervals)
            ],
            "checks": asdict(self.verdict),
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(_finite(found), indent=1, default=str) + "\n")


def print_found(found: Found, notes: Sequence[str]) -> None:
    """The table, what the oracles say, and what else is to be known."""
    heads = ["p50", "p90", "p99", "p99.9", "max"]
    table = Table("calls", "due/s", "done/s", *heads, "failed", title="latencies, ms")
    for kind, one in found.summaries().items():
        latencies = [_shown(one[name]) for name in (*map(_name, PERCENTILES), "max_ms")]
        failed = ", ".join(f"{code} {count}" for code, count in one["errors"].items())
        entries = ", ".join(f"{code} {count}" for code, count in one["entry_errors"].items())
        rates = [_shown(one["intended_per_s"]), _shown(one["answered_per_s"])]
        both = "; ".join(filter(None, (failed, f"entries: {entries}" if entries else "")))
        table.add_row(kind, *rates, *latencies, both or "0")
    console = Console()
    console.print(table)
    for note in notes:
        console.print(note)
    console.print(f"sent late, p99: {_shown(found.late.percentile_ms(99))} ms (counted in)")
    for line in _verdict_lines(found.verdict):
        console.print(line, markup=False)


def _verdict_lines(verdict: Verdict) -> list[str]:
    checked = ", ".join(f"{kind} {count}" for kind, count in verdict.checked.items()) or "none"
    lines = [f"answers checked: {checked}"]
    if verdict.scores_compared or verdict.scores_skipped:
        skipped = f"{verdict.scores_skipped} could not be compared"
        lines.append(f"scores made again: {verdict.scores_compared} ({skipped})")
    if verdict.unreadable:
        lines.append(f"not checked, as the server did not answer the oracle: {verdict.unreadable}")
    lines.append(f"wrong: {len(verdict.problems)}")
    return lines + [f"  {problem}" for problem in verdict.problems[:_SHOWN_PROBLEMS]]


def _summary(tally: Tally, seconds: float) -> dict[str, Any]:
    whole = Histogram.merged(tally.intervals)
    return {
        "calls": whole.total,
        "intended_per_s": whole.total / seconds,
        "answered_per_s": whole.answered / max(seconds, tally.ended_s),
        **_latencies(whole),
        "errors": dict(sorted(tally.errors.items())),
        "entry_errors": dict(sorted(tally.entry_errors.items())),
    }


def _latencies(histogram: Histogram) -> dict[str, Any]:
    found: dict[str, Any] = {_name(p): histogram.percentile_ms(p) for p in PERCENTILES}
    # Of the answered: where calls have failed, the percentiles say so.
    answered = histogram.answered
    found["mean_ms"] = histogram.sum_us / 1e3 / answered if answered else math.nan
    found["max_ms"] = histogram.max_us / 1e3 if answered else math.nan
    return found | {"failed": histogram.failed}


def _empty(intervals: int) -> Tally:
    return Tally([Histogram() for _ in range(intervals)], Counter(), Counter())


def _name(percent: float) -> str:
    return f"p{percent:g}_ms"


def _shown(value: float) -> str:
    if math.isinf(value):
        return "failed"
    if math.isnan(value):
        return "-"
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
