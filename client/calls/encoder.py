"""The Encoder service."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

from rankstream.client import checks
from rankstream.client.answers import (
    Embeddings,
    TokenizedText,
    embeddings_from_pb,
    tokenized_from_pb,
)
from rankstream.client.calls.methods import Answer, Stream, answers, streams
from rankstream.client.calls.shapes import Unary
from rankstream.client.calls.streams import Exchange, Source
from rankstream.client.errors import invalid
from rankstream.client.host import Host
from rankstream.proto.v1 import common_pb2, encoder_pb2

Priority = Literal["interactive", "bulk"]
_PRIORITIES = {
    None: common_pb2.PRIORITY_UNSPECIFIED,
    "interactive": common_pb2.PRIORITY_INTERACTIVE,
    "bulk": common_pb2.PRIORITY_BULK,
}


class EncoderCalls(Host):
    """What the text encoder makes of texts."""

    @answers
    def embed(
        self,
        texts: Sequence[str],
        *,
        prompt_name: str = "",
        priority: Priority | None = None,
        timeout_s: float | None = None,
    ) -> Answer[Embeddings]:
        """Embeddings of B texts: ``vectors`` float32 [B, D] and what became of each text.

        Args:
            texts: what is read.
            prompt_name: of ``EncoderInfo.prompts``; put before each text. "": the model's default.
            priority: ``interactive`` goes before ``bulk``; None: bulk where there are over 16.
            timeout_s: deadline in seconds; None: the client's.
        """
        request = _embed_request(texts, prompt_name, priority)
        return Unary("Encoder/Embed", request, embeddings_from_pb, timeout_s)

    @streams
    def embed_stream(
        self,
        batches: Source[Sequence[str]],
        *,
        prompt_name: str = "",
        priority: Priority | None = None,
        max_in_flight: int = 8,
        timeout_s: float | None = None,
    ) -> Stream[Embeddings]:
        """Embeddings of one batch of texts after the other, in order.

        Args:
            batches: any number of batches of texts.
            prompt_name: of ``EncoderInfo.prompts``; put before each text. "": the model's default.
            priority: of every batch, as for ``embed``.
            max_in_flight: batches without an answer at most.
            timeout_s: deadline of the whole stream, in seconds; None: none.

        Raises:
            InvalidArgument: a batch is not a sequence of texts.
            RankstreamError: the stream broke off; ``answered`` says after how many answers.
        """
        return Exchange(
            path="Encoder/EmbedStream",
            source=batches,
            timeout_s=timeout_s,
            window=max_in_flight,
            write=functools.partial(_embed_request, prompt_name=prompt_name, priority=priority),
            read=embeddings_from_pb,
        )

    @answers
    def tokenize(
        self, texts: Sequence[str], *, prompt_name: str = "", timeout_s: float | None = None
    ) -> Answer[list[TokenizedText]]:
        """What the model reads of texts, their prompt included: B of them, in their order."""
        request = encoder_pb2.TokenizeRequest(
            texts=checks.texts("texts", texts), prompt_name=checks.text("prompt_name", prompt_name)
        )
        return Unary("Encoder/Tokenize", request, tokenized_from_pb, timeout_s)


def _embed_request(
    texts: Sequence[str], prompt_name: str, priority: Priority | None
) -> encoder_pb2.EmbedRequest:
    if priority not in _PRIORITIES:
        field, problem = "priority", f"{priority!r}; expected 'interactive', 'bulk' or None"
        raise invalid(field, problem)
    return encoder_pb2.EmbedRequest(
        texts=checks.texts("texts", texts),
        prompt_name=checks.text("prompt_name", prompt_name),
        priority=_PRIORITIES[priority],
    )
