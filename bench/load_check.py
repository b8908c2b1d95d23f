"""Checks answers while the load runs, as the sending processes leave them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

import grpc
from answer_oracle import AnswerOracle, Rows, rankings_in
from google.protobuf.message import DecodeError
from load_plan import Plan
from message_file import read_new
from score_oracle import Rules, ScoreOracle

_PARTS = 3
_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the oracles say.

    Attributes:
        checked: answers by kind.
        problems: the first of what is wrong; empty: nothing.
        scores_compared: rankings whose parts were made again.
        scores_skipped: rankings that changed too soon, or are made of more than items.
        unreadable: answers that could not be compared, as the server did not answer the oracle.
    """

    checked: dict[str, int]
    problems: list[str]
    scores_compared: int
    scores_skipped: int
    unreadable: int


class Checker:
    """Reads the samples of several processes.

    Args:
        channel: for the oracles' own reads.
        shares: the processes.
        rules: how the server scores; None: parts are not made again.
    """

    def __init__(
        self, channel: grpc.Channel, shares: Sequence[Plan], rules: Rules | None = None
    ) -> None:
        self._open = ExitStack()
        for share in shares:
            share.samples.touch()
        self._files = [self._open.enter_context(share.samples.open("rb")) for share in shares]
        self._unread: list[list[bytes]] = [[] for _ in shares]
        self._answers = AnswerOracle(Rows(channel))
        self._scores = ScoreOracle(channel, rules) if rules else None
        self._checked: Counter[str] = Counter()
        self._problems: list[str] = []
        self._unreadable = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def check_new(self, at_least_s: float) -> None:
        """Checks what has come, and returns no sooner than after so many seconds."""
        until = time.monotonic() + at_least_s
        for file, unread in zip(self._files, self._unread, strict=True):
            unread += read_new(file)
            while len(unread) >= _PARTS:
                kind, request, answer = unread[:_PARTS]
                del unread[:_PARTS]
                self.check(kind.decode(), request, answer)
        time.sleep(max(0.0, until - time.monotonic()))

    def check(self, kind: str, request: bytes, answer: bytes) -> None:
        """Checks one answer."""
        self._checked[kind] += 1
        try:
            found = self._answers.problems(kind, request, answer)
            if self._scores is not None:
                # One of a batch: the oracle reads hundreds of items for each.
                for asked, given in list(rankings_in(kind, request, answer))[:1]:
                    found += self._scores.problems(asked, given)
        except grpc.RpcError:
            self._unreadable += 1
            return
        except DecodeError as error:
            found = [f"the answer cannot be read: {error}"]
        room = _PROBLEMS - len(self._problems)
        self._problems += [f"{kind} {problem}" for problem in found[:room]]

    def verdict(self) -> Verdict:
        """So far."""
        scores = self._scores
        return Verdict(
            dict(self._checked),
            list(self._problems),
            scores.compared if scores else 0,
            scores.skipped if scores else 0,
            self._unreadable,
        )
