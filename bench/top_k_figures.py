"""What ``top_k.py`` found, and the ratios that it comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

import numpy as np
from report import REPEATS
from top_k_contender import READ, VNNI
from top_k_peers import FLAT, OURS, PEERS

LIMIT_OF = {1: READ, 64: VNNI}
"""Which limit a batch is held against."""

Series = tuple[Sequence[float], Sequence[float]]

_TARGETS = {
    "top_k.b1.vs_faiss_flat": 6.0,
    "top_k.b8.vs_faiss_flat": 12.0,
    "top_k.b64.vs_faiss_flat": 25.0,
    "top_k.b1.vs_best_peer": 1.5,
    "top_k.b8.vs_best_peer": 2.5,
    "top_k.b64.vs_best_peer": 3.0,
    "top_k.b1.of_read_bandwidth": 0.8,
    "top_k.b64.of_vnni_peak": 0.5,
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One method asked batches of one size for a while.

    Attributes:
        p50_ms: the median of its calls.
        ours_ms: that of ours, asked just before.
        calls: how many.
        recall: share of the right rows.
        queries: of all calls.
        widened: queries that codes were too coarse for.
    """

    p50_ms: float
    ours_ms: float
    calls: int
    recall: float
    queries: int
    widened: int

    @classmethod
    def of(cls, found: Mapping[str, Any], ours: Mapping[str, Any]) -> Turn:
        """From what ``Contender.time`` found."""
        names = ("p50_ms", "calls", "recall", "queries", "widened")
        return cls(ours_ms=ours["p50_ms"], **{name: found[name] for name in names})

    def as_json(self) -> dict[str, Any]:
        """As it is noted."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Reached:
    """What the machine could do at most, and how long ours took just before.

    Attributes:
        limit_per_s: bytes or operations a second; NaN: it has not what is measured.
        ours_ms: a batch.
    """

    limit_per_s: float
    ours_ms: float

    def as_json(self) -> dict[str, Any]:
        """As it is noted."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Figures:
    """All turns.

    Attributes:
        elements: N D.
        one_bytes: of our codes, what one query reads.
        turns: by batch and method, round after round; of ours there are several a round.
        limits: READ and VNNI, one a round.
        missing: by method, why it was not asked.
    """

    elements: int
    one_bytes: int
    turns: dict[tuple[int, str], list[Turn]] = field(default_factory=dict)
    limits: dict[str, list[Reached]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, batch: int, name: str, turn: Turn) -> Turn:
        """Notes one; returns it."""
        self.turns.setdefault((batch, name), []).append(turn)
        return turn

    @property
    def batches(self) -> list[int]:
        """Queries of a call."""
        return sorted({batch for batch, _ in self.turns})

    def ms(self, batch: int, name: str) -> list[float]:
        """One a turn."""
        return [turn.p50_ms for turn in self.turns[batch, name]]

    def best_peers(self) -> dict[str, str]:
        """By batch, as "b8", the fastest peer but faiss flat; empty unless all of them were asked.

        Not all are asked where some are missing, too.
        """
        others = [name for name in PEERS if name != FLAT]
        asked = {name for _, name in self.turns}
        if not asked.issuperset(others):
            return {}
        return {
            f"b{batch}": min(others, key=lambda name: float(np.median(self.ms(batch, name))))
            for batch in self.batches
        }

    def ratios(self) -> dict[str, Series]:
        """By key: what is divided by what, one a round."""
        found: dict[str, Series] = {}
        for batch in self.batches:
            if (batch, FLAT) in self.turns:
                found[f"top_k.b{batch}.vs_faiss_flat"] = self._against(batch, FLAT)
        best = self.best_peers()
        for batch in self.batches if best else ():
            found[f"top_k.b{batch}.vs_best_peer"] = self._against(batch, best[f"b{batch}"])
        if READ in self.limits:
            found["top_k.b1.of_read_bandwidth"] = self._of_limit(READ, self.one_bytes)
        if self._has_vnni():
            found["top_k.b64.of_vnni_peak"] = self._of_limit(VNNI, 2 * 64 * self.elements)
        found["top_k.widened"] = self._counts("widened"), self._counts("queries")
        return found

    def problems(self) -> dict[str, str]:
        """By key: why there is none."""
        found = {}
        if FLAT in self.missing:
            found["top_k.vs_faiss_flat"] = self.missing[FLAT]
        others = [text for name, text in self.missing.items() if name in PEERS and name != FLAT]
        if others:
            found["top_k.vs_best_peer"] = "; ".join(others)
        if VNNI in self.limits and not self._has_vnni():
            found["top_k.b64.of_vnni_peak"] = "this processor has no 512-bit VNNI"
        return found

    def targets(self) -> dict[str, float]:
        """Of the ratios that were found."""
        return {key: target for key, target in _TARGETS.items() if key in self.ratios()}

    def _against(self, batch: int, name: str) -> Series:
        """Times, so theirs over ours."""
        turns = self.turns[batch, name]
        return [turn.p50_ms for turn in turns], [turn.ours_ms for turn in turns]

    def _has_vnni(self) -> bool:
        return VNNI in self.limits and isfinite(self.limits[VNNI][0].limit_per_s)

    def _of_limit(self, name: str, amount: float) -> Series:
        """An amount, in the time of ours, and as much as could be."""
        reached = self.limits[name]
        done = [1e3 * amount / one.ours_ms for one in reached]
        return done, [one.limit_per_s for one in reached]

    def _counts(self, what: str) -> list[float]:
        """A sum over our turns of all batches, in each round."""
        turns = [self.turns[batch, OURS] for batch in self.batches]
        counts = [[getattr(turn, what) for turn in of_batch] for of_batch in turns]
        by_round = [np.reshape(one, (REPEATS, -1)).sum(axis=1) for one in counts]
        return [float(one) for one in np.sum(by_round, axis=0)]
