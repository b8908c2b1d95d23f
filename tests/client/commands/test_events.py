"""events send: the token, the wait, and what was refused."""

from __future__ import annotations

import json

from fake_state import PRINTED_TOKEN, TOKEN


def test_events_send_prints_the_token_and_the_wait(run, fake):
    result = run("events", "send", "u1", "rate", "toy", "--value", "4.5", "--wait")

    token, visible = result.stdout.splitlines()
    assert token == PRINTED_TOKEN
    assert visible.startswith("visible after ")
    event = fake.requests["RecordEvents"][0].events[0]
    assert (event.user_id, event.type, event.item_id, event.value) == ("u1", "rate", "toy", 4.5)
    assert fake.requests["GetProfile"][0].read_after.min_token == TOKEN


def test_events_send_as_json(run, fake):
    document = json.loads(run("events", "send", "u1", "click", "toy", "--json").stdout)

    assert document["token"] == PRINTED_TOKEN
    assert document["event_id"] == fake.requests["RecordEvents"][0].events[0].event_id
    assert document["visible_ms"] is None
    assert not fake.requests["GetProfile"]


def test_events_send_of_a_refused_event_is_an_error(run, fake):
    fake.refused_items.add("bad")

    result = run("events", "send", "u1", "click", "bad")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "Error: item_id: bad is bad\n"


def test_events_send_of_a_search(run, fake):
    assert run("events", "send", "u1", "search", "--text", "red shoes").exit_code == 0
    event = fake.requests["RecordEvents"][0].events[0]
    assert (event.type, event.item_id, event.text) == ("search", "", "red shoes")
