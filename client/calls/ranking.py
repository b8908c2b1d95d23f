"""The Ranking service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rankstream.client import checks
from rankstream.client.attributes import Attributes
from rankstream.client.calls.batches import rank_in_batches
from rankstream.client.calls.methods import Answer, Stream, answers, streams
from rankstream.client.calls.shapes import Unary
from rankstream.client.calls.streams import Bundle, Exchange, Source
from rankstream.client.errors import RankstreamError
from rankstream.client.explanations import Explanation, explanation_from_pb
from rankstream.client.filters import Filter, filter_to_pb
from rankstream.client.host import Host
from rankstream.client.queries import (
    Candidates,
    Pooling,
    RankQuery,
    count_or_none,
    id_list,
    query_to_pb,
    read_after,
)
from rankstream.client.rankings import Ranking, entry_from_pb, ranking_from_pb
from rankstream.client.records import Event
from rankstream.proto.v1 import ranking_pb2


class RankingCalls(Host):
    """What is recommended, and why."""

    @answers
    def rank(
        self,
        user_id: str = "",
        candidates: Candidates = None,
        *,
        session: Sequence[Event] | None = None,
        vector: NDArray[np.float32] | Sequence[float] | None = None,
        vector_space: str = "",
        query: str = "",
        query_weight: float | None = None,
        filter: Filter | None = None,
        k: int | None = None,
        exclude_item_ids: Sequence[str] = (),
        exclude_seen: bool = False,
        context: Attributes = {},  # noqa: B006 - never written
        block_weights: Mapping[str, float] = {},  # noqa: B006
        pooling: Pooling | None = None,
        as_of_ms: int | None = None,
        explain_items: int | None = None,
        reasons: int | None = None,
        min_token: bytes = b"",
        max_wait_ms: int | None = None,
        allow_stale: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Answer[Ranking]:
        """Ranks candidates, or retrieves from the whole catalogue.

        The arguments are those of ``RankQuery``; the subject is one of ``user_id``, ``session`` and
        ``vector``, and ``query`` joins it or stands alone.

        Raises:
            InvalidArgument: a field is wrong, or beyond a limit of the server.
            DeadlineExceeded: no answer in time, or ``min_token`` not reached within its wait.
            ResourceExhausted: the server's queue is full; see ``retry_after_s``.
        """
        asked = RankQuery(
            user_id=user_id,
            candidates=candidates,
            session=session,
            vector=vector,
            vector_space=vector_space,
            query=query,
            query_weight=query_weight,
            filter=filter,
            k=k,
            exclude_item_ids=exclude_item_ids,
            exclude_seen=exclude_seen,
            context=context,
            block_weights=block_weights,
            pooling=pooling,
            as_of_ms=as_of_ms,
            explain_items=explain_items,
            reasons=reasons,
            min_token=min_token,
            max_wait_ms=max_wait_ms,
            allow_stale=allow_stale,
            request_id=request_id,
        )
        request = query_to_pb(asked)
        return Unary("Ranking/Rank", request, ranking_from_pb, timeout_s, max_wait_ms)

    @answers
    def batch_rank(
        self, queries: Iterable[RankQuery], *, timeout_s: float | None = None
    ) -> Answer[list[Ranking | RankstreamError]]:
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
        return rank_in_batches(self, list(queries), timeout_s)

    @streams
    def stream_rank(
        self,
        queries: Source[RankQuery],
        *,
        max_in_flight: int = 256,
        per_message: int = 1,
        timeout_s: float | None = None,
    ) -> Stream[Ranking | RankstreamError]:
        """Ranks for one query after the other over one stream; the fastest way to ask for many.

        Answers come in the order of the queries; a query that fails is its error, in its place.
        Queries are taken from their iterable, on a thread of its own where this client blocks, as
        the server takes them: no more than ``max_in_flight`` wait for their answer.

        Args:
            queries: any number, as many as come.
            max_in_flight: queries without an answer at most.
            per_message: queries in a message, which is sent when it is full or large, and at the
                end, and answered whole. More are quicker where they are at hand; where they come
                one by one, each but the last of a message waits for the others. At most
                ``max_batch_rank_entries`` of the server.
            timeout_s: deadline of the whole stream, in seconds; None: none.

        Raises:
            RankstreamError: the stream broke off; ``answered`` says after how many answers.
        """
        return Exchange(
            path="Ranking/StreamRank",
            source=queries,
            timeout_s=timeout_s,
            window=max_in_flight,
            write=query_to_pb,
            read=entry_from_pb,
            refused=_as_it_is,
            placeholder=ranking_pb2.RankRequest,
            bundle=Bundle(
                per_message,
                lambda requests: ranking_pb2.BatchRankRequest(requests=requests),
                lambda message: message.entries,
            ),
        )

    @answers
    def similar_items(
        self,
        item_id: str,
        *,
        k: int | None = None,
        filter: Filter | None = None,
        exclude_item_ids: Sequence[str] = (),
        block_weights: Mapping[str, float] = {},  # noqa: B006 - never written
        with_bias: bool = False,
        min_token: bytes = b"",
        max_wait_ms: int | None = None,
        allow_stale: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Answer[Ranking]:
        """The items nearest to an item of the catalogue; itself is never among them.

        Args:
            item_id: the item.
            k: how many to return; None: 10.
            filter: which items may be answered.
            exclude_item_ids: items to leave out.
            block_weights: by block; one that is not named keeps the server's weight.
            with_bias: add popularity to the score; by default similarity decides alone.
            min_token: of an earlier write that this has to see; empty: no wait.
            max_wait_ms: longest wait for it; None: the server's default.
            allow_stale: answer with what there is when the wait ends.
            request_id: echoed in the answer and in the server's logs.
            timeout_s: deadline, in seconds.

        Raises:
            NotFound: the catalogue does not hold the item.
        """
        request = ranking_pb2.SimilarItemsRequest(
            request_id=checks.text("request_id", request_id),
            item_id=checks.text("item_id", item_id),
            k=count_or_none("k", k),
            exclude_item_ids=id_list("exclude_item_ids", exclude_item_ids),
            filter=None if filter is None else filter_to_pb("filter", filter),
            block_weights=checks.numbers("block_weights", block_weights),
            with_bias=with_bias,
            read_after=read_after(min_token, max_wait_ms, allow_stale),
        )
        return Unary("Ranking/SimilarItems", request, ranking_from_pb, timeout_s, max_wait_ms)

    @answers
    def explain(
        self,
        user_id: str = "",
        item_ids: Sequence[str] = (),
        *,
        session: Sequence[Event] | None = None,
        vector: NDArray[np.float32] | Sequence[float] | None = None,
        vector_space: str = "",
        query: str = "",
        query_weight: float | None = None,
        block_weights: Mapping[str, float] = {},  # noqa: B006 - never written
        pooling: Pooling | None = None,
        as_of_ms: int | None = None,
        min_token: bytes = b"",
        max_wait_ms: int | None = None,
        allow_stale: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Answer[Explanation]:
        """Takes the scores of items apart: by block, by past interaction, and the bias.

        Args:
            user_id: for whom, or ``session`` or ``vector``.
            item_ids: the items to explain.
            session: events, without user_id, of somebody who is not stored.
            vector: float32 [D] of the text block, or of a whole row.
            vector_space: of which space it is; "": not checked.
            query: what is wanted, in words.
            query_weight: how much it counts beside the subject's own vector; None: 1.
            block_weights: by block; one that is not named keeps the server's weight.
            pooling: how past interactions count; None: as the server is configured.
            as_of_ms: as of this time, ms since the epoch.
            min_token: of an earlier write that this has to see; empty: no wait.
            max_wait_ms: longest wait for it; None: the server's default.
            allow_stale: answer with what there is when the wait ends.
            request_id: echoed in the answer and in the server's logs.
            timeout_s: deadline, in seconds.
        """
        asked = RankQuery(
            user_id=user_id,
            candidates=id_list("item_ids", item_ids),
            session=session,
            vector=vector,
            vector_space=vector_space,
            query=query,
            query_weight=query_weight,
            block_weights=block_weights,
            pooling=pooling,
            as_of_ms=as_of_ms,
            min_token=min_token,
            max_wait_ms=max_wait_ms,
            allow_stale=allow_stale,
            request_id=request_id,
        )
        request = ranking_pb2.ExplainRequest(request=query_to_pb(asked))
        return Unary("Ranking/Explain", request, explanation_from_pb, timeout_s, max_wait_ms)


def _as_it_is(problem: RankstreamError) -> Ranking | RankstreamError:
    return problem
