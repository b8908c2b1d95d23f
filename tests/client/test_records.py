"""Records on their way to protobuf and back."""

from __future__ import annotations

from rankstream.client import Event, Item


def test_a_record_makes_the_way_to_protobuf_and_back():
    from rankstream.client.records import event_from_pb, event_to_pb, item_from_pb, item_to_pb

    event = Event("u", "view", "i", 1.0, 2.0, 3, "e", "t", "s", "p", 4, {"a": True, "b": ("c",)})
    item = Item("i", "T", attributes={"stock": 3.0, "colour": "red"})

    assert event_from_pb(event_to_pb(event)) == event
    assert item_from_pb(item_to_pb(item)) == item
