"""Runs decoders over drawn messages, and makes what is found small and repeatable."""

from __future__ import annotations

import faulthandler
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from fuzz_decoders import Decoder

BATCH = 500
HANG_S = 60.0
_MOST = 20
_TRIES = 2_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One batch of messages that a decoder did not read as it should, made small.

    Attributes:
        decoder: its name.
        seed: of the run.
        batch: which of the decoder's.
        error: what came instead of a value or a documented error.
        messages: the few that suffice, in hexadecimal.
    """

    decoder: str
    seed: int
    batch: int
    error: str
    messages: list[str]


def fuzz_batch(decoder: Decoder, seed: int, batch: int, count: int = BATCH) -> Finding | None:
    """Draws a batch and reads it; a batch that hangs ends the process with every stack.

    Args:
        decoder: under test.
        seed: with the decoder's name and ``batch`` it decides every message.
        batch: its number.
        count: how many messages.
    """
    draw = Random(f"{seed}/{decoder.name}/{batch}")
    messages = [decoder.make(draw) for _ in range(count)]
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    try:
        error = _failure(decoder, messages)
        if error is None:
            return None
        small = smallest(messages, lambda few: _failure(decoder, few) is not None)
        error = _failure(decoder, small) or error
    finally:
        faulthandler.cancel_dump_traceback_later()
    return Finding(decoder.name, seed, batch, error, [message.hex() for message in small])


def smallest(messages: Sequence[bytes], fails: Callable[[Sequence[bytes]], bool]) -> list[bytes]:
    """The fewest and shortest messages that still fail, by leaving out what can be left out."""
    left = list(messages)
    for message in messages:
        if fails([message]):
            left = [message]
            break
    tries = 0
    for which in range(len(left)):
        width = max(1, len(left[which]) // 2)
        while width and tries < _TRIES:
            at = 0
            while at < len(left[which]) and tries < _TRIES:
                shorter = left[which][:at] + left[which][at + width :]
                tries += 1
                if fails([*left[:which], shorter, *left[which + 1 :]]):
                    left[which] = shorter
                else:
                    at += width
            width //= 2
    return left


def write_findings(findings: Sequence[Finding], out: Path) -> None:
    """Writes them as JSON, at most a few of each decoder."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps([asdict(found) for found in findings[:_MOST]], indent=1) + "\n")


def _failure(decoder: Decoder, messages: Sequence[bytes]) -> str | None:
    try:
        decoder.read(messages)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        return f"{type(error).__name__}: {error}"[:500]
    return None
