"""What the Admin service answers: server info with every limit, and consumer lag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rankstream.client.mirror import mirror
from rankstream.proto.v1 import admin_pb2


@dataclass(frozen=True, slots=True)
class Limit:
    """One published bound of the server; ``unit`` is "items", "bytes", "ms", ..."""

    name: str
    value: int
    unit: str
    description: str


@dataclass(frozen=True, slots=True)
class EncoderWork:
    """What a worker's encoder has done since its start; times in microseconds.

    Attributes:
        texts: encoded.
        tokens: in them.
        batches: they made.
        cache_hits: texts answered from the cache.
        cache_misses: texts that were not in it.
        cache_entries: texts that it holds.
        cache_bytes: that it holds.
        shared: questions for a text that was being encoded already.
        dropped: texts whose callers had gone, or that could not have been ready in time.
        waiting: texts on their way now.
        read_us: spent making tokens.
        encode_us: spent making vectors.
    """

    texts: int
    tokens: int
    batches: int
    cache_hits: int
    cache_misses: int
    cache_entries: int
    cache_bytes: int
    shared: int
    dropped: int
    waiting: int
    read_us: int
    encode_us: int


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """The text encoder; vectors of two ``space_fingerprint`` are never compared.

    Attributes:
        model: its name.
        backend: what computes.
        precision: what it computes in.
        dimensions: of a vector.
        max_tokens: tokens read of one text at most.
        space_fingerprint: the vector space.
        numerics: backend, version and instruction set.
        prompts: names of what can be put before a text.
        item_prompt: the one put before items; "": nothing is.
        query_prompt: the one put before what users and requests say; "": nothing is.
        default_prompt: the one that ``embed`` uses where it is given no name; "": none.
        work: what this worker's encoder has done.
    """

    model: str
    backend: str
    precision: str
    dimensions: int
    max_tokens: int
    space_fingerprint: str
    numerics: str
    prompts: tuple[str, ...]
    item_prompt: str
    query_prompt: str
    default_prompt: str
    work: EncoderWork


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """One block of an item's row."""

    name: str
    dimensions: int
    weight: float


@dataclass(frozen=True, slots=True)
class EventTypeInfo:
    """What an event of this type does.

    Attributes:
        pooling_weight: of an interaction of the type; negative repels.
        in_history: it becomes an interaction.
        counts_for_popularity: it makes its item more popular.
        half_life_s: seconds in which it loses half its weight.
        pooled_at_most: so many of a profile's newest of the type are pooled.
        curve: how its value makes a weight, as "quantity(3)".
        ttl_s: seconds from which it no longer counts; 0: it always does.
    """

    name: str
    pooling_weight: float
    in_history: bool
    counts_for_popularity: bool
    half_life_s: float
    pooled_at_most: int
    curve: str
    ttl_s: float


@dataclass(frozen=True, slots=True)
class GenerationInfo:
    """A generation of the catalogue; ``state``: served, made (by a change) or kept."""

    number: int
    state: str
    model: str
    space_fingerprint: str
    items: int


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What the server is and every limit it keeps, by name."""

    server_version: str
    worker: str
    fold_version: str
    limits: Mapping[str, Limit]
    encoder: EncoderInfo
    blocks: tuple[BlockInfo, ...]
    event_types: tuple[EventTypeInfo, ...]
    items: int
    users: int
    generation: int
    catalogue_version: int
    started_at_ms: int
    generations: tuple[GenerationInfo, ...]


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One partition; ``highwater`` -1: not heard; ``state``: running, paused or stopped."""

    topic: str
    partition: int
    next_offset: int
    highwater: int
    lag: int
    state: str


@dataclass(frozen=True, slots=True)
class ConsumerLag:
    """How far the log is applied; ``healthy``: ingest runs and hears the broker."""

    partitions: tuple[PartitionLag, ...]
    last_fetch_age_ms: int
    dead_letters: int
    misplaced_records: int
    healthy: bool


def server_info_from_pb(response: admin_pb2.GetServerInfoResponse) -> ServerInfo:
    """Our form of an answer to ``GetServerInfo``."""
    return ServerInfo(
        server_version=response.server_version,
        worker=response.worker,
        fold_version=response.fold_version,
        limits={limit.name: mirror(Limit, limit) for limit in response.limits},
        encoder=replace(
            mirror(EncoderInfo, response.encoder),
            prompts=tuple(response.encoder.prompts),
            work=mirror(EncoderWork, response.encoder.work),
        ),
        blocks=tuple(mirror(BlockInfo, block) for block in response.blocks),
        event_types=tuple(mirror(EventTypeInfo, kind) for kind in response.event_types),
        items=response.items,
        users=response.users,
        generation=response.generation,
        catalogue_version=response.catalogue_version,
        started_at_ms=response.started_at_ms,
        generations=tuple(mirror(GenerationInfo, held) for held in response.generations),
    )


def consumer_lag_from_pb(response: admin_pb2.GetConsumerLagResponse) -> ConsumerLag:
    """Our form of an answer to ``GetConsumerLag``."""
    return ConsumerLag(
        partitions=tuple(mirror(PartitionLag, partition) for partition in response.partitions),
        last_fetch_age_ms=response.last_fetch_age_ms,
        dead_letters=response.dead_letters,
        misplaced_records=response.misplaced_records,
        healthy=response.healthy,
    )
