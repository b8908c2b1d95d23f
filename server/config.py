"""Settings: one frozen dataclass per concern. Flags, environment and TOML come from the fields.

A field's metadata holds its help line, with the unit. ``options`` lists them for the command line;
``from_mapping`` builds a ``Settings`` from a flat mapping of names to values.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rankstream.server.errors import InvalidArgument


def option(default: Any, doc: str) -> Any:
    """A settings field with its help line."""
    return dataclasses.field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the server listens and what a connection may do."""

    host: str = option("127.0.0.1", "address to bind; other than loopback needs TLS or --insecure")
    port: int = option(50051, "port of the serving API")
    admin_port: int = option(50052, "port of the Admin service")
    insecure: bool = option(False, "allow an address other than loopback without TLS")
    tls_cert: str = option("", "PEM file of the certificate, and what is between it and a root")
    tls_key: str = option("", "PEM file of its private key")
    tls_client_ca: str = option(
        "", "PEM file of the roots that callers' certificates must come from"
    )
    access_file: str = option(
        "", "TOML file of who may call what, see 'rankstream access'; none: everybody everything"
    )
    log_requests: bool = option(False, "log request_id, user_id and context of each ranking")
    reflection: bool = option(False, "serve gRPC reflection")
    workers: int = option(1, "serving processes")
    max_message_bytes: int = option(16 << 20, "largest request or reply, bytes")
    max_concurrent_rpcs: int = option(4096, "RPCs in flight in one worker")
    max_connection_age_s: int = option(3600, "seconds until a connection is asked to reopen")
    drain_s: float = option(20.0, "seconds that SIGTERM leaves to RPCs in flight")
    longest_backoff_s: float = option(
        5.0, "longest wait before a process that keeps dying is started again, s"
    )


@dataclass(frozen=True, slots=True)
class Kafka:
    """The log."""

    bootstrap_servers: str = option("", "comma-separated host:port of a Kafka cluster")
    embedded: bool = option(False, "start a broker from a Python wheel beside the server")
    topic_prefix: str = option("rankstream.", "prefix of the topics events, items, users, ...")
    events_partitions: int = option(4, "partitions of newly created events and users topics")
    events_retention_ms: int = option(-1, "retention of a newly created events topic; -1: for ever")
    replication_factor: int = option(1, "replicas of newly created topics")
    fetch_max_wait_ms: int = option(
        250, "longest wait of one fetch, ms; a broker answers as soon as there is a record"
    )
    poll_pace_ms: int = option(5, "longest rest between polls while few events arrive, ms")
    linger_ms: int = option(1, "how long the producer gathers records, ms")
    publish_timeout_s: float = option(10.0, "longest wait for the log to acknowledge a write, s")
    max_batch_events: int = option(8000, "events in one commit at most")
    stall_timeout_s: float = option(
        15.0, "seconds without progress before the consumer is reopened"
    )
    accept_partial_history: bool = option(False, "start although the log begins after the state")


@dataclass(frozen=True, slots=True)
class State:
    """What is stored, and where."""

    data_dir: str = option("rankstream-data", "folder of the state; a local file system")
    map_size_gib: int = option(256, "largest state, GiB; address space, not disk")
    max_rows: int = option(4_000_000, "rows of one catalogue generation at most")
    history_cap: int = option(255, "interactions in a profile")
    seen_cap: int = option(4096, "interactions that exclude_seen remembers")
    bucket_s: int = option(86_400, "width of a popularity counter's bucket, s")
    allowed_skew_s: int = option(300, "how far event_time may be ahead of the broker's clock, s")
    custom_types: str = option("", "names of further event types, comma-separated")
    curves: str = option(
        "", "how a type's value makes a weight: TYPE:CURVE,..., as purchase:quantity(3)"
    )


@dataclass(frozen=True, slots=True)
class Encoding:
    """The text encoder. The state keeps them: later starts need none, and refuse another space."""

    model: str = option(
        "", "model folder; default: the state's own, for a new state the all-MiniLM-L6-v2 package"
    )
    backend: str = option("auto", "auto (the faster one here), openvino or torch")
    precision: str = option("auto", "auto, int8 (of `rankstream model optimize`), bf16 or f32")
    max_batch_tokens: int = option(4096, "padded tokens in one encoder batch")
    cache_mib: int = option(64, "MiB of the cache from a text to its vector, in each process")
    max_tokens: int = option(
        0, "tokens of a text that are read; 0: what the model was made for, at most 512"
    )
    item_prompt: str = option(
        "", "name of the model's prompt for items; default: document, else the model's own default"
    )
    query_prompt: str = option(
        "",
        "name of the model's prompt for what users and requests say; default: query, likewise",
    )
    dimensions: int = option(
        0, "leading numbers of a vector that are kept; 0: as many as the model says"
    )
    adapter: str = option("", "PEFT folder of a LoRA adapter, merged into the model's weights")
    pooling: str = option(
        "", "how a text's tokens make its vector: mean, cls, lasttoken, ...; default: the model's"
    )


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a score is made."""

    text_weight: float = option(1.0, "weight of the text block")
    attributes_weight: float = option(0.2, "weight of the attributes block")
    bias_weight: float = option(0.7, "weight of decayed popularity")
    bias_floor: float = option(
        0.35, "least popularity of an item, as a share of the greatest; what is new has it"
    )
    interests_weight: float = option(
        3.0, "weight of what users say of themselves, beside an interaction's"
    )
    interests_trust: float = option(
        0.6,
        "0 to 1: how much the similarity of a user of whom nothing else is known counts",
    )
    half_life_s: float = option(
        90 * 86_400.0, "seconds in which an interaction loses half its weight"
    )
    ttl_s: float = option(
        0.0, "seconds from which an interaction no longer counts in pooling; 0: it always does"
    )
    popularity_half_life_s: float = option(
        30 * 86_400.0, "seconds in which popularity loses half its weight"
    )
    vectors: str = option("", "caller-supplied blocks: NAME:DIM[:WEIGHT],...")
    type_weights: str = option("", "pooling weights by event type: TYPE:WEIGHT,...")
    half_lives: str = option(
        "", "half-lives by event type, in s, m, h, d or w: TYPE:DURATION,..., as view:7d"
    )
    type_ttls: str = option(
        "", "ages from which a type's interactions no longer count: TYPE:DURATION,..., as view:30d"
    )
    type_caps: str = option(
        "", "how many of a type's newest interactions are pooled: TYPE:COUNT,..., as view:100"
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of a request. GetServerInfo publishes them all."""

    max_id_bytes: int = option(256, "bytes of a user_id, item_id or event_id")
    max_text_chars: int = option(100_000, "characters of one text")
    max_tags: int = option(64, "tags of an item")
    max_attributes: int = option(64, "attributes of an item, a user or an event")
    max_attribute_name_bytes: int = option(64, "bytes of an attribute's name")
    max_attribute_bytes: int = option(1_024, "bytes of one text of an attribute")
    max_attribute_texts: int = option(64, "texts in the set that an attribute is")
    # Above what the segments have room for on average, a full generation may refuse.
    max_facts: int = option(
        256, "values of an item that filters test: its category, brand, tags, price, attributes"
    )
    max_filter_depth: int = option(8, "filters inside one another, a condition being the last")
    max_filters: int = option(64, "conditions and groups of one filter")
    max_filter_values: int = option(256, "values in all the one_of of one filter")
    max_columns: int = option(128, "columns that a worker keeps at hand for filters")
    max_column_bytes: int = option(512 << 20, "bytes of these columns, but for the one in use")
    max_masks: int = option(256, "answers to filters that a worker remembers")
    max_mask_bytes: int = option(64 << 20, "bytes of these answers")
    max_candidates: int = option(10_000, "candidates of one RankRequest")
    max_k: int = option(1_000, "items returned by one RankRequest")
    max_exclusions: int = option(10_000, "excluded items of one RankRequest")
    max_explained: int = option(100, "items of one answer that carry reasons")
    max_reasons: int = option(16, "reasons of one item")
    max_explained_scores: int = option(20, "items of one ExplainRequest")
    max_weight: int = option(1_000_000, "magnitude of a weight in a request")
    max_batch_rank_entries: int = option(1_024, "entries of one BatchRankRequest")
    max_as_of_waiting: int = option(4, "requests as of a time that wait for their popularity")
    max_stream_requests: int = option(
        256, "requests in flight on one StreamRank before it reads on"
    )
    max_events: int = option(5_000, "events of one RecordEventsRequest")
    max_event_text_chars: int = option(2_000, "characters of an event's text")
    max_stream_events: int = option(
        1_024, "events in flight on one StreamEvents or ImportEvents; each 4 KiB counts as one"
    )
    max_stream_remembered: int = option(
        4_096, "events that one StreamEvents remembers, to tell duplicates"
    )
    max_import_failures: int = option(100, "failures that one ImportEventsResponse lists")
    max_interests: int = option(16, "interests of one user")
    max_identities: int = option(16, "identities of one user")
    max_session_events: int = option(255, "events of one session")
    max_kept_texts: int = option(500_000, "texts of events and users that are kept with a vector")
    max_items: int = option(1_000, "items of one UpsertItems-, DeleteItems- or ImportItemsRequest")
    max_import_in_flight: int = option(
        2_000, "records (of 4 KiB) of one import that wait for the log before no more are read"
    )
    max_mask_paths: int = option(256, "paths of one update_mask")
    max_texts: int = option(512, "texts of one EmbedRequest or TokenizeRequest")
    max_stream_texts: int = option(
        256, "texts of one EmbedStream in flight before no more are read"
    )
    max_wait_ms: int = option(10_000, "longest wait for min_token, ms")
    default_wait_ms: int = option(1_000, "wait for min_token where the request gives none, ms")
    # Of texts, bulk may take three quarters.
    max_queued: int = option(
        2_048,
        "in a worker, each: rankings waiting in one lane; texts waiting for the encoder or in it",
    )
    max_batch_requests: int = option(64, "entries the engine computes together")
    default_timeout_s: float = option(10.0, "deadline of a call that gives none, s")
    # Below a broker's own limit (1,048,588 by default), which counts the key and the batch too.
    max_record_bytes: int = option(1_000_000, "largest Kafka record, bytes")


@dataclass(frozen=True, slots=True)
class Threads:
    """One budget of threads, split so that the sum stays near the cores."""

    kernels: int = option(0, "threads of the ranking kernels in a worker; 0: cores / workers")
    encoder: int = option(1, "threads of the encoder in the ingest process and in each worker")
    tokenizers: int = option(2, "threads of each worker that make tokens of texts")


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it."""

    listen: Listen = Listen()
    kafka: Kafka = Kafka()
    state: State = State()
    encoding: Encoding = Encoding()
    scoring: Scoring = Scoring()
    limits: Limits = Limits()
    threads: Threads = Threads()


@dataclass(frozen=True, slots=True)
class Option:
    """One setting as the command line sees it: unique ``name``, its type, default and help."""

    section: str
    name: str
    type: type
    default: Any
    doc: str


def options() -> Iterator[Option]:
    """Every setting, in the order of the dataclasses."""
    for section in dataclasses.fields(Settings):
        concern = typing.get_type_hints(Settings)[section.name]
        hints = typing.get_type_hints(concern)
        for field in dataclasses.fields(concern):
            yield Option(
                section.name, field.name, hints[field.name], field.default, field.metadata["doc"]
            )


def from_mapping(values: Mapping[str, Any]) -> Settings:
    """Settings from ``{name: value}``; a missing name keeps its default.

    Raises:
        InvalidArgument: an unknown name, or a value of another type.
    """
    known = {o.name: o for o in options()}
    sections: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        found = known.get(name)
        if found is None:
            raise InvalidArgument(name, f"no such setting; there are {', '.join(sorted(known))}")
        sections.setdefault(found.section, {})[name] = _coerce(found, value)
    concerns = typing.get_type_hints(Settings)
    return Settings(**{s: concerns[s](**fields) for s, fields in sections.items()})


def encoding_from(values: Mapping[str, Any], base: Encoding = Encoding()) -> Encoding:  # noqa: B008 - a frozen value
    """An encoder's settings from ``{name: value}``; a text is read as what the setting is.

    Raises:
        InvalidArgument: an unknown name, or a value of another type.
    """
    known = {o.name: o for o in options() if o.section == "encoding"}
    found = dataclasses.asdict(base)
    for name, value in values.items():
        if name not in known:
            problem = f"no such setting of an encoder; there are {', '.join(sorted(known))}"
            raise InvalidArgument(name, problem)
        found[name] = _coerce(known[name], _parsed(known[name], value))
    return Encoding(**found)


def _parsed(found: Option, value: Any) -> Any:
    """A text as the setting's type, where it reads so; ``_coerce`` refuses it where not."""
    if not isinstance(value, str) or found.type is str:
        return value
    if found.type is bool:
        return {"true": True, "false": False}.get(value.lower(), value)
    try:
        return found.type(value)
    except ValueError:
        return value


def to_json(settings: Settings) -> str:
    """A flat JSON object that ``from_mapping`` reads back."""
    nested = dataclasses.asdict(settings)
    return json.dumps({name: v for section in nested.values() for name, v in section.items()})


def from_json(text: str) -> Settings:
    """Reads what ``to_json`` wrote."""
    return from_mapping(json.loads(text))


def _coerce(found: Option, value: Any) -> Any:
    if found.type is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not found.type:
        problem = f"{value!r} is {type(value).__name__}, expected {found.type.__name__}"
        raise InvalidArgument(found.name, problem)
    return value
