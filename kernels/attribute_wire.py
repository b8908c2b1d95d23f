"""Whether an attribute of an event is plainly valid: read off the wire, and not kept.

``AttributeValue`` of proto/v1/common.proto, as the value of a map. What is not plain is left to
``server/stream/attributes.py``, which says what is wrong with it, where anything is.
"""

from typing import Final

import numpy as np

from rankstream.kernels.arrays import UInt8
from rankstream.kernels.compilation import compiled
from rankstream.kernels.spans import read_word
from rankstream.kernels.varint import is_ascii, read_span

_NAME, _VALUE = 0x0A, 0x12
_TEXT, _NUMBER, _FLAG, _TEXTS = 0x0A, 0x11, 0x18, 0x22
"""Tags, which are one byte each: field number << 3 | wire type."""

_EXPONENT: Final = np.uint64(0x7FF0000000000000)
"""All of these bits are set in a number that is not finite, and in no other."""


@compiled
def is_plain_attribute(
    text: UInt8, at: int, stop: int, max_name: int, max_text: int, max_texts: int
) -> bool:
    """Whether ``text[at:stop]`` is one name and one value, both within their limits."""
    if at == stop or text[at] != _NAME:
        return False
    start, at = read_span(text, at + 1, stop)
    if start < 0 or start == at or not is_ascii(text, start, at, max_name):
        return False
    if at == stop or text[at] != _VALUE:
        return False
    start, at = read_span(text, at + 1, stop)
    return start >= 0 and at == stop and _is_plain_value(text, start, stop, max_text, max_texts)


@compiled
def _is_plain_value(text: UInt8, at: int, stop: int, max_text: int, max_texts: int) -> bool:
    if at == stop:
        return False
    tag = text[at]
    if tag == _NUMBER:
        return stop - at == 9 and read_word(text, at + 1, stop) & _EXPONENT != _EXPONENT
    if tag == _FLAG:
        return stop - at == 2 and text[at + 1] < 2
    start, end = read_span(text, at + 1, stop)
    if start < 0 or end != stop:
        return False
    if tag == _TEXT:
        return is_ascii(text, start, stop, max_text)
    return tag == _TEXTS and _are_plain_texts(text, start, stop, max_text, max_texts)


@compiled
def _are_plain_texts(text: UInt8, at: int, stop: int, max_text: int, most: int) -> bool:
    count = 0
    while at < stop:
        if text[at] != _TEXT or count == most:
            return False
        start, at = read_span(text, at + 1, stop)
        if start < 0 or not is_ascii(text, start, at, max_text):
            return False
        count += 1
    return True
