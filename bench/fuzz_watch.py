"""What processes hold, and whether it grows while they are fuzzed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MOST_MIB = 64.0
"""How much private memory a process may gain from a fifth of the run on: caches that fill, MiB."""

MOST_FILES = 16
"""How many file descriptors it may gain meanwhile: files that a growing state adds."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What one process holds: memory of its own (RssAnon), all that is resident, open files."""

    private_mib: float
    resident_mib: float
    files: int


def weigh(pid: int | str) -> Weight:
    """Reads it of a process of this machine."""
    here = Path(f"/proc/{pid}")
    lines = (line.split() for line in (here / "status").read_text().splitlines())
    sizes = {line[0]: int(line[1]) / 1024 for line in lines if line[0] in ("VmRSS:", "RssAnon:")}
    files = sum(1 for _ in (here / "fd").iterdir())
    return Weight(round(sizes["RssAnon:"], 1), round(sizes["VmRSS:"], 1), files)


@dataclass(slots=True)
class Growth:
    """Weights of processes in the course of a run.

    Attributes:
        seen: (messages sent, weight by process name), in order.
    """

    seen: list[tuple[int, Mapping[str, Weight]]] = field(default_factory=list)

    def add(self, sent: int, weights: Mapping[str, Weight]) -> None:
        """Notes what the processes hold after so many messages."""
        self.seen.append((sent, weights))

    def since(self, part: float, total: int) -> dict[str, dict[str, float]]:
        """What each process gained from that part of the run to its end.

        The greatest weight of the last tenth against the first from ``part`` on.
        """
        first = next((w for sent, w in self.seen if sent >= part * total), None)
        if first is None:
            return {}
        last = [w for sent, w in self.seen if sent >= 0.9 * total] or [self.seen[-1][1]]
        gained = {}
        for name, before in first.items():
            after = [w[name] for w in last if name in w]
            gained[name] = {
                "private_mib": max(w.private_mib for w in after),
                "private_mib_gained": round(
                    max(w.private_mib for w in after) - before.private_mib, 1
                ),
                "resident_mib_gained": round(
                    max(w.resident_mib for w in after) - before.resident_mib, 1
                ),
                "files": max(w.files for w in after),
                "files_gained": max(w.files for w in after) - before.files,
            }
        return gained
