"""The two ports of a worker: the services on one, Admin on the other, health on both."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from rankstream.proto.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    encoder_pb2,
    encoder_pb2_grpc,
    events_pb2,
    events_pb2_grpc,
    profiles_pb2,
    profiles_pb2_grpc,
    ranking_pb2,
    ranking_pb2_grpc,
)
from rankstream.server.access import Access
from rankstream.server.asked_wire import RequestForm
from rankstream.server.boundary import guarded
from rankstream.server.config import Encoding, Listen, Settings
from rankstream.server.derived import encoder_settings, pooling_of
from rankstream.server.encoder.load import check_encoder
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.errors import RankstreamError
from rankstream.server.parts import Parts
from rankstream.server.paths import Paths
from rankstream.server.services.admin import AdminService
from rankstream.server.services.catalog import CatalogService
from rankstream.server.services.changes import Changes
from rankstream.server.services.encoder import EncoderService
from rankstream.server.services.event_intake import EventIntake
from rankstream.server.services.events import EventsService
from rankstream.server.services.preparation import Preparation
from rankstream.server.services.profiles import ProfilesService
from rankstream.server.services.ranking import RankingService
from rankstream.server.tls import Identity, watched_identity
from rankstream.server.watched import Watched

_ADMIN_DRAIN_S = 1.0
# Below the deadline that clients give, so that they are told why.
_CHANGES_ANSWER_S = 4.0
_SERVICES = (catalog_pb2, encoder_pb2, events_pb2, profiles_pb2, ranking_pb2)


class Servers:
    """The serving API and the Admin service, each on its port, and the health of both."""

    def __init__(self, parts: Parts) -> None:
        listen = parts.settings.listen
        self._drain_s = listen.drain_s
        self._health = health.aio.HealthServicer()
        self._serving = _listening(listen, listen.port)
        self._admin = _listening(listen, listen.admin_port)
        access = Access(Path(listen.access_file)) if listen.access_file else None
        serving, admin = guarded(self._serving, access), guarded(self._admin, access)
        _add_services(parts, serving)
        _add_admin(parts, admin)
        for server, modules in ((serving, _SERVICES), (admin, (admin_pb2,))):
            health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
            if listen.reflection:
                _add_reflection(server, modules)

    async def start(self) -> None:
        """Accepts connections, and says SERVING."""
        await self._admin.start()
        await self._serving.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Says NOT_SERVING, takes nothing new, finishes what is in flight."""
        await self._health.enter_graceful_shutdown()
        # Who follows a change of generations is sent on to the workers that have come instead.
        await asyncio.gather(self._serving.stop(self._drain_s), self._admin.stop(_ADMIN_DRAIN_S))


def _listening(listen: Listen, port: int) -> grpc.aio.Server:
    server = grpc.aio.server(
        maximum_concurrent_rpcs=listen.max_concurrent_rpcs, options=_channel_options(listen)
    )
    address, identity = f"{listen.host}:{port}", watched_identity(listen)
    if identity is None:
        bound = server.add_insecure_port(address)
    else:
        bound = server.add_secure_port(address, _tls_credentials(identity))
    if bound == 0:
        msg = f"{address} cannot be bound"
        raise RankstreamError(msg)
    return server


def _tls_credentials(watched: Watched[Identity]) -> grpc.ServerCredentials:
    """TLS with what the files say when a connection is opened."""
    last = [watched.value]

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        identity = watched.value
        if identity is last[0]:
            return None
        last[0] = identity
        return _certificates(identity)

    asks = last[0].client_ca is not None
    # The stubs do not know that None keeps what there is.
    return grpc.dynamic_ssl_server_credentials(_certificates(last[0]), cast(Any, fetch), asks)


def _certificates(identity: Identity) -> grpc.ServerCertificateConfiguration:
    pair = identity.key, identity.certificate
    return grpc.ssl_server_certificate_configuration([pair], identity.client_ca)


def _add_reflection(server: grpc.aio.Server, modules: Sequence[ModuleType]) -> None:
    names = [s.full_name for m in modules for s in m.DESCRIPTOR.services_by_name.values()]
    servicer = reflection.aio.ReflectionServicer(
        [*names, health.SERVICE_NAME, reflection.SERVICE_NAME]
    )
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)


def _add_services(parts: Parts, server: grpc.aio.Server) -> None:
    settings, limits = parts.settings, parts.settings.limits
    fold, topics = parts.profiles.fold, parts.names.topics
    template = ItemTemplate.parse(
        encoder_settings(settings, Paths(Path(settings.state.data_dir))).template
    )
    ranking_pb2_grpc.add_RankingServicer_to_server(
        RankingService(
            parts.ranker,
            Preparation(parts.embedder, parts.past_bias, parts.encoder.prompts.query),
            parts.freshness,
            parts.page,
            RequestForm(limits, parts.layout, fold, parts.names.space),
            parts.names,
            settings.listen.log_requests,
        ),
        server,
    )
    events_pb2_grpc.add_EventsServicer_to_server(
        EventsService(
            EventIntake(parts.publisher, topics["events"], fold, limits),
            parts.freshness,
            parts.store,
        ),
        server,
    )
    catalog_pb2_grpc.add_CatalogServicer_to_server(
        CatalogService(
            parts.publisher,
            parts.freshness,
            parts.store,
            parts.engine,
            parts.layout,
            template,
            topics["items"],
            limits,
        ),
        server,
    )
    profiles_pb2_grpc.add_ProfilesServicer_to_server(
        ProfilesService(
            parts.publisher,
            parts.store,
            parts.profiles,
            parts.freshness,
            parts.page,
            parts.names,
            limits,
        ),
        server,
    )
    encoder_pb2_grpc.add_EncoderServicer_to_server(
        EncoderService(
            parts.embedder,
            parts.encoder.dimension,
            parts.encoder.prompts,
            parts.names,
            limits,
        ),
        server,
    )


def _add_admin(parts: Parts, server: grpc.aio.Server) -> None:
    fold = parts.profiles.fold
    admin_pb2_grpc.add_AdminServicer_to_server(
        AdminService(
            parts.settings,
            parts.store,
            parts.page,
            parts.encoder,
            parts.embedder,
            parts.layout,
            fold,
            pooling_of(parts.settings, fold),
            parts.names,
            Changes(
                parts.store,
                parts.page,
                parts.control.send,
                functools.partial(_check_encoding, parts.settings),
                min(parts.settings.limits.default_timeout_s, _CHANGES_ANSWER_S),
            ),
        ),
        server,
    )


def _check_encoding(settings: Settings, encoding: Encoding) -> None:
    """Refuses an encoder that cannot be loaded, as a start with its settings would."""
    paths = Paths(Path(settings.state.data_dir))
    check_encoder(encoder_settings(dataclasses.replace(settings, encoding=encoding), paths))


def _channel_options(listen: Listen) -> list[tuple[str, Any]]:
    # By default gRPC cancels calls at random where more than 1,000 wait to be taken up; our own
    # limits refuse with a status that says why, and when to come again.
    pending = 4 * listen.max_concurrent_rpcs
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", listen.max_message_bytes),
        ("grpc.max_send_message_length", listen.max_message_bytes),
        ("grpc.max_connection_age_ms", listen.max_connection_age_s * 1000),
        ("grpc.max_connection_age_grace_ms", int(listen.drain_s * 1000)),
        ("grpc.max_concurrent_streams", listen.max_concurrent_rpcs),
        ("grpc.server.max_pending_requests", pending),
        ("grpc.server.max_pending_requests_hard_limit", pending),
    ]
