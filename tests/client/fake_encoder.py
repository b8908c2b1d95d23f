"""Vectors and tokens of texts, as a server answers them."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
from fake_state import SERVED_BY, TIMING, Fake, status

from rankstream.proto.v1 import common_pb2, encoder_pb2, encoder_pb2_grpc


class FakeEncoder(encoder_pb2_grpc.EncoderServicer):
    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def Embed(self, request: Any, context: Any) -> Any:
        self.fake.enter("Embed", request, context)
        return self.embedded(request)

    def EmbedStream(self, requests: Any, context: Any) -> Any:
        for request in self.fake.streamed("EmbedStream", requests, context):
            yield self.embedded(request)

    def Tokenize(self, request: Any, context: Any) -> Any:
        self.fake.enter("Tokenize", request, context)
        texts = [
            encoder_pb2.TokenizedText(token_ids=range(len(text.split())), tokens=text.split())
            for text in request.texts
        ]
        for text, asked in zip(texts, request.texts, strict=True):
            if not asked:
                text.status.CopyFrom(status(grpc.StatusCode.INVALID_ARGUMENT, "texts: is empty"))
        return encoder_pb2.TokenizeResponse(texts=texts)

    def embedded(self, request: Any) -> Any:
        rows = np.zeros((len(request.texts), 3), np.float32)
        results = []
        for row, text in zip(rows, request.texts, strict=True):
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
