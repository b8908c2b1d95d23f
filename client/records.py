"""What is written: events, items and users, and their protobuf forms."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rankstream.client import checks
from rankstream.client.attributes import Attributes, attributes_from_pb, attributes_to_pb
from rankstream.client.errors import InvalidArgument, invalid
from rankstream.client.vectors import vector_from_pb, vector_to_pb
from rankstream.proto.v1 import catalog_pb2, events_pb2, profiles_pb2


@dataclass(frozen=True, slots=True)
class Event:
    """What a user did with an item, searched for, or wrote.

    Attributes:
        user_id: who; empty in the session events of a ranking.
        type: impression, view, click, cart, purchase, rate, ... (``Client.server_info``).
        item_id: with which item; a search needs none, others need it or a text.
        value: what the type counts: stars of a rate, pieces of a purchase.
        weight: multiplies the type's signed weight; None: 1.
        event_time_ms: milliseconds since the epoch; None: when the log took it.
        event_id: the same id is the same event, however often it is sent; empty: made on sending.
        text: what was searched for, or written.
        session_id: kept in the log for training, as are the three below.
        platform: where it happened: web, ios, ...
        position: where the item stood in the list that was shown, from 1.
        attributes: further values by name.
    """

    user_id: str
    type: str
    item_id: str = ""
    value: float | None = None
    weight: float | None = None
    event_time_ms: int | None = None
    event_id: str = ""
    text: str = ""
    session_id: str = ""
    platform: str = ""
    position: int | None = None
    attributes: Attributes = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Item:
    """What can be ranked. Always whole: a later write replaces all of an earlier one.

    Attributes:
        item_id: stable name.
        title: read by the encoder, as are description, category, brand and tags.
        description: longer text.
        category: one category.
        brand: one brand or maker.
        tags: any number of labels.
        price: in the shop's one currency.
        vectors: float32 vectors of any shape by block name, as the server declares them.
        attributes: what filters test, beside category, brand, tags and price.
    """

    item_id: str
    title: str = ""
    description: str = ""
    category: str = ""
    brand: str = ""
    tags: tuple[str, ...] = ()
    price: float | None = None
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict, compare=False)
    attributes: Attributes = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class User:
    """What is known of a user. Always whole: a later write replaces all of an earlier one.

    Attributes:
        user_id: who.
        attributes: for filters that compare with the user.
        interests: what they say about themselves or want, in words; joins their vector.
        identities: other user_ids of the same person; their interactions count as this user's.
    """

    user_id: str
    attributes: Attributes = field(default_factory=dict, hash=False)
    interests: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()


def new_event_id() -> str:
    """An id of 32 hexadecimal digits that sorts by the time it was made, and never comes twice."""
    return f"{time.time_ns():016x}{secrets.token_hex(8)}"


def event_to_pb(event: Event, *, with_id: bool = True) -> events_pb2.Event:
    """Protobuf form; an event without an id gets a new one, so that sending it again is harmless.

    Args:
        event: what happened.
        with_id: False: an event without an id stays so, as in a session.

    Raises:
        InvalidArgument: a field has the wrong type or no UTF-8 form.
    """
    try:
        return events_pb2.Event(
            event_id=event.event_id or (new_event_id() if with_id else ""),
            event_time_ms=event.event_time_ms,
            user_id=event.user_id,
            session_id=event.session_id,
            platform=event.platform,
            type=event.type,
            item_id=event.item_id,
            value=event.value,
            weight=event.weight,
            text=event.text,
            position=event.position,
            attributes=attributes_to_pb("attributes", event.attributes)
            if event.attributes
            else None,
        )
    except (TypeError, ValueError) as problem:
        raise _event_problem(event, problem) from None


def event_from_pb(message: events_pb2.Event) -> Event:
    """Our form of a protobuf event."""
    return Event(
        user_id=message.user_id,
        type=message.type,
        item_id=message.item_id,
        value=message.value if message.HasField("value") else None,
        weight=message.weight if message.HasField("weight") else None,
        event_time_ms=message.event_time_ms if message.HasField("event_time_ms") else None,
        event_id=message.event_id,
        text=message.text,
        session_id=message.session_id,
        platform=message.platform,
        position=message.position if message.HasField("position") else None,
        attributes=attributes_from_pb(message.attributes),
    )


def item_to_pb(item: Item) -> catalog_pb2.Item:
    """Protobuf form.

    Raises:
        InvalidArgument: a field has the wrong type or no UTF-8 form.
    """
    vectors = {name: vector_to_pb(f"vectors[{name}]", v) for name, v in item.vectors.items()}
    if isinstance(item.tags, str):
        problem = f"{item.tags!r} is one string; expected a sequence of strings"
        raise invalid(field="tags", problem=problem)
    try:
        return catalog_pb2.Item(
            item_id=item.item_id,
            title=item.title,
            description=item.description,
            category=item.category,
            brand=item.brand,
            tags=item.tags,
            price=item.price,
            vectors=vectors,
            attributes=attributes_to_pb("attributes", item.attributes),
        )
    except (TypeError, ValueError) as problem:
        raise _item_problem(item, problem) from None


def item_from_pb(message: catalog_pb2.Item) -> Item:
    """Our form of a protobuf item."""
    return Item(
        item_id=message.item_id,
        title=message.title,
        description=message.description,
        category=message.category,
        brand=message.brand,
        tags=tuple(message.tags),
        price=message.price if message.HasField("price") else None,
        vectors={name: vector_from_pb(vector) for name, vector in message.vectors.items()},
        attributes=attributes_from_pb(message.attributes),
    )


def user_to_pb(user: User) -> profiles_pb2.User:
    """Protobuf form.

    Raises:
        InvalidArgument: a field has the wrong type or no UTF-8 form.
    """
    return profiles_pb2.User(
        user_id=checks.text("user_id", user.user_id),
        attributes=attributes_to_pb("attributes", user.attributes),
        interests=checks.texts("interests", user.interests),
        identities=checks.texts("identities", user.identities),
    )


def user_from_pb(message: profiles_pb2.User) -> User:
    """Our form of a protobuf user."""
    return User(
        user_id=message.user_id,
        attributes=attributes_from_pb(message.attributes),
        interests=tuple(message.interests),
        identities=tuple(message.identities),
    )


def _event_problem(event: Event, problem: Exception) -> InvalidArgument:
    """Says which field protobuf refused: it does not always name one."""
    try:
        for label in ("event_id", "user_id", "type", "item_id", "text", "session_id", "platform"):
            checks.text(label, getattr(event, label))
        for label in ("value", "weight"):
            if getattr(event, label) is not None:
                checks.number(label, getattr(event, label))
        if event.event_time_ms is not None:
            checks.moment_ms("event_time_ms", event.event_time_ms)
        if event.position is not None:
            checks.count("position", event.position)
    except InvalidArgument as found:
        return found
    return invalid("event", str(problem))


def _item_problem(item: Item, problem: Exception) -> InvalidArgument:
    """Says which field protobuf refused: it does not always name one."""
    try:
        for label in ("item_id", "title", "description", "category", "brand"):
            checks.text(label, getattr(item, label))
        for index, tag in enumerate(item.tags):
            checks.text(f"tags[{index}]", tag)
        if item.price is not None:
            checks.number("price", item.price)
    except InvalidArgument as found:
        return found
    return invalid("item", str(problem))
