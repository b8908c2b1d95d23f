"""Vectors and tokens of texts, as a server answers them."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
from fake_state import SERVED_BY, TIMING, Fake, status

from rankstream.proto.v1 import common_pb2, encoder_pb2, encoder_pb2_grpc

PROMPTS = {"": "", "query": "find "}


class FakeEncoder(encoder_pb2_grpc.EncoderServicer):
    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def Embed(self, request: Any, context: Any) -> Any:
        self.fake.enter("Embed", request, context)
        return self.embedded(request, context)

    def EmbedStream(self, requests: Any, context: Any) -> Any:
        for request in self.fake.streamed("EmbedStream", requests, context):
            yield self.embedded(request, context)

    def Tokenize(self, request: Any, context: Any) -> Any:
        self.fake.enter("Tokenize", request, context)
        texts = [
            encoder_pb2.TokenizedText(token_ids=range(len(text.split())), tokens=text.split())
            for text in self.read(request, context)
        ]
        for text, asked in zip(texts, request.texts, strict=True):
            if not asked:
                text.status.CopyFrom(status(grpc.StatusCode.INVALID_ARGUMENT, "texts: is empty"))
        return encoder_pb2.TokenizeResponse(texts=texts)

    def read(self, request: Any, context: Any) -> list[str]:
        """The texts with their prompt, except those that are empty."""
        if request.prompt_name not in PROMPTS:
            message = f"prompt_name: no prompt {request.prompt_name!r}; there are 'query'"
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
        return [text and PROMPTS[request.prompt_name] + text for text in request.texts]

    def embedded(self, request: Any, context: Any) -> Any:
        rows = np.zeros((len(request.texts), 3), np.float32)
        results = []
        for row, text in zip(rows, self.read(request, context), strict=True):
            row[:] = len(text)
            results.append(encoder_pb2.EmbedResult(tokens=len(text.split()), truncated=False))
            if not text:
                bad = status(grpc.StatusCode.INVALID_ARGUMENT, "texts: is empty")
                results[-1].status.CopyFrom(bad)
        vector = common_pb2.Vector(
            data=rows.tobytes(), dtype=common_pb2.Vector.FLOAT32, shape=rows.shape
        )
        return encoder_pb2.EmbedResponse(
            results=results, embeddings=vector, served_by=SERVED_BY, timing=TIMING
        )
