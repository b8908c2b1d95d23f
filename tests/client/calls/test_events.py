"""Events: their ids, what is refused, and the wait until they are applied."""

from __future__ import annotations

import pytest

from rankstream.client import Event, InvalidArgument


def test_events_get_ids_and_keep_theirs(client, fake):
    recorded = client.record_events(
        [
            Event("u1", "rate", "toy", value=4.0, event_time_ms=5, event_id="mine"),
            Event("u1", "x", "y"),
        ]
    )

    first, second = fake.requests["RecordEvents"][0].events
    assert (first.event_id, first.value, first.event_time_ms) == ("mine", 4.0, 5)
    assert not first.HasField("weight")
    assert not second.HasField("event_time_ms")
    assert len(second.event_id) == 32
    assert recorded.results[1].event_id == second.event_id
    assert recorded.results[1].error is None


def test_a_refused_event_does_not_lose_the_others(client, fake):
    fake.refused_items.add("bad")

    recorded = client.record_events([Event("u", "click", "bad"), Event("u", "click", "good")])

    assert isinstance(recorded.results[0].error, InvalidArgument)
    assert recorded.results[1].error is None


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (Event(3, "click", "i"), "user_id"),
        (Event("u", "click", "\udc80"), "item_id"),
        (Event("u", "click", "i", value="5"), "value"),
        (Event("u", "click", "i", event_time_ms=2**63), "event_time_ms"),
    ],
)
def test_a_wrong_event_is_named(client, event, field):
    with pytest.raises(InvalidArgument, match=f"^{field}: "):
        client.record_events([event])


def test_events_wait_until_they_are_applied(client, fake):
    event = Event(
        "u", "impression", "toy", text="t", position=3, session_id="s", platform="web",
        attributes={"list": "home"},
    )  # fmt: skip
    recorded = client.record_events([event], wait_applied=True, max_wait_ms=20)

    request = fake.requests["RecordEvents"][0]
    assert recorded.applied
    assert (request.wait_applied, request.max_wait_ms) == (True, 20)
    sent = request.events[0]
    assert (sent.position, sent.session_id, sent.platform, sent.text) == (3, "s", "web", "t")
    assert sent.attributes["list"].text == "home"
