"""The encoder: tokenise, batch, embed, normalise, put back in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.server.encoder.base import (
    Backend,
    Encoded,
    EncoderError,
    ModelRefused,
    TokenBatch,
    TokenizedText,
    Tokens,
    UnreadableText,
    WrongVector,
)
from rankstream.server.encoder.batching import pad_batch, plan_batches
from rankstream.server.encoder.fingerprint import Space
from rankstream.server.encoder.golden import GOLDEN_TEXTS
from rankstream.server.encoder.tokenizer import Tokenizer

# Texts tokenised together: bounds the memory of a bulk, and is long enough to sort by length.
CHUNK_TEXTS = 4096
# The least cosine between a text encoded alone and among others; rounding, and nothing else.
SAME_COSINE = {"f32": 0.99999, "bf16": 0.999, "int8": 0.999}


@dataclass(frozen=True, slots=True)
class Shape:
    """What the encoder needs to know of its model.

    Attributes:
        model_name: for people.
        pad_id: fills a batch.
        max_batch_tokens: padded tokens of one batch at most.
        width: numbers in a vector of the backend; the first ``Space.dimension`` are kept.
    """

    model_name: str
    pad_id: int
    max_batch_tokens: int
    width: int


class TextEncoder:
    """An ``Encoder`` over any ``Backend``."""

    def __init__(self, backend: Backend, tokenizer: Tokenizer, space: Space, shape: Shape) -> None:
        """Joins a loaded backend and a tokeniser of the same model."""
        self.dimension = space.dimension
        self.max_tokens = space.max_tokens
        self.fingerprint = space.fingerprint
        self.numerics = backend.numerics
        self.backend = backend.name
        self.model_name = shape.model_name
        self.precision = space.precision
        self.prompts = space.prompts
        self._space = space
        self._shape = shape
        self._tokenizer = tokenizer
        self._loaded: Backend | None = backend

    def encode(self, texts: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
        """Vectors [B, D] float32 in the order of the texts. See ``Encoder.encode``."""
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for rows, part in self.encode_batches(texts, prompt):
            vectors[rows] = part
        return vectors

    def encode_counted(self, texts: Sequence[str], prompt: str | None = None) -> Encoded:
        """``encode``, with the tokens read of each text and whether it was cut."""
        vectors = np.empty((len(texts), self.dimension), np.float32)
        tokens = self.read(texts, prompt)
        for rows, part in self._embed(tokens):
            vectors[rows] = part
        return Encoded(vectors, tokens.lengths, tokens.truncated)

    def encode_batches(
        self, texts: Sequence[str], prompt: str | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """``encode`` batch by batch, sorted by length within a few thousand texts."""
        for start in range(0, len(texts), CHUNK_TEXTS):
            some = texts[start : start + CHUNK_TEXTS]
            for rows, part in self._embed(self.read(some, prompt)):
                yield rows + start, part

    def tokenize(self, texts: Sequence[str], prompt: str | None = None) -> list[TokenizedText]:
        """What the model reads of each text, its prompt included."""
        tokens, names = self.read(texts, prompt), self._tokenizer.names
        cut = tokens.truncated.tolist()
        return [TokenizedText(ids, names(ids), c) for ids, c in zip(tokens.ids, cut, strict=True)]

    def read(self, texts: Sequence[str], prompt: str | None = None) -> Tokens:
        """Token ids of each text, its prompt included."""
        before = self.prompts.before(prompt)
        return self._tokenizer.tokenize([before + text for text in texts] if before else texts)

    def encode_tokens(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Vectors [B, D] float32 of texts that make one batch."""
        kept = self._pool(pad_batch(np.arange(len(ids)), ids, self._shape.pad_id))
        kept = kept[:, : self.dimension]
        return _unit(kept) if self._space.normalise else kept

    def warm_up(self) -> None:
        """Encodes the golden texts together and alone, and compares."""
        try:
            self._check_golden()
        except (UnreadableText, WrongVector) as error:
            # Another start would meet it again: the model is at fault, not the moment.
            message = f"the warm-up failed: {error}"
            raise ModelRefused(message) from error

    def _check_golden(self) -> None:
        together = self.encode(GOLDEN_TEXTS)
        alone = np.concatenate([self.encode([text]) for text in GOLDEN_TEXTS])
        if self._space.normalise:
            worst = float(np.abs(np.linalg.norm(together, axis=1) - 1).max())
            self._require(worst < 1e-4, f"a vector's length differs from 1 by {worst:.2g}")
        cosines = (_unit(together) * _unit(alone)).sum(axis=1)
        least = float(cosines.min())
        wanted = SAME_COSINE[self.precision]
        problem = f"a text alone and in a batch have cosine {least:.6f}, expected >= {wanted}"
        self._require(least >= wanted, problem)

    def close(self) -> None:
        """Lets the backend go; it is freed when the last call that uses it has ended."""
        self._loaded = None

    def _embed(self, tokens: Tokens) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        for rows in plan_batches(tokens.lengths, self._shape.max_batch_tokens):
            yield rows, self.encode_tokens([tokens.ids[row] for row in rows])

    def _pool(self, batch: TokenBatch) -> NDArray[np.float32]:
        backend = self._loaded
        if backend is None:
            message = f"the encoder of {self.model_name} is closed; load it again"
            raise EncoderError(message)
        try:
            pooled = backend.embed(batch)
        except (RuntimeError, ValueError, IndexError) as error:
            message = f"{self.backend} failed on a batch of shape {batch.ids.shape}: {error}"
            raise EncoderError(message) from error
        wanted = (len(batch.rows), self._shape.width)
        self._require(pooled.shape == wanted, f"shape {pooled.shape}, expected {wanted}")
        self._require(bool(np.isfinite(pooled).all()), "a vector is not finite")
        return pooled

    def _require(self, holds: bool, problem: str) -> None:
        if not holds:
            message = (
                f"{self.model_name} on {self.backend} in {self.precision}: {problem}; "
                "try precision f32 or backend torch, or another model"
            )
            raise WrongVector(message)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided by their L2 norm; a zero row stays zero."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    unit: NDArray[np.float32] = (vectors / np.maximum(norms, 1e-12)[:, None]).astype(np.float32)
    return unit
