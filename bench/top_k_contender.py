"""One method in a process of its own: both sides of the pipe, one line of JSON a question.

A process has the threads of one library alone, and as many as ours has; the others wait meanwhile.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from top_k_data import Data
from top_k_peers import OUR_WAYS, Answer, Method, make

LIMITS, READ, VNNI = "limits", "read_bytes", "vnni_ops"
_THREADS_OF = ("OMP", "OPENBLAS", "MKL", "NUMBA")
_SCRIPT = Path(__file__).with_name("top_k.py")


class ContenderFailed(Exception):
    """A process ended before its time; its own output says why."""


class WrongAnswer(Exception):
    """One of our ways answers other rows or scores than the scan of the rows themselves."""


@dataclass(frozen=True, slots=True)
class Contender:
    """The parent's side.

    Attributes:
        name: of ``top_k_peers.py``, or ``LIMITS``.
        process: its own.
        pass_bytes: see ``Method``.
        one_bytes: see ``Method``.
        missing: why it cannot be asked anything; empty: it can.
    """

    name: str
    process: subprocess.Popen[str]
    pass_bytes: int = 0
    one_bytes: int = 0
    missing: str = ""

    def time(self, known: Path, **wish: Any) -> dict[str, Any]:
        """What ``timed`` found: the wish has batch, k, seconds and calls.

        Raises:
            WrongAnswer: it is ours, and not what is known.
        """
        found = self._ask(op="time", known=str(known), **wish)
        if self.name in OUR_WAYS and found["different"]:
            asked = f"batches of {wish['batch']}, k {wish['k']}"
            msg = (
                f"{self.name}, {asked}: {found['different']} of {found['calls']} answers are wrong"
            )
            raise WrongAnswer(msg)
        return found

    def write_answer(self, k: int, path: Path) -> None:
        """Answers all queries, for ``time`` to compare with."""
        self._ask(op="answer", k=k, path=str(path))

    def limit(self, name: str) -> float:
        """Of ``LIMITS``: READ or VNNI, a second; not finite where there is no VNNI."""
        found: float = self._ask(name=name)["limit"]
        return found

    def _ask(self, **question: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return self.read()

    def read(self) -> dict[str, Any]:
        """The next line that it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            msg = f"{self.name} ended with status {self.process.wait()}"
            raise ContenderFailed(msg)
        said: dict[str, Any] = json.loads(line)
        return said


@contextmanager
def running(names: Sequence[str], data: Data, threads: int) -> Iterator[dict[str, Contender]]:
    """A process for each name, by name, in that order; each has read the items."""
    with ExitStack() as stack:
        processes = {}
        for name in names:
            processes[name] = stack.enter_context(_start(name, data, threads))
            stack.callback(processes[name].kill)
        yield {
            name: Contender(name, process, **Contender(name, process).read())
            for name, process in processes.items()
        }


def _start(name: str, data: Data, threads: int) -> subprocess.Popen[str]:
    spec = {"name": name, "items": str(data.items), "queries": str(data.queries)}
    command = [sys.executable, str(_SCRIPT), "--peer", json.dumps(spec | {"threads": threads})]
    limited = {f"{library}_NUM_THREADS": str(threads) for library in _THREADS_OF}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=os.environ | limited)


def serve(spec: str) -> None:
    """The child's side: makes the method, and answers until its input ends."""
    told = json.loads(spec)
    if told["name"] == LIMITS:
        _say(pass_bytes=0)
        for line in sys.stdin:
            _say(limit=_limit(json.loads(line)["name"], told["threads"]))
        return
    items, queries = Data(Path(told["items"]), Path(told["queries"])).load()
    try:
        method = make(told["name"], items, told["threads"])
    except (ImportError, ValueError) as error:
        _say(missing=f"{told['name']}: {error}")
        return
    _say(pass_bytes=method.pass_bytes, one_bytes=method.one_bytes)
    for line in sys.stdin:
        question = json.loads(line)
        if question.pop("op") == "answer":
            best = method.answer(queries, question["k"])
            assert best.scores is not None
            np.savez(question["path"], rows=best.rows, scores=best.scores)
            _say()
        else:
            with np.load(question.pop("known")) as file:
                known = Answer(file["rows"], file["scores"])
            _say(**timed(method, queries, known, **question))


def timed(
    method: Method,
    queries: NDArray[np.float32],
    known: Answer,
    batch: int,
    k: int,
    seconds: float,
    calls: int,
) -> dict[str, Any]:
    """Asks a method for batch after batch, and looks at every answer, outside the time taken.

    Args:
        method: what is asked.
        queries: ``[Q, D]``, taken in turns.
        known: the right answer to all of them.
        batch: queries a call, at most Q.
        k: results of each query.
        seconds: how long at least, in calls.
        calls: how many at least.
    """
    places = [slice(at, at + batch) for at in range(0, len(queries) - batch + 1, batch)]
    method.answer(queries[places[-1]], k)
    times: list[float] = []
    recalls, different, widened = [], 0, 0
    for place in itertools.cycle(places):
        started = time.perf_counter()
        best = method.answer(queries[place], k)
        times.append(time.perf_counter() - started)
        recalls.append(_recall(best.rows, known.rows[place]))
        widened += best.widened
        different += best.scores is not None and not _same(best, known, place)
        if len(times) >= calls and sum(times) >= seconds:
            break
    return {
        "p50_ms": 1e3 * float(np.median(times)),
        "calls": len(times),
        "recall": float(np.mean(recalls)),
        "different": int(different),
        "widened": widened,
        "queries": batch * len(times),
    }


def _recall(rows: NDArray[Any], known: NDArray[Any]) -> float:
    shared = (len(np.intersect1d(*pair)) for pair in zip(rows, known, strict=True))
    return sum(shared) / known.size


def _same(best: Answer, known: Answer, place: slice) -> bool:
    """To the last bit."""
    assert best.scores is not None
    assert known.scores is not None
    right_rows = np.array_equal(best.rows, known.rows[place])
    return right_rows and best.scores.tobytes() == known.scores[place].tobytes()


def _limit(name: str, threads: int) -> float:
    from machine_limits import has_vnni, multiply_adds_a_second, read_bytes_a_second

    from rankstream.kernels import configure_threads

    configure_threads(threads)
    if name == READ:
        return read_bytes_a_second(threads)
    return 2 * multiply_adds_a_second(threads) if has_vnni() else math.nan


def _say(**said: Any) -> None:
    print(json.dumps(said), flush=True)
