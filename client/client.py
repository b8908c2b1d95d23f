"""The blocking client: NumPy arrays in and out, a deadline on every call, typed errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TypeVar

import grpc
from grpc_health.v1 import health_pb2

from rankstream.client import answers, checks, rankings, status
from rankstream.client.answers import Embeddings, Profile, Recorded, StoredItem, Upserted
from rankstream.client.batches import Entries, rank_in_batches
from rankstream.client.connections import Connection, Connections
from rankstream.client.errors import (
    FailedPrecondition,
    RankstreamError,
    Unavailable,
    error_from_rpc,
    invalid,
)
from rankstream.client.queries import Candidates, RankQuery, query_to_pb, read_after
from rankstream.client.rankings import Ranking
from rankstream.client.records import Event, Item, event_to_pb, item_to_pb
from rankstream.client.status import ConsumerLag, ServerInfo
from rankstream.proto.v1 import (
    admin_pb2,
    catalog_pb2,
    encoder_pb2,
    events_pb2,
    profiles_pb2,
    ranking_pb2,
)

Q = TypeVar("Q")
A = TypeVar("A")
Method = Callable[[Connection], "grpc.UnaryUnaryMultiCallable[Q, A]"]

# How long wait_ready sleeps between two questions.
_POLL_S = 0.05


class Client:
    """A client of one rankstream server; safe to share between threads.

    Calls go over several connections in turn, so a read after a write may reach another worker:
    pass the write's token as ``min_token`` where the read has to see it. UNAVAILABLE and
    RESOURCE_EXHAUSTED are retried, up to four attempts within the deadline; events get their
    event_id here, so a retry never counts twice. Messages may have up to 64 MiB; the server's own
    limits are in ``server_info``.

    Args:
        target: host:port of the serving API.
        admin_target: host:port of the Admin service.
        timeout_s: deadline of a call that is given none, in seconds; a wait for ``min_token`` of
            known length comes on top.
        connections: how many connections to open; at least twice the server's workers is good.
        max_batch_rank_entries: entries of one BatchRank call where the Admin service does not say.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        admin_target: str = "127.0.0.1:50052",
        timeout_s: float = 5.0,
        connections: int = 2,
        max_batch_rank_entries: int = 1024,
    ) -> None:
        if max_batch_rank_entries < 1:
            raise invalid(field="max_batch_rank_entries", problem="expected 1 or more")
        self._timeout_s = timeout_s
        self._serving = Connections(target, connections)
        self._admin = Connections(admin_target, 1)
        self._batch_fallback = max_batch_rank_entries
        self._batch_limit: int | None = None

    def __enter__(self) -> Client:
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
        self._serving.close()
        self._admin.close()

    def embed(self, texts: Sequence[str], *, timeout_s: float | None = None) -> Embeddings:
        """Embeddings of B texts: ``vectors`` float32 [B, D] and what became of each text."""
        if isinstance(texts, str):
            raise invalid(field="texts", problem="is one string; expected a sequence of strings")
        listed = [checks.text(f"texts[{index}]", text) for index, text in enumerate(texts)]
        request = encoder_pb2.EmbedRequest(texts=listed)
        return answers.embeddings_from_pb(
            self._call(lambda c: c.encoder.Embed, request, self._limit_s(timeout_s))
        )

    def rank(
        self,
        user_id: str,
        candidates: Candidates = None,
        *,
        k: int | None = None,
        exclude_item_ids: Sequence[str] = (),
        exclude_seen: bool = False,
        explain_items: int | None = None,
        reasons: int | None = None,
        min_token: bytes = b"",
        max_wait_ms: int | None = None,
        allow_stale: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Ranking:
        """Ranks candidates, or retrieves from the whole catalogue, for one user.

        The arguments are those of ``RankQuery``.

        Raises:
            InvalidArgument: a field is wrong, or beyond a limit of the server.
            DeadlineExceeded: no answer in time, or ``min_token`` not reached within its wait.
            ResourceExhausted: the server's queue is full; see ``retry_after_s``.
        """
        query = RankQuery(
            user_id=user_id,
            candidates=candidates,
            k=k,
            exclude_item_ids=exclude_item_ids,
            exclude_seen=exclude_seen,
            explain_items=explain_items,
            reasons=reasons,
            min_token=min_token,
            max_wait_ms=max_wait_ms,
            allow_stale=allow_stale,
            request_id=request_id,
        )
        request = query_to_pb(query)
        limit_s = self._limit_s(timeout_s, max_wait_ms)
        return rankings.ranking_from_pb(self._call(lambda c: c.ranking.Rank, request, limit_s))

    def batch_rank(
        self, queries: Sequence[RankQuery], *, timeout_s: float | None = None
    ) -> list[Ranking | RankstreamError]:
        """Ranks for many users; a failed entry is its error, in its place.

        More entries than the server takes at once become several calls, each with the whole
        ``timeout_s``. Where a call fails, its entries do; where all calls fail, the first
        one's error is raised.

        Args:
            queries: B queries.
            timeout_s: deadline of one call, in seconds.

        Returns:
            B rankings or errors, in the order of the queries.
        """
        longest = max((query.max_wait_ms or 0 for query in queries if query.min_token), default=0)
        limit_s = self._limit_s(timeout_s, longest)
        limit = self._entries_per_batch()

        def start(request: ranking_pb2.BatchRankRequest) -> Callable[[], Entries]:
            return self._start_batch(request, limit_s)

        return rank_in_batches(queries, limit, len(self._serving.all), start)

    def record_events(self, events: Iterable[Event], *, timeout_s: float | None = None) -> Recorded:
        """Writes events to the log; answers when the log has them.

        Events without an event_id get one here, so that a retry is harmless.
        """
        request = events_pb2.RecordEventsRequest(events=[event_to_pb(event) for event in events])
        response = self._call(lambda c: c.events.RecordEvents, request, self._limit_s(timeout_s))
        return answers.recorded_from_pb(response)

    def upsert_items(self, items: Iterable[Item], *, timeout_s: float | None = None) -> Upserted:
        """Writes whole items to the log; they can be ranked once encoded."""
        request = catalog_pb2.UpsertItemsRequest(items=[item_to_pb(item) for item in items])
        response = self._call(lambda c: c.catalog.UpsertItems, request, self._limit_s(timeout_s))
        return answers.upserted_from_pb(response)

    def get_item(
        self,
        item_id: str,
        *,
        min_token: bytes = b"",
        max_wait_ms: int | None = None,
        allow_stale: bool = False,
        timeout_s: float | None = None,
    ) -> StoredItem:
        """An item as it can be ranked.

        Raises:
            NotFound: the catalogue does not hold it.
        """
        request = catalog_pb2.GetItemRequest(
            item_id=checks.text("item_id", item_id),
            read_after=read_after(min_token, max_wait_ms, allow_stale),
        )
        limit_s = self._limit_s(timeout_s, max_wait_ms)
        response = self._call(lambda c: c.catalog.GetItem, request, limit_s)
        return answers.stored_item_from_pb(response)

    def get_profile(
        self,
        user_id: str,
        *,
        max_interactions: int | None = None,
        min_token: bytes = b"",
        max_wait_ms: int | None = None,
        allow_stale: bool = False,
        timeout_s: float | None = None,
    ) -> Profile:
        """What is remembered of one user; an unknown one has ``known`` False."""
        wanted = (
            None if max_interactions is None else checks.count("max_interactions", max_interactions)
        )
        request = profiles_pb2.GetProfileRequest(
            user_id=checks.text("user_id", user_id),
            max_interactions=wanted,
            read_after=read_after(min_token, max_wait_ms, allow_stale),
        )
        limit_s = self._limit_s(timeout_s, max_wait_ms)
        return answers.profile_from_pb(
            self._call(lambda c: c.profiles.GetProfile, request, limit_s)
        )

    def server_info(self, *, timeout_s: float | None = None) -> ServerInfo:
        """What the server is, and its limits; from the Admin service."""
        request = admin_pb2.GetServerInfoRequest()
        response = self._call(
            lambda c: c.admin.GetServerInfo, request, self._limit_s(timeout_s), self._admin
        )
        return status.server_info_from_pb(response)

    def consumer_lag(self, *, timeout_s: float | None = None) -> ConsumerLag:
        """How far the log is applied; from the Admin service."""
        request = admin_pb2.GetConsumerLagRequest()
        response = self._call(
            lambda c: c.admin.GetConsumerLag, request, self._limit_s(timeout_s), self._admin
        )
        return status.consumer_lag_from_pb(response)

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Returns once every connection's server says SERVING.

        Raises:
            Unavailable: it did not within ``timeout_s`` seconds; says the last answer.
        """
        deadline = time.monotonic() + timeout_s
        for connection in self._serving.all:
            self._wait_serving(connection, deadline, timeout_s)

    def _wait_serving(self, connection: Connection, deadline: float, timeout_s: float) -> None:
        request = health_pb2.HealthCheckRequest()
        last = "no answer"
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                answer = connection.health.Check(request, timeout=left_s, wait_for_ready=True)
            except grpc.RpcError as error:
                # That the time is up says less than what was heard before.
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    last = str(error_from_rpc(error))
            except ValueError:
                raise self._unsendable() from None
            else:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
                last = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
            time.sleep(min(_POLL_S, max(0.0, deadline - time.monotonic())))
        message = f"{self._serving.target} is not SERVING after {timeout_s:g} s: {last}"
        raise Unavailable(message)

    def _limit_s(self, timeout_s: float | None, max_wait_ms: int | None = None) -> float:
        """The given deadline; else the default one with a read's own wait on top."""
        if timeout_s is not None:
            return timeout_s
        wait_ms = 0 if max_wait_ms is None else checks.count("max_wait_ms", max_wait_ms)
        return self._timeout_s + wait_ms / 1000

    def _call(
        self,
        method: Method[Q, A],
        request: Q,
        timeout_s: float,
        connections: Connections | None = None,
    ) -> A:
        """One call on the next connection."""
        chosen = connections or self._serving
        try:
            return method(chosen.pick())(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise error_from_rpc(error, chosen.target) from error
        except ValueError:
            raise self._unsendable() from None

    def _start_batch(
        self, request: ranking_pb2.BatchRankRequest, timeout_s: float
    ) -> Callable[[], Entries]:
        """Sends a batch; the result waits for its answer."""
        try:
            call = self._serving.pick().ranking.BatchRank.future(request, timeout=timeout_s)
        except ValueError:
            raise self._unsendable() from None

        def finish() -> Entries:
            try:
                return [rankings.entry_from_pb(entry) for entry in call.result().entries]
            except grpc.RpcError as error:
                raise error_from_rpc(error, self._serving.target) from error

        return finish

    def _entries_per_batch(self) -> int:
        """The server's limit, asked for once; the constructor's where nobody answers."""
        if self._batch_limit is None:
            try:
                limit = self.server_info(timeout_s=1.0).limits.get("max_batch_rank_entries")
            except RankstreamError:
                limit = None
            self._batch_limit = limit.value if limit and limit.value > 0 else self._batch_fallback
        return self._batch_limit

    def _unsendable(self) -> FailedPrecondition:
        """What gRPC says with ValueError: the channel is closed."""
        return FailedPrecondition(f"the client of {self._serving.target} is closed; make a new one")
