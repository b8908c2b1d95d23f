"""A serving process: read-only state, one event loop, one engine thread. Composition only."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import importlib.metadata
import logging
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import numpy as np
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from rankstream import kernels
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
from rankstream.server.announce import Announcements
from rankstream.server.asked_wire import RequestForm
from rankstream.server.batcher import Batch, Batcher
from rankstream.server.candidates import GivenIds
from rankstream.server.catalog.blocks import Layout, make_layout
from rankstream.server.catalog.masks import Masks
from rankstream.server.catalog.view import Catalogue
from rankstream.server.child import Control, Inherited, child_main
from rankstream.server.config import Listen, Settings
from rankstream.server.derived import (
    encoder_settings,
    fold_settings,
    kernel_threads,
    pooling_of,
    topic_settings,
)
from rankstream.server.encoder.base import Encoder, TokenizedText
from rankstream.server.encoder.load import load_encoder
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.engine import Answer, Engine, Task
from rankstream.server.errors import NotFound, RankstreamError
from rankstream.server.freshness import Freshness
from rankstream.server.interceptors import StatusInterceptor
from rankstream.server.past_bias import PastBias
from rankstream.server.paths import Paths
from rankstream.server.profiles.history import gather_histories
from rankstream.server.profiles.interaction import TEXT
from rankstream.server.profiles.stored import ProfileStore
from rankstream.server.services.admin import AdminService
from rankstream.server.services.catalog import CatalogService
from rankstream.server.services.encoder import (
    Embedded,
    EncoderService,
    encode_batch,
    tokenize_batch,
)
from rankstream.server.services.event_intake import EventIntake
from rankstream.server.services.events import EventsService
from rankstream.server.services.preparation import Preparation
from rankstream.server.services.profiles import ProfilesService
from rankstream.server.services.ranking import RankingService
from rankstream.server.store import Store
from rankstream.server.stream.publisher import Publisher
from rankstream.server.stream.user_codec import user_attributes
from rankstream.server.types import (
    Asked,
    ExplainTask,
    Query,
    RankTask,
    Session,
    text_key,
)
from rankstream.server.wire import Names

log = logging.getLogger(__name__)

# A request's objects die with it, and none of them are in cycles.
_GC_THRESHOLDS = (50_000, 50, 100)
_SERVICES = (catalog_pb2, encoder_pb2, events_pb2, profiles_pb2, ranking_pb2)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the services are made of."""

    settings: Settings
    names: Names
    layout: Layout
    encoder: Encoder
    store: Store
    page: Announcements
    profiles: ProfileStore
    engine: Engine
    ranker: Batcher[Task, Answer]
    embedder: Batcher[str, Embedded]
    tokenizer: Batcher[str, TokenizedText]
    past_bias: PastBias
    publisher: Publisher
    freshness: Freshness


def run(settings: Settings, control: Control, inherited: Inherited) -> None:
    """Warms up, serves, drains on SIGTERM."""
    uvloop.run(_serve(settings, control, inherited))


async def _serve(settings: Settings, control: Control, inherited: Inherited) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    paths = Paths(Path(settings.state.data_dir))
    # Kernels and encoder load while ingest opens the state.
    with ThreadPoolExecutor(1, thread_name_prefix="warm-up") as pool:
        encoder = await loop.run_in_executor(pool, _warm_up, settings, paths)
    if not await _state_is_there(control, stopping):
        return
    parts = make_parts(settings, paths, encoder, inherited)
    await loop.run_in_executor(None, _warm_engine, parts.engine)
    # What reads profiles beside the engine: GetProfile, StreamEvents.
    await loop.run_in_executor(None, gather_histories, parts.profiles.fold, [b""], [b""])
    parts.freshness.listen(loop)
    parts.publisher.connect_soon()
    # What is loaded by now lives as long as the process: the collector need not walk it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    servers = Servers(parts)
    await servers.start()
    control.send("ready")
    await stopping.wait()
    await servers.drain()
    parts.ranker.close()
    parts.embedder.close()
    parts.tokenizer.close()
    parts.past_bias.close()
    parts.publisher.close()
    parts.store.close()


def make_parts(settings: Settings, paths: Paths, encoder: Encoder, inherited: Inherited) -> Parts:
    """Opens the state and puts the parts together."""
    limits = settings.limits
    layout = make_layout(encoder.dimension, settings.scoring)
    fold = fold_settings(settings)
    topics = topic_settings(settings)
    store = Store(paths.store, map_size_gib=settings.state.map_size_gib, write=False)
    page = Announcements(paths.page)
    profiles = ProfileStore(fold)
    catalogue = Catalogue(paths.segments, layout)
    masks, pooling = Masks(catalogue, limits), pooling_of(settings, fold)
    engine = Engine(
        store, catalogue, masks, profiles, pooling, page, fold.type_names, user_attributes
    )
    return Parts(
        settings=settings,
        names=Names(
            server_version=importlib.metadata.version("rankstream"),
            worker=f"{inherited.name}/{os.getpid()}",
            space=encoder.fingerprint,
            topics={"events": topics.events, "items": topics.items, "users": topics.users},
            types=fold.type_names,
        ),
        layout=layout,
        encoder=encoder,
        store=store,
        page=page,
        profiles=profiles,
        engine=engine,
        ranker=Batcher(
            engine.rank,
            max_batch=limits.max_batch_requests,
            max_queued=limits.max_queued,
            name="engine",
            is_quick=engine.is_quick,
        ),
        embedder=Batcher(
            functools.partial(encode_batch, encoder),
            max_batch=limits.max_batch_requests,
            max_queued=limits.max_queued,
            name="encoder",
        ),
        tokenizer=Batcher(
            functools.partial(tokenize_batch, encoder),
            max_batch=limits.max_batch_requests,
            max_queued=limits.max_queued,
            name="tokenizer",
        ),
        past_bias=PastBias(store, Catalogue(paths.segments, layout), settings),
        publisher=Publisher(
            settings.kafka.bootstrap_servers,
            linger_ms=settings.kafka.linger_ms,
            timeout_s=settings.kafka.publish_timeout_s,
            max_record_bytes=limits.max_record_bytes,
        ),
        freshness=Freshness(store, inherited.bell, limits.default_wait_ms / 1000),
    )


class Servers:
    """The serving API and the Admin service, each on its port, and the health of both."""

    def __init__(self, parts: Parts) -> None:
        listen = parts.settings.listen
        self._drain_s = listen.drain_s
        self._health = health.aio.HealthServicer()
        self._serving = self._listening(listen, listen.port)
        self._admin = self._listening(listen, listen.admin_port)
        _add_services(parts, self._serving)
        _add_admin(parts, self._admin)
        if listen.reflection:
            _reflect(self._serving, _SERVICES)
            _reflect(self._admin, (admin_pb2,))

    async def start(self) -> None:
        """Accepts connections, and says SERVING."""
        await self._admin.start()
        await self._serving.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Says NOT_SERVING, takes nothing new, finishes what is in flight."""
        await self._health.enter_graceful_shutdown()
        await self._serving.stop(self._drain_s)
        await self._admin.stop(0.0)

    def _listening(self, listen: Listen, port: int) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=[StatusInterceptor()],
            maximum_concurrent_rpcs=listen.max_concurrent_rpcs,
            options=_channel_options(listen),
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if server.add_insecure_port(f"{listen.host}:{port}") == 0:
            msg = f"{listen.host}:{port} cannot be bound"
            raise RankstreamError(msg)
        return server


def _reflect(server: grpc.aio.Server, modules: Sequence[ModuleType]) -> None:
    names = [s.full_name for m in modules for s in m.DESCRIPTOR.services_by_name.values()]
    reflection.enable_server_reflection(
        [*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server
    )


def _add_services(parts: Parts, server: grpc.aio.Server) -> None:
    settings, limits = parts.settings, parts.settings.limits
    fold, topics = parts.profiles.fold, parts.names.topics
    template = ItemTemplate.parse(
        encoder_settings(settings, Paths(Path(settings.state.data_dir))).template
    )
    ranking_pb2_grpc.add_RankingServicer_to_server(
        RankingService(
            parts.ranker,
            Preparation(parts.embedder, parts.past_bias),
            parts.freshness,
            parts.page,
            RequestForm(limits, parts.layout, fold),
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
            parts.embedder, parts.tokenizer, parts.encoder.dimension, parts.names, limits
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
            parts.layout,
            fold,
            pooling_of(parts.settings, fold),
            parts.names,
        ),
        server,
    )


def _warm_up(settings: Settings, paths: Paths) -> Encoder:
    kernels.configure_threads(kernel_threads(settings))
    log.info("warming up; the first start compiles kernels, which takes up to a minute")
    encoder = load_encoder(encoder_settings(settings, paths))
    encoder.warm_up()
    layout = make_layout(encoder.dimension, settings.scoring)
    kernels.warm_up(layout.stride, len(layout.blocks))
    return encoder


def _warm_engine(engine: Engine) -> None:
    """Ranks once for nobody: every code path of the hot line has run before the first caller."""
    nothing = np.empty(0, np.uint64)
    keys = kernels.distinct_keys(np.zeros(1, np.uint64))
    ids = GivenIds(b"", 0, 1, "item_ids")
    whole, by_key, by_id = (
        RankTask(b"\0", candidates, 1, nothing, True, 10, 3) for candidates in (None, keys, ids)
    )
    session = Session(
        target_keys=np.array([0, text_key("nothing")], np.uint64),
        weights=np.ones(2, np.float32),
        event_times_ms=np.zeros(2, np.int64),
        types=np.ones(2, np.uint16),
        exts=np.array([0, TEXT], np.uint16),
        texts={},
    )
    vector = np.ones(engine.text_dimensions, np.float32)
    query = Query("nothing", 1.0)
    for_session = Asked(
        session=session, query=query, encoded={query.text: vector}, as_of_ms=0, bias=vector[:0]
    )
    asked = [for_session, Asked(vector=vector), Asked(item_key=1, with_bias=False)]
    more = [dataclasses.replace(by_id, user=b"", asked=one) for one in asked]
    batches: list[list[Task]] = [[whole, by_key, by_id], [by_key], [by_id], [by_id] * 8]
    tasks_alone: list[Task] = [*more, dataclasses.replace(more[0], candidates=None)]
    tasks_alone += [ExplainTask(one) for one in more[:2]]
    batches += [[one] for one in tasks_alone]
    for tasks in batches:
        for answer in engine.rank(Batch(tasks, [0] * len(tasks))):
            # There is no such item.
            if isinstance(answer, RankstreamError) and not isinstance(answer, NotFound):
                raise answer


async def _state_is_there(control: Control, stopping: asyncio.Event) -> bool:
    """Waits for the supervisor's word; False when told to stop before."""
    loop = asyncio.get_running_loop()
    control.socket.setblocking(False)
    heard = asyncio.ensure_future(loop.sock_recv(control.socket, 64))
    stopped = asyncio.ensure_future(stopping.wait())
    done, left = await asyncio.wait({heard, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    control.socket.setblocking(True)
    return heard in done and heard.result() != b""


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


if __name__ == "__main__":
    sys.exit(child_main(run, sys.argv[1:]))
