"""What each part needs to know, derived from the settings: the one place that maps between them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rankstream.server.config import Settings
from rankstream.server.encoder.base import EncoderSettings
from rankstream.server.errors import InvalidArgument
from rankstream.server.paths import Paths
from rankstream.server.profiles.curves import curve_entries
from rankstream.server.profiles.pooling import LONGEST_TTL_MS, Pooling, whole_ttl_ms
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

# In half_life_s: what one looks at or for says little in a month, what one buys much in a year.
# A verdict (rate, review, like, dislike) and what is played keep the common half-life.
DEFAULT_FADING = {
    "impression": 0.25,
    "view": 0.5,
    "click": 0.5,
    "cart": 0.5,
    "search": 0.25,
    "purchase": 2.0,
}

# Of what comes in masses and says little, the newest suffice; of other types all are pooled.
DEFAULT_TYPE_CAPS = {"impression": 50, "view": 100, "search": 20}

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


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
        item_prompt=wanted.item_prompt,
        query_prompt=wanted.query_prompt,
        dimensions=wanted.dimensions,
        adapter=wanted.adapter,
        pooling=wanted.pooling,
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
        curves=curve_entries(state.curves),
    )


def pooling_of(settings: Settings, fold: FoldSettings) -> Pooling:
    """For the engine.

    Raises:
        InvalidArgument: ``type_weights``, ``half_lives``, ``type_caps`` or ``type_ttls`` does not
            read.
    """
    scoring, types = settings.scoring, fold.type_ids
    weights = {name: DEFAULT_TYPE_WEIGHTS.get(name, 1.0) for name in types}
    weights |= _by_type("type_weights", scoring.type_weights, types, _weight, "WEIGHT, finite")
    half_lives_s = {name: scoring.half_life_s * DEFAULT_FADING.get(name, 1.0) for name in types}
    durations = "DURATION above 0 in s, m, h, d or w, as 7d"
    half_lives_s |= _by_type("half_lives", scoring.half_lives, types, _seconds, durations)
    ttls_s = {name: scoring.ttl_s or math.inf for name in types}
    ttls_s |= _by_type("type_ttls", scoring.type_ttls, types, _seconds, durations)
    caps = {name: DEFAULT_TYPE_CAPS.get(name, fold.history_cap) for name in types}
    caps |= _by_type("type_caps", scoring.type_caps, types, _count, "COUNT from 0 up")
    size = 1 + max(types.values())
    pooling = Pooling(
        scoring.half_life_s * 1000,
        np.zeros(size),
        np.ones(size),
        np.zeros(size, np.int64),
        np.full(size, LONGEST_TTL_MS) if min(ttls_s.values()) < math.inf else None,
        scoring.interests_weight,
        scoring.interests_trust,
    )
    for name, number in types.items():
        pooling.type_weights[number] = weights[name]
        pooling.half_lives_ms[number] = half_lives_s[name] * 1000
        pooling.caps[number] = min(caps[name], fold.history_cap)
        if pooling.ttls_ms is not None:
            pooling.ttls_ms[number] = whole_ttl_ms(ttls_s[name] * 1000)
    return pooling


def _by_type(
    field: str,
    listed: str,
    types: Mapping[str, int],
    read: Callable[[str], float],
    expected: str,
) -> dict[str, Any]:
    """The entries TYPE:VALUE of a setting."""
    found = {}
    for entry in names_in(listed):
        name, _, value = entry.partition(":")
        try:
            found[name] = read(value.strip())
        except ValueError:
            problem = f"{entry!r}, expected TYPE:{expected}"
            raise InvalidArgument(field, problem) from None
        if name not in types:
            problem = f"{entry!r}, expected one of {', '.join(types)}"
            raise InvalidArgument(field, problem)
    return found


def _weight(value: str) -> float:
    weight = float(value)
    if not math.isfinite(weight):
        raise ValueError(value)
    return weight


def _seconds(value: str) -> float:
    seconds = float(value[:-1]) * _SECONDS.get(value[-1:], math.nan)
    if not 0 < seconds < math.inf:
        raise ValueError(value)
    return seconds


def _count(value: str) -> int:
    if not value.isdecimal():
        raise ValueError(value)
    return int(value)


def names_in(listed: str) -> tuple[str, ...]:
    """The entries of a comma-separated setting."""
    return tuple(filter(None, (name.strip() for name in listed.split(","))))
