"""Ranking: one user or many, from given candidates or the whole catalogue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from rankstream.proto.v1 import ranking_pb2, ranking_pb2_grpc
from rankstream.server.announce import Announcements
from rankstream.server.batcher import Batcher
from rankstream.server.catalog.blocks import Layout
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument, RankstreamError
from rankstream.server.freshness import Freshness
from rankstream.server.interceptors import Context, deadline_of, status_of
from rankstream.server.types import RankAnswer, RankTask
from rankstream.server.wire import (
    Names,
    freshness_to_pb,
    rank_answer_to_pb,
    rank_task_from_pb,
    read_after_from_pb,
)

_Ready = tuple[RankTask, bool]


class RankingService(ranking_pb2_grpc.RankingServicer):
    """Decode, await the engine, encode."""

    def __init__(
        self,
        batcher: Batcher[RankTask, RankAnswer],
        freshness: Freshness,
        page: Announcements,
        layout: Layout,
        names: Names,
        limits: Limits,
    ) -> None:
        self._batcher = batcher
        self._freshness = freshness
        self._page = page
        self._layout = layout
        self._names = names
        self._limits = limits

    async def Rank(  # noqa: N802 - the name that gRPC gives
        self, request: ranking_pb2.RankRequest, context: Context
    ) -> ranking_pb2.RankResponse:
        """Ranks for one user."""
        started = time.monotonic()
        deadline = deadline_of(context, self._limits.default_timeout_s)
        task = rank_task_from_pb(request, self._limits, "")
        after = read_after_from_pb(request.read_after, self._limits)
        stale = await self._freshness.wait(after, deadline)
        answer = await self._batcher.submit(task, deadline)
        return self._encode(answer, task, request.request_id, stale, started)

    async def BatchRank(  # noqa: N802
        self, request: ranking_pb2.BatchRankRequest, context: Context
    ) -> ranking_pb2.BatchRankResponse:
        """Ranks for many users; an entry that fails has a status and spoils no other."""
        started = time.monotonic()
        deadline = deadline_of(context, self._limits.default_timeout_s)
        count, limit = len(request.requests), self._limits.max_batch_rank_entries
        if count > limit:
            raise InvalidArgument(
                field="requests", problem=f"{count} entries, the limit is {limit}"
            )
        prepared = await self._prepare_all(request.requests, deadline)
        tasks = [p[0] for p in prepared if isinstance(p, tuple)]
        answers = iter(await self._batcher.submit_many(tasks, deadline))
        response = ranking_pb2.BatchRankResponse()
        for entry, outcome in zip(request.requests, prepared, strict=True):
            answer = next(answers) if isinstance(outcome, tuple) else outcome
            if isinstance(outcome, tuple) and isinstance(answer, RankAnswer):
                task, stale = outcome
                encoded = self._encode(answer, task, entry.request_id, stale, started)
                response.entries.add(response=encoded)
            elif isinstance(answer, BaseException):
                response.entries.add(status=status_of(answer))
        return response

    async def _prepare_all(
        self, requests: Sequence[ranking_pb2.RankRequest], deadline: float
    ) -> Sequence[_Ready | RankstreamError]:
        entries = [self._prepare(i, r, deadline) for i, r in enumerate(requests)]
        if any(r.read_after.min_token for r in requests):
            # Side by side: tokens that never come cost one wait, not one each.
            return await asyncio.gather(*entries)
        return [await entry for entry in entries]

    async def _prepare(
        self, index: int, request: ranking_pb2.RankRequest, deadline: float
    ) -> _Ready | RankstreamError:
        field = f"requests[{index}]."
        try:
            task = rank_task_from_pb(request, self._limits, field)
            after = read_after_from_pb(request.read_after, self._limits, field)
            return task, await self._freshness.wait(after, deadline)
        except RankstreamError as error:
            return error

    def _encode(
        self, answer: RankAnswer, task: RankTask, request_id: str, stale: bool, started: float
    ) -> ranking_pb2.RankResponse:
        fresh = freshness_to_pb(
            answer.applied, self._page, self._names.topics, answer.head.catalogue_version
        )
        fresh.profile_updated_at_ms, fresh.stale = answer.updated_at_ms, stale
        response = rank_answer_to_pb(answer, task, request_id, self._layout, self._names, fresh)
        response.timing.total_us = int((time.monotonic() - started) * 1e6)
        return response
