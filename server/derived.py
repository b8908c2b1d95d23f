"""What each part needs to know, derived from the settings: the one place that maps between them."""

from __future__ import annotations

import math
import os

import numpy as np

from rankstream.server.config import Settings
from rankstream.server.encoder.base import EncoderSettings
from rankstream.server.errors import InvalidArgument
from rankstream.server.paths import Paths
from rankstream.server.profiles.pooling import Pooling
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.stream.topics import TopicSettings

# A purchase says more than a view; --type-weights overrides.
DEFAULT_TYPE_WEIGHTS = {
    "impression": 0.0,
    "view": 0.5,
    "click": 1.0,
    "cart": 2.0,
    "purchase": 3.0,
    "rate": 2.0,
    "search": 1.0,
    "review": 2.0,
    "like": 2.0,
    "dislike": 2.0,
    "play": 1.0,
}


def encoder_settings(settings: Settings, paths: Paths) -> EncoderSettings:
    """For ``load_encoder``."""
    wanted = settings.encoding
    return EncoderSettings(
        cache_dir=paths.cache / "encoder",
        model=wanted.model,
        backend=wanted.backend,
        precision=wanted.precision,
        threads=settings.threads.encoder,
        max_batch_tokens=wanted.max_batch_tokens,
        max_tokens=wanted.max_tokens,
    )


def topic_settings(settings: Settings) -> TopicSettings:
    """For ``ensure_topics``."""
    kafka = settings.kafka
    return TopicSettings(
        prefix=kafka.topic_prefix,
        events_partitions=kafka.events_partitions,
        events_retention_ms=kafka.events_retention_ms,
        replication_factor=kafka.replication_factor,
    )


def kernel_threads(settings: Settings) -> int:
    """Threads of one worker's kernels: its share of the cores."""
    cores = len(os.sched_getaffinity(0))
    return settings.threads.kernels or max(1, cores // settings.listen.workers)


def fold_settings(settings: Settings) -> FoldSettings:
    """For the fold; what it says is fixed with the first state."""
    state = settings.state
    return FoldSettings(
        history_cap=state.history_cap,
        seen_cap=state.seen_cap,
        custom_types=names_in(state.custom_types),
        bucket_ms=state.bucket_s * 1000,
        allowed_skew_ms=state.allowed_skew_s * 1000,
    )


def pooling_of(settings: Settings, fold: FoldSettings) -> Pooling:
    """For the engine.

    Raises:
        InvalidArgument: ``type_weights`` does not read as TYPE:WEIGHT,...
    """
    named = {name: DEFAULT_TYPE_WEIGHTS.get(name, 1.0) for name in fold.type_ids}
    for entry in names_in(settings.scoring.type_weights):
        name, _, weight = entry.partition(":")
        try:
            named[name] = float(weight)
        except ValueError:
            problem = f"{entry!r}, expected TYPE:WEIGHT"
            raise InvalidArgument(field="type_weights", problem=problem) from None
        if name not in fold.type_ids or not math.isfinite(named[name]):
            problem = f"{entry!r}, expected one of {', '.join(fold.type_ids)} and a finite weight"
            raise InvalidArgument(field="type_weights", problem=problem)
    weights = np.zeros(1 + max(fold.type_ids.values()))
    for name, number in fold.type_ids.items():
        weights[number] = named[name]
    scoring = settings.scoring
    return Pooling(scoring.half_life_s * 1000, weights, scoring.interests_weight)


def names_in(listed: str) -> tuple[str, ...]:
    """The entries of a comma-separated setting."""
    return tuple(filter(None, (name.strip() for name in listed.split(","))))
