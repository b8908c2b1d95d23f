"""What a worker is made of: the read-only state, the engine and what hands it batches."""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import dataclass

from rankstream.server.announce import Announcements
from rankstream.server.batcher import Batcher
from rankstream.server.catalog.blocks import Layout, make_layout
from rankstream.server.catalog.masks import Masks
from rankstream.server.catalog.view import Catalogue
from rankstream.server.child import Control, Inherited
from rankstream.server.config import Settings
from rankstream.server.derived import (
    fold_settings,
    pooling_of,
    topic_settings,
)
from rankstream.server.embedder import Embedder
from rankstream.server.encoder.base import Encoder
from rankstream.server.engine import Answer, Engine, Task
from rankstream.server.freshness import Freshness
from rankstream.server.generation import SLOTS, Slot
from rankstream.server.past_bias import PastBias
from rankstream.server.paths import Paths
from rankstream.server.profiles.stored import ProfileStore
from rankstream.server.store import Store
from rankstream.server.stream.publisher import Publisher
from rankstream.server.stream.user_codec import user_attributes
from rankstream.server.wire import Names


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
    embedder: Embedder
    past_bias: PastBias
    publisher: Publisher
    freshness: Freshness
    control: Control


def make_parts(
    settings: Settings,
    paths: Paths,
    encoder: Encoder,
    inherited: Inherited,
    control: Control,
    slot: Slot,
) -> Parts:
    """Opens the state and puts the parts together.

    Args:
        settings: of everything; of the encoder, those of the generation that is served.
        paths: of the data folder.
        encoder: the generation's.
        inherited: this process.
        control: how it speaks to its supervisor.
        slot: where in the state the generation is.
    """
    limits = settings.limits
    layout = make_layout(encoder.dimension, settings.scoring)
    fold = fold_settings(settings)
    topics = topic_settings(settings)
    store = Store(paths.store, map_size_gib=settings.state.map_size_gib, write=False, slot=slot)
    page = Announcements(paths.page, slot=slot)
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
        embedder=Embedder(
            encoder,
            cache_bytes=settings.encoding.cache_mib << 20,
            max_queued=limits.max_queued,
            max_batch_tokens=settings.encoding.max_batch_tokens,
            readers=settings.threads.tokenizers,
        ),
        past_bias=PastBias(store, Catalogue(paths.segments, layout), settings),
        publisher=Publisher(
            settings.kafka.bootstrap_servers,
            linger_ms=settings.kafka.linger_ms,
            timeout_s=settings.kafka.publish_timeout_s,
            max_record_bytes=limits.max_record_bytes,
        ),
        freshness=Freshness(
            store, inherited.bells[SLOTS.index(slot)], limits.default_wait_ms / 1000
        ),
        control=control,
    )
