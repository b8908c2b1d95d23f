"""A whole server in processes of its own: started by its command, spoken to over gRPC."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rankstream.proto.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    catalog_pb2_grpc,
    encoder_pb2_grpc,
    events_pb2_grpc,
    profiles_pb2_grpc,
    ranking_pb2_grpc,
)

COMMAND = (sys.executable, "-c", "from rankstream.server.main import serve; serve()")
CONVERT = """
import sys
from pathlib import Path
from rankstream.server.encoder.base import EncoderSettings
from rankstream.server.encoder.load import load_encoder
load_encoder(EncoderSettings(cache_dir=Path(sys.argv[1]), model=sys.argv[2]))
"""
SERVING = health_pb2.HealthCheckResponse.SERVING
REFUSED = 78
LARGEST = 64 << 20


@functools.cache
def warm_encoder_cache(folder: Path, *models: Path) -> Path:
    """An encoder's cache, made once in this test run: converting a model takes seconds.

    Without models, it is of the default one.
    """
    command = [sys.executable, "-c", CONVERT, str(folder)]
    converting = [
        subprocess.Popen([*command, str(model)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for model in models or ("",)
    ]
    for child in converting:
        output, _ = child.communicate()
        assert child.returncode == 0, output.decode(errors="replace")
    return folder


def wait_for(check: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
    """What ``check`` answers as soon as that is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := check()):
        if time.monotonic() > deadline:
            msg = f"after {timeout_s:g} s there is still not: {what}"
            raise AssertionError(msg)
        time.sleep(0.005)
    return found


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class ServerProcess:
    """One `rankstream serve` over one data folder; may be started again after it has ended.

    Args:
        data_dir: of the state; made where missing.
        encoder_cache: a cache to link into the data folder.
        bootstrap: of a Kafka cluster; "": the embedded broker.
        prefix: of the topics.
        flags: further settings, ``history_cap=5`` for ``--history-cap 5``.

    Attributes:
        tls: what its channels show of themselves; None: they are not encrypted.
    """

    def __init__(
        self,
        data_dir: Path,
        encoder_cache: Path,
        bootstrap: str = "",
        prefix: str = "rankstream.",
        **flags: Any,
    ) -> None:
        self.data_dir = data_dir
        self.prefix = prefix
        self.port, self.admin_port = free_ports(2)
        self.flags = flags
        self.process: subprocess.Popen[bytes] | None = None
        self.tls: grpc.ChannelCredentials | None = None
        self._given_bootstrap = bootstrap
        self._channels: list[grpc.Channel] = []
        linked = data_dir / "cache" / "encoder"
        if not linked.exists():
            shutil.copytree(encoder_cache, linked, copy_function=os.link)

    def arguments(self) -> list[str]:
        own = {"data_dir": self.data_dir, "port": self.port, "admin_port": self.admin_port}
        listed = ["--embedded"]
        if self._given_bootstrap:
            listed = ["--bootstrap-servers", self._given_bootstrap, "--topic-prefix", self.prefix]
        for name, value in (own | self.flags).items():
            flag = "--" + name.replace("_", "-")
            listed += [flag] if value is True else [flag, str(value)]
        return listed

    def launch(self) -> ServerProcess:
        """Starts it and waits for nothing."""
        assert self.process is None or self.process.poll() is not None
        with self.log_path.open("ab") as output:
            self.process = subprocess.Popen(
                [*COMMAND, *self.arguments()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._connect()
        return self

    def start(self, timeout_s: float = 240.0) -> ServerProcess:
        """Starts it and waits until it says SERVING; the very first compiles every kernel."""
        self.launch()
        wait_for(self.is_serving, "SERVING", timeout_s)
        return self

    def is_serving(self) -> bool:
        assert self.process is not None
        code = self.process.poll()
        assert code is None, f"the server ended with status {code}:\n{self.log[-3000:]}"
        try:
            answer = self.health.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
        except grpc.RpcError:
            return False
        return answer.status == SERVING

    def stop(self, timeout_s: float = 60.0) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 60.0) -> int:
        """The exit status, once it has ended."""
        assert self.process is not None
        try:
            return self.process.wait(timeout_s)
        finally:
            self._disconnect()

    def kill(self) -> None:
        """SIGKILL of every process of it, and of the embedded broker."""
        if self.process is None or self.process.poll() is not None:
            self._disconnect()
            return
        for pid in [self.process.pid, *self.children().values(), *self._broker_pids()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.wait()

    def kill_supervisor(self) -> None:
        """SIGKILL of the first process alone; what it started has to end by itself."""
        assert self.process is not None
        orphans = self._child_pids()
        self.process.kill()
        self.wait()
        wait_for(lambda: not any(map(alive, orphans)), f"the end of {orphans}")

    def restart(self) -> ServerProcess:
        assert self.stop() == 0
        return self.start()

    def children(self) -> dict[str, int]:
        """Process ids by name: ``ingest``, ``worker-0``, ..."""
        found = {}
        for pid in self._child_pids():
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
            except OSError:
                continue
            named = re.search(r'\{"name": "([^"]+)"', command)
            if named:
                found[named[1]] = pid
        return found

    def broker_pid(self) -> int:
        """The embedded broker's."""
        (pid,) = self._broker_pids()
        return pid

    def bootstrap(self) -> str:
        """Where the log is."""
        if self._given_bootstrap:
            return self._given_bootstrap
        return re.findall(r"the embedded broker listens on (\S+)", self.log)[-1]

    def lag(self) -> admin_pb2.GetConsumerLagResponse:
        return self.admin.GetConsumerLag(admin_pb2.GetConsumerLagRequest(), timeout=10)

    def positions(self) -> dict[tuple[str, int], int]:
        """Next offset by topic, without its prefix, and partition; users where written."""
        start = len(self.prefix)
        return {
            (p.topic[start:], p.partition): p.next_offset
            for p in self.lag().partitions
            if p.topic[start:] != "users" or p.next_offset
        }

    @property
    def topics(self) -> dict[str, str]:
        return {name: self.prefix + name for name in ("events", "items", "dead-letters")}

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.data_dir.with_suffix(".log")

    @property
    def log(self) -> str:
        """What it has printed, in all its runs."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def channel(self, port: int | None = None) -> grpc.Channel:
        """A connection of its own, without retries; closed with the server."""
        options = [
            ("grpc.enable_retries", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_send_message_length", LARGEST),
            ("grpc.max_receive_message_length", LARGEST),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 5_000),
            ("grpc.max_reconnect_backoff_ms", 500),
        ]
        target = f"127.0.0.1:{port or self.port}"
        if self.tls is None:
            made = grpc.insecure_channel(target, options)
        else:
            made = grpc.secure_channel(target, self.tls, options)
        self._channels.append(made)
        return made

    def _connect(self) -> None:
        channel, admin = self.channel(), self.channel(self.admin_port)
        self.ranking = ranking_pb2_grpc.RankingStub(channel)
        self.events = events_pb2_grpc.EventsStub(channel)
        self.catalog = catalog_pb2_grpc.CatalogStub(channel)
        self.profiles = profiles_pb2_grpc.ProfilesStub(channel)
        self.encoder = encoder_pb2_grpc.EncoderStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        self.admin = admin_pb2_grpc.AdminStub(admin)

    def _disconnect(self) -> None:
        while self._channels:
            self._channels.pop().close()

    def _child_pids(self) -> list[int]:
        assert self.process is not None
        found = []
        for children in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:
                continue
        return found

    def _broker_pids(self) -> list[int]:
        commands = {pid: Path(f"/proc/{pid}/cmdline") for pid in self._child_pids()}
        return [pid for pid, path in commands.items() if b"noida-db\0start" in path.read_bytes()]
