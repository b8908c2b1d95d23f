"""Texts that interactions are with: kept once by their key, with a vector of each generation.

A text is remembered by the commit of the first event that has it, and encoded afterwards; until
its vector is there it counts as zero. Each has a number, rising. Beyond the bound the lowest
numbers are forgotten; a text that comes again after half as many others takes a new number, so that
what is in use stays.

Databases: ``texts``, text key -> (number, bytes of the text, text); ``text_order``, number -> text
key; in ``meta``, the next number. Of each slot: ``vectors``, text key -> vector, where it has been
encoded; in ``generation``, the number of the last one encoded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.arrays import freeze
from rankstream.kernels.query import Extras
from rankstream.kernels.texts import listed
from rankstream.server.errors import CorruptState
from rankstream.server.generation import SLOTS, Slot
from rankstream.server.store import Txn, View

_RECORD = struct.Struct("<qI")
_NUMBER = struct.Struct("<q")
_NEXT, _ENCODED = b"texts", b"texts encoded"
_LABEL_BYTES = 200


@dataclass(frozen=True, slots=True)
class StoredText:
    """One remembered text."""

    number: int
    text: str

    def pack(self) -> bytes:
        """The stored bytes."""
        text = self.text.encode()
        return _RECORD.pack(self.number, len(text)) + text

    @classmethod
    def unpack(cls, blob: bytes | memoryview) -> StoredText:
        """Reads ``pack``'s bytes.

        Raises:
            CorruptState: they are not.
        """
        try:
            number = int(_RECORD.unpack_from(blob)[0])
            text = bytes(_text_in(blob)).decode()
        except (struct.error, UnicodeDecodeError) as error:
            msg = f"a stored text of {len(blob)} bytes is damaged: {error}; rebuild the state"
            raise CorruptState(msg) from error
        return cls(number, text)


@dataclass(frozen=True, slots=True)
class Keeping:
    """How texts are kept.

    Attributes:
        most: how many.
        remembered: called once the state has texts that may have to be encoded.
    """

    most: int
    remembered: Callable[[], None]


def remember_texts(txn: Txn, texts: Mapping[int, str], most: int) -> None:
    """Keeps texts by their keys; forgets the oldest beyond ``most``."""
    following = next_number(txn)
    for key, text in texts.items():
        name = _name(key)
        blob = txn.get("texts", name)
        known = StoredText.unpack(blob) if blob is not None else None
        if known is not None:
            if following - known.number <= most // 2:
                continue
            txn.delete("text_order", _ordinal(known.number))
        txn.put("texts", name, StoredText(following, text).pack())
        txn.put("text_order", _ordinal(following), name)
        following += 1
    txn.put("meta", _NEXT, _NUMBER.pack(following))
    _forget(txn, txn.count("texts") - most)


def _forget(txn: Txn, count: int) -> None:
    if count <= 0:
        return
    oldest = []
    for ordinal, name in txn.items_from("text_order", b""):
        oldest.append((ordinal, bytes(name)))
        if len(oldest) == count:
            break
    for ordinal, forgotten in oldest:
        txn.delete("text_order", ordinal)
        txn.delete("texts", forgotten)
        for slot in SLOTS:
            txn.of(slot).delete("vectors", forgotten)


@dataclass(slots=True, eq=False)
class TextCommit:
    """The writer's work: vectors of remembered texts.

    Attributes:
        vectors: text key -> ``float32 [D]``.
        upto: the number of the last text that was looked at.
        slot: of the generation whose encoder made them.
    """

    vectors: Mapping[bytes, NDArray[np.float32]]
    upto: int
    slot: Slot
    _done: Event = field(default_factory=Event)

    def apply(self, txn: Txn) -> None:
        """Puts each vector to its text, where that is still remembered."""
        own = txn.of(self.slot)
        for name, vector in self.vectors.items():
            if own.get("texts", name) is not None:
                own.put("vectors", name, vector.astype("<f4").tobytes())
        own.put("generation", _ENCODED, _NUMBER.pack(self.upto))

    def committed(self) -> None:
        """The state has it."""
        self._done.set()

    def wait(self) -> None:
        """Until ``committed``."""
        self._done.wait()


def texts_to_encode(view: View, most: int) -> tuple[dict[bytes, str], int, int]:
    """Texts without a vector of this slot's by their key, at most so many.

    Returns:
        The texts; the number of the last one looked at, for ``TextCommit.upto``; and the number of
        the last one encoded, which is the same where there is nothing new.
    """
    before = last_encoded(view)
    upto = before
    found: dict[bytes, str] = {}
    for ordinal, name in view.items_from("text_order", _ordinal(upto + 1)):
        if len(found) == most:
            break
        upto = int.from_bytes(ordinal, "big")
        key = bytes(name)
        blob = view.get("texts", key)
        if blob is not None and view.get("vectors", key) is None:
            found[key] = StoredText.unpack(blob).text
    return found, upto, before


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A vector that a request brings: a text's, or its own.

    Attributes:
        key: names it among the request's interactions.
        label: for people.
        vector: ``float32 [D]`` of the text block, or of a whole row.
    """

    key: int
    label: str
    vector: NDArray[np.float32]


def read_extras(
    view: View, keys: Iterable[int], given: Sequence[Given], dimensions: int, stride: int
) -> Extras:
    """The vectors of texts that are encoded, and those given, as kernels take them.

    Args:
        view: read for the texts.
        keys: of remembered texts, ascending.
        given: further vectors; one with a remembered text's key takes its place.
        dimensions: of the text block, the first of a row.
        stride: of a row.

    Raises:
        CorruptState: a remembered text is not what was written.
    """
    found = {g.key: (_label(g.label.encode()), g.vector) for g in given}
    for key in keys:
        stored, blob = (view.get(db, _name(key)) for db in ("vectors", "texts"))
        if stored is None or blob is None or key in found:
            continue
        if len(stored) != 4 * dimensions:
            msg = f"the vector of a text has {len(stored)} bytes, expected {4 * dimensions}"
            raise CorruptState(msg)
        found[key] = _label(bytes(_text_in(blob))), np.frombuffer(bytes(stored), "<f4")
    vectors = np.zeros((len(found), stride), np.float32)
    ordered = sorted(found)
    for row, key in enumerate(ordered):
        vector = found[key][1]
        vectors[row, : len(vector)] = vector
    labels = listed([found[key][0] for key in ordered])
    extras = Extras(np.array(ordered, np.uint64), vectors, labels)
    freeze((extras.keys, extras.vectors, *extras.labels))
    return extras


def text_of(view: View, key: int) -> str:
    """A remembered text; "" where it is not (any more)."""
    blob = view.get("texts", _name(key))
    return StoredText.unpack(blob).text if blob is not None else ""


def _text_in(blob: bytes | memoryview) -> bytes | memoryview:
    """The text inside a packed ``StoredText``, without reading the rest."""
    length = int(_RECORD.unpack_from(blob)[1]) if len(blob) >= _RECORD.size else -1
    if len(blob) != _RECORD.size + length:
        msg = f"a stored text of {len(blob)} bytes is damaged; rebuild the state"
        raise CorruptState(msg)
    return blob[_RECORD.size :]


def _label(text: bytes) -> bytes:
    """At most ``_LABEL_BYTES`` of a text; a character that is cut is left out."""
    return text[:_LABEL_BYTES].decode(errors="ignore").encode()


def _name(key: int) -> bytes:
    return key.to_bytes(8, "little")


def _ordinal(number: int) -> bytes:
    return number.to_bytes(8, "big")


def next_number(view: View) -> int:
    """The number that the next new text will have."""
    blob = view.get("meta", _NEXT)
    return int(_NUMBER.unpack(blob)[0]) if blob is not None else 1


def last_encoded(view: View) -> int:
    """The number of the last text that this slot's encoder has looked at."""
    blob = view.get("generation", _ENCODED)
    return int(_NUMBER.unpack(blob)[0]) if blob is not None else 0
