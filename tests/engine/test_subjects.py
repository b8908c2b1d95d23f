"""Whom a ranking is for, beyond one stored history: searches, interests, sessions, persons."""

import dataclasses

import numpy as np
import pytest
from small_server import NO_KEYS, ids_of, items_of, task
from subject_oracle import (
    ITEMS,
    TIMES,
    asked,
    check,
    encode,
    item_row,
    say,
    stock,
    text_row,
    unit,
    vector_of,
    view_of,
    write_user,
)

from rankstream.server.profiles.interaction import TEXT
from rankstream.server.types import Asked, Query, Session, item_key, text_key


@pytest.fixture
def server(server):
    """Thirty items and a bias."""
    stock(server)
    return server


def test_a_search_pulls_towards_its_text(server):
    view_of(server, "ann", 3)
    say(server, "ann", "red shoes", 11_000)
    # view weighs 0.25, search 1.0; a second of half-life between them.
    total = 0.5 * 0.25 * item_row(server, 3) + text_row(server, vector_of("red shoes"))

    for given in ({}, {"item_ids": ITEMS}):
        (answer,) = server.rank(task("ann", **given))
        check(server, answer, unit(server, total))


def test_a_search_counts_as_zero_until_it_is_encoded(server):
    view_of(server, "ann", 3)
    (before,) = server.rank(task("ann", item_ids=ITEMS))
    say(server, "ann", "red shoes", 10_000, encoded=False)
    (waiting,) = server.rank(task("ann", item_ids=ITEMS))
    encode(server)
    (after,) = server.rank(task("ann", item_ids=ITEMS))

    assert items_of(waiting) == items_of(before)
    assert items_of(after) != items_of(before)


def test_a_text_is_a_reason(server):
    view_of(server, "ann", 3)
    say(server, "ann", "red shoes", 11_000, weight=3.0)

    for given in ({}, {"item_ids": ITEMS}):
        (answer,) = server.rank(task("ann", explained=30, reasons=2, **given))
        for found in items_of(answer):
            assert {r.text: (r.item_id, r.type) for r in found.reasons} == {
                "red shoes": ("", "search"),
                "": (ITEMS[3], "view"),
            }
            whole = sum(r.contribution for r in found.reasons) + found.parts.bias
            assert whole == pytest.approx(found.score, abs=1e-6)


def test_a_profile_of_texts_alone_is_personal(server):
    say(server, "ann", "red shoes", 11_000)

    (answer,) = server.rank(task("ann"))

    assert answer.fallback == ""
    check(server, answer, unit(server, text_row(server, vector_of("red shoes"))))


def test_a_new_user_with_interests_has_a_personal_answer(server):
    server.pooling = dataclasses.replace(server.pooling, interests_weight=3.0)
    server.engine = server.new_engine()
    write_user(server, "ann", interests=["jazz", "tango"])
    total = sum(text_row(server, vector_of(text)) for text in ("jazz", "tango"))

    (answer,) = server.rank(task("ann", item_ids=ITEMS, explained=1, reasons=9))

    assert answer.fallback == ""
    check(server, answer, unit(server, total))
    assert {(r.type, r.text) for r in items_of(answer)[0].reasons} == {
        ("$interest", "jazz"),
        ("$interest", "tango"),
    }
    view_of(server, "ann", 3)
    (both,) = server.rank(task("ann"))
    check(server, both, unit(server, 0.25 * item_row(server, 3) + 1.5 * total))


def test_interests_are_trusted_less_until_something_is_done(server):
    server.pooling = dataclasses.replace(server.pooling, interests_weight=3.0, interests_trust=0.5)
    server.engine = server.new_engine()
    write_user(server, "ann", interests=["jazz"])
    jazz = text_row(server, vector_of("jazz"))

    for given in ({}, {"item_ids": ITEMS}):
        (answer,) = server.rank(task("ann", explained=1, reasons=1, **given))
        check(server, answer, 0.5 * unit(server, jazz))
        found = items_of(answer)[0]
        explained = sum(r.contribution for r in found.reasons) + found.parts.bias
        assert explained == pytest.approx(found.score, abs=1e-6)
    view_of(server, "ann", 3)
    trust = (0.25 + 0.5 * 3.0) / 3.25
    expected = trust * unit(server, 0.25 * item_row(server, 3) + 3.0 * jazz)
    for given in ({}, {"item_ids": ITEMS}):
        (answer,) = server.rank(task("ann", **given))
        check(server, answer, expected)


def test_a_query_makes_up_for_interests(server):
    server.pooling = dataclasses.replace(server.pooling, interests_weight=3.0, interests_trust=0.5)
    server.engine = server.new_engine()
    write_user(server, "ann", interests=["jazz"])
    jazz, tango = (text_row(server, vector_of(text)) for text in ("jazz", "tango"))
    query = Query("tango", 2.0)

    (answer,) = server.rank(
        task("ann", asked=Asked(query=query, encoded={"tango": vector_of("tango")}))
    )

    weight = 2.0 * np.linalg.norm(3.0 * jazz)
    trust = (weight + 0.5 * 3.0) / (weight + 3.0)
    check(server, answer, trust * unit(server, 3.0 * jazz + weight * tango))


def test_what_a_request_says_is_trusted(server):
    """Less trust is for what users say of themselves, not for what they ask for."""
    server.pooling = dataclasses.replace(server.pooling, interests_trust=0.5)
    server.engine = server.new_engine()
    vector = vector_of("jazz")

    (answer,) = server.rank(asked(vector=vector))

    check(server, answer, unit(server, text_row(server, vector)))


def test_a_session_is_ranked_as_a_stored_user_is(server):
    view_of(server, "ann", 3, 8, 5)
    say(server, "ann", "red shoes", TIMES[1])
    session = Session(
        target_keys=np.array(
            [item_key(ITEMS[3]), item_key(ITEMS[8]), text_key("red shoes"), item_key(ITEMS[5])],
            np.uint64,
        ),
        weights=np.ones(4, np.float32),
        event_times_ms=np.array([TIMES[0], TIMES[1], TIMES[1], TIMES[2]]),
        types=np.array([2, 2, 7, 2], np.uint16),
        exts=np.array([0, 0, TEXT, 0], np.uint16),
        texts={text_key("red shoes"): "red shoes"},
    )

    (stored,) = server.rank(task("ann"))
    (made,) = server.rank(asked(session=session))

    assert items_of(made) == items_of(stored)
    assert made.fallback == ""


def test_the_ids_of_one_person_are_one_history(server):
    view_of(server, "ann", 3, 8)
    view_of(server, "web-1", 5, 9, start=1)
    view_of(server, "whole", 3, 8)
    view_of(server, "whole", 5, 9, start=1)
    write_user(server, "ann", identities=["web-1", "nobody"])

    (whole, joined, other) = server.rank(task("whole"), task("ann"), task("web-1"))
    (alone,) = server.rank(task("web-1", item_ids=ITEMS))
    (given,) = server.rank(task("whole", item_ids=ITEMS))

    assert items_of(joined) == items_of(whole) == items_of(other)
    assert items_of(alone) == items_of(given)


def test_what_any_of_a_persons_ids_has_seen_is_excluded(server):
    view_of(server, "ann", 3)
    view_of(server, "web-1", 5)
    write_user(server, "ann", identities=["web-1"])

    (answer,) = server.rank(task("ann", k=30, exclude_seen=True))

    assert set(ITEMS) - set(ids_of(answer)) == {ITEMS[3], ITEMS[5]}


def test_many_subjects_of_one_batch_do_not_mix(server):
    view_of(server, "ann", 3, 8)
    say(server, "bob", "red shoes", 11_000)
    write_user(server, "cat", identities=["ann"])
    tasks = [
        task("ann"),
        task("bob", item_ids=ITEMS),
        asked(query=Query("blue", 1.0)),
        asked(vector=vector_of("a vector")),
        task("cat", k=3, explained=3, reasons=2),
        asked(vector=vector_of("another"), item_ids=ITEMS),
        task("nobody", exclude_seen=True, excluded=NO_KEYS),
    ]

    together = server.rank(*tasks)

    for one, answer in zip(tasks, together, strict=True):
        (alone,) = server.rank(one)
        assert items_of(alone) == items_of(answer)
        assert alone.fallback == answer.fallback
