"""The asyncio client: what ``Client`` is, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import grpc
from google.protobuf.message import Message
from grpc.aio import UsageError

from rankstream.client.calls.admin import AdminCalls
from rankstream.client.calls.catalog import CatalogCalls
from rankstream.client.calls.encoder import EncoderCalls
from rankstream.client.calls.events import EventCalls
from rankstream.client.calls.profiles import ProfileCalls
from rankstream.client.calls.ranking import RankingCalls
from rankstream.client.calls.shapes import Pause, Plan, Together, Unary
from rankstream.client.calls.streams import Conversation, Listing, Upload
from rankstream.client.connections import Connections, open_async
from rankstream.client.credentials import Credentials
from rankstream.client.endings import Ending
from rankstream.client.errors import RankstreamError, error_from_rpc
from rankstream.client.host import Host
from rankstream.client.sending import AsyncSending

R = TypeVar("R")


class AsyncHost(Host):
    """Executes what the calls describe, and lets others run meanwhile."""

    STREAM_TYPE: ClassVar[str] = "AsyncIterator[{}]"

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        admin_target: str = "127.0.0.1:50052",
        timeout_s: float = 5.0,
        connections: int = 2,
        max_batch_rank_entries: int = 1024,
        credentials: Credentials | None = None,
    ) -> None:
        super().__init__(
            target,
            admin_target=admin_target,
            timeout_s=timeout_s,
            connections=connections,
            max_batch_rank_entries=max_batch_rank_entries,
            credentials=credentials,
        )
        self._serving = open_async(target, connections, self.credentials)
        self._admin = open_async(admin_target, 1, self.credentials)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes all connections; calls still running end with ``Cancelled``."""
        for channel in (*self._serving.channels, *self._admin.channels):
            await channel.close()

    @staticmethod
    def answering(describe: Callable[..., Any]) -> Callable[..., Any]:
        """The method that does what ``describe`` describes and returns the answer."""

        async def method(self: AsyncHost, /, *args: Any, **kwargs: Any) -> Any:
            return await self._answer(describe(self, *args, **kwargs))

        return method

    @staticmethod
    def streaming(describe: Callable[..., Any]) -> Callable[..., Any]:
        """The method that does what ``describe`` describes and returns an iterator."""

        def method(self: AsyncHost, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            described = describe(self, *args, **kwargs)
            listed = isinstance(described, Listing)
            return self._list(described) if listed else self._converse(described)

        return method

    async def _answer(self, described: Unary[R] | Plan[R] | Upload[Any, R]) -> R:
        if isinstance(described, Unary):
            return await self._call(described)
        if isinstance(described, Upload):
            async for _ in self._converse(described):
                pass
            return described.result()
        return await self._follow(described)

    async def _call(self, call: Unary[R]) -> R:
        chosen = self._connections(call)
        method = chosen.method(call.path, call.connection)
        try:
            answer = await method(
                call.request, timeout=self._limit_s(call), wait_for_ready=call.patient or None
            )
        except grpc.RpcError as error:
            raise error_from_rpc(error, chosen.target) from error
        except UsageError:
            raise self._closed() from None
        return call.read(answer)

    async def _follow(self, plan: Plan[R]) -> R:
        """Does step after step until the plan returns."""
        result: Any = None
        problem: RankstreamError | None = None
        while True:
            try:
                step = plan.throw(problem) if problem else plan.send(result)
            except StopIteration as end:
                answer: R = end.value
                return answer
            result, problem = None, None
            try:
                result = await self._step(step)
            except RankstreamError as error:
                problem = error

    async def _step(self, step: Unary[Any] | Together | Pause) -> Any:
        if isinstance(step, Unary):
            return await self._call(step)
        if isinstance(step, Together):
            return await asyncio.gather(*(self._attempt(call) for call in step.calls))
        return await asyncio.sleep(step.seconds)

    async def _attempt(self, call: Unary[R]) -> R | RankstreamError:
        try:
            return await self._call(call)
        except RankstreamError as error:
            return error

    async def _list(self, listing: Listing[R]) -> AsyncIterator[R]:
        while True:
            call = self._open(
                listing.path, listing.request(), listing.timeout_s, self._connections(listing)
            )
            try:
                async for answer in call:
                    yield listing.read(answer)
            except grpc.RpcError as error:
                problem = error_from_rpc(error, self._connections(listing).target)
                pause_s = listing.pause_after(problem)
                if pause_s is None:
                    raise listing.broken(problem) from error
                await asyncio.sleep(pause_s)
            else:
                return
            finally:
                call.cancel()

    async def _converse(self, talk: Conversation[R]) -> AsyncIterator[R]:
        sending = AsyncSending(talk)
        call = self._open(talk.path, sending.messages(), talk.timeout_s, self._serving)
        ending = Ending(call)
        try:
            async for message in _one(call) if talk.one_answer else call:
                for answer in talk.answers(message):
                    sending.make_room()
                    yield talk.read(answer)
        except grpc.RpcError as error:
            meant = await ending.meant(error)
            if meant is not None:
                problem = talk.broken(error_from_rpc(meant, self.target))
                raise sending.failure or problem from error
        finally:
            call.cancel()
        if sending.failure is not None:
            raise sending.failure
        talk.check_end(sending.finished)

    def _open(
        self,
        path: str,
        sent: Message | AsyncIterator[Message],
        timeout_s: float | None,
        connections: Connections,
    ) -> Any:
        try:
            return connections.method(path)(sent, timeout=timeout_s)
        except UsageError:
            raise self._closed() from None

    def _connections(self, call: Unary[Any] | Listing[Any]) -> Connections:
        return self._admin if call.admin else self._serving


class AsyncClient(
    AsyncHost, RankingCalls, EventCalls, CatalogCalls, ProfileCalls, EncoderCalls, AdminCalls
):
    """``Client`` for asyncio: the same methods, awaited; streams are asynchronous iterators.

    Make it in the event loop that uses it. Streams take iterables and asynchronous ones; one that
    waits for something has to be asynchronous, or all else waits, too.

    Args:
        target: host:port of the serving API.
        admin_target: host:port of the Admin service.
        timeout_s: deadline of a call that is given none, in seconds; a wait for ``min_token`` of
            known length comes on top.
        connections: how many connections to open; at least twice the server's workers is good.
        max_batch_rank_entries: entries of one BatchRank call where the Admin service does not say.
        credentials: an access token, TLS, or both; None: neither.
    """


async def _one(call: Any) -> AsyncIterator[Any]:
    """The one answer of a call."""
    yield await call
