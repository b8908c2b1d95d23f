"""What is asked: one ranking, and its protobuf form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rankstream.client import checks
from rankstream.client.errors import InvalidArgument, invalid
from rankstream.proto.v1 import common_pb2, ranking_pb2

Candidates: TypeAlias = Sequence[str] | NDArray[np.uint64] | NDArray[np.str_] | None


@dataclass(frozen=True, slots=True, eq=False)
class RankQuery:
    """What to rank for one user.

    Attributes:
        user_id: for whom; an unknown user gets a stated fallback.
        candidates: C item ids, or their keys as uint64 [C] (``item_keys``; twice as fast); None:
            the whole catalogue.
        k: how many to return; None: 10 from the whole catalogue, all of given candidates.
        exclude_item_ids: items to leave out.
        exclude_seen: leave out what this user has already acted on.
        explain_items: how many of the best items carry reasons; None with ``reasons`` None: none,
            else 10.
        reasons: how many past interactions to name for each; None with ``explain_items`` None:
            none, else 3.
        min_token: of an earlier write that this answer has to see; empty: no wait.
        max_wait_ms: longest wait for it; None: the server's default.
        allow_stale: answer with what there is when the wait ends.
        request_id: echoed in the answer and in the server's logs.
    """

    user_id: str
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


def query_to_pb(query: RankQuery) -> ranking_pb2.RankRequest:
    """Protobuf form.

    Raises:
        InvalidArgument: a field has the wrong type or range; names it.
    """
    request = ranking_pb2.RankRequest(
        request_id=checks.text("request_id", query.request_id),
        user_id=checks.text("user_id", query.user_id),
        k=_count_or_none("k", query.k),
        exclude_item_ids=_id_list("exclude_item_ids", query.exclude_item_ids),
        exclude_seen=query.exclude_seen,
    )
    _set_candidates(request, query.candidates)
    wait = read_after(query.min_token, query.max_wait_ms, query.allow_stale)
    if wait is not None:
        request.read_after.CopyFrom(wait)
    if query.explain_items is not None or query.reasons is not None:
        items = _count_or_none("explain_items", query.explain_items)
        reasons = _count_or_none("reasons", query.reasons)
        request.explain.CopyFrom(ranking_pb2.Explain(items=items, reasons=reasons))
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
    wait_ms = _count_or_none("max_wait_ms", max_wait_ms)
    return common_pb2.ReadAfter(min_token=min_token, max_wait_ms=wait_ms, allow_stale=allow_stale)


def _set_candidates(request: ranking_pb2.RankRequest, candidates: Candidates) -> None:
    """An empty choice is still a choice: presence is set even where nothing is in it."""
    if candidates is None:
        request.whole_catalogue.SetInParent()
    elif not isinstance(candidates, np.ndarray):
        ids = _id_list("candidates", candidates)
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


def _id_list(field: str, ids: Sequence[str]) -> list[str]:
    if isinstance(ids, str | bytes):
        raise invalid(field, f"{ids!r} is one string; expected a sequence of item ids")
    listed = list(ids)
    try:
        "".join(listed).encode()
    except (TypeError, UnicodeEncodeError):
        raise _bad_id(field, listed) from None
    return listed


def _bad_id(field: str, ids: list[str]) -> InvalidArgument:
    """Says which of the ids is wrong."""
    for index, item_id in enumerate(ids):
        try:
            checks.text(f"{field}[{index}]", item_id)
        except InvalidArgument as found:
            return found
    return invalid(field, "are not all text; expected a sequence of item ids")


def _count_or_none(field: str, value: int | None) -> int | None:
    return None if value is None else checks.count(field, value)
