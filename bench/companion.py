"""A process beside the benchmark: told what to do as JSON, says when it is ready, begins on a word.

What generates load runs in processes of its own, so that it neither waits for the benchmark nor
shares an interpreter with it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class Waiting(Protocol):
    """Whatever begins on a word."""

    def wait_ready(self) -> None:
        """Returns when it can begin at once."""

    def begin(self) -> None:
        """Gives the word."""


def begin_together(*waiting: Waiting) -> None:
    """Lets all of them begin as soon as each is ready."""
    for one in waiting:
        one.wait_ready()
    for one in waiting:
        one.begin()


class CompanionFailed(Exception):
    """A generator ended before its time; its own output says why."""


@dataclass(frozen=True, slots=True)
class Companion:
    """The parent's side."""

    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, script: str, spec: Mapping[str, Any]) -> Companion:
        """Starts a script of this folder."""
        command = [sys.executable, str(Path(__file__).with_name(script)), json.dumps(spec)]
        return cls(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))

    def wait_ready(self) -> None:
        """Returns when it can begin at once.

        Raises:
            CompanionFailed: it ended.
        """
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"ready\n":
            msg = f"a generator ended with status {self.process.wait()} before it was ready"
            raise CompanionFailed(msg)

    def begin(self) -> None:
        """Gives the word."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """Waits for the end; what the script found.

        Raises:
            CompanionFailed: it failed.
        """
        said, _ = self.process.communicate()
        if self.process.returncode:
            msg = f"a generator ended with status {self.process.returncode}"
            raise CompanionFailed(msg)
        found: dict[str, Any] = json.loads(said)
        return found

    def stop(self) -> None:
        """Ends it, if it has not ended."""
        with self.process:
            self.process.kill()


def read_spec() -> dict[str, Any]:
    """The child's side: what to do."""
    spec: dict[str, Any] = json.loads(sys.argv[1])
    return spec


def await_word() -> None:
    """The child's side: ready; returns on the word."""
    print("ready", flush=True)
    sys.stdin.readline()


def report(found: Mapping[str, Any]) -> None:
    """The child's side: what was found."""
    print(json.dumps(found), flush=True)
