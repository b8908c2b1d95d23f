"""``rankstream serve`` as a child process: started, timed, weighed and stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


class NotServing(Exception):
    """The server ended before it served; the message says where its log is."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        address: host:port of the API.
        admin_address: host:port of the Admin service.
        data_dir: its state.
        process: the supervisor.
        serving_s: from exec until health said SERVING, s.
    """

    address: str
    admin_address: str
    data_dir: Path
    process: subprocess.Popen[str]
    serving_s: float

    def children(self, module: str) -> list[int]:
        """Process ids of the children that run a module of the server, oldest first."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and _parent_of(int(entry.name)) == self.process.pid:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if f"rankstream.server.{module}".encode() in words:
                    found.append(int(entry.name))
        return sorted(found)


@contextmanager
def running_server(bootstrap: str, data_dir: Path, *flags: str) -> Iterator[Server]:
    """Starts a server over ``data_dir``; its log goes to ``data_dir``/serve.log.

    Args:
        bootstrap: host:port of the broker; "": the embedded one.
        data_dir: of the state; it has to exist.
        flags: further ones.

    Raises:
        NotServing: it ended, or did not serve within a minute.
    """
    port, admin_port = free_ports(2)
    command = [str(Path(sys.executable).with_name("rankstream")), "serve"]
    command += ["--bootstrap-servers", bootstrap] if bootstrap else ["--embedded"]
    command += ["--data-dir", str(data_dir)]
    command += ["--port", str(port), "--admin-port", str(admin_port), *flags]
    log = (data_dir / "serve.log").open("a")
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        if not process.stdout.readline().startswith("SERVING"):
            msg = f"the server ended before it served; see {log.name}"
            raise NotServing(msg)
        _require_health(f"127.0.0.1:{port}")
        serving_s = time.monotonic() - started
        admin = f"127.0.0.1:{admin_port}"
        yield Server(f"127.0.0.1:{port}", admin, data_dir, process, serving_s)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        log.close()


def private_bytes(pid: int) -> int:
    """Memory that only this process has."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def cpu_seconds(pid: int) -> float:
    """CPU that a process and its threads have used, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _require_health(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        status = check(health_pb2.HealthCheckRequest(), timeout=10.0, wait_for_ready=True).status
    if status != health_pb2.HealthCheckResponse.SERVING:
        msg = f"{address} says {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}"
        raise NotServing(msg)


def _parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return -1


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for probe in sockets:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in sockets]
    for probe in sockets:
        probe.close()
    return ports
