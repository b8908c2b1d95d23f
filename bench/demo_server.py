"""The server of the demo: ``rankstream serve --embedded`` as a child process."""

from __future__ import annotations

import re
import selectors
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_SERVING = re.compile(r"SERVING on (\S+), admin on (\S+), log at (\S+)")
_COMMAND = "from rankstream.client.cli import main; main()"
_STOP_S = 60.0
_TAIL_LINES = 15


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the server is: host:port of its API, of Admin, and of the log."""

    target: str
    admin_target: str
    bootstrap_servers: str


class DemoServer:
    """Starts the server on entering and stops it on leaving.

    Args:
        data_dir: folder of the state; it has to exist. The server's log is ``server.log`` in it.
        port: of the serving API.
        admin_port: of the Admin service.
    """

    def __init__(self, data_dir: Path, port: int, admin_port: int) -> None:
        self._log = data_dir / "server.log"
        flags = ["--data-dir", str(data_dir), "--port", str(port), "--admin-port", str(admin_port)]
        self._command = [sys.executable, "-c", _COMMAND, "serve", "--embedded", *flags]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> DemoServer:
        with self._log.open("a") as log:
            # A session of its own: Ctrl-C reaches the demo alone, which then stops the server.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._running()
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._running().poll() is None

    def wait_serving(self, timeout_s: float) -> Addresses:
        """Waits for the line that says SERVING.

        Raises:
            DemoError: it did not come within ``timeout_s`` seconds, or the server ended.
        """
        stdout = self._running().stdout
        assert stdout is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while selector.select(max(0.0, deadline - time.monotonic())):
                line = stdout.readline()
                if found := _SERVING.search(line):
                    return Addresses(*found.groups())
                if not line:
                    what = "the server ended before it was SERVING"
                    raise self.failure(what)
        what = f"the server is not SERVING after {timeout_s:g} s"
        raise self.failure(what)

    def failure(self, what: str) -> DemoError:
        """An error that carries the end of the server's log."""
        tail = self._log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return DemoError("\n".join([f"{what}; the end of {self._log}:", *tail]))

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            message = "the server was not started: enter it first"
            raise DemoError(message)
        return self._process


def free_ports(count: int) -> list[int]:
    """Ports on loopback that are free now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
