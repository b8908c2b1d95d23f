"""A child process as its supervisor sees it: started, listened to, spoken to, ended."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field

from rankstream.server.child import Inherited
from rankstream.server.config import Settings, to_json

log = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 0.1
_STEADY_S = 30.0
_TELL_S = 1.0


@dataclass(slots=True, eq=False)
class Process:
    """One child, through all its lives.

    Attributes:
        name: for people.
        module: what it runs.
        bells: the ends of pipes that it inherits.
        running: None while it is not.
        control: the supervisor's end of its control socket; None where it has been closed.
        reached: the lines that it has said in this life.
        problem: why its last life ended, in its own words.
        start_at: when it may be started again, on ``time.monotonic``'s clock.
    """

    name: str
    module: str
    bells: tuple[int, ...]
    running: subprocess.Popen[bytes] | None = None
    control: socket.socket | None = None
    reached: set[str] = field(default_factory=set)
    problem: str = ""
    start_at: float = 0.0
    _heard: bytes = b""
    _started: float = 0.0
    _backoff_s: float = _FIRST_BACKOFF_S

    def start(self, settings: Settings) -> None:
        """Spawns it.

        Raises:
            OSError: the system does not: too little memory, too many processes or open files.
        """
        ours, theirs = socket.socketpair()
        inherited = Inherited(self.name, theirs.fileno(), self.bells, os.getpid())
        command = [sys.executable, "-m", self.module, inherited.argv(), to_json(settings)]
        with theirs:
            try:
                self.running = subprocess.Popen(
                    command, pass_fds=[theirs.fileno(), *self.bells], stdin=subprocess.DEVNULL
                )
            except BaseException:
                ours.close()
                raise
        self.control, self._heard, self.problem = ours, b"", ""
        self.reached.clear()
        self._started = time.monotonic()

    def tell(self, line: str) -> None:
        """Says something to it, if it still listens."""
        if self.control is None:
            return
        # A child that does not listen must not hold up those who look after the others.
        self.control.settimeout(_TELL_S)
        try:
            self.control.sendall(line.encode() + b"\n")
        except TimeoutError:
            log.error("%s does not listen, and is started again", self.name)
            if self.running is not None:
                self.running.kill()
        except OSError:
            log.warning("%s ended before it could be told: %s", self.name, line.split()[0])

    def hear(self) -> list[str] | None:
        """What it has said; None where it will say no more, and its socket may be closed."""
        if self.control is None:
            return []
        try:
            data = self.control.recv(65_536)
        except BlockingIOError:
            return []
        except ConnectionResetError:
            # It ended before it had read what it was told.
            data = b""
        if not data:
            return None
        *lines, self._heard = (self._heard + data).split(b"\n")
        found = []
        for line in lines:
            word, _, rest = line.decode().partition(" ")
            if word == "problem":
                self.problem = json.loads(rest)
            self.reached.add(word)
            found.append(line.decode())
        return found

    def ended(self, longest_backoff_s: float) -> None:
        """It has; says when it may be started again."""
        self.running = None
        steady = time.monotonic() - self._started > _STEADY_S
        self._backoff_s = (
            _FIRST_BACKOFF_S if steady else min(2 * self._backoff_s, longest_backoff_s)
        )
        self.start_at = time.monotonic() + (0.0 if steady else self._backoff_s / 2)

    def terminate(self) -> None:
        """Asks it to stop."""
        if self.running is not None:
            self.running.terminate()


def stop_all(processes: list[Process], timeout_s: float) -> None:
    """Asks them to stop and waits; kills what has not stopped in time."""
    running = [p.running for p in processes if p.running is not None]
    for process in running:
        process.terminate()
    until = time.monotonic() + timeout_s
    for process in running:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.error("process %d did not stop within %g s", process.pid, timeout_s)
            process.kill()
            process.wait()
