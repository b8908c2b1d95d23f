"""A batch of any size as calls that the server takes, and their answers as one list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeAlias

from rankstream.client.errors import DataLoss, InvalidArgument, RankstreamError
from rankstream.client.queries import RankQuery, query_to_pb
from rankstream.client.rankings import Ranking
from rankstream.proto.v1 import ranking_pb2

Entries: TypeAlias = list[Ranking | RankstreamError]
Start: TypeAlias = Callable[[ranking_pb2.BatchRankRequest], Callable[[], Entries]]

# Half of what a server takes in one message by default.
MAX_BATCH_BYTES = 8 << 20


def rank_in_batches(
    queries: Sequence[RankQuery], max_entries: int, max_calls: int, start: Start
) -> Entries:
    """Answers for all queries, in their order; a failed one is its error, in its place.

    Args:
        queries: B queries.
        max_entries: entries of one call at most.
        max_calls: calls that may run at the same time.
        start: sends one call; what it returns waits for the answer.

    Raises:
        RankstreamError: every call failed; this is the first one's error.
    """
    prepared = [_prepare(query) for query in queries]
    requests = [entry for entry in prepared if isinstance(entry, ranking_pb2.RankRequest)]
    answers = iter(_send_all(requests, max_entries, max_calls, start))
    return [entry if isinstance(entry, InvalidArgument) else next(answers) for entry in prepared]


def _prepare(query: RankQuery) -> ranking_pb2.RankRequest | InvalidArgument:
    try:
        return query_to_pb(query)
    except InvalidArgument as error:
        return error


def _send_all(
    requests: list[ranking_pb2.RankRequest], max_entries: int, max_calls: int, start: Start
) -> Entries:
    answered: list[Entries | RankstreamError] = []
    entries: Entries = []
    batches = _batches(requests, max_entries)
    while group := list(islice(batches, max_calls)):
        waiting = [(start(batch), len(batch.requests)) for batch in group]
        for finish, size in waiting:
            answer = _answer(finish, size)
            answered.append(answer)
            entries += [answer] * size if isinstance(answer, RankstreamError) else answer
    if answered and all(isinstance(answer, RankstreamError) for answer in answered):
        raise next(answer for answer in answered if isinstance(answer, RankstreamError))
    return entries


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


def _answer(finish: Callable[[], Entries], size: int) -> Entries | RankstreamError:
    """The answers of one call, or why there are none."""
    try:
        entries = finish()
    except RankstreamError as error:
        return error
    if len(entries) != size:
        return DataLoss(f"the answer holds {len(entries)} entries for {size} requests")
    return entries
