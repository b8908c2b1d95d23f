"""Records of the users topic: what is valid, and what the state keeps of it.

The same rules validate what comes over gRPC (``validate_user``).
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from rankstream.proto.v1 import profiles_pb2
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument, RankstreamError
from rankstream.server.facts import AttributeValue
from rankstream.server.profiles.texts import Keeping
from rankstream.server.profiles.users import UserCommit, UserRecord
from rankstream.server.stream.attributes import attributes_from_pb
from rankstream.server.stream.checks import BadRecord, check_id, check_size
from rankstream.server.stream.consumer import Chunk, Record
from rankstream.server.types import Position, normal_text, text_key


@dataclass(frozen=True, slots=True)
class ReadUsers:
    """The good records of a chunk.

    Attributes:
        records: by user_id; None deletes.
        texts: interests by their keys.
    """

    records: dict[bytes, UserRecord | None]
    texts: dict[int, str]


@dataclass(frozen=True, slots=True)
class UserFolder:
    """Reads records of the users topic.

    Attributes:
        limits: bounds.
        keeping: how texts are kept.
    """

    limits: Limits
    keeping: Keeping

    def read(self, chunk: Chunk) -> tuple[ReadUsers, list[tuple[Record, str]]]:
        """What is good of a chunk, and each record that is not, with the reason."""
        found, refused = ReadUsers({}, {}), []
        for record in chunk.records:
            try:
                self._read(record, found)
            except (RankstreamError, DecodeError) as error:
                refused.append((record, str(error)))
        return found, refused

    def commit(self, good: ReadUsers, position: Position) -> UserCommit:
        """The writer's work."""
        return UserCommit(good.records, good.texts, position, self.keeping)

    def _read(self, record: Record, found: ReadUsers) -> None:
        if record.value is None:
            if not record.key:
                msg = "key: null with a null value, expected the user_id to delete"
                raise BadRecord(msg)
            if len(record.key) > self.limits.max_id_bytes:
                msg = f"key: {len(record.key)} bytes, the limit is {self.limits.max_id_bytes}"
                raise BadRecord(msg)
            found.records[record.key] = None
            return
        check_size(record.value, self.limits)
        user = profiles_pb2.User.FromString(record.value)
        if record.key is not None and record.key != user.user_id.encode():
            msg = f"user_id: {user.user_id!r} differs from the record's key {record.key!r}"
            raise BadRecord(msg)
        texts = validate_user(user, self.limits)
        found.texts.update(texts)
        identities = tuple(dict.fromkeys(name.encode() for name in user.identities))
        kept = UserRecord(record.timestamp, tuple(texts), identities, record.value)
        found.records[user.user_id.encode()] = kept


def validate_user(user: profiles_pb2.User, limits: Limits, field: str = "") -> dict[int, str]:
    """Checks a user.

    Args:
        user: the message.
        limits: bounds.
        field: where it stands in a request, as ``user.``.

    Returns:
        The texts of its interests by their keys, in their order.

    Raises:
        InvalidArgument: names the field.
    """
    check_id(user.user_id, field + "user_id", limits.max_id_bytes)
    attributes_from_pb(user.attributes, limits, field + "attributes")
    _check_count(len(user.identities), limits.max_identities, field + "identities")
    for i, name in enumerate(user.identities):
        check_id(name, f"{field}identities[{i}]", limits.max_id_bytes)
        if name == user.user_id:
            problem = f"{name!r} is the user_id itself"
            raise InvalidArgument(field=f"{field}identities[{i}]", problem=problem)
    _check_count(len(user.interests), limits.max_interests, field + "interests")
    texts: dict[int, str] = {}
    for i, given in enumerate(user.interests):
        text = normal_text(given)
        if len(text) > limits.max_event_text_chars:
            problem = f"{len(text)} characters, the limit is {limits.max_event_text_chars}"
            raise InvalidArgument(field=f"{field}interests[{i}]", problem=problem)
        if text:
            texts[text_key(text)] = text
    return texts


def _check_count(count: int, limit: int, field: str) -> None:
    if count > limit:
        raise InvalidArgument(field, f"{count}, the limit is {limit}")


def user_attributes(payload: bytes) -> dict[str, AttributeValue]:
    """What a stored user's record says of them; it was checked when it was folded."""
    found: dict[str, AttributeValue] = {}
    for name, value in profiles_pb2.User.FromString(payload).attributes.items():
        kind = value.WhichOneof("kind")
        if kind is not None:
            found[name] = tuple(value.texts.values) if kind == "texts" else getattr(value, kind)
    return found
