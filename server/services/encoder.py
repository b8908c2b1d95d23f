"""Encoder: texts to vectors, batched across callers."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import numpy as np

from rankstream.proto.v1 import common_pb2, encoder_pb2, encoder_pb2_grpc
from rankstream.server.boundary import Context, deadline_of, status_of
from rankstream.server.config import Limits
from rankstream.server.embedder import Embedder
from rankstream.server.encoder.base import TokenizedText
from rankstream.server.encoder.prompts import Prompts
from rankstream.server.encoder.text_queue import LaneName, lane_of
from rankstream.server.errors import InvalidArgument, RankstreamError
from rankstream.server.in_flight import Answer, Embedded
from rankstream.server.services.streams import message_deadline, ordered
from rankstream.server.wire import Names, vector_to_pb

Found = TypeVar("Found")

_LANES: dict[int, LaneName] = {
    common_pb2.PRIORITY_INTERACTIVE: "interactive",
    common_pb2.PRIORITY_BULK: "bulk",
}


class EncoderService(encoder_pb2_grpc.EncoderServicer):
    """Decode, await the encoder or its tokeniser, encode."""

    def __init__(
        self,
        embedder: Embedder,
        dimension: int,
        prompts: Prompts,
        names: Names,
        limits: Limits,
    ) -> None:
        self._embedder = embedder
        self._dimension = dimension
        self._prompts = prompts
        self._names = names
        self._limits = limits

    async def Embed(  # noqa: N802 - the name that gRPC gives
        self, request: encoder_pb2.EmbedRequest, context: Context
    ) -> encoder_pb2.EmbedResponse:
        """One vector a text; a text that fails has a status and a row of zeros."""
        return await self._embed(request, deadline_of(context, self._limits.default_timeout_s))

    def EmbedStream(  # noqa: N802
        self, requests: AsyncIterator[encoder_pb2.EmbedRequest], context: Context
    ) -> AsyncGenerator[encoder_pb2.EmbedResponse, None]:
        """A response a request, in their order; one that fails has a status in its results."""
        limits = self._limits

        async def answer(request: encoder_pb2.EmbedRequest) -> encoder_pb2.EmbedResponse:
            try:
                return await self._embed(
                    request, message_deadline(context, limits.default_timeout_s)
                )
            except RankstreamError as error:
                return self._refused(error, len(request.texts))

        return ordered(
            requests,
            answer,
            most=limits.max_stream_texts,
            weigh=lambda request: len(request.texts),
            refuse=self._refused,
        )

    async def Tokenize(  # noqa: N802
        self, request: encoder_pb2.TokenizeRequest, context: Context
    ) -> encoder_pb2.TokenizeResponse:
        """What the model reads of each text; a text that fails has a status."""
        deadline = deadline_of(context, self._limits.default_timeout_s)
        response = encoder_pb2.TokenizeResponse()
        prompt = request.prompt_name or None

        async def tokenize(texts: Sequence[str]) -> list[TokenizedText]:
            return await self._embedder.tokenize(texts, deadline, prompt=prompt)

        for answer in await self._fitting(request, tokenize):
            if isinstance(answer, TokenizedText):
                response.texts.add(
                    token_ids=answer.token_ids, tokens=answer.tokens, truncated=answer.truncated
                )
            else:
                response.texts.add(status=status_of(answer))
        return response

    async def _embed(
        self, request: encoder_pb2.EmbedRequest, deadline: float
    ) -> encoder_pb2.EmbedResponse:
        started = time.monotonic()
        answers = await self._vectors(request, deadline)
        response, rows = self._response(), np.zeros((len(answers), self._dimension), np.float32)
        timing = response.timing
        for i, answer in enumerate(answers):
            if isinstance(answer, Embedded):
                rows[i] = answer.vector
                response.results.add(tokens=answer.tokens, truncated=answer.truncated)
                timing.queue_us = max(timing.queue_us, answer.queue_us)
                timing.encode_us = max(timing.encode_us, answer.encode_us)
                timing.batch_size = max(timing.batch_size, answer.batch_size)
            else:
                response.results.add(status=status_of(answer))
        response.embeddings.CopyFrom(vector_to_pb(rows))
        timing.total_us = int((time.monotonic() - started) * 1e6)
        return response

    async def _vectors(
        self, request: encoder_pb2.EmbedRequest, deadline: float
    ) -> list[Answer | InvalidArgument]:
        prompt, lane = request.prompt_name or None, _lane_of(request)

        async def embed(texts: Sequence[str]) -> list[Answer]:
            return await self._embedder.embed(texts, deadline, prompt=prompt, lane=lane)

        return await self._fitting(request, embed)

    async def _fitting(
        self,
        request: encoder_pb2.EmbedRequest | encoder_pb2.TokenizeRequest,
        ask: Callable[[Sequence[str]], Awaitable[list[Found]]],
    ) -> list[Found | InvalidArgument]:
        """One answer or error a text, in order; one that is too long does not fail the others."""
        texts = request.texts
        self._prompts.require("prompt_name", request.prompt_name or None)
        limit, longest = self._limits.max_texts, self._limits.max_text_chars
        if len(texts) > limit:
            raise InvalidArgument(
                field="texts", problem=f"{len(texts)} texts, the limit is {limit}"
            )
        fits = [len(text) <= longest for text in texts]
        answers = iter(await ask([text for text, ok in zip(texts, fits, strict=True) if ok]))
        return [
            next(answers) if ok else _too_long(i, texts[i], longest) for i, ok in enumerate(fits)
        ]

    def _refused(self, error: Exception, texts: int = 1) -> encoder_pb2.EmbedResponse:
        """A whole request's failure, in each of its results; of too many, in as many as may be."""
        count, status = min(texts, self._limits.max_texts), status_of(error)
        response = self._response()
        response.results.extend([encoder_pb2.EmbedResult(status=status)] * count)
        rows = np.zeros((count, self._dimension), np.float32)
        response.embeddings.CopyFrom(vector_to_pb(rows))
        return response

    def _response(self) -> encoder_pb2.EmbedResponse:
        response = encoder_pb2.EmbedResponse()
        served = response.served_by
        served.server_version, served.worker = self._names.server_version, self._names.worker
        served.space_fingerprint = self._names.space
        return response


def _lane_of(request: encoder_pb2.EmbedRequest) -> LaneName:
    """What the request says, else what its size says.

    Raises:
        InvalidArgument: a priority that this server does not know.
    """
    if request.priority == common_pb2.PRIORITY_UNSPECIFIED:
        return lane_of(len(request.texts))
    lane = _LANES.get(request.priority)
    if lane is None:
        problem = f"{request.priority}; expected PRIORITY_INTERACTIVE or PRIORITY_BULK"
        raise InvalidArgument(field="priority", problem=problem)
    return lane


def _too_long(index: int, text: str, longest: int) -> InvalidArgument:
    return InvalidArgument(f"texts[{index}]", f"{len(text)} characters, the limit is {longest}")
