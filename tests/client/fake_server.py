"""A real gRPC server on loopback with the small fake services behind it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from fake_admin import FakeAdmin
from fake_catalog import FakeCatalog
from fake_encoder import FakeEncoder
from fake_events import FakeEvents
from fake_profiles import FakeProfiles
from fake_rankings import FakeRanking
from fake_state import Fake
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from rankstream.client import Client, Item
from rankstream.proto.v1 import (
    admin_pb2_grpc,
    catalog_pb2_grpc,
    encoder_pb2_grpc,
    events_pb2_grpc,
    profiles_pb2_grpc,
    ranking_pb2_grpc,
)


@dataclass
class Running:
    """A fake server that runs."""

    fake: Fake
    health: health.HealthServicer
    target: str

    def client(self, **options: Any) -> Client:
        return Client(self.target, admin_target=self.target, **options)

    def set_health(self, serving: bool) -> None:
        kind = health_pb2.HealthCheckResponse
        self.health.set("", kind.SERVING if serving else kind.NOT_SERVING)


class _Listening(grpc.ServerInterceptor):
    """Writes down what every call says beside its request."""

    def __init__(self, fake: Fake) -> None:
        self._fake = fake

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        self._fake.metadata.append((details.method, dict(details.invocation_metadata)))
        return continuation(details)


@contextmanager
def run_fake_server() -> Iterator[Running]:
    """A fake server with three items, each call of which answers at once."""
    fake = Fake(
        catalogue={item_id: Item(item_id, item_id.title()) for item_id in ("toy", "b", "c")}
    )
    fake.catalogue["toy"] = Item("toy", "Toy Story", tags=("a", "b"), price=2.5)
    fake.answers.set()
    most = [("grpc.max_receive_message_length", 64 << 20)]
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=8), interceptors=[_Listening(fake)], options=most
    )
    ranking_pb2_grpc.add_RankingServicer_to_server(FakeRanking(fake), server)
    events_pb2_grpc.add_EventsServicer_to_server(FakeEvents(fake), server)
    catalog_pb2_grpc.add_CatalogServicer_to_server(FakeCatalog(fake), server)
    profiles_pb2_grpc.add_ProfilesServicer_to_server(FakeProfiles(fake), server)
    encoder_pb2_grpc.add_EncoderServicer_to_server(FakeEncoder(fake), server)
    admin_pb2_grpc.add_AdminServicer_to_server(FakeAdmin(fake), server)
    healthy = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield Running(fake, healthy, f"127.0.0.1:{port}")
    finally:
        fake.answers.set()
        server.stop(None).wait()
