"""Texts that every backend must encode alike: the edges of what people write."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rankstream.server.encoder.base import Encoder

GOLDEN_TEXTS = (
    "Toy Story (1995)",
    "",
    "A cowboy doll is profoundly threatened when a new spaceman figure supplants him. " * 40,
    "🤖🎮🧸 party 👩‍👩‍👧‍👦",
    "לוח שחמט מעץ، شطرنج خشبي",
    "木製のおもちゃの列車，适合三岁以上儿童",
    "tab\tbell\x07escape\x1b[0m nul\x00 end\r\n",
)


def golden_texts(encoder: Encoder) -> list[tuple[str, str | None]]:
    """Each with the prompt that it is read behind: as an item, and as a query."""
    return [(text, prompt) for prompt in _prompts(encoder) for text in GOLDEN_TEXTS]


def golden_vectors(encoder: Encoder) -> NDArray[np.float32]:
    """Vectors [G, D] float32 of ``golden_texts``, those of one prompt encoded together."""
    parts = [encoder.encode(GOLDEN_TEXTS, prompt) for prompt in _prompts(encoder)]
    return np.concatenate(parts)


def _prompts(encoder: Encoder) -> list[str | None]:
    return list(dict.fromkeys((encoder.prompts.item, encoder.prompts.query)))
