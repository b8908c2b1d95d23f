"""What each sending process of ``load.py`` is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from schedule import Schedule, draw_schedule


@dataclass(frozen=True, slots=True)
class Plan:
    """What one process does.

    Attributes:
        target: host:port of the server.
        mix: proportion of calls by kind.
        rate: calls a second, of all processes.
        seconds: how long, without the warm-up.
        warm_up_s: how long before anything counts.
        poisson: whether times are random; else even.
        connections: of each unary kind.
        timeout_s: when a call is given up.
        max_in_flight: calls under way at most.
        samples_per_s: answers for the oracle.
        intervals: into how many the time is divided.
        seed: of times and kinds.
        process: which process.
        processes: how many there are.
        folder: where requests are found and results left.
    """

    target: str
    mix: Mapping[str, float]
    rate: float
    seconds: float
    warm_up_s: float
    poisson: bool
    connections: int
    timeout_s: float
    max_in_flight: int
    samples_per_s: float
    intervals: int
    seed: int
    process: int
    processes: int
    folder: str

    @property
    def schedule(self) -> Schedule:
        """When this process sends what."""
        return draw_schedule(
            self.rate,
            self.warm_up_s + self.seconds,
            self.mix,
            poisson=self.poisson,
            seed=self.seed,
            process=self.process,
            processes=self.processes,
        )

    def requests_of(self, kind: str) -> Path:
        """The file of a kind's requests, which are sent in turn."""
        return Path(self.folder) / f"requests-{kind}"

    @property
    def samples(self) -> Path:
        """The file of kind, request and answer, again and again."""
        return Path(self.folder) / f"samples-{self.process}"

    @property
    def result(self) -> Path:
        """The file of what was counted, as JSON."""
        return Path(self.folder) / f"result-{self.process}.json"
