"""What is asked: one ranking, and its protobuf form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rankstream.client import checks
from rankstream.client.attributes import Attributes, attributes_to_pb
from rankstream.client.errors import InvalidArgument, invalid
from rankstream.client.filters import Filter, filter_to_pb
from rankstream.client.records import Event, event_to_pb
from rankstream.client.vectors import vector_to_pb
from rankstream.proto.v1 import common_pb2, ranking_pb2

Candidates: TypeAlias = Sequence[str] | NDArray[np.uint64] | NDArray[np.str_] | None


@dataclass(frozen=True, slots=True)
class Pooling:
    """How past interactions count in one request; what is None is as the server is configured.

    Attributes:
        half_life_s: seconds in which an interaction loses half its weight.
        type_weights: by event type.
        profile_text_weight: of what the user says about themselves, beside an interaction's.
        ttl_s: seconds from which an interaction no longer counts.
    """

    half_life_s: float | None = None
    type_weights: Mapping[str, float] = field(default_factory=dict, hash=False)
    profile_text_weight: float | None = None
    ttl_s: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RankQuery:
    """What to rank, and for whom.

    The subject is one of ``user_id``, ``session`` and ``vector``; ``query`` joins it, or stands
    alone.

    Attributes:
        user_id: for whom; an unknown user gets a stated fallback.
        candidates: C item ids, or their keys as uint64 [C] (``item_keys``; twice as fast); None:
            the whole catalogue, or what ``filter`` lets pass.
        filter: which items of the catalogue may be answered.
        k: how many to return; None: 10 from the catalogue, all of given candidates.
        session: events, without user_id, of somebody who is not stored.
        vector: float32 [D] of the text block, or of a whole row.
        vector_space: of which space it is (``embed`` says ``served_by.space_fingerprint``), so that
            a server of another space refuses it; "": not checked.
        query: what is wanted, in words.
        query_weight: how much it counts beside the subject's own vector; None: 1.
        context: what is known of the moment: device, page, hour.
        exclude_item_ids: items to leave out.
        exclude_seen: leave out what this user has already acted on.
        block_weights: by block; one that is not named keeps the server's weight.
        pooling: how past interactions count; None: as the server is configured.
        as_of_ms: answer as of this time, ms since the epoch; for evaluation.
        explain_items: how many of the best items carry reasons; None with ``reasons`` None: none,
            else 10.
        reasons: how many past interactions to name for each; None with ``explain_items`` None:
            none, else 3.
        min_token: of an earlier write that this answer has to see; empty: no wait.
        max_wait_ms: longest wait for it; None: the server's default.
        allow_stale: answer with what there is when the wait ends.
        request_id: echoed in the answer and in the server's logs.
    """

    user_id: str = ""
    candidates: Candidates = None
    k: int | None = None
    exclude_item_ids: Sequence[str] = ()
    exclude_seen: bool = False
    explain_items: int | None = None
    reasons: int | None = None
    min_token: bytes = b""
    max_wait_ms: int | None = None
    allow_stale: bool = False
    request_id: str = ""
    filter: Filter | None = None
    session: Sequence[Event] | None = None
    vector: NDArray[np.float32] | Sequence[float] | None = None
    query: str = ""
    query_weight: float | None = None
    context: Attributes = field(default_factory=dict)
    block_weights: Mapping[str, float] = field(default_factory=dict)
    pooling: Pooling | None = None
    as_of_ms: int | None = None
    vector_space: str = ""


def query_to_pb(query: RankQuery) -> ranking_pb2.RankRequest:
    """Protobuf form.

    Raises:
        InvalidArgument: a field has the wrong type or range; names it.
    """
    request = ranking_pb2.RankRequest(
        request_id=checks.text("request_id", query.request_id),
        k=count_or_none("k", query.k),
        exclude_item_ids=id_list("exclude_item_ids", query.exclude_item_ids),
        exclude_seen=query.exclude_seen,
    )
    _set_subject(request, query)
    _set_candidates(request, query)
    wait = read_after(query.min_token, query.max_wait_ms, query.allow_stale)
    if wait is not None:
        request.read_after.CopyFrom(wait)
    if query.explain_items is not None or query.reasons is not None:
        items = count_or_none("explain_items", query.explain_items)
        reasons = count_or_none("reasons", query.reasons)
        request.explain.CopyFrom(ranking_pb2.Explain(items=items, reasons=reasons))
    if query.context or query.block_weights or query.pooling or query.as_of_ms is not None:
        _set_overrides(request, query)
    return request


def read_after(
    min_token: bytes, max_wait_ms: int | None, allow_stale: bool = False
) -> common_pb2.ReadAfter | None:
    """The freshness clause of a read; None without a token."""
    if not min_token:
        return None
    if not isinstance(min_token, bytes):
        problem = f"{checks.shown(min_token)}; expected the token of a write, bytes"
        raise invalid(field="min_token", problem=problem)
    wait_ms = count_or_none("max_wait_ms", max_wait_ms)
    return common_pb2.ReadAfter(min_token=min_token, max_wait_ms=wait_ms, allow_stale=allow_stale)


def count_or_none(field: str, value: int | None) -> int | None:
    """``value`` where it is None or an integer from 0 to 4294967295."""
    return None if value is None else checks.count(field, value)


def id_list(field: str, ids: Sequence[str]) -> list[str]:
    """``ids`` as a list where all are text."""
    if isinstance(ids, str | bytes):
        raise invalid(field, f"{ids!r} is one string; expected a sequence of item ids")
    listed = list(ids)
    try:
        "".join(listed).encode()
    except (TypeError, UnicodeEncodeError):
        raise _bad_id(field, listed) from None
    return listed


def _set_subject(request: ranking_pb2.RankRequest, query: RankQuery) -> None:
    """An empty session is still a subject; no subject at all is an empty user_id."""
    given = {"user_id": query.user_id or None, "session": query.session, "vector": query.vector}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise invalid(
            field="subject", problem=f"{' and '.join(named)} are given; expected one of them"
        )
    if query.session is not None:
        events = [event_to_pb(event, with_id=False) for event in query.session]
        request.session.CopyFrom(ranking_pb2.Session(events=events))
    elif query.vector is not None:
        request.vector.CopyFrom(vector_to_pb("vector", query.vector))
        request.vector.space = checks.text("vector_space", query.vector_space)
    elif query.user_id or not query.query:
        request.user_id = checks.text("user_id", query.user_id)
    if query.query or query.query_weight is not None:
        weight = query.query_weight
        request.query.text = checks.text("query", query.query)
        if weight is not None:
            request.query.weight = checks.number("query_weight", weight)


def _set_overrides(request: ranking_pb2.RankRequest, query: RankQuery) -> None:
    """What few requests carry."""
    for name, value in attributes_to_pb("context", query.context).items():
        request.context[name].CopyFrom(value)
    request.block_weights.update(checks.numbers("block_weights", query.block_weights))
    if query.as_of_ms is not None:
        request.as_of_ms = checks.moment_ms("as_of_ms", query.as_of_ms)
    if query.pooling is not None:
        request.pooling.CopyFrom(_pooling_to_pb(query.pooling))


def _pooling_to_pb(pooling: Pooling) -> ranking_pb2.Pooling:
    given: dict[str, Any] = {}
    for label in ("half_life_s", "profile_text_weight", "ttl_s"):
        if getattr(pooling, label) is not None:
            given[label] = checks.number(f"pooling.{label}", getattr(pooling, label))
    weights = checks.numbers("pooling.type_weights", pooling.type_weights)
    return ranking_pb2.Pooling(type_weights=weights, **given)


def _set_candidates(request: ranking_pb2.RankRequest, query: RankQuery) -> None:
    """An empty choice is still a choice: presence is set even where nothing is in it."""
    candidates = query.candidates
    if query.filter is not None:
        if candidates is not None:
            raise invalid(
                field="candidates", problem="are given beside a filter; expected one of them"
            )
        request.filter.CopyFrom(filter_to_pb("filter", query.filter))
    elif candidates is None:
        request.whole_catalogue.SetInParent()
    elif not isinstance(candidates, np.ndarray):
        ids = id_list("candidates", candidates)
        request.item_ids.CopyFrom(ranking_pb2.ItemIds(item_ids=ids))
    elif candidates.ndim != 1:
        problem = f"is an array of shape {candidates.shape}; expected [C]"
        raise invalid(field="candidates", problem=problem)
    elif candidates.dtype == np.uint64:
        request.item_keys.CopyFrom(ranking_pb2.ItemKeys(item_keys=candidates.tolist()))
    elif candidates.dtype.kind == "U":
        request.item_ids.CopyFrom(ranking_pb2.ItemIds(item_ids=candidates.tolist()))
    else:
        problem = f"is an array of {candidates.dtype}; expected uint64 keys or strings"
        raise invalid(field="candidates", problem=problem)


def _bad_id(field: str, ids: list[str]) -> InvalidArgument:
    """Says which of the ids is wrong."""
    for index, item_id in enumerate(ids):
        try:
            checks.text(f"{field}[{index}]", item_id)
        except InvalidArgument as found:
            return found
    return invalid(field, "are not all text; expected a sequence of item ids")
