"""Facts: what filters test of an item, two words each.

A fact is (column, value). The column is a hash of the name and the kind of value, so that one name
may hold texts in some items and numbers in others. The order of a column's values, as unsigned
integers, is the order of what they stand for: equality and ranges are the same test of a filter.

=======  ==========================================================================
kind     value
=======  ==========================================================================
text     the first 8 bytes, little-endian, of BLAKE2b-64 personalised ``text``
number   the bits of the float64, turned so that they rise with it; -0 is 0
flag     0 or 1
=======  ==========================================================================

Two texts of one hash would pass for each other: among a million texts of a column, once in 37
million catalogues.
"""

from __future__ import annotations

import functools
import hashlib
import struct
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

AttributeValue: TypeAlias = str | float | bool | tuple[str, ...]
"""Of an item's or a user's attribute: a text, a number, a flag, or a set of texts, sorted."""

Kind = Literal["text", "number", "flag"]
KINDS: tuple[Kind, ...] = ("text", "number", "flag")
FIELDS = ("category", "brand", "tags", "price")
"""The columns that an item's own fields make; no attribute has their names."""

_SIGN = 1 << 63
_ALL = (1 << 64) - 1


@functools.lru_cache(maxsize=4096)
def column_key(name: str, kind: Kind) -> int:
    """The column of a name and a kind of value, below 2**64."""
    return _hash(f"{kind}={name}", b"column")


def words_of(value: AttributeValue) -> tuple[Kind, list[int]]:
    """A value's kind, and what stands for it: a word, or one for each text of a set."""
    if isinstance(value, bool):
        return "flag", [int(value)]
    if isinstance(value, (int, float)):
        return "number", [number_word(value)]
    texts = (value,) if isinstance(value, str) else value
    return "text", [_hash(text, b"text") for text in texts]


def number_word(number: float) -> int:
    """A number's word: of two numbers the greater has the greater one."""
    # Adding 0 makes 0 of -0.
    bits = int.from_bytes(struct.pack("<d", number + 0.0), "little")
    return bits ^ _ALL if bits & _SIGN else bits | _SIGN


def item_facts(
    category: str,
    brand: str,
    tags: Iterable[str],
    price: float | None,
    attributes: Mapping[str, AttributeValue],
) -> NDArray[np.uint64]:
    """All facts of an item, ``uint64 [n, 2]``: sorted and distinct, so that equal items' are equal.

    An empty category, brand or tag is none.
    """
    found: set[tuple[int, int]] = set()
    fields = {"category": category or (), "brand": brand or (), "tags": tuple(filter(None, tags))}
    priced = {} if price is None else {"price": price}
    for name, value in {**attributes, **fields, **priced}.items():
        kind, words = words_of(value)
        found.update((column_key(name, kind), word) for word in words)
    return np.array(sorted(found), np.uint64).reshape(-1, 2)


def _hash(text: str, person: bytes) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=person).digest()
    return int.from_bytes(digest, "little")
