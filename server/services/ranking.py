"""Ranking: one user or many, from given candidates or the whole catalogue."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from google.protobuf.json_format import MessageToDict

from rankstream.proto.v1 import common_pb2, ranking_pb2, ranking_pb2_grpc
from rankstream.server.announce import Announcements, slot_of
from rankstream.server.asked_wire import RequestForm
from rankstream.server.batcher import Batcher
from rankstream.server.boundary import Context, deadline_of, status_of
from rankstream.server.engine import Answer, Task
from rankstream.server.errors import InvalidArgument, NotFound, RankstreamError
from rankstream.server.explanation import ExplainAnswer
from rankstream.server.freshness import Freshness
from rankstream.server.services.preparation import Preparation
from rankstream.server.services.streams import Joint, message_deadline, ordered
from rankstream.server.types import Position, RankAnswer, RankTask
from rankstream.server.wire import (
    Names,
    RankEncoder,
    encode_field,
    explain_task_from_pb,
    freshness_to_pb,
    rank_task_from_pb,
    read_after_from_pb,
    similar_task_from_pb,
)

log = logging.getLogger(__name__)

_ENTRIES = ranking_pb2.BatchRankResponse.ENTRIES_FIELD_NUMBER
_ENTRY_RESPONSE = ranking_pb2.BatchRankEntry.RESPONSE_FIELD_NUMBER
_Ready = tuple[RankTask, bool]
# Reading a message that is there already takes less.
_CROWDED_S = 0.0003
# Less than what gRPC's clients take unless they are told to take more.
_MESSAGE_BYTES = 1 << 20
_Entry = tuple[bytes, ...]
"""One of ``BatchRankResponse.entries``, encoded, in parts."""


class _TooMany(InvalidArgument):
    """More requests than a message may hold."""


class RankingService(ranking_pb2_grpc.RankingServicer):
    """Decode, await the engine, encode. What it returns are bytes: the engine encodes items."""

    def __init__(
        self,
        batcher: Batcher[Task, Answer],
        preparation: Preparation,
        freshness: Freshness,
        page: Announcements,
        form: RequestForm,
        names: Names,
        log_requests: bool = False,
    ) -> None:
        self._batcher = batcher
        self._preparation = preparation
        self._freshness = freshness
        self._page = page
        self._topics = names.topics
        self._seen: tuple[tuple[Position, ...], list[int], common_pb2.Freshness] | None = None
        self._encoder = RankEncoder.make(form.layout, names)
        self._form = form
        self._log_requests = log_requests
        self._limits = form.limits

    async def Rank(  # noqa: N802 - the name that gRPC gives
        self, request: ranking_pb2.RankRequest, context: Context
    ) -> Any:
        """Ranks for one user: a ``RankResponse``."""
        return await self._rank(request, deadline_of(context, self._limits.default_timeout_s))

    async def StreamRank(  # noqa: N802
        self, request_iterator: AsyncIterator[ranking_pb2.BatchRankRequest], context: Context
    ) -> Any:
        """Ranks message by message; a ``BatchRankResponse`` holds the entries that are ready.

        A message of too many requests ends the stream: their entries could be too many, too.
        """
        left = 0.0

        async def rank(asked: ranking_pb2.BatchRankRequest) -> list[_Entry]:
            nonlocal left
            self._check_count(len(asked.requests))
            deadline = message_deadline(context, self._limits.default_timeout_s)
            # A message that was there before the last one was left has others behind it.
            crowded = time.monotonic() - left < _CROWDED_S
            requests = asked.requests
            try:
                if len(requests) == 1:
                    return [_entry(await self._rank(requests[0], deadline, more_follow=crowded))]
                return await self._rank_all(requests, deadline, "")
            except Exception as error:  # noqa: BLE001 - each request has an answer, whatever fails
                return [_failed_entry(error)] * len(requests)
            finally:
                left = time.monotonic()

        answers = ordered(
            request_iterator,
            rank,
            most=self._limits.max_stream_requests,
            weigh=lambda asked: len(asked.requests),
            refuse=_refused,
            joint=_READY,
        )
        async with aclosing(answers):
            async for entries in answers:
                for message in _messages(entries):
                    yield message

    async def SimilarItems(  # noqa: N802
        self, request: ranking_pb2.SimilarItemsRequest, context: Context
    ) -> Any:
        """The items nearest to one: a ``RankResponse``."""
        started = time.monotonic()
        deadline = deadline_of(context, self._limits.default_timeout_s)
        task = similar_task_from_pb(request, self._form)
        after = read_after_from_pb(request.read_after, self._limits)
        stale = await self._freshness.wait(after, deadline)
        try:
            answer = await self._batcher.submit(task, deadline)
        except NotFound:
            msg = f"item_id: the catalogue does not hold {request.item_id!r} (yet)"
            raise NotFound(msg) from None
        assert isinstance(answer, RankAnswer)
        return self._encode(answer, task, request.request_id, stale, started)

    async def Explain(  # noqa: N802
        self, request: ranking_pb2.ExplainRequest, context: Context
    ) -> Any:
        """Takes scores apart."""
        started = time.monotonic()
        deadline = deadline_of(context, self._limits.default_timeout_s)
        task = explain_task_from_pb(request, self._form)
        after = read_after_from_pb(request.request.read_after, self._limits, "request.")
        stale = await self._freshness.wait(after, deadline)
        (ranking,) = await self._preparation.complete([task.ranking], deadline)
        if isinstance(ranking, BaseException):
            raise ranking
        task = dataclasses.replace(task, ranking=ranking)
        answer = await self._batcher.submit(task, deadline)
        assert isinstance(answer, ExplainAnswer)
        fresh = self._fresh(answer, stale)
        spent = int((time.monotonic() - started) * 1e6)
        return self._encoder.encode_explained(
            answer, task, request.request.request_id, fresh, spent
        )

    async def _rank(
        self, request: ranking_pb2.RankRequest, deadline: float, *, more_follow: bool = False
    ) -> bytes:
        started = time.monotonic()
        task = rank_task_from_pb(request, self._form, "")
        if self._log_requests:
            _log_request(request)
        after = read_after_from_pb(request.read_after, self._limits)
        stale = await self._freshness.wait(after, deadline)
        if task.asked is not None:
            (ready,) = await self._preparation.complete([task], deadline)
            if isinstance(ready, BaseException):
                raise ready
            task = ready
        answer = await self._batcher.submit(task, deadline, more_follow=more_follow)
        assert isinstance(answer, RankAnswer)
        return self._encode(answer, task, request.request_id, stale, started)

    async def BatchRank(  # noqa: N802
        self, request: ranking_pb2.BatchRankRequest, context: Context
    ) -> Any:
        """Ranks for many users, a ``BatchRankResponse``: one bad entry spoils no other."""
        self._check_count(len(request.requests))
        deadline = deadline_of(context, self._limits.default_timeout_s)
        entries = await self._rank_all(request.requests, deadline, "requests[{}].")
        return b"".join(itertools.chain.from_iterable(entries))

    def _check_count(self, count: int) -> None:
        limit = self._limits.max_batch_rank_entries
        if count > limit:
            raise _TooMany(field="requests", problem=f"{count} entries, the limit is {limit}")

    async def _rank_all(
        self, requests: Sequence[ranking_pb2.RankRequest], deadline: float, place: str
    ) -> list[_Entry]:
        """An entry a request; ``place`` is what errors call request ``{}``."""
        started = time.monotonic()
        prepared = await self._prepare_all(requests, deadline, place)
        tasks = [p[0] for p in prepared if isinstance(p, tuple)]
        answers = iter(await self._answers(tasks, deadline))
        entries: list[_Entry] = []
        for entry, outcome in zip(requests, prepared, strict=True):
            answer = next(answers) if isinstance(outcome, tuple) else outcome
            if isinstance(outcome, tuple) and isinstance(answer, RankAnswer):
                task, stale = outcome
                ranked = self._encode(answer, task, entry.request_id, stale, started)
                entries.append(_entry(ranked))
            elif isinstance(answer, BaseException):
                entries.append(_failed_entry(answer))
        return entries

    async def _answers(
        self, tasks: Sequence[RankTask], deadline: float
    ) -> list[Answer | BaseException]:
        ready = await self._preparation.complete(tasks, deadline)
        good: list[Task] = [task for task in ready if isinstance(task, RankTask)]
        answers = iter(await self._batcher.submit_many(good, deadline))
        return [next(answers) if isinstance(task, RankTask) else task for task in ready]

    async def _prepare_all(
        self, requests: Sequence[ranking_pb2.RankRequest], deadline: float, place: str
    ) -> Sequence[_Ready | RankstreamError]:
        entries = [self._prepare(place.format(i), r, deadline) for i, r in enumerate(requests)]
        if any(r.read_after.min_token for r in requests):
            # Side by side: tokens that never come cost one wait, not one each.
            return await asyncio.gather(*entries)
        return [await entry for entry in entries]

    async def _prepare(
        self, field: str, request: ranking_pb2.RankRequest, deadline: float
    ) -> _Ready | RankstreamError:
        try:
            task = rank_task_from_pb(request, self._form, field)
            if self._log_requests:
                _log_request(request)
            after = read_after_from_pb(request.read_after, self._limits, field)
            return task, await self._freshness.wait(after, deadline)
        except RankstreamError as error:
            return error

    def _encode(
        self, answer: RankAnswer, task: RankTask, request_id: str, stale: bool, started: float
    ) -> bytes:
        fresh = self._fresh(answer, stale)
        total_us = int((time.monotonic() - started) * 1e6)
        return self._encoder.encode(answer, task, request_id, fresh, total_us)

    def _fresh(self, answer: Answer, stale: bool) -> common_pb2.Freshness:
        fresh = self._freshness_of(answer)
        fresh.profile_updated_at_ms, fresh.stale = answer.updated_at_ms, stale
        return fresh

    def _freshness_of(self, answer: Answer) -> common_pb2.Freshness:
        """Which offsets an answer has seen; made anew where a commit or a fetch has changed it."""
        applied, version = answer.applied, answer.head.catalogue_version
        ends = [self._page.highwater(slot_of(p.lane, p.partition)) for p in applied]
        if (
            self._seen is None
            or self._seen[0] is not applied
            or self._seen[1] != ends
            or self._seen[2].catalogue_version != version
        ):
            made = freshness_to_pb(applied, self._page, self._topics, version)
            self._seen = applied, ends, made
        copy = common_pb2.Freshness()
        copy.CopyFrom(self._seen[2])
        return copy


def _log_request(request: ranking_pb2.RankRequest) -> None:
    context = {name: MessageToDict(request.context[name]) for name in sorted(request.context)}
    # As JSON: what a caller writes must not look like a line of ours.
    told = {"request_id": request.request_id, "user_id": request.user_id, "context": context}
    log.info("rank %s", json.dumps(told))


def _entry(response: bytes) -> _Entry:
    return encode_field(_ENTRIES, *encode_field(_ENTRY_RESPONSE, response))


def _failed_entry(error: BaseException) -> _Entry:
    failed = ranking_pb2.BatchRankEntry(status=status_of(error))
    return encode_field(_ENTRIES, failed.SerializeToString())


def _refused(error: Exception) -> list[_Entry]:
    """The entry of a message that cannot be read, on a stream that goes on."""
    if isinstance(error, _TooMany):
        raise error
    return [_failed_entry(error)]


def _size(entries: Sequence[_Entry]) -> int:
    return sum(len(part) for entry in entries for part in entry)


def _messages(entries: Sequence[_Entry]) -> Iterator[bytes]:
    """``BatchRankResponse`` of some entries; as many as are needed."""
    parts: list[bytes] = []
    size = 0
    for entry in entries:
        own = sum(map(len, entry))
        if parts and size + own > _MESSAGE_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
        parts += entry
        size += own
    yield b"".join(parts)


_READY: Joint[list[_Entry]] = Joint(
    lambda some: list(itertools.chain.from_iterable(some)), _size, _MESSAGE_BYTES
)
