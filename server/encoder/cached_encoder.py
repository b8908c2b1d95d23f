"""An encoder that encodes each text once, as long as it is remembered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from rankstream.server.encoder.base import Encoded, Encoder, TokenizedText, Tokens
from rankstream.server.encoder.cache import VectorCache
from rankstream.server.encoder.text import text_hash


class CachedEncoder:
    """Puts a ``VectorCache`` before an encoder; texts that repeat within a call run once."""

    def __init__(self, encoder: Encoder, max_bytes: int) -> None:
        """Wraps it; ``max_bytes`` is the cache's budget."""
        self._encoder = encoder
        self.cache = VectorCache(max_bytes)
        self.dimension = encoder.dimension
        self.max_tokens = encoder.max_tokens
        self.fingerprint = encoder.fingerprint
        self.numerics = encoder.numerics
        self.backend = encoder.backend
        self.model_name = encoder.model_name
        self.precision = encoder.precision
        self.prompts = encoder.prompts

    def encode(self, texts: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
        """As ``Encoder.encode``; only texts that are not remembered are encoded."""
        keys = self._keys(texts, prompt)
        vectors = np.empty((len(texts), self.dimension), np.float32)
        missing: dict[bytes, list[int]] = {}
        for row, (key, known) in enumerate(zip(keys, self.cache.get(keys), strict=True)):
            if known is None:
                missing.setdefault(key, []).append(row)
            else:
                vectors[row] = known.vector
        if missing:
            some = [texts[rows[0]] for rows in missing.values()]
            fresh = self._encoder.encode_counted(some, prompt)
            self.cache.put(list(missing), fresh)
            for rows, vector in zip(missing.values(), fresh.vectors, strict=True):
                vectors[rows] = vector
        return vectors

    def encode_counted(self, texts: Sequence[str], prompt: str | None = None) -> Encoded:
        """As ``Encoder.encode_counted``; encodes, and remembers, every text."""
        encoded = self._encoder.encode_counted(texts, prompt)
        self.cache.put(self._keys(texts, prompt), encoded)
        return encoded

    def encode_batches(
        self, texts: Sequence[str], prompt: str | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """As ``Encoder.encode_batches``, past the cache: a bulk would only empty it."""
        return self._encoder.encode_batches(texts, prompt)

    def tokenize(self, texts: Sequence[str], prompt: str | None = None) -> list[TokenizedText]:
        """As ``Encoder.tokenize``."""
        return self._encoder.tokenize(texts, prompt)

    def read(self, texts: Sequence[str], prompt: str | None = None) -> Tokens:
        """As ``Encoder.read``."""
        return self._encoder.read(texts, prompt)

    def encode_tokens(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """As ``Encoder.encode_tokens``, past the cache: it knows texts."""
        return self._encoder.encode_tokens(ids)

    def warm_up(self) -> None:
        """Warms up the encoder."""
        self._encoder.warm_up()

    def close(self) -> None:
        """Closes the encoder."""
        self._encoder.close()

    def _keys(self, texts: Sequence[str], prompt: str | None) -> list[bytes]:
        # Of all that is read: a text under two prompts is two texts.
        before = self.prompts.before(prompt)
        return [text_hash(before + text) for text in texts]
