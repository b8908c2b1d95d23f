"""Several connections to one target, used in turn, with one retry policy."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2_grpc

from rankstream.client.errors import invalid
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

# Every call is a read, or a write that says the same thing twice: items are whole, events carry an
# id. So every call may be retried. The throttle ends retrying while most calls fail.
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
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
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


@dataclass(frozen=True, slots=True)
class Connection:
    """One channel and its stubs."""

    channel: grpc.Channel
    ranking: ranking_pb2_grpc.RankingStub
    events: events_pb2_grpc.EventsStub
    catalog: catalog_pb2_grpc.CatalogStub
    profiles: profiles_pb2_grpc.ProfilesStub
    encoder: encoder_pb2_grpc.EncoderStub
    admin: admin_pb2_grpc.AdminStub
    health: health_pb2_grpc.HealthStub


def connect(target: str, index: int) -> Connection:
    """A connection; nothing is sent before its first call."""
    channel = grpc.insecure_channel(target, options=channel_options(index))
    return Connection(
        channel=channel,
        ranking=ranking_pb2_grpc.RankingStub(channel),
        events=events_pb2_grpc.EventsStub(channel),
        catalog=catalog_pb2_grpc.CatalogStub(channel),
        profiles=profiles_pb2_grpc.ProfilesStub(channel),
        encoder=encoder_pb2_grpc.EncoderStub(channel),
        admin=admin_pb2_grpc.AdminStub(channel),
        health=health_pb2_grpc.HealthStub(channel),
    )


class Connections:
    """``count`` connections to one target; ``pick`` takes them in turn, from any thread."""

    def __init__(self, target: str, count: int) -> None:
        if count < 1:
            raise invalid(field="connections", problem=f"is {count}; expected 1 or more")
        self.target = target
        self.all = tuple(connect(target, index) for index in range(count))
        self._turn = itertools.cycle(self.all)

    def pick(self) -> Connection:
        """The next connection."""
        return next(self._turn)

    def close(self) -> None:
        """Ends the connections and what runs on them."""
        for connection in self.all:
            connection.channel.close()
