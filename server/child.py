"""What every child process of the supervisor does first, and how it speaks to it.

A child gets its settings and file descriptors as arguments, says what it has reached as lines on
its control socket, and ends when the supervisor does. It is spawned, never forked.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from rankstream.server.config import Settings, from_json
from rankstream.server.errors import RankstreamError

log = logging.getLogger(__name__)

# EX_CONFIG of sysexits.h: starting again would be refused again.
REFUSED = 78
# A wrong setting, a contradiction, a damage: another start meets them again.
_FINAL = ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "DATA_LOSS")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Inherited:
    """The file descriptors and names that a child starts with.

    Attributes:
        name: of the process, for people.
        control: its end of the control socket.
        bells: write ends of all workers' pipes (for ingest), or the read ends of its own, by slot
            (for a worker).
        parent: the supervisor's process id.
    """

    name: str
    control: int
    bells: tuple[int, ...]
    parent: int

    def argv(self) -> str:
        """As one argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argv(cls, text: str) -> Inherited:
        """Reads ``argv``."""
        found = json.loads(text)
        return cls(**{**found, "bells": tuple(found["bells"])})


class Control:
    """The child's end: lines out, lines in."""

    def __init__(self, fd: int) -> None:
        self.socket = socket.socket(fileno=fd)
        self._heard = b""
        self._saying = threading.Lock()

    def send(self, line: str) -> None:
        """Says what has been reached; from any thread."""
        with self._saying:
            self.socket.sendall(line.encode() + b"\n")

    def lines(self, heard: bytes) -> list[str]:
        """The lines that these bytes complete."""
        *lines, self._heard = (self._heard + heard).split(b"\n")
        return [line.decode() for line in lines]


def child_main(run: Callable[[Settings, Control, Inherited], None], argv: Sequence[str]) -> int:
    """Runs a child; its exit status tells the supervisor whether to start it again."""
    parser = argparse.ArgumentParser()
    parser.add_argument("inherited")
    parser.add_argument("settings")
    given = parser.parse_args(argv)
    inherited = Inherited.from_argv(given.inherited)
    _die_with(inherited.parent)
    # Ctrl-C reaches the whole group; the supervisor decides who stops when.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_logging(inherited.name)
    # A thread that waits for the interpreter's lock asks after 0.5 ms, not 5: a decoding lane or an
    # encoding loop must not add its slice to somebody's latency.
    sys.setswitchinterval(0.0005)
    control = Control(inherited.control)
    try:
        run(from_json(given.settings), control, inherited)
    except RankstreamError as error:
        log.error("%s", error)
        control.send("problem " + json.dumps(str(error)))
        return REFUSED if error.status in _FINAL else 1
    except BrokenPipeError:
        # The supervisor is gone.
        return 1
    return 0


def configure_logging(name: str) -> None:
    """One line a record on stderr."""
    form = f"%(asctime)s %(levelname)s {name} %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, stream=sys.stderr)
    # Reconnecting to a broker that is away would fill the log; the guard says it once a look.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the supervisor ended before this process began")
