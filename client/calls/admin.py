"""The Admin service, and whether a server serves."""

from __future__ import annotations

import time

from grpc_health.v1 import health_pb2

from rankstream.client.calls.methods import Answer, answers
from rankstream.client.calls.shapes import Pause, Plan, Unary
from rankstream.client.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    RankstreamError,
    Unavailable,
)
from rankstream.client.host import Host
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

    @answers
    def wait_ready(self, timeout_s: float = 60.0) -> Answer[None]:
        """Returns once every connection's server says SERVING.

        Raises:
            Unavailable: it did not within ``timeout_s`` seconds; says the last answer.
        """
        return _wait_all(self, timeout_s)


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
