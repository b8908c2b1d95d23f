"""Texts that every backend must encode alike: the edges of what people write."""

from __future__ import annotations

GOLDEN_TEXTS = (
    "Toy Story (1995)",
    "",
    "A cowboy doll is profoundly threatened when a new spaceman figure supplants him. " * 40,
    "🤖🎮🧸 party 👩‍👩‍👧‍👦",
    "לוח שחמט מעץ، شطرنج خشبي",
    "木製のおもちゃの列車，适合三岁以上儿童",
    "tab\tbell\x07escape\x1b[0m nul\x00 end\r\n",
)
