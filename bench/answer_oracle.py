"""What must be true of any answer, checked against its request and the catalogue's public reads.

Of a ranking: scores are fp32 of the sum of their parts and bias, items stand by falling score and
at equal scores by row, nothing comes twice, everything was asked for, and what is reported missing
is what the catalogue does not hold. Whether the parts themselves are right is for
``score_oracle.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import grpc
import numpy as np
from load_calls import KINDS, MADE_UP

from rankstream.proto.v1 import catalog_pb2, catalog_pb2_grpc, events_pb2, ranking_pb2

_TIMEOUT_S = 10.0
_MAX_K = 1_000


class Rows:
    """Rows of items, as GetItem says; one that does not exist has none."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._catalog = catalog_pb2_grpc.CatalogStub(channel)

    def of(self, item_id: str) -> int | None:
        """The item's row."""
        request = catalog_pb2.GetItemRequest(item_id=item_id)
        try:
            return int(self._catalog.GetItem(request, timeout=_TIMEOUT_S).item_row)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return None
            raise


class AnswerOracle:
    """Checks answers of every kind of call."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def problems(self, kind: str, request: bytes, answer: bytes) -> list[str]:
        """What is wrong with an answer, in words; nothing where it is right."""
        return [
            problem
            for asked, found in rankings_in(kind, request, answer)
            for problem in self.problems_of_ranking(asked, found)
        ] + list(_lengths_differ(kind, request, answer))

    def problems_of_ranking(
        self, request: ranking_pb2.RankRequest, response: ranking_pb2.RankResponse
    ) -> list[str]:
        """The same of one ranking."""
        about = f"{request.request_id or request.user_id!r}: "
        checks = (_identity, _membership, _count, _scores)
        found = [p for check in checks for p in check(request, response)]
        found += self._order(response)
        found += self._missing(request, response)
        return [about + problem for problem in found]

    def _order(self, response: ranking_pb2.RankResponse) -> Iterator[str]:
        scores = [item.score for item in response.items]
        for place, (better, worse) in enumerate(zip(scores, scores[1:], strict=False)):
            first, second = response.items[place].item_id, response.items[place + 1].item_id
            if not better >= worse:
                yield f"{second} ({worse}) stands behind {first} ({better})"
            elif better == worse:
                rows = self._rows.of(first), self._rows.of(second)
                if None not in rows and rows[0] > rows[1]:  # type: ignore[operator] # no None
                    yield f"{first} of row {rows[0]} stands before {second} of row {rows[1]}, tied"

    def _missing(
        self, request: ranking_pb2.RankRequest, response: ranking_pb2.RankResponse
    ) -> Iterator[str]:
        missing = set(response.missing_item_ids)
        for name in request.item_ids.item_ids:
            if name.startswith(MADE_UP) and name not in missing:
                yield f"{name}, which does not exist, is not reported missing"
        for name in missing:
            if not name.startswith(MADE_UP) and self._rows.of(name) is not None:
                yield f"{name}, which exists, is reported missing"


def rankings_in(
    kind: str, request: bytes, answer: bytes
) -> Iterator[tuple[ranking_pb2.RankRequest, ranking_pb2.RankResponse]]:
    """Each request for a ranking with what answers it; entries that failed are left out."""
    found = KINDS[kind].answer.FromString(answer)
    if isinstance(found, ranking_pb2.RankResponse):
        yield ranking_pb2.RankRequest.FromString(request), found
    elif isinstance(found, ranking_pb2.BatchRankEntry) and not found.status.code:
        yield ranking_pb2.RankRequest.FromString(request), found.response
    elif isinstance(found, ranking_pb2.BatchRankResponse):
        asked = ranking_pb2.BatchRankRequest.FromString(request).requests
        for one, entry in zip(asked, found.entries, strict=False):
            if not entry.status.code:
                yield one, entry.response


def _lengths_differ(kind: str, request: bytes, answer: bytes) -> Iterator[str]:
    if not KINDS[kind].has_entries:
        return
    if kind == "events":
        asked = len(events_pb2.RecordEventsRequest.FromString(request).events)
        given = len(events_pb2.RecordEventsResponse.FromString(answer).results)
    else:
        asked = len(ranking_pb2.BatchRankRequest.FromString(request).requests)
        given = len(ranking_pb2.BatchRankResponse.FromString(answer).entries)
    if asked != given:
        yield f"{kind}: {given} entries answer {asked}"


def _identity(
    request: ranking_pb2.RankRequest, response: ranking_pb2.RankResponse
) -> Iterator[str]:
    if response.request_id != request.request_id:
        yield f"request_id is {response.request_id!r}"
    ranks = [item.rank for item in response.items]
    if ranks != list(range(1, len(ranks) + 1)):
        yield f"ranks are {ranks[:10]}, expected 1, 2, ..."


def _membership(
    request: ranking_pb2.RankRequest, response: ranking_pb2.RankResponse
) -> Iterator[str]:
    ids, missing = [item.item_id for item in response.items], response.missing_item_ids
    yield from _repeated("items", ids)
    yield from _repeated("missing_item_ids", missing)
    if both := set(ids) & set(missing):
        yield f"{sorted(both)[:3]} are ranked, and reported missing"
    if request.WhichOneof("candidates") == "item_ids":
        if strangers := {*ids, *missing} - set(request.item_ids.item_ids):
            yield f"{sorted(strangers)[:3]} were no candidates"
    elif missing:
        yield f"{list(missing)[:3]} are reported missing, but none was given"
    if excluded := set(ids) & set(request.exclude_item_ids):
        yield f"{sorted(excluded)[:3]} were excluded"


def _count(request: ranking_pb2.RankRequest, response: ranking_pb2.RankResponse) -> Iterator[str]:
    given = len(response.items)
    if request.WhichOneof("candidates") != "item_ids":
        if given > request.k:
            yield f"{given} items, {request.k} were asked for"
        return
    wanted = set(request.item_ids.item_ids) - set(request.exclude_item_ids)
    there = len(wanted - set(response.missing_item_ids))
    expected = min(request.k if request.HasField("k") else _MAX_K, there)
    # What a user has seen is known to the server alone.
    if given > expected or (given < expected and not request.exclude_seen):
        yield f"{given} items, expected {expected}: some candidate is neither ranked nor missing"


def _scores(request: ranking_pb2.RankRequest, response: ranking_pb2.RankResponse) -> Iterator[str]:
    for item in response.items:
        if len(item.parts.blocks) != len(response.block_names):
            yield f"{item.item_id} has {len(item.parts.blocks)} parts, not one a block"
            continue
        expected = np.float32(sum(item.parts.blocks) + item.parts.bias)
        # A score is summed in another order than its parts are: one rounding may differ.
        if not abs(item.score - expected) <= np.spacing(max(abs(expected), np.float32(1e-6))):
            yield f"{item.item_id} has score {item.score}, its parts give {expected}"


def _repeated(name: str, ids: Sequence[str]) -> Iterator[str]:
    if len(set(ids)) < len(ids):
        twice = sorted({one for one in ids if ids.count(one) > 1})
        yield f"{twice[:3]} stand in {name} more than once"
