"""The connections to one target, used in turn, and their retry policy; blocking or asyncio."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc

from rankstream.client.credentials import Authorized, Credentials
from rankstream.proto.v1 import (
    admin_pb2_grpc,
    catalog_pb2_grpc,
    encoder_pb2_grpc,
    events_pb2_grpc,
    profiles_pb2_grpc,
    ranking_pb2_grpc,
)

MAX_MESSAGE_BYTES = 64 << 20
MAX_RETRIED_BYTES = 16 << 20

# A second time these would answer otherwise than the first: a merge has nothing left to move, and a
# patch on condition of a version meets its own. Called again by hand they do no harm.
NOT_RETRIED = (("rankstream.v1.Profiles", "MergeProfiles"), ("rankstream.v1.Catalog", "PatchItem"))

# Every other call is a read, or a write that says the same thing twice: items and users are whole,
# events carry an id, watermarks only grow. So they may be retried; a stream until its first answer.
# The throttle ends retrying while most calls fail. CANCELLED is what gRPC's server answers to a
# call that was on its way when a worker began to drain: nobody has seen it. (One that is cancelled
# on this side is not retried.)
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
            },
        },
        {"name": [{"service": service, "method": method} for service, method in NOT_RETRIED]},
    ],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
}

_STUBS: dict[str, Callable[[Any], object]] = {
    "Ranking": ranking_pb2_grpc.RankingStub,
    "Events": events_pb2_grpc.EventsStub,
    "Catalog": catalog_pb2_grpc.CatalogStub,
    "Profiles": profiles_pb2_grpc.ProfilesStub,
    "Encoder": encoder_pb2_grpc.EncoderStub,
    "Admin": admin_pb2_grpc.AdminStub,
    "Health": health_pb2_grpc.HealthStub,
}


def channel_options(index: int) -> list[tuple[str, int | str]]:
    """Options of the connection of this index.

    gRPC lets identical channels share one connection, and a server's SO_REUSEPORT spreads
    connections, not requests; the index is there to make the channels differ.
    """
    return [
        ("rankstream.connection", index),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        ("grpc.enable_retries", 1),
        # A request beyond this is not kept for a retry; gRPC's default is 256 KiB.
        ("grpc.per_rpc_retry_buffer_size", MAX_RETRIED_BYTES),
        # A restarted server is found again within 2 s, not within gRPC's 2 minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1000),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]


class Connections:
    """``count`` channels to one target; ``pick`` takes them in turn, from any thread.

    Args:
        target: host:port.
        count: how many channels.
        kind: ``grpc``, or ``grpc.aio``.
        credentials: what the channels and their calls show.

    Raises:
        InvalidArgument: the credentials cannot be used.
    """

    def __init__(self, target: str, count: int, kind: Any, credentials: Credentials) -> None:
        self.target = target
        tls, metadata = credentials.channel_credentials, credentials.metadata
        options = [channel_options(index) for index in range(count)]
        self.channels = [
            kind.insecure_channel(target, options=each)
            if tls is None
            else kind.secure_channel(target, tls, options=each)
            for each in options
        ]
        self._methods = [_methods_of(channel, metadata) for channel in self.channels]
        self._turn = itertools.cycle(self._methods)

    def method(self, path: str, connection: int | None = None) -> Any:
        """What calls ``path``, as ``Ranking/Rank``, on the next connection or on this one."""
        methods = next(self._turn) if connection is None else self._methods[connection]
        return methods[path]


def open_blocking(target: str, count: int, credentials: Credentials) -> Connections:
    """Connections whose calls block; nothing is sent before the first."""
    return Connections(target, count, grpc, credentials)


def open_async(target: str, count: int, credentials: Credentials) -> Connections:
    """Connections whose calls are awaited, in the event loop that runs now."""
    return Connections(target, count, grpc.aio, credentials)


def _methods_of(channel: Any, metadata: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Every method of every service, by its path."""
    stubs = {service: make(channel) for service, make in _STUBS.items()}
    return {
        f"{s}/{name}": Authorized(method, metadata) if metadata else method
        for s, stub in stubs.items()
        for name, method in vars(stub).items()
    }
