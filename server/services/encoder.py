"""Encoder: texts to vectors, batched across callers."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from rankstream.proto.v1 import encoder_pb2, encoder_pb2_grpc
from rankstream.server.batcher import Batch, Batcher
from rankstream.server.boundary import Context, deadline_of, status_of
from rankstream.server.config import Limits
from rankstream.server.encoder.base import Encoder, TokenizedText
from rankstream.server.encoder.prompts import Prompts
from rankstream.server.errors import InvalidArgument, RankstreamError
from rankstream.server.services.streams import message_deadline, ordered
from rankstream.server.wire import Names, vector_to_pb

Answer = TypeVar("Answer")


class Wanted(NamedTuple):
    """A text to be read, and the name of its prompt; None: the model's default."""

    text: str
    prompt: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """One text's vector ``float32 [D]`` and what was read of it."""

    vector: NDArray[np.float32]
    tokens: int
    truncated: bool
    queue_us: int
    encode_us: int
    batch_size: int


def encode_batch(encoder: Encoder, batch: Batch[Wanted]) -> Sequence[Embedded | RankstreamError]:
    """What the batcher computes: all texts that wait, in one call for each prompt."""
    answers: dict[int, Embedded] = {}
    for prompt, rows in _by_prompt(batch.tasks).items():
        started = time.perf_counter_ns()
        encoded = encoder.encode_counted([batch.tasks[row].text for row in rows], prompt)
        spent = (time.perf_counter_ns() - started) // 1000
        for row, vector, tokens, cut in zip(
            rows, encoded.vectors, encoded.tokens, encoded.truncated, strict=True
        ):
            counts = (batch.queue_us[row], spent, len(rows))
            answers[row] = Embedded(vector, int(tokens), bool(cut), *counts)
    return [answers[row] for row in range(len(batch.tasks))]


def tokenize_batch(encoder: Encoder, batch: Batch[Wanted]) -> Sequence[TokenizedText]:
    """What the tokeniser's batcher computes."""
    answers: dict[int, TokenizedText] = {}
    for prompt, rows in _by_prompt(batch.tasks).items():
        found = encoder.tokenize([batch.tasks[row].text for row in rows], prompt)
        answers.update(zip(rows, found, strict=True))
    return [answers[row] for row in range(len(batch.tasks))]


def _by_prompt(tasks: Sequence[Wanted]) -> dict[str | None, list[int]]:
    """Where the texts of each prompt stand."""
    rows: dict[str | None, list[int]] = {}
    for row, task in enumerate(tasks):
        rows.setdefault(task.prompt, []).append(row)
    return rows


class EncoderService(encoder_pb2_grpc.EncoderServicer):
    """Decode, await the encoder or its tokeniser, encode."""

    def __init__(
        self,
        batcher: Batcher[Wanted, Embedded],
        tokenizer: Batcher[Wanted, TokenizedText],
        dimension: int,
        prompts: Prompts,
        names: Names,
        limits: Limits,
    ) -> None:
        self._batcher = batcher
        self._tokenizer = tokenizer
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
        for answer in await self._ask(self._tokenizer, request, deadline):
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
        answers = await self._ask(self._batcher, request, deadline)
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

    async def _ask(
        self,
        batcher: Batcher[Wanted, Answer],
        request: encoder_pb2.EmbedRequest | encoder_pb2.TokenizeRequest,
        deadline: float,
    ) -> list[Answer | BaseException]:
        """One answer or error a text, in order; one that is too long does not fail the others."""
        texts, prompt = request.texts, request.prompt_name or None
        self._prompts.require("prompt_name", prompt)
        limit, longest = self._limits.max_texts, self._limits.max_text_chars
        if len(texts) > limit:
            raise InvalidArgument(
                field="texts", problem=f"{len(texts)} texts, the limit is {limit}"
            )
        fits = [len(text) <= longest for text in texts]
        tasks = [Wanted(text, prompt) for text, ok in zip(texts, fits, strict=True) if ok]
        answers = iter(await batcher.submit_many(tasks, deadline))
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


def _too_long(index: int, text: str, longest: int) -> InvalidArgument:
    return InvalidArgument(f"texts[{index}]", f"{len(text)} characters, the limit is {longest}")
