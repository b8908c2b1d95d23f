"""Fuzzes a live server: every RPC, unary and streams, over several connections at once."""

from __future__ import annotations

import asyncio
import itertools
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import grpc
from fuzz_findings import Finding
from fuzz_methods import METHODS, Method
from fuzz_seeds import IMAGE_DIMENSIONS
from fuzz_watch import MOST_FILES, MOST_MIB, Growth, weigh
from fuzz_witness import WrongAnswer, prepare_witness, require_witness
from google.protobuf.message import DecodeError
from rich.progress import Progress
from serving import Server, running_server

_CONNECTIONS = 4
_CALLS_AT_ONCE = 24
_CHECK_EVERY = 1_000
_MOST_IN_STREAM = 12
_CANCELLED = 0.03
_TIMEOUT_S = 60.0
_OWN_FAULT = "Internal error from Core"
"""What grpc.aio's client says by itself where its write met the call's end: the status is lost."""
_SHOWN_LINES = 40
_UNEXPECTED = re.compile(r"Traceback|failed unexpectedly|ended with status|\bERROR\b")
_HUNG = "Deadline Exceeded"
"""What gRPC says by itself where no answer came; the server's own words are others."""

# What a valid one asks for replaces the processes that are watched here.
_NOT_CALLED = {"Admin/Reindex", "Admin/RollbackReindex"}
FINE = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True, slots=True)
class Target:
    """What is fuzzed.

    Attributes:
        address: host:port of the API.
        admin_address: of Admin; "": it is left out.
        server: the processes; None: they are somebody else's.
        log: what it prints.
    """

    address: str
    admin_address: str = ""
    server: Server | None = None
    log: Path | None = None

    def processes(self) -> dict[str, int]:
        """Process ids by name, without the broker's, whose memory is the log."""
        if self.server is None:
            return {}
        found = {"supervisor": self.server.process.pid}
        for module in ("ingest", "worker"):
            for n, pid in enumerate(self.server.children(module)):
                found[f"{module}-{n}"] = pid
        return found


@contextmanager
def running_target(address: str, cache: Path) -> Iterator[Target]:
    """A server of its own over the embedded broker, or the one at ``address``."""
    if address:
        yield Target(address)
        return
    models = (cache / "models").resolve()
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rankstream-fuzz-") as folder:
        (Path(folder) / "cache").symlink_to(models)
        with running_server("", Path(folder), "--vectors", f"image:{IMAGE_DIMENSIONS}") as server:
            log = server.data_dir / "serve.log"
            yield Target(server.address, server.admin_address, server, log)


@dataclass(slots=True)
class ServerFuzz:
    """One run, and what it has found.

    Attributes:
        target: the server.
        seed: with a call's number it decides the call.
        sent: messages so far.
        seconds: it took.
        checks: how often the witness and the processes were looked at.
        lost: calls made again, by the blocking client, because grpc.aio lost their status.
        codes: how calls ended, by method.
        growth: what the processes held meanwhile.
        findings: what should not have been.
    """

    target: Target
    seed: int
    sent: int = 0
    seconds: float = 0.0
    checks: int = 0
    lost: int = 0
    codes: dict[str, Counter[str]] = field(default_factory=dict)
    growth: Growth = field(default_factory=Growth)
    findings: list[Finding] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the result."""
        return {
            "messages": self.sent,
            "seconds": round(self.seconds, 1),
            "calls": sum(sum(codes.values()) for codes in self.codes.values()),
            "checks": self.checks,
            "made_again": self.lost,
            "findings": len(self.findings),
            "codes": {name: dict(codes) for name, codes in sorted(self.codes.items())},
            "growth": self.growth.since(0.2, self.sent),
            "allowed_growth": {"private_mib": MOST_MIB, "files": MOST_FILES},
        }

    async def call(self, number: int, channels: Sequence[grpc.aio.Channel]) -> int:
        """Makes one call; how many messages it sent."""
        draw = Random(f"{self.seed}/call/{number}")
        methods = [
            m
            for m in METHODS
            if m.name not in _NOT_CALLED and self._channel_of(m, channels, 0) is not None
        ]
        method = methods[draw.randrange(len(methods))]
        messages = [method.draft(draw) for _ in range(self._count(method, draw))]
        most = 1 if draw.random() < _CANCELLED else 1 << 30
        channel = self._channel_of(method, channels, number)
        assert channel is not None
        code, problem = await self._outcome(method, channel, messages, most)
        self.codes.setdefault(method.name, Counter())[code.name] += 1
        if problem:
            sent = [message.hex() for message in messages]
            self.findings.append(Finding(method.name, self.seed, number, problem, sent))
        return len(messages)

    async def check(self, channel: grpc.aio.Channel, pids: dict[str, int]) -> None:
        """The known-good request, the processes, and what they hold."""
        try:
            await require_witness(channel)
        except (WrongAnswer, grpc.aio.AioRpcError) as error:
            self._note("witness", str(error))
        now = self.target.processes()
        if now != pids:
            self._note("processes", f"{now}, expected {pids}")
        self.growth.add(self.sent, {name: weigh(pid) for name, pid in now.items()})
        self.checks += 1

    def require_well(self) -> None:
        """Nothing failed unexpectedly; memory and files grew by what caches and a state explain."""
        if self.target.log is not None:
            lines = self.target.log.read_text(errors="replace").splitlines()
            for at, line in enumerate(lines):
                if _UNEXPECTED.search(line):
                    self._note("log", "\n".join(lines[at : at + _SHOWN_LINES]))
        for name, gained in self.growth.since(0.2, self.sent).items():
            if gained["private_mib_gained"] > MOST_MIB or gained["files_gained"] > MOST_FILES:
                self._note("growth", f"{name}: {gained}")

    async def _outcome(
        self, method: Method, channel: grpc.aio.Channel, messages: Sequence[bytes], most: int
    ) -> tuple[grpc.StatusCode, str]:
        """How a call ends, and what is wrong with that; "": nothing."""
        try:
            answers = await method.call(channel, messages, _TIMEOUT_S, most)
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details() or ""
            if details == _OWN_FAULT:
                self.lost += 1
                address = self._address_of(method)
                again = asyncio.to_thread(method.call_blocking, address, messages, _TIMEOUT_S)
                code, details = await again
            return code, _problem(code, details)
        try:
            for answer in answers:
                method.answer.FromString(answer)
        except DecodeError as error:
            return grpc.StatusCode.OK, f"the answer cannot be read: {error}"
        return grpc.StatusCode.OK, ""

    def _address_of(self, method: Method) -> str:
        is_admin = method.name.startswith("Admin/")
        return self.target.admin_address if is_admin else self.target.address

    def _note(self, what: str, problem: str) -> None:
        self.findings.append(Finding(what, self.seed, self.sent, problem, []))

    def _count(self, method: Method, draw: Random) -> int:
        return 1 + draw.randrange(_MOST_IN_STREAM) if method.streams_in else 1

    def _channel_of(
        self, method: Method, channels: Sequence[grpc.aio.Channel], number: int
    ) -> grpc.aio.Channel | None:
        """One of the connections; the last is to Admin, where there is that."""
        serving = channels[:_CONNECTIONS]
        if not method.name.startswith("Admin/"):
            return serving[number % _CONNECTIONS]
        return channels[_CONNECTIONS] if len(channels) > _CONNECTIONS else None


def _problem(code: grpc.StatusCode, details: str) -> str:
    """What is wrong with a status; "": nothing."""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and details == _HUNG:
        return f"no answer within {_TIMEOUT_S:g} s"
    return "" if code in FINE else f"{code.name}: {details}"[:500]


async def fuzz_server(target: Target, count: int, seed: int, progress: Progress) -> ServerFuzz:
    """Sends ``count`` messages or a few more.

    Args:
        target: the server.
        count: messages.
        seed: of all of them.
        progress: shows how far it is.
    """
    bar = progress.add_task("server", total=count)
    run, numbers = ServerFuzz(target, seed), itertools.count()
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    addresses = [target.address] * _CONNECTIONS + [target.admin_address] * bool(
        target.admin_address
    )
    channels = [grpc.aio.insecure_channel(address, options) for address in addresses]
    await prepare_witness(channels[0])
    pids, started = target.processes(), time.perf_counter()

    async def work() -> None:
        while run.sent < count:
            sent = await run.call(next(numbers), channels)
            before = run.sent // _CHECK_EVERY
            run.sent += sent
            progress.advance(bar, sent)
            if run.sent // _CHECK_EVERY > before:
                await run.check(channels[0], pids)

    await asyncio.gather(*(work() for _ in range(_CALLS_AT_ONCE)))
    run.seconds = time.perf_counter() - started
    await run.check(channels[0], pids)
    run.require_well()
    for channel in channels:
        await channel.close()
    return run
