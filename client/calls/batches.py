"""A batch of any size as calls that the server takes, and their answers as one list."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from rankstream.client.calls.admin import server_info_call
from rankstream.client.calls.shapes import Plan, Together, Unary
from rankstream.client.errors import DataLoss, InvalidArgument, RankstreamError
from rankstream.client.queries import RankQuery, query_to_pb
from rankstream.client.rankings import Ranking, entry_from_pb
from rankstream.proto.v1 import ranking_pb2

if TYPE_CHECKING:
    from rankstream.client.host import Host

Entries: TypeAlias = list[Ranking | RankstreamError]

# Half of what a server takes in one message by default.
MAX_BATCH_BYTES = 8 << 20


def rank_in_batches(host: Host, queries: list[RankQuery], timeout_s: float | None) -> Plan[Entries]:
    """Answers for all queries, in their order; a failed one is its error, in its place.

    Raises:
        RankstreamError: every call failed; this is the first one's error.
    """
    longest = max((query.max_wait_ms or 0 for query in queries if query.min_token), default=0)
    prepared = [_prepare(query) for query in queries]
    requests = [entry for entry in prepared if isinstance(entry, ranking_pb2.RankRequest)]
    limit = (yield from _entries_per_call(host)) if requests else 1
    answered: list[Entries | RankstreamError] = []
    entries: Entries = []
    batches = _batches(requests, limit)
    while group := list(islice(batches, host.connection_count)):
        calls = [Unary("Ranking/BatchRank", b, _entries, timeout_s, longest) for b in group]
        for answer, batch in zip((yield Together(calls)), group, strict=True):
            answered.append(_checked(answer, len(batch.requests)))
            entries += _spread(answered[-1], len(batch.requests))
    if answered and all(isinstance(answer, RankstreamError) for answer in answered):
        raise next(answer for answer in answered if isinstance(answer, RankstreamError))
    in_turn = iter(entries)
    return [entry if isinstance(entry, InvalidArgument) else next(in_turn) for entry in prepared]


def _prepare(query: RankQuery) -> ranking_pb2.RankRequest | InvalidArgument:
    try:
        return query_to_pb(query)
    except InvalidArgument as error:
        return error


def _entries_per_call(host: Host) -> Plan[int]:
    """The server's limit, asked for once; the client's where nobody answers."""
    if host.batch_limit is None:
        try:
            info = yield server_info_call(timeout_s=1.0)
            limit = info.limits.get("max_batch_rank_entries")
        except RankstreamError:
            limit = None
        host.batch_limit = limit.value if limit and limit.value > 0 else host.batch_fallback
    return host.batch_limit


def _batches(
    requests: list[ranking_pb2.RankRequest], max_entries: int
) -> Iterator[ranking_pb2.BatchRankRequest]:
    """Consecutive requests, as many in a batch as entries and bytes allow, at least one."""
    batch = ranking_pb2.BatchRankRequest()
    size = 0
    for request in requests:
        bytes_more = request.ByteSize()
        full = len(batch.requests) == max_entries or size + bytes_more > MAX_BATCH_BYTES
        if batch.requests and full:
            yield batch
            batch, size = ranking_pb2.BatchRankRequest(), 0
        batch.requests.append(request)
        size += bytes_more
    if batch.requests:
        yield batch


def _entries(response: ranking_pb2.BatchRankResponse) -> Entries:
    return [entry_from_pb(entry) for entry in response.entries]


def _checked(answer: Entries | RankstreamError, size: int) -> Entries | RankstreamError:
    """The answers of one call, or why there are none."""
    if isinstance(answer, list) and len(answer) != size:
        return DataLoss(f"the answer holds {len(answer)} entries for {size} requests")
    return answer


def _spread(answer: Entries | RankstreamError, size: int) -> Entries:
    return [answer] * size if isinstance(answer, RankstreamError) else answer
