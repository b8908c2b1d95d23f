"""The words that the server's parts exchange: immutable values, and nothing that does something."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NewType

import numpy as np
from numpy.typing import NDArray

from rankstream.server.candidates import Given, count_candidates
from rankstream.server.filters import Filter

UserId = NewType("UserId", str)
ItemId = NewType("ItemId", str)

Lane = Literal["events", "items", "users"]


# Copying a hash costs a third of what making one with its parameters does.
_ITEM_HASH = hashlib.blake2b(digest_size=8, person=b"item")


def item_key(item_id: str) -> int:
    """The stable 64-bit key of an item: BLAKE2b-64 personalised ``item``, little-endian."""
    return int.from_bytes(_item_digest(item_id), "little")


def item_keys(item_ids: Iterable[str]) -> NDArray[np.uint64]:
    """``item_key`` of each: ``uint64 [n]``."""
    return np.frombuffer(bytearray().join(map(_item_digest, item_ids)), "<u8")


def _item_digest(item_id: str) -> bytes:
    hashed = _ITEM_HASH.copy()
    hashed.update(item_id.encode())
    return hashed.digest()


_TEXT_HASH = hashlib.blake2b(digest_size=8, person=b"text")


def text_key(text: str) -> int:
    """The stable 64-bit key of a normal text: BLAKE2b-64 personalised ``text``, little-endian."""
    hashed = _TEXT_HASH.copy()
    hashed.update(text.encode())
    return int.from_bytes(hashed.digest(), "little")


def normal_text(text: str) -> str:
    """The text without white space around it; runs of white space become one space."""
    return " ".join(text.split())


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where one lane stands in one partition: ``next_offset`` is the first record not applied."""

    lane: Lane
    topic_id: bytes
    partition: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Head:
    """The counts that one read transaction sees.

    Attributes:
        generation: which folder of segments the rows live in.
        rows: rows of that generation that are visible.
        catalogue_version: grows by one with each commit that changes what can be ranked.
        items: live items.
    """

    generation: int
    rows: int
    catalogue_version: int
    items: int


@dataclass(frozen=True, slots=True)
class ReadAfter:
    """The freshness that a request asks for.

    Attributes:
        wanted: positions that the state must have reached; empty: any state will do.
        max_wait_s: longest wait for them; None: the server's default.
        allow_stale: answer from what there is when the wait ends.
    """

    wanted: tuple[Position, ...]
    max_wait_s: float | None
    allow_stale: bool


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """Interactions of somebody who is not stored, by time.

    Attributes:
        target_keys: ``uint64 [T]``.
        weights: ``float32 [T]``, signed.
        event_times_ms: ``int64 [T]``, rising.
        types: ``uint16 [T]``.
        exts: ``uint16 [T]``, as in a stored record.
        texts: what its texts are, by key.
    """

    target_keys: NDArray[np.uint64]
    weights: NDArray[np.float32]
    event_times_ms: NDArray[np.int64]
    types: NDArray[np.uint16]
    exts: NDArray[np.uint16]
    texts: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Query:
    """What is wanted, in words, and how much it counts beside the subject's own vector."""

    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class PoolingChange:
    """What one request pools differently; None, and types not named: as configured.

    Attributes:
        half_life_ms: of every type.
        ttl_ms: of every type.
        type_weights: by type id.
        interests_weight: of what the user says of themselves.
    """

    half_life_ms: float | None = None
    ttl_ms: int | None = None
    type_weights: Mapping[int, float] = field(default_factory=dict)
    interests_weight: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What a ranking asks for beyond a stored user and what is configured.

    Attributes:
        session: the subject, instead of a user.
        vector: the subject: ``float32 [D]`` of the text block or of a whole row.
        item_key: the subject is this item's row.
        query: joins the subject, or stands alone.
        block_weights: ``float64 [n_blocks]``.
        pooling: how interactions count.
        as_of_ms: what is later does not count.
        with_bias: whether popularity is part of the score.
        bias: popularity as it was, ``float32 [rows]``; None: as it is.
        encoded: vectors ``float32 [D]`` of the texts in ``texts``, once they are encoded.
    """

    session: Session | None = None
    vector: NDArray[np.float32] | None = None
    item_key: int | None = None
    query: Query | None = None
    block_weights: NDArray[np.float64] | None = None
    pooling: PoolingChange | None = None
    as_of_ms: int | None = None
    with_bias: bool = True
    bias: NDArray[np.float32] | None = None
    encoded: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def texts(self) -> list[str]:
        """The texts that must be encoded first."""
        found = list(self.session.texts.values()) if self.session is not None else []
        return [*found, self.query.text] if self.query is not None else found


@dataclass(frozen=True, slots=True, eq=False)
class RankTask:
    """One ranking, validated.

    Attributes:
        user: the user_id's bytes; empty where the subject is another.
        candidates: what to rank; None: the whole catalogue, or what ``filter`` passes of it.
        k: how many to return; 0: none.
        excluded: item keys ``uint64 [n]`` that must not be returned.
        exclude_seen: leave out what the user has acted on.
        explained: how many of the best items carry reasons.
        reasons: how many reasons each of them carries.
        filter: which items of the catalogue may be answered, where no candidates are given; None:
            all.
        asked: what it asks for beyond that; None: nothing.
    """

    user: bytes
    candidates: Given | None
    k: int
    excluded: NDArray[np.uint64]
    exclude_seen: bool
    explained: int
    reasons: int
    filter: Filter | None = None
    asked: Asked | None = None

    @property
    def n_candidates(self) -> int:
        """How many candidates are given, repeats counted."""
        return 0 if self.candidates is None else count_candidates(self.candidates)


@dataclass(frozen=True, slots=True, eq=False)
class ExplainTask:
    """Takes the scores of a ranking's candidates apart."""

    ranking: RankTask


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Microseconds of each stage of one engine batch, and how many tasks shared them."""

    gather_us: int
    pool_us: int
    score_us: int
    present_us: int
    batch_size: int


@dataclass(frozen=True, slots=True, eq=False)
class RankAnswer:
    """What the engine found for one task.

    Attributes:
        items: ``RankResponse.items``, encoded: the items, best first, with their parts and reasons.
        missing: the candidates that the catalogue does not hold: ids, or keys.
        fallback: why the answer is not personal, or "".
        updated_at_ms: the broker's timestamp of the newest record in the profile; 0: none.
        applied: the positions that this answer has seen.
        head: the catalogue it is from.
        queue_us: how long the task waited.
        times: its batch's stages.
    """

    items: memoryview
    missing: Sequence[str | int]
    fallback: str
    updated_at_ms: int
    applied: tuple[Position, ...]
    head: Head
    queue_us: int
    times: StageTimes
