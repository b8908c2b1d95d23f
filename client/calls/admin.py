"""The Admin service, and whether a server serves."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from rankstream.client import checks
from rankstream.client.calls.methods import Answer, Stream, answers, streams
from rankstream.client.calls.shapes import Pause, Plan, Unary
from rankstream.client.calls.streams import RESUME_PAUSES_S, Listing
from rankstream.client.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    RankstreamError,
    Unavailable,
)
from rankstream.client.host import Host
from rankstream.client.reindexing import ReindexProgress, progress_from_pb
from rankstream.client.status import (
    ConsumerLag,
    ServerInfo,
    consumer_lag_from_pb,
    server_info_from_pb,
)
from rankstream.proto.v1 import admin_pb2

# How long wait_ready waits between two questions.
_POLL_S = 0.05


class AdminCalls(Host):
    """What the server is, and how it does."""

    @answers
    def server_info(self, *, timeout_s: float | None = None) -> Answer[ServerInfo]:
        """What the server is, and its limits; from the Admin service."""
        return server_info_call(timeout_s)

    @answers
    def consumer_lag(self, *, timeout_s: float | None = None) -> Answer[ConsumerLag]:
        """How far the log is applied; from the Admin service."""
        request = admin_pb2.GetConsumerLagRequest()
        return Unary("Admin/GetConsumerLag", request, consumer_lag_from_pb, timeout_s, admin=True)

    @streams
    def reindex(
        self,
        model: str = "",
        *,
        settings: Mapping[str, str] | None = None,
        id: str | None = None,
        timeout_s: float | None = None,
    ) -> Stream[ReindexProgress]:
        """Has the server encode everything by another model, and serve that; how far it is.

        The stream goes on over the server's change of workers, and ends with "done", "failed" or
        "cancelled". Whoever leaves it cancels nothing.

        Args:
            model: folder of the model, on the server; "": the one that is served.
            settings: further settings of the encoder, ``{"precision": "f32"}``.
            id: of the change: the same again follows what it began. None: a new one.
            timeout_s: deadline, in seconds; None: none.

        Raises:
            FailedPrecondition: another change is under way, or the model is not read.
            InvalidArgument: no such setting.
        """
        change = id if id is not None else uuid.uuid4().hex
        request = admin_pb2.ReindexRequest(id=change, model=model, settings=settings)
        return _Progress("Admin/Reindex", request, timeout_s)

    @streams
    def rollback_reindex(
        self, *, id: str | None = None, timeout_s: float | None = None
    ) -> Stream[ReindexProgress]:
        """Has the generation of before served again; how far that is, as ``reindex``.

        Raises:
            NotFound: none is kept.
        """
        change = id if id is not None else uuid.uuid4().hex
        request = admin_pb2.RollbackReindexRequest(id=change)
        return _Progress("Admin/RollbackReindex", request, timeout_s)

    @streams
    def watch_reindex(self, *, timeout_s: float | None = None) -> Stream[ReindexProgress]:
        """How far the newest change is, whoever began it, until it ends.

        Raises:
            NotFound: there never was one.
        """
        return _Progress("Admin/WatchReindex", admin_pb2.WatchReindexRequest(), timeout_s)

    @answers
    def cancel_reindex(self, *, timeout_s: float | None = None) -> Answer[ReindexProgress]:
        """Gives up the change that is under way; how it ended, or "cancelling" while it loads.

        Raises:
            FailedPrecondition: there is none, or it is served already.
        """
        request = admin_pb2.CancelReindexRequest()
        return Unary("Admin/CancelReindex", request, _cancelled_from_pb, timeout_s, admin=True)

    @answers
    def drop_generation(
        self, generation: int = 0, *, timeout_s: float | None = None
    ) -> Answer[int]:
        """Removes the generation that is kept for a rollback; its number.

        Args:
            generation: its number; 0: whichever is kept.
            timeout_s: deadline, in seconds; None: the client's.

        Raises:
            NotFound: none is kept, or another one.
        """
        request = admin_pb2.DropGenerationRequest(generation=checks.count("generation", generation))
        read = attrgetter("generation")
        return Unary("Admin/DropGeneration", request, read, timeout_s, admin=True)

    @answers
    def wait_ready(self, timeout_s: float = 60.0) -> Answer[None]:
        """Returns once every connection's server says SERVING.

        Raises:
            Unavailable: it did not within ``timeout_s`` seconds; says the last answer.
        """
        return _wait_all(self, timeout_s)


class _Progress(Listing[ReindexProgress]):
    """Asked for again with the same id, while workers change and ingest starts anew."""

    def __init__(self, path: str, request: Message, timeout_s: float | None) -> None:
        super().__init__(path, timeout_s, admin=True)
        self._request = request
        self._pauses = iter(RESUME_PAUSES_S)

    def request(self) -> Message:
        return self._request

    def read(self, answer: Any) -> ReindexProgress:
        self.answered += 1
        self._pauses = iter(RESUME_PAUSES_S)
        return progress_from_pb(answer)

    def pause_after(self, error: RankstreamError) -> float | None:
        return next(self._pauses, None) if isinstance(error, Unavailable) else None


def _cancelled_from_pb(response: admin_pb2.CancelReindexResponse) -> ReindexProgress:
    return progress_from_pb(response.progress)


def server_info_call(timeout_s: float | None) -> Unary[ServerInfo]:
    """The call behind ``server_info``."""
    request = admin_pb2.GetServerInfoRequest()
    return Unary("Admin/GetServerInfo", request, server_info_from_pb, timeout_s, admin=True)


def _wait_all(host: Host, timeout_s: float) -> Plan[None]:
    deadline = time.monotonic() + timeout_s
    for index in range(host.connection_count):
        last = yield from _wait_serving(index, deadline)
        if last:
            message = f"{host.target} is not SERVING after {timeout_s:g} s: {last}"
            raise Unavailable(message)


def _wait_serving(connection: int, deadline: float) -> Plan[str]:
    """Nothing where a connection's server serves in time, else what was heard last."""
    last = "no answer"
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            heard = yield _health_call(connection, left_s)
        except FailedPrecondition:
            raise
        except DeadlineExceeded:
            # That the time is up says less than what was heard before.
            continue
        except RankstreamError as error:
            heard = str(error)
        if heard == "SERVING":
            return ""
        last = heard
        yield Pause(min(_POLL_S, max(0.0, deadline - time.monotonic())))
    return last


def _health_call(connection: int, timeout_s: float) -> Unary[str]:
    return Unary(
        path="Health/Check",
        request=health_pb2.HealthCheckRequest(),
        read=lambda a: str(health_pb2.HealthCheckResponse.ServingStatus.Name(a.status)),
        timeout_s=timeout_s,
        connection=connection,
        patient=True,
    )
