"""Plain records as the bytes that producers and services write."""

from profile_oracle import TYPE_IDS
from small_server import attribute, item
from topics_records import Bad, Gone, Item, Merge, Reset, User

from rankstream.proto.v1 import events_pb2, profiles_pb2


def bytes_of(record):
    """A record's value."""
    if isinstance(record, Gone):
        return None
    if isinstance(record, Item):
        return _item(record).SerializeToString(deterministic=True)
    if isinstance(record, User):
        return _user(record).SerializeToString(deterministic=True)
    return _event(record).SerializeToString(deterministic=True)


def _item(record):
    given = {"fit": record.fit} if record.fit else {}
    return item(
        record.item_id,
        record.title,
        category=record.category,
        tags=record.tags,
        price=record.price,
        image=record.image,
        attributes=given,
    )


def _user(record):
    made = profiles_pb2.User(
        user_id=record.user, interests=record.interests, identities=record.identities
    )
    if record.likes:
        made.attributes["likes"].CopyFrom(attribute(record.likes))
    if record.budget is not None:
        made.attributes["budget"].CopyFrom(attribute(record.budget))
    return made


def _event(record):
    if isinstance(record, Bad):
        return events_pb2.Event(user_id=record.user, type="nonsense", item_id="sea")
    if isinstance(record, Reset):
        return events_pb2.Event(user_id=record.user, type="$reset", event_time_ms=record.time)
    if isinstance(record, Merge):
        return _merge_event(record)
    made = events_pb2.Event(
        event_id=record.event_id,
        user_id=record.user,
        event_time_ms=record.time,
        type=record.type,
        item_id=record.item,
        value=record.value,
        weight=record.weight,
        text=record.text,
    )
    if record.position:
        made.position = record.position
    return made


def _merge_event(record):
    newest = max(m.time for m in record.moved)
    made = events_pb2.Event(user_id=record.user, type="$merge", event_time_ms=newest)
    for m in record.moved:
        made.moved.event_keys.append(m.key)
        made.moved.target_keys.append(m.target)
        made.moved.event_times_ms.append(m.time)
        made.moved.weights.append(m.weight)
        made.moved.kinds.append(TYPE_IDS[m.type] | m.ext << 16)
    return made
