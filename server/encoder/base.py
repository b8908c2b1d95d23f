"""The protocol of an encoder, its settings and its errors. Imports nothing heavy.

::

    RankstreamError
    └── EncoderError            INTERNAL             the encoder failed
        ├── UnreadableText      INTERNAL             the tokeniser failed on a text
        ├── WrongVector         INTERNAL             it answered what is not a vector to be served
        ├── ModelRefused        FAILED_PRECONDITION  a model folder that is not read; says why
        └── EncoderUnavailable  UNAVAILABLE          a library is missing; says what to install

Two layers: an ``Encoder`` takes texts (it owns tokeniser, batches and normalisation, the same for
every backend); a ``Backend`` takes one padded batch of token ids (torch, OpenVINO, ...).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rankstream.server.encoder.prompts import Prompts
from rankstream.server.encoder.text import DEFAULT_TEMPLATE
from rankstream.server.errors import RankstreamError, SpaceMismatch, Unavailable


class EncoderError(RankstreamError):
    """The encoder failed."""


class UnreadableText(EncoderError):
    """The tokeniser failed on a text, or on one of several."""


class WrongVector(EncoderError):
    """What the encoder answered is not a vector that may be served."""


class ModelRefused(EncoderError):
    """A model folder that cannot or must not be read."""

    status = "FAILED_PRECONDITION"


class EncoderUnavailable(EncoderError, Unavailable):
    """A library that the wanted backend needs is not installed."""

    status = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """What to load and how.

    Attributes:
        cache_dir: folder for converted graphs, compiled models and hashes; created when missing.
        model: model folder; "": the default package.
        backend: ``auto`` (the faster on this machine), ``openvino`` or ``torch``.
        precision: ``auto`` (int8 where the folder has such a graph, else bf16 where the CPU
            computes in it, else f32), ``int8``, ``bf16`` or ``f32``.
        threads: threads of one inference.
        max_batch_tokens: padded tokens of one batch at most.
        max_tokens: tokens read of one text; 0: what the model was made for, at most 512.
        template: how an item becomes a text, see ``ItemTemplate``; part of the fingerprint.
        pooling: one of ``sentence_modules.POOLINGS`` instead of what the folder says; "": the
            folder's, ``mean`` where it says nothing.
        item_prompt: name of the prompt put before items; "": ``document`` or its like where the
            folder has it, else the folder's default.
        query_prompt: of that put before what users and requests say; "": ``query``, likewise.
        dimensions: the first so many numbers of a vector are kept, and the vector normalised after
            that where the model normalises; 0: as the folder's ``truncate_dim`` says, else all.
        adapter: PEFT folder of a LoRA adapter, merged into the weights; "": none.
    """

    cache_dir: Path
    model: str = ""
    backend: str = "auto"
    precision: str = "auto"
    threads: int = 1
    max_batch_tokens: int = 4096
    max_tokens: int = 0
    template: str = DEFAULT_TEMPLATE
    pooling: str = ""
    item_prompt: str = ""
    query_prompt: str = ""
    dimensions: int = 0
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Texts of similar length, padded on the right.

    Attributes:
        rows: where they stand among the caller's texts, [B] intp.
        ids: token ids, [B, T] int64.
        mask: 1 where there is a token and 0 where there is padding, [B, T] int64.
    """

    rows: NDArray[np.intp]
    ids: NDArray[np.int64]
    mask: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Vectors and what was read to make them.

    Attributes:
        vectors: [B, D] float32.
        tokens: tokens read of each text, [B] int32.
        truncated: True where a text was longer than what was read, [B] bool.
    """

    vectors: NDArray[np.float32]
    tokens: NDArray[np.int32]
    truncated: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokenised texts.

    Attributes:
        ids: token ids of each text, at least one.
        lengths: how many, [B] int32.
        truncated: True where the text was longer than what was read, [B] bool.
    """

    ids: list[list[int]]
    lengths: NDArray[np.int32]
    truncated: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """What the model reads of one text.

    Attributes:
        token_ids: rows of the model's token table, special tokens included.
        tokens: what the tokeniser calls them.
        truncated: True where the text was longer than what is read.
    """

    token_ids: list[int]
    tokens: list[str]
    truncated: bool


class Backend(Protocol):
    """Computes one batch. ``embed`` may be called from several threads at once."""

    @property
    def name(self) -> str:
        """``openvino`` or ``torch``."""

    @property
    def numerics(self) -> str:
        """Backend, version, attention implementation and instruction set."""

    def embed(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Pooled vectors [B, D] float32, not yet normalised; the caller owns the array."""


class Encoder(Protocol):
    """Texts to vectors. Every method may be called from several threads at once."""

    @property
    def dimension(self) -> int:
        """D."""

    @property
    def max_tokens(self) -> int:
        """Tokens read of one text at most."""

    @property
    def fingerprint(self) -> str:
        """The vector space; vectors of two spaces are never compared."""

    @property
    def numerics(self) -> str:
        """What computes; recorded, never compared."""

    @property
    def backend(self) -> str:
        """``openvino`` or ``torch``."""

    @property
    def model_name(self) -> str:
        """The model's name, for people."""

    @property
    def precision(self) -> str:
        """``int8``, ``bf16`` or ``f32``."""

    @property
    def prompts(self) -> Prompts:
        """The prompts that ``prompt`` may name, and which of them are used for what."""

    def encode(self, texts: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
        """Vectors [B, D] float32 in the order of the texts.

        L2-normalised where the model says so. No texts give [0, D]; the empty text has a vector
        like any other.

        Args:
            texts: what is read.
            prompt: name of what is put before each; None: the folder's default.

        Raises:
            InvalidArgument: there is no such prompt.
            EncoderError: the tokeniser or the backend failed, or a vector is not finite.
        """

    def encode_counted(self, texts: Sequence[str], prompt: str | None = None) -> Encoded:
        """``encode``, with the tokens read of each text and whether it was cut."""

    def encode_batches(
        self, texts: Sequence[str], prompt: str | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """``encode`` batch by batch: (positions among the texts [b], vectors [b, D]).

        Each position comes exactly once, in an order that suits the batches.
        """

    def tokenize(self, texts: Sequence[str], prompt: str | None = None) -> list[TokenizedText]:
        """What the model reads of each text, its prompt included."""

    def read(self, texts: Sequence[str], prompt: str | None = None) -> Tokens:
        """The first half of ``encode``: token ids of each text.

        Raises:
            InvalidArgument: there is no such prompt.
            UnreadableText: the tokeniser fails on one of them.
        """

    def encode_tokens(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """The second half: vectors [B, D] float32 of texts that make one batch.

        Raises:
            EncoderError: the backend failed, or a vector is not finite.
        """

    def warm_up(self) -> None:
        """Encodes the golden texts and checks the answers.

        Raises:
            ModelRefused: a text is not read, or a vector is not finite, not normalised, or depends
                on its batch.
            EncoderError: the backend failed.
        """

    def close(self) -> None:
        """Frees the model when the calls in flight have ended; later ones raise EncoderError."""


def require_same_space(expected: str, found: str) -> None:
    """Refuses to mix vectors of two spaces.

    Args:
        expected: fingerprint of the vectors that are there.
        found: fingerprint of the vectors that come.

    Raises:
        SpaceMismatch: they differ.
    """
    if expected != found:
        message = (
            f"these vectors are of space {found or '(none)'}, expected {expected or '(none)'}; "
            "vectors of two encoders cannot be compared: encode again with one of them"
        )
        raise SpaceMismatch(message)
