"""What users say of themselves: attributes, interests, and the other ids they are known by.

The log's record is kept as it came; beside it stand the keys of its interests, which are texts
(``texts.py``), and its identities. An identity's own history stays its own: a reader joins those of
one person, so that it does not matter in which order histories and records come.

Databases: ``users``, user_id -> ``UserRecord``; ``identities``, user_id -> who claims it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event

from rankstream.server.errors import CorruptState
from rankstream.server.profiles.texts import Keeping, remember_texts
from rankstream.server.store import Txn, View
from rankstream.server.types import Position

_RECORD = struct.Struct("<qHHI")
_CLAIM = struct.Struct("<qH")
_LENGTH = struct.Struct("<H")
MAX_CLAIMS = 16
"""Users that one identity is remembered to be claimed by: those that claimed it last."""


@dataclass(frozen=True, slots=True)
class UserRecord:
    """One user as last written.

    Attributes:
        updated_at_ms: the broker's timestamp of the record.
        interests: keys of texts.
        identities: other user_ids of the same person.
        payload: the log record's value, as it came.
    """

    updated_at_ms: int
    interests: tuple[int, ...]
    identities: tuple[bytes, ...]
    payload: bytes

    def pack(self) -> bytes:
        """The stored bytes."""
        keys = struct.pack(f"<{len(self.interests)}Q", *self.interests)
        names = b"".join(_LENGTH.pack(len(name)) + name for name in self.identities)
        counts = len(self.interests), len(self.identities), len(names)
        return _RECORD.pack(self.updated_at_ms, *counts) + keys + names + self.payload

    @classmethod
    def unpack(cls, blob: bytes | memoryview) -> UserRecord:
        """Reads ``pack``'s bytes.

        Raises:
            CorruptState: they are not.
        """
        try:
            updated, interests, identities, size = _RECORD.unpack_from(blob)
            keys = struct.unpack_from(f"<{interests}Q", blob, _RECORD.size)
            start = _RECORD.size + 8 * interests
            names = tuple(_names(bytes(blob[start : start + size]), identities))
        except struct.error as error:
            msg = f"a user's record of {len(blob)} bytes is damaged: {error}; rebuild the state"
            raise CorruptState(msg) from error
        return cls(updated, keys, names, bytes(blob[start + size :]))


def _names(blob: bytes, count: int) -> Iterator[bytes]:
    at = 0
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(blob, at)
        at += _LENGTH.size + length
        yield blob[at - length : at]


@dataclass(slots=True, eq=False)
class UserCommit:
    """The writer's work: records of the users topic.

    Attributes:
        records: by user_id; None deletes.
        texts: the interests' texts by key.
        position: behind the records.
        keeping: how texts are kept.
    """

    records: Mapping[bytes, UserRecord | None]
    texts: Mapping[int, str]
    position: Position
    keeping: Keeping
    _done: Event = field(default_factory=Event)

    def apply(self, txn: Txn) -> None:
        """Writes the effects and the position."""
        for user, record in self.records.items():
            old = user_record(txn, user)
            for identity in old.identities if old is not None else ():
                _drop_claim(txn, identity, user)
            if record is None:
                txn.delete("users", user)
                continue
            txn.put("users", user, record.pack())
            for identity in record.identities:
                _add_claim(txn, identity, user, record.updated_at_ms)
        if self.texts:
            remember_texts(txn, self.texts, self.keeping.most)
        txn.advance([self.position])

    def committed(self) -> None:
        """The state has it."""
        if self.texts:
            self.keeping.remembered()
        self._done.set()

    def wait(self) -> None:
        """Until ``committed``."""
        self._done.wait()


def user_record(view: View, user: bytes) -> UserRecord | None:
    """What was last written of a user."""
    blob = view.get("users", user)
    return UserRecord.unpack(blob) if blob is not None else None


def owner_of(view: View, user: bytes) -> bytes:
    """Whose history a user_id's interactions join: the user that claimed it last, or itself.

    A user who is claimed claims nobody, so that everybody is one person's: of two who claim each
    other each stays alone.
    """
    claims = _read_claims(view.get("identities", user) or b"")
    while claims and view.get("identities", claims[-1][1]) is not None:
        claims.pop()
    return claims[-1][1] if claims else user


@dataclass(frozen=True, slots=True)
class Person:
    """One person: the user, what was written of them, and every user_id that is theirs.

    Attributes:
        user: the user that the others belong to.
        record: None: nothing was written.
        ids: the user first.
    """

    user: bytes
    record: UserRecord | None
    ids: tuple[bytes, ...]


def find_person(view: View, user: bytes) -> Person:
    """Whom a user_id belongs to."""
    owner = owner_of(view, user)
    record = user_record(view, owner)
    if record is None or not record.identities:
        return Person(owner, record, (owner,))
    others = [i for i in record.identities if i != owner and owner_of(view, i) == owner]
    return Person(owner, record, (owner, *others))


def _read_claims(blob: bytes | memoryview) -> list[tuple[int, bytes]]:
    """Claims (when, user), the winning one last.

    Raises:
        CorruptState: they are not whole.
    """
    found, at = [], 0
    while at + _CLAIM.size <= len(blob):
        when, length = _CLAIM.unpack_from(blob, at)
        at += _CLAIM.size + length
        found.append((when, bytes(blob[at - length : at])))
    if at != len(blob):
        msg = f"an identity's claims of {len(blob)} bytes are damaged; rebuild the state"
        raise CorruptState(msg)
    return found


def _write_claims(txn: Txn, identity: bytes, claims: Sequence[tuple[int, bytes]]) -> None:
    kept = sorted(claims)[-MAX_CLAIMS:]
    if kept:
        packed = b"".join(_CLAIM.pack(when, len(user)) + user for when, user in kept)
        txn.put("identities", identity, packed)
    else:
        txn.delete("identities", identity)


def _claims(txn: Txn, identity: bytes) -> list[tuple[int, bytes]]:
    blob = txn.get("identities", identity)
    return _read_claims(blob) if blob is not None else []


def _drop_claim(txn: Txn, identity: bytes, user: bytes) -> None:
    _write_claims(txn, identity, [c for c in _claims(txn, identity) if c[1] != user])


def _add_claim(txn: Txn, identity: bytes, user: bytes, when: int) -> None:
    others = [c for c in _claims(txn, identity) if c[1] != user]
    _write_claims(txn, identity, [*others, (when, user)])
