"""The parent's side of one contender of ``encoder.py``: its process, asked over a pipe."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoder_roster import Entry, Places

_SCRIPT = Path(__file__).with_name("encoder_child.py")
_THREADS_OF = ("OMP", "OPENBLAS", "MKL")
_END_S = 30.0
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
"""Nobody may look for a model in the network, or tell anybody that it was used."""


class ContenderFailed(Exception):
    """A process ended before its time; its log says why."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One that has loaded, or cannot.

    Attributes:
        name: peer and precision.
        process: its own.
        settings: what was chosen for it.
        versions: of its libraries.
        missing: why it cannot be asked anything; empty: it can.
    """

    name: str
    process: subprocess.Popen[str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""

    def rate(self, texts: Path, *, call: int = 0, seconds: float) -> dict[str, Any]:
        """Seconds of a pass over all texts; see ``encoder_child.rate``."""
        return self.ask(op="rate", texts=str(texts), call=call, seconds=seconds)

    def singles(self, texts: Path, count: int) -> list[float]:
        """Milliseconds of calls of one text."""
        found: list[float] = self.ask(op="singles", texts=str(texts), count=count)["ms"]
        return found

    def tokenise_seconds(self, texts: Path) -> float:
        """Of ours, of all texts."""
        found: float = self.ask(op="tokenise", texts=str(texts))["seconds"]
        return found

    def write_vectors(self, texts: Path, to: Path, *, call: int) -> None:
        """Float32 ``[B, D]``, as ``.npy``."""
        self.ask(op="vectors", texts=str(texts), call=call, to=str(to))

    def memory(self) -> dict[str, float]:
        """See ``encoder_child.memory``."""
        return self.ask(op="memory")

    def ask(self, **question: Any) -> dict[str, Any]:
        """One question, one answer."""
        assert self.process.stdin is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return read_line(self.name, self.process)


def read_line(name: str, process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line that a process says.

    Raises:
        ContenderFailed: it ended.
    """
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        msg = f"{name} ended with status {process.wait()}; see its log in the cache folder"
        raise ContenderFailed(msg)
    said: dict[str, Any] = json.loads(line)
    return said


def without_folders(text: str) -> str:
    """Paths cut down to their names: where things lie says nothing to a reader."""
    return re.sub(r"(?:/[^\s/:'\"]+)+/", "", text)


@contextmanager
def running(
    entries: Sequence[Entry], places: Places, threads: int, texts: Path
) -> Iterator[dict[str, Contender]]:
    """A process for each entry, by name. One loads after the other, so that none disturbs another.

    Args:
        entries: whom to start.
        places: of environments and models.
        threads: each computes with.
        texts: a JSON list to warm up with.
    """
    places.logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        started = {}
        for entry in entries:
            process = _start(entry, places, threads, texts)
            stack.callback(_end, process)
            try:
                said = read_line(entry.name, process)
            except ContenderFailed as error:
                said = {"missing": str(error)}
            if "missing" in said:
                said["missing"] = without_folders(said["missing"])
            started[entry.name] = Contender(entry.name, process, **said)
        yield started


def _start(entry: Entry, places: Places, threads: int, texts: Path) -> subprocess.Popen[str]:
    spec = {
        "kind": entry.kind,
        "precision": entry.precision,
        "model": str(places.export(entry.model)),
        "threads": threads,
        "cache": str(places.own),
        "file": entry.file,
        "texts": str(texts),
    }
    python = str(places.python(entry.family)) if entry.family else sys.executable
    limited = {f"{library}_NUM_THREADS": str(threads) for library in _THREADS_OF}
    if entry.family:
        # A peer's environment is its own: nothing of this one's packages.
        limited["PYTHONPATH"] = ""
    log = (places.logs / f"{entry.name.replace(' ', '_')}.log").open("w")
    with log:
        return subprocess.Popen(
            [python, str(_SCRIPT), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | OFFLINE | limited,
            start_new_session=True,
        )


def _end(process: subprocess.Popen[str]) -> None:
    """Its input ends, so it ends what it started; if not, all of it is killed."""
    with process:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
