"""Encoder: texts to vectors, batched across callers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.proto.v1 import encoder_pb2, encoder_pb2_grpc
from rankstream.server.batcher import Batch, Batcher
from rankstream.server.config import Limits
from rankstream.server.encoder.base import Encoder
from rankstream.server.errors import InvalidArgument, RankstreamError
from rankstream.server.interceptors import Context, deadline_of, status_of
from rankstream.server.wire import Names, vector_to_pb


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """One text's vector ``float32 [D]`` and what was read of it."""

    vector: NDArray[np.float32]
    tokens: int
    truncated: bool
    queue_us: int
    encode_us: int
    batch_size: int


def encode_batch(encoder: Encoder, batch: Batch[str]) -> Sequence[Embedded | RankstreamError]:
    """What the batcher computes: all texts that wait, in one call."""
    started = time.perf_counter_ns()
    encoded = encoder.encode_counted(batch.tasks)
    spent = (time.perf_counter_ns() - started) // 1000
    return [
        Embedded(vector, int(tokens), bool(cut), queued, spent, len(batch.tasks))
        for vector, tokens, cut, queued in zip(
            encoded.vectors, encoded.tokens, encoded.truncated, batch.queue_us, strict=True
        )
    ]


class EncoderService(encoder_pb2_grpc.EncoderServicer):
    """Decode, await the encoder, encode."""

    def __init__(
        self, batcher: Batcher[str, Embedded], dimension: int, names: Names, limits: Limits
    ) -> None:
        self._batcher = batcher
        self._dimension = dimension
        self._names = names
        self._limits = limits

    async def Embed(  # noqa: N802 - the name that gRPC gives
        self, request: encoder_pb2.EmbedRequest, context: Context
    ) -> encoder_pb2.EmbedResponse:
        """One vector a text; a text that fails has a status and a row of zeros."""
        started = time.monotonic()
        count, limit = len(request.texts), self._limits.max_texts
        if count > limit:
            raise InvalidArgument(field="texts", problem=f"{count} texts, the limit is {limit}")
        longest = self._limits.max_text_chars
        fits = [len(text) <= longest for text in request.texts]
        tasks = [text for text, ok in zip(request.texts, fits, strict=True) if ok]
        deadline = deadline_of(context, self._limits.default_timeout_s)
        answers = iter(await self._batcher.submit_many(tasks, deadline))
        response = encoder_pb2.EmbedResponse()
        rows = np.zeros((count, self._dimension), np.float32)
        for i, text in enumerate(request.texts):
            problem = f"{len(text)} characters, the limit is {longest}"
            answer = next(answers) if fits[i] else InvalidArgument(f"texts[{i}]", problem)
            if isinstance(answer, Embedded):
                rows[i] = answer.vector
                response.results.add(tokens=answer.tokens, truncated=answer.truncated)
                timing = response.timing
                timing.queue_us = max(timing.queue_us, answer.queue_us)
                timing.encode_us = max(timing.encode_us, answer.encode_us)
                timing.batch_size = max(timing.batch_size, answer.batch_size)
            else:
                response.results.add(status=status_of(answer))
        response.embeddings.CopyFrom(vector_to_pb(rows))
        served = response.served_by
        served.server_version, served.worker = self._names.server_version, self._names.worker
        served.space_fingerprint = self._names.space
        response.timing.total_us = int((time.monotonic() - started) * 1e6)
        return response
