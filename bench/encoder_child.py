"""The process of one contender of ``encoder.py``: loads, warms up, and answers until input ends.

``python encoder_child.py SPEC``, the spec as JSON (``encoder_peers.Spec``). One line of JSON a
question and an answer; what libraries print goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from encoder_peers import Method, Spec, versions

_WARM_UP_TEXTS = 64
_UNTIMED_TEXTS = 16


def make(spec: Spec) -> Method:
    """The method of a spec; what it needs is imported only now.

    Raises:
        Exception: whatever the library raises.
    """
    for module in ("encoder_peers", "encoder_alone", "encoder_ours"):
        kinds = importlib.import_module(module).KINDS
        if spec.kind in kinds:
            method: Method = kinds[spec.kind](spec)
            return method
    msg = f"kind {spec.kind!r} is not known"
    raise ValueError(msg)


def answer(method: Method, question: dict[str, Any]) -> dict[str, Any]:
    """What is asked: ``encode``, ``singles``, ``tokenise``, ``vectors`` or ``memory``."""
    asked = question["op"]
    if asked == "memory":
        return memory(method)
    texts: list[str] = json.loads(Path(question["texts"]).read_text())
    if asked == "vectors":
        vectors = in_calls(method, texts, question["call"])
        np.save(question["to"], vectors.astype(np.float32))
        return {}
    if asked == "singles":
        return singles(method, texts, question["count"])
    if asked == "tokenise":
        return {"seconds": method.tokenise_seconds(texts)}  # type: ignore[attr-defined]
    return rate(method, texts, question["call"], question["seconds"])


def rate(method: Method, texts: list[str], call: int, seconds: float) -> dict[str, Any]:
    """Encodes all texts again and again.

    Args:
        method: what is asked.
        texts: all of them are encoded in each pass.
        call: texts of one call; 0: all.
        seconds: at least, of passes; there is always one.
    """
    parts = [method.prepare(part) for part in _calls(texts, call)]
    # The turn before was another's: caches and sleeping threads are this one's again.
    method.encode(method.prepare(texts[:_UNTIMED_TEXTS]))
    passes, spent = 0, 0.0
    while passes == 0 or spent < seconds:
        started = time.perf_counter()
        _encode_parts(method, parts)
        spent += time.perf_counter() - started
        passes += 1
    return {"seconds": spent / passes, "passes": passes}


def _encode_parts(method: Method, parts: list[Any]) -> None:
    many = getattr(method, "encode_calls", None)
    if many is not None:
        many(parts)
        return
    for part in parts:
        method.encode(part)


def in_calls(method: Method, texts: list[str], call: int) -> Any:
    """The vectors of all texts ``[B, D]``, so many a call."""
    parts = [method.encode(method.prepare(part)) for part in _calls(texts, call)]
    return np.concatenate(parts)


def singles(method: Method, texts: list[str], count: int) -> dict[str, Any]:
    """One text a call, one after the other.

    Args:
        method: what is asked.
        texts: evenly taken from the first to the last.
        count: calls.
    """
    chosen = [texts[place] for place in np.linspace(0, len(texts) - 1, count).astype(int).tolist()]
    parts = [method.prepare([text]) for text in chosen]
    method.encode(parts[0])
    times = []
    for part in parts:
        started = time.perf_counter()
        method.encode(part)
        times.append(round(1e3 * (time.perf_counter() - started), 4))
    return {"ms": times}


def memory(method: Method) -> dict[str, Any]:
    """Of this process and what it serves with: the most it ever held, and its share now, MiB."""
    pids = getattr(method, "pids", lambda: [os.getpid()])()
    peak = sum(_kib(f"/proc/{pid}/status", "VmHWM:") for pid in pids)
    share = sum(_kib(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in pids)
    return {"peak_rss_mib": round(peak / 1024, 1), "pss_mib": round(share / 1024, 1)}


def _kib(path: str, name: str) -> int:
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def _calls(texts: list[str], call: int) -> list[list[str]]:
    size = call or len(texts)
    return [texts[at : at + size] for at in range(0, len(texts), size)]


def main() -> int:
    """Says what it is, or why it is missing; then answers."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    spec = Spec(**json.loads(sys.argv[1]))
    # On a larger machine, too, nobody has more than so many processors to itself.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: spec.threads])
    try:
        method = make(spec)
        texts = json.loads(Path(spec.texts).read_text())
        method.encode(method.prepare(texts[:_WARM_UP_TEXTS]))
        about = {"settings": method.settings, "versions": versions(method.libraries)}
    except Exception as error:  # whatever a library raises, the others are still measured
        traceback.print_exc()
        _say(out, missing=f"{type(error).__name__}: {error}"[:500])
        # At once: a library that failed to load may have threads that never end.
        os._exit(1)
    _say(out, **about)
    try:
        for line in sys.stdin:
            _say(out, **answer(method, json.loads(line)))
    finally:
        method.close()
    return 0


def _say(out: TextIO, **said: Any) -> None:
    print(json.dumps(said), file=out, flush=True)


if __name__ == "__main__":
    sys.exit(main())
