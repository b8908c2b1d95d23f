"""Admin: what this server is, every limit it has, and how far behind the log it is."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator

from rankstream.kernels.cells import COUNTED, IN_HISTORY
from rankstream.proto.v1 import admin_pb2, admin_pb2_grpc
from rankstream.server.announce import Announcements, slot_of
from rankstream.server.boundary import Context
from rankstream.server.catalog.blocks import Layout
from rankstream.server.clock import now_ms
from rankstream.server.config import Limits, Settings
from rankstream.server.embedder import Embedder
from rankstream.server.encoder.base import Encoder
from rankstream.server.profiles.pooling import LONGEST_TTL_MS, Pooling
from rankstream.server.profiles.settings import FoldSettings, fold_version
from rankstream.server.services.changes import Changes
from rankstream.server.services.progress import generations_of
from rankstream.server.store import Store
from rankstream.server.wire import Names

_UNITS = {"_ms": "ms", "_s": "s", "_bytes": "bytes", "_chars": "characters"}
# The guard asks the broker every few seconds; three silences are one too many.
_SILENCE_MS = 20_000
_BEAT_MS = 5_000


class AdminService(admin_pb2_grpc.AdminServicer):
    """Serves on a port of its own."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        page: Announcements,
        encoder: Encoder,
        embedder: Embedder,
        layout: Layout,
        fold: FoldSettings,
        pooling: Pooling,
        names: Names,
        changes: Changes,
    ) -> None:
        self._settings = settings
        self._store = store
        self._page = page
        self._encoder = encoder
        self._embedder = embedder
        self._layout = layout
        self._fold = fold
        self._pooling = pooling
        self._names = names
        self._changes = changes
        self._started_at_ms = now_ms()

    async def GetServerInfo(  # noqa: N802 - the name that gRPC gives
        self, request: admin_pb2.GetServerInfoRequest, context: Context
    ) -> admin_pb2.GetServerInfoResponse:
        """Versions, limits, the encoder, the blocks, the event types, the counts."""
        with self._store.read() as view:
            head, users = view.head(), view.count("recent")
            generations = generations_of(view)
        return admin_pb2.GetServerInfoResponse(
            server_version=self._names.server_version,
            worker=self._names.worker,
            fold_version=fold_version(self._fold),
            limits=self._limits(),
            encoder=self._encoder_info(),
            blocks=[
                admin_pb2.BlockInfo(name=b.name, dimensions=b.dimensions, weight=b.weight)
                for b in self._layout.blocks
            ],
            event_types=self._event_types(),
            items=head.items,
            users=users,
            generation=head.generation,
            catalogue_version=head.catalogue_version,
            started_at_ms=self._started_at_ms,
            generations=generations,
        )

    async def GetConsumerLag(  # noqa: N802
        self, request: admin_pb2.GetConsumerLagRequest, context: Context
    ) -> admin_pb2.GetConsumerLagResponse:
        """Each partition's position, the log's end, and what lies between."""
        page = self._page
        with self._store.read() as view:
            positions = view.positions()
        heard, beat = page.fetch_age_ms, page.beat_age_ms
        response = admin_pb2.GetConsumerLagResponse(
            last_fetch_age_ms=heard,
            dead_letters=page.dead_letters,
            misplaced_records=page.misplaced,
            healthy=0 <= heard < _SILENCE_MS and 0 <= beat < _BEAT_MS,
        )
        for p in positions:
            slot = slot_of(p.lane, p.partition)
            highwater = page.highwater(slot)
            response.partitions.add(
                topic=self._names.topics[p.lane],
                partition=p.partition,
                next_offset=p.next_offset,
                highwater=highwater,
                lag=max(0, highwater - p.next_offset) if highwater >= 0 else -1,
                state=page.state(slot),
            )
        return response

    def Reindex(  # noqa: N802
        self, request: admin_pb2.ReindexRequest, context: Context
    ) -> AsyncGenerator[admin_pb2.ReindexProgress, None]:
        """Has another generation made and served; its progress."""
        return self._changes.reindex(request.id, request.model, request.settings)

    def RollbackReindex(  # noqa: N802
        self, request: admin_pb2.RollbackReindexRequest, context: Context
    ) -> AsyncGenerator[admin_pb2.ReindexProgress, None]:
        """Has the generation of before served again; the progress of that."""
        return self._changes.rollback(request.id)

    def WatchReindex(  # noqa: N802
        self, request: admin_pb2.WatchReindexRequest, context: Context
    ) -> AsyncGenerator[admin_pb2.ReindexProgress, None]:
        """The progress of the newest change."""
        return self._changes.follow()

    async def CancelReindex(  # noqa: N802
        self, request: admin_pb2.CancelReindexRequest, context: Context
    ) -> admin_pb2.CancelReindexResponse:
        """Gives up the change that is under way."""
        return admin_pb2.CancelReindexResponse(progress=await self._changes.cancel())

    async def DropGeneration(  # noqa: N802
        self, request: admin_pb2.DropGenerationRequest, context: Context
    ) -> admin_pb2.DropGenerationResponse:
        """Removes what is kept for a rollback."""
        return admin_pb2.DropGenerationResponse(
            generation=await self._changes.drop(request.generation)
        )

    def _limits(self) -> list[admin_pb2.Limit]:
        found = [
            admin_pb2.Limit(
                name=f.name,
                value=int(getattr(self._settings.limits, f.name)),
                unit=_unit(f.name),
                description=f.metadata["doc"],
            )
            for f in dataclasses.fields(Limits)
        ]
        more = (
            ("max_message_bytes", self._settings.listen.max_message_bytes, "bytes"),
            ("max_concurrent_rpcs", self._settings.listen.max_concurrent_rpcs, ""),
            ("max_rows", self._settings.state.max_rows, ""),
            ("history_cap", self._fold.history_cap, "interactions"),
            ("seen_cap", self._fold.seen_cap, "interactions"),
            ("allowed_skew_ms", self._fold.allowed_skew_ms, "ms"),
        )
        return found + [admin_pb2.Limit(name=n, value=v, unit=u) for n, v, u in more]

    def _encoder_info(self) -> admin_pb2.EncoderInfo:
        encoder = self._encoder
        return admin_pb2.EncoderInfo(
            model=encoder.model_name,
            backend=encoder.backend,
            precision=encoder.precision,
            dimensions=encoder.dimension,
            max_tokens=encoder.max_tokens,
            space_fingerprint=encoder.fingerprint,
            numerics=encoder.numerics,
            prompts=sorted(encoder.prompts.texts),
            item_prompt=encoder.prompts.item or "",
            query_prompt=encoder.prompts.query or "",
            default_prompt=encoder.prompts.default or "",
            work=self._encoder_work(),
        )

    def _encoder_work(self) -> admin_pb2.EncoderWork:
        work, cache = self._embedder.work, self._embedder.cache
        return admin_pb2.EncoderWork(
            **dataclasses.asdict(work),
            cache_hits=cache.hits,
            cache_misses=cache.misses,
            cache_entries=cache.entries,
            cache_bytes=cache.held_bytes,
            waiting=self._embedder.waiting,
        )

    def _event_types(self) -> list[admin_pb2.EventTypeInfo]:
        fold, classes = self._fold, self._fold.rules.classes
        ttls = self._pooling.ttls_ms
        return [
            admin_pb2.EventTypeInfo(
                name=name,
                pooling_weight=float(self._pooling.type_weights[number]),
                in_history=bool(classes[number] & IN_HISTORY),
                counts_for_popularity=bool(classes[number] & COUNTED),
                half_life_s=float(self._pooling.half_lives_ms[number]) / 1000,
                pooled_at_most=int(self._pooling.caps[number]),
                curve=str(fold.curve_of[name]),
                ttl_s=0.0 if ttls is None else _ttl_s(int(ttls[number])),
            )
            for name, number in fold.type_ids.items()
        ]


def _ttl_s(ttl_ms: int) -> float:
    return 0.0 if ttl_ms >= LONGEST_TTL_MS else ttl_ms / 1000


def _unit(name: str) -> str:
    return next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "")
