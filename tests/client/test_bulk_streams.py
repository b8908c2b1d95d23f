"""Streams of events, texts and items, imports, lists and exports, in both forms of client."""

from __future__ import annotations

import grpc
import pytest
from fake_state import TOKEN

from rankstream.client import (
    Event,
    FailedPrecondition,
    ImportProgress,
    Interaction,
    InvalidArgument,
    Item,
    Unavailable,
    User,
)
from rankstream.client.calls.streams import CHUNK_BYTES, CHUNK_ENTRIES


def test_events_are_acknowledged_one_by_one(driver, fake):
    fake.refused_items.add("bad")
    events = [
        Event("u", "click", "toy", event_id="e"),
        Event("u", "click", "toy", event_id="e"),
        Event("u", "click", "bad"),
        Event("u", "click", "toy", value="5"),
        Event("u", "search", text="red shoes"),
    ]

    acks = driver.all_of("stream_events", events)

    assert [ack.outcome for ack in acks] == [
        *("ACCEPTED", "DUPLICATE", "REJECTED", "REJECTED", "ACCEPTED")
    ]
    assert acks[0].token == TOKEN
    assert acks[0].error is None
    assert str(acks[2].error) == "item_id: bad is bad"
    assert str(acks[3].error).startswith("value: ")
    assert len(acks[4].event_id) == 32


def test_texts_are_embedded_batch_by_batch(driver):
    answers = driver.all_of("embed_stream", [["ab", ""], ["c"]])

    assert [answer.vectors.shape for answer in answers] == [(2, 3), (1, 3)]
    assert answers[0].results[1].error is not None


def test_a_stream_of_texts_has_one_prompt(driver):
    answers = driver.all_of("embed_stream", [["ab"], ["c"]], prompt_name="query")

    assert [answer.vectors[0, 0] for answer in answers] == [7, 6]


def test_a_batch_that_is_no_sequence_of_texts_ends_the_stream(driver):
    with pytest.raises(InvalidArgument, match="^texts: is one string"):
        driver.all_of("embed_stream", [["ab"], "cd"])


def test_an_import_of_items_reports_and_sums_up(driver, fake):
    fake.refused_items.add("i7")
    reports: list[ImportProgress] = []
    items = [Item(f"i{n}") for n in range(2 * CHUNK_ENTRIES + 1)]
    items[300] = Item("i300", price="free")

    done = driver.one("import_items", items, on_progress=reports.append)

    assert (done.accepted, done.rejected) == (2 * CHUNK_ENTRIES - 1, 2)
    assert [(f.index, f.item_id) for f in done.failures] == [(7, "i7"), (300, "")]
    assert str(done.failures[1].error).startswith("price: 'free' is of type str")
    assert done.token == TOKEN
    assert [len(m.items) for m in fake.requests["ImportItems"][0]] == [
        *(CHUNK_ENTRIES, CHUNK_ENTRIES, 1)
    ]
    assert [report.accepted + report.rejected for report in reports] == [
        *(CHUNK_ENTRIES, 2 * CHUNK_ENTRIES, 2 * CHUNK_ENTRIES + 1)
    ]


def test_large_items_travel_few_at_once(driver, fake):
    items = [Item(str(n), description="x" * (CHUNK_BYTES // 2 - 100)) for n in range(5)]

    assert driver.one("import_items", items).accepted == 5

    assert [len(message.items) for message in fake.requests["ImportItems"][0]] == [2, 2, 1]


def test_an_import_that_breaks_off_says_how_far_it_got(driver, fake):
    fake.breaks_after.append(1)

    with pytest.raises(Unavailable) as caught:
        driver.one("import_items", (Item(str(n)) for n in range(3 * CHUNK_ENTRIES)))
    assert caught.value.answered == CHUNK_ENTRIES


def test_an_import_of_events_answers_at_the_end(driver, fake):
    fake.refused_items.add("bad")
    events = [Event("u", "click", "toy") for _ in range(CHUNK_ENTRIES)]
    events += [Event("u", "click", "bad"), Event("u", "click", "\ud800")]

    done = driver.one("import_events", events)

    assert (done.accepted, done.rejected) == (CHUNK_ENTRIES, 2)
    assert [failure.index for failure in done.failures] == [CHUNK_ENTRIES, CHUNK_ENTRIES + 1]
    assert "bad" in str(done.failures[0].error)
    assert "UTF-8" in str(done.failures[1].error)
    ids = [e.event_id for message in fake.requests["ImportEvents"][0] for e in message.events]
    assert len({*ids}) == CHUNK_ENTRIES + 2


def test_an_import_of_nothing(driver):
    assert driver.one("import_items", []).accepted == 0
    assert driver.one("import_events", iter(())).accepted == 0


def test_an_import_of_events_that_fails(driver, fake, make_status):
    fake.fail("ImportEvents", make_status(grpc.StatusCode.FAILED_PRECONDITION, "not mine"))

    with pytest.raises(FailedPrecondition, match="not mine"):
        driver.one("import_events", [Event("u", "click", "toy")])


def test_items_are_listed(driver, fake):
    listed = driver.all_of("list_items", limit=2)

    assert [entry.item.item_id for entry in listed] == ["b", "c"]
    rest = driver.all_of("list_items", resume_token=listed[-1].resume_token)
    assert [entry.item.item_id for entry in rest] == ["toy"]


def test_a_list_is_taken_up_where_it_broke_off(driver, fake):
    fake.breaks_after += [1, 1]

    listed = driver.all_of("list_items", limit=3)

    assert [entry.item.item_id for entry in listed] == ["b", "c", "toy"]
    asked = [(request.resume_token, request.limit) for request in fake.requests["ListItems"]]
    assert asked == [(b"", 3), (b"b", 2), (b"c", 1)]


def test_a_list_that_stays_broken_says_how_far_it_got(driver, fake, monkeypatch):
    monkeypatch.setattr("rankstream.client.calls.catalog.RESUME_PAUSES_S", (0.01, 0.01))
    fake.breaks_after += [2, *[0] * 100]

    with pytest.raises(Unavailable) as caught:
        driver.all_of("list_items")
    assert caught.value.answered == 2


def test_a_list_that_is_refused_is_not_taken_up(driver, fake, make_status):
    fake.fail("ListItems", make_status(grpc.StatusCode.INVALID_ARGUMENT, "resume_token: bad"))

    with pytest.raises(InvalidArgument, match="resume_token"):
        driver.all_of("list_items", resume_token=b"x")
    assert len(fake.requests["ListItems"]) == 1


def test_a_user_is_exported(driver):
    driver.one("upsert_user", User("ann", {"budget": 20}, interests=("wool",)))

    user, first, second = driver.all_of("export_user", "ann")

    assert user == User("ann", {"budget": 20.0}, interests=("wool",))
    assert isinstance(first, Interaction)
    assert (first.item_id, second.item_id) == ("toy", "b")


def test_an_export_that_breaks_off_is_not_taken_up(driver, fake):
    driver.one("upsert_user", User("ann"))
    fake.breaks_after.append(0)

    with pytest.raises(Unavailable) as caught:
        driver.all_of("export_user", "ann")
    assert caught.value.answered == 1
