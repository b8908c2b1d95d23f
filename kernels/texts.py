"""Texts by number, as kernels take them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rankstream.kernels.arrays import Int64, UInt8, frozen


class Texts(NamedTuple):
    """Numbered texts: number i is ``text[ends[i - 1]:ends[i]]``, number 0 begins at 0.

    Attributes:
        text: uint8[.], UTF-8.
        ends: int64[N].
    """

    text: UInt8
    ends: Int64


def listed(texts: Sequence[bytes]) -> Texts:
    """Texts in the order given."""
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    return Texts(np.frombuffer(b"".join(texts), np.uint8), frozen(ends))


def text_at(texts: Texts, number: int) -> str:
    """One of the texts."""
    start = int(texts.ends[number - 1]) if number else 0
    return texts.text[start : texts.ends[number]].tobytes().decode()


def numbered(names: Mapping[int, str]) -> Texts:
    """Texts by number; a number that is not among them has an empty one."""
    return listed([names.get(number, "").encode() for number in range(1 + max(names, default=-1))])
