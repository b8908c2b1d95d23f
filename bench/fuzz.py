"""Bad input by the hundred thousand: decoders in this process, RPCs of a live server.

    python bench/fuzz.py [--decoders N] [--server N] [--seed S] [--out FILE] [--findings FILE]

- ``--decoders``: mutations of valid messages, by field and by byte, and any bytes, through every
  decoder (``fuzz_decoders.py``). Each may answer with a value or a documented error; the kernels
  and the plain readers must agree.
- ``--server``: likewise over gRPC, to every RPC of a server that it starts (with the embedded
  broker) or of ``--target``; every answer has a typed status, a known-good request stays right, the
  processes stay the same, and their memory and file descriptors do not grow (``fuzz_server.py``).

A run is repeatable: ``--seed`` and the number of a batch or a call decide each message. What is
found goes to ``--findings``, made small; the exit status is then 1. ``--only NAME``: one decoder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from environment import environment
from fuzz_decoders import DECODERS, Decoder
from fuzz_findings import BATCH, Finding, fuzz_batch, write_findings
from fuzz_server import fuzz_server, running_target
from fuzz_watch import Growth, weigh
from rich.progress import Progress

_DEFAULT_SEED = 20_261_122


def fuzz_decoders(
    decoders: Sequence[Decoder], count: int, seed: int, progress: Progress
) -> tuple[dict[str, Any], list[Finding]]:
    """Reads ``count`` messages or a few more, by each decoder its share; what was found."""
    bar = progress.add_task("decoders", total=count)
    shares, findings = sum(d.share for d in decoders), []
    sent: dict[str, int] = {}
    growth, started = Growth(), time.perf_counter()
    for decoder in decoders:
        batches = -(-count * decoder.share // (shares * BATCH))
        for batch in range(batches):
            found = fuzz_batch(decoder, seed, batch)
            if found is not None:
                findings.append(found)
            progress.advance(bar, BATCH)
            growth.add(sum(sent.values()) + batch * BATCH, {"decoders": weigh("self")})
        sent[decoder.name] = batches * BATCH
    seconds = time.perf_counter() - started
    total = sum(sent.values())
    result = {
        "messages": total,
        "messages_per_s": round(total / seconds),
        "findings": len(findings),
        "by_decoder": sent,
        "growth": growth.since(0.2, total),
    }
    return result, findings


def main() -> int:
    """Runs it; the exit status is 1 where anything was found."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"seed {arguments.seed}", flush=True)
    chosen = [d for d in DECODERS if arguments.only in ("", d.name)]
    results: dict[str, Any] = {}
    findings: list[Any] = []
    found_in = environment(arguments.cache, arguments.seed, [])
    with Progress(disable=not sys.stderr.isatty()) as progress:
        if arguments.decoders:
            found, wrong = fuzz_decoders(chosen, arguments.decoders, arguments.seed, progress)
            results["decoders"] = found
            findings += wrong
            _show("decoders", found)
        if arguments.server:
            with running_target(arguments.target, arguments.cache) as target:
                report = asyncio.run(
                    fuzz_server(target, arguments.server, arguments.seed, progress)
                )
            results["server"] = report.as_json()
            findings += report.findings
            _show("server", results["server"])
    if findings:
        write_findings(findings, arguments.findings)
        print(f"{len(findings)} findings: see {arguments.findings}", flush=True)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        whole = {"environment": found_in, "results": results}
        arguments.out.write_text(json.dumps(whole, indent=1) + "\n")
    if arguments.json:
        print(json.dumps({"results": results, "findings": [asdict(f) for f in findings]}))
    return 1 if findings else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--decoders", type=int, default=1_000_000, help="messages; default: a million"
    )
    parser.add_argument(
        "--server", type=int, default=100_000, help="messages; default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=_DEFAULT_SEED, help="default: %(default)s")
    parser.add_argument("--only", default="", help="name of one decoder; default: all")
    parser.add_argument("--target", default="", help="HOST:PORT of a server; default: its own")
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="default: %(default)s")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings.json"))
    parser.add_argument("--json", action="store_true", help="print the result as JSON too")
    parser.add_argument("--out", type=Path, help="write the result there, as JSON")
    return parser.parse_args()


def _show(what: str, found: Mapping[str, Any]) -> None:
    for name, value in found.items():
        print(f"{what} {name}: {value}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
