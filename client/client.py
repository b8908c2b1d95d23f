"""The blocking client: NumPy arrays in and out, a deadline on every call, typed errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import grpc
from google.protobuf.message import Message

from rankstream.client.calls.admin import AdminCalls
from rankstream.client.calls.catalog import CatalogCalls
from rankstream.client.calls.encoder import EncoderCalls
from rankstream.client.calls.events import EventCalls
from rankstream.client.calls.profiles import ProfileCalls
from rankstream.client.calls.ranking import RankingCalls
from rankstream.client.calls.shapes import Pause, Plan, Together, Unary
from rankstream.client.calls.streams import Conversation, Listing, Upload
from rankstream.client.connections import Connections, open_blocking
from rankstream.client.credentials import Credentials
from rankstream.client.errors import RankstreamError, error_from_rpc
from rankstream.client.host import Host
from rankstream.client.sending import Sending

R = TypeVar("R")


class BlockingHost(Host):
    """Executes what the calls describe, and waits."""

    STREAM_TYPE: ClassVar[str] = "Iterator[{}]"

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
        self._serving = open_blocking(target, connections, self.credentials)
        self._admin = open_blocking(admin_target, 1, self.credentials)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections; calls still running end with ``Cancelled``."""
        for channel in (*self._serving.channels, *self._admin.channels):
            channel.close()

    @staticmethod
    def answering(describe: Callable[..., Any]) -> Callable[..., Any]:
        """The method that does what ``describe`` describes and returns the answer."""

        def method(self: BlockingHost, /, *args: Any, **kwargs: Any) -> Any:
            return self._answer(describe(self, *args, **kwargs))

        return method

    @staticmethod
    def streaming(describe: Callable[..., Any]) -> Callable[..., Any]:
        """The method that does what ``describe`` describes and returns an iterator."""

        def method(self: BlockingHost, /, *args: Any, **kwargs: Any) -> Iterator[Any]:
            described = describe(self, *args, **kwargs)
            listed = isinstance(described, Listing)
            return self._list(described) if listed else self._converse(described)

        return method

    def _answer(self, described: Unary[R] | Plan[R] | Upload[Any, R]) -> R:
        if isinstance(described, Unary):
            return self._call(described)
        if isinstance(described, Upload):
            for _ in self._converse(described):
                pass
            return described.result()
        return self._follow(described)

    def _call(self, call: Unary[R]) -> R:
        chosen = self._connections(call)
        method = chosen.method(call.path, call.connection)
        try:
            answer = method(
                call.request, timeout=self._limit_s(call), wait_for_ready=call.patient or None
            )
        except grpc.RpcError as error:
            raise error_from_rpc(error, chosen.target) from error
        except ValueError:
            raise self._closed() from None
        return call.read(answer)

    def _follow(self, plan: Plan[R]) -> R:
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
                result = self._step(step)
            except RankstreamError as error:
                problem = error

    def _step(self, step: Unary[Any] | Together | Pause) -> Any:
        if isinstance(step, Unary):
            return self._call(step)
        if isinstance(step, Together):
            started = [self._start(call) for call in step.calls]
            return [finish() for finish in started]
        time.sleep(step.seconds)
        return None

    def _start(self, call: Unary[R]) -> Callable[[], R | RankstreamError]:
        """Sends a call; the result waits for its answer."""
        chosen = self._connections(call)
        try:
            method = chosen.method(call.path, call.connection)
            running = method.future(call.request, timeout=self._limit_s(call))
        except ValueError:
            raise self._closed() from None

        def finish() -> R | RankstreamError:
            try:
                return call.read(running.result())
            except grpc.RpcError as error:
                return error_from_rpc(error, chosen.target)

        return finish

    def _list(self, listing: Listing[R]) -> Iterator[R]:
        while True:
            call = self._open(
                listing.path, listing.request(), listing.timeout_s, self._connections(listing)
            )
            try:
                for answer in call:
                    yield listing.read(answer)
            except grpc.RpcError as error:
                problem = error_from_rpc(error, self._connections(listing).target)
                pause_s = listing.pause_after(problem)
                if pause_s is None:
                    raise listing.broken(problem) from error
                time.sleep(pause_s)
            else:
                return
            finally:
                call.cancel()

    def _converse(self, talk: Conversation[R]) -> Iterator[R]:
        sending = Sending(talk)
        call = self._open(talk.path, iter(sending), talk.timeout_s, self._serving, talk.one_answer)
        try:
            for message in [call.result()] if talk.one_answer else call:
                for answer in talk.answers(message):
                    sending.make_room()
                    yield talk.read(answer)
        except grpc.RpcError as error:
            raise sending.failure or talk.broken(error_from_rpc(error, self.target)) from error
        finally:
            sending.close()
            call.cancel()
        if sending.failure is not None:
            raise sending.failure
        talk.check_end(sending.finished)

    def _open(
        self,
        path: str,
        sent: Message | Iterator[Message],
        timeout_s: float | None,
        connections: Connections,
        one_answer: bool = False,
    ) -> Any:
        method = connections.method(path)
        try:
            return (method.future if one_answer else method)(sent, timeout=timeout_s)
        except ValueError:
            raise self._closed() from None

    def _connections(self, call: Unary[Any] | Listing[Any]) -> Connections:
        return self._admin if call.admin else self._serving


class Client(
    BlockingHost, RankingCalls, EventCalls, CatalogCalls, ProfileCalls, EncoderCalls, AdminCalls
):
    """A client of one rankstream server; safe to share between threads.

    Calls go over several connections in turn, so a read after a write may reach another worker:
    pass the write's token as ``min_token`` where the read has to see it. UNAVAILABLE and
    RESOURCE_EXHAUSTED are retried where that is safe, up to four attempts within the deadline;
    events get their event_id here, so a retry never counts twice. Streams are retried until their
    first answer, and live as long as they are used, unless they are given a deadline. Messages may
    have up to 64 MiB; the server's own limits are in ``server_info``.

    Args:
        target: host:port of the serving API.
        admin_target: host:port of the Admin service.
        timeout_s: deadline of a call that is given none, in seconds; a wait for ``min_token`` of
            known length comes on top.
        connections: how many connections to open; at least twice the server's workers is good.
        max_batch_rank_entries: entries of one BatchRank call where the Admin service does not say.
        credentials: an access token, TLS, or both; None: neither.
    """
