"""What ``encoder.py`` measured, and the ratios that it comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from encoder_roster import DEFAULT, F32, GRPC, INT8, OURS, PRECISIONS, RAW, ROSTER

CALL = 64
"""Texts of a call where ours over gRPC is compared with ours in process."""

Series = tuple[Sequence[float], Sequence[float]]

VERSUS = ("vs_sentence_transformers", "vs_best_peer", "vs_raw_openvino", "grpc_vs_in_process")

_TARGETS = {
    "encoder.mixed.vs_sentence_transformers": 5.0,
    "encoder.mixed.bf16.vs_sentence_transformers": 3.0,
    "encoder.mixed.vs_best_peer": 1.2,
    "encoder.mixed.f32.vs_best_peer": 1.2,
    "encoder.mixed.bf16.vs_best_peer": 1.2,
    "encoder.mixed.vs_raw_openvino": 0.95,
    "encoder.mixed.f32.vs_raw_openvino": 0.95,
    "encoder.mixed.bf16.vs_raw_openvino": 0.95,
    "encoder.mixed.grpc_vs_in_process": 0.9,
    "encoder.bulk_kept": 0.7,
    "encoder.titles.cosine_min": 0.97,
    "encoder.titles.cosine_mean": 0.985,
    "encoder.titles.bf16.cosine_min": 0.999,
    "encoder.titles.top_10_overlap": 0.9,
    "encoder.titles.ndcg_change_low": -0.05,
}
_LIMITS = {
    "encoder.mixed.tokenisation_share": 0.1,
    "encoder.interactive_under_bulk_p99_ms": 40.0,
}


@dataclass(frozen=True, slots=True)
class Pace:
    """One turn: all texts of a mix.

    Attributes:
        tokens_per_s: real ones, without padding.
        texts_per_s: likewise.
    """

    tokens_per_s: float
    texts_per_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """All turns.

    Attributes:
        paces: by mix and name, one a round.
        calls: the same of those asked ``CALL`` texts a call.
        singles: by name, milliseconds of calls of one text, of all rounds.
        shares: by mix and name, tokenisation's part of the time, one a round.
        memory: by name, MiB.
        missing: by name, why somebody was not asked who should have been.
        left_out: by name, why somebody does not take part.
    """

    paces: dict[tuple[str, str], list[Pace]] = field(default_factory=dict)
    calls: dict[tuple[str, str], list[Pace]] = field(default_factory=dict)
    singles: dict[str, list[float]] = field(default_factory=dict)
    shares: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    memory: dict[str, Mapping[str, float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def mixes(self) -> list[str]:
        """That were measured."""
        return list(dict.fromkeys(mix for mix, _ in self.paces))

    def median(self, mix: str, name: str) -> float:
        """Tokens a second."""
        return float(np.median(_tokens(self.paces[mix, name])))

    def best_peer(self, mix: str, precision: str) -> str:
        """The fastest peer of a precision; "": some were not asked, or there is none."""
        names = peers_of(precision)
        if not names or not all((mix, name) in self.paces for name in names):
            return ""
        return max(names, key=lambda name: self.median(mix, name))

    def ratios(self) -> dict[str, Series]:
        """By key: what is divided by what, one a round."""
        found: dict[str, Series] = {}
        for mix in self.mixes:
            for precision in PRECISIONS:
                for versus, series in self._of(mix, precision).items():
                    if series is not None:
                        found[key_of(mix, precision, versus)] = series
        return found

    def problems(self) -> dict[str, str]:
        """By key of the ratios that there are not: why, where that is a fault."""
        return {key: why for key, why, fault in self._absences() if fault}

    def omissions(self) -> dict[str, str]:
        """By key of the ratios that there are not: why, where that was known before."""
        return {key: why for key, why, fault in self._absences() if not fault}

    def latencies(self) -> dict[str, dict[str, float]]:
        """By name, of one text alone."""
        return {
            name: {f"p{part}_ms": float(np.percentile(times, part)) for part in (50, 99)}
            for name, times in self.singles.items()
        }

    def _of(self, mix: str, precision: str) -> dict[str, Series | None]:
        ours, paces = self.paces.get((mix, f"{OURS} {precision}")), self.paces
        best = self.best_peer(mix, precision)
        over = self.calls.get((mix, f"{GRPC} {precision}"))
        by_call = self.calls.get((mix, f"{OURS} {precision}"))
        return {
            "vs_sentence_transformers": _series(ours, paces.get((mix, f"{DEFAULT} {F32}"))),
            "vs_best_peer": _series(ours, paces.get((mix, best))),
            "vs_raw_openvino": _series(ours, paces.get((mix, f"{RAW} {precision}"))),
            "grpc_vs_in_process": _series(over, by_call),
        }

    def _absences(self) -> list[tuple[str, str, bool]]:
        found = []
        for mix in self.mixes:
            for precision in PRECISIONS:
                for versus, series in self._of(mix, precision).items():
                    if series is None:
                        why, fault = self._reason(precision, versus)
                        found.append((key_of(mix, precision, versus), why, fault))
        return found

    def _reason(self, precision: str, versus: str) -> tuple[str, bool]:
        """Why, and whether it is a fault."""
        needed = {
            "vs_sentence_transformers": [f"{DEFAULT} {F32}"],
            "vs_best_peer": peers_of(precision),
            "vs_raw_openvino": [f"{RAW} {precision}"],
            "grpc_vs_in_process": [f"{GRPC} {precision}"],
        }[versus]
        names = [f"{OURS} {precision}", *needed]
        left_out = [self.left_out[name] for name in names if name in self.left_out]
        if left_out:
            return left_out[0], False
        missing = [f"{name}: {self.missing[name]}" for name in names if name in self.missing]
        return "; ".join(missing) or "not all that it needs was measured", True


def key_of(mix: str, precision: str, what: str) -> str:
    """int8, which the targets are stated for, goes without saying."""
    return f"encoder.{mix}.{what}" if precision == INT8 else f"encoder.{mix}.{precision}.{what}"


def peers_of(precision: str) -> list[str]:
    """Names of all that ours is compared with at this precision."""
    return [entry.name for entry in ROSTER if entry.is_peer and entry.precision == precision]


def verdicts(ratios: Mapping[str, float]) -> dict[str, tuple[float, bool]]:
    """By key of those with a target: it, and whether it was met."""
    found = {key: (t, ratios[key] >= t) for key, t in _TARGETS.items() if key in ratios}
    return found | {key: (t, ratios[key] <= t) for key, t in _LIMITS.items() if key in ratios}


def _series(ours: list[Pace] | None, theirs: list[Pace] | None) -> Series | None:
    return None if ours is None or theirs is None else (_tokens(ours), _tokens(theirs))


def _tokens(paces: Sequence[Pace]) -> list[Any]:
    return [pace.tokens_per_s for pace in paces]
