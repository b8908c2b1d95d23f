"""Subjects: what a vector is made of, beyond one stored history."""

import dataclasses

import numpy as np
import pytest
from small_server import (
    NO_KEYS,
    TEXT_DIMENSIONS,
    MadeUpEncoder,
    SmallServer,
    ids_of,
    item,
    items_of,
    keys_of,
    task,
)

from rankstream.server.errors import NotFound
from rankstream.server.profiles.interaction import EVENT, TEXT, event_key
from rankstream.server.profiles.texts import Keeping, TextCommit, texts_to_encode
from rankstream.server.profiles.users import UserCommit, UserRecord
from rankstream.server.stream.event_columns import EventColumns
from rankstream.server.types import (
    Asked,
    ExplainTask,
    PoolingChange,
    Position,
    Query,
    Session,
    item_key,
    text_key,
)

ITEMS = [f"item-{n:02d}" for n in range(30)]
TIMES = [10_000, 10_400, 11_000, 12_500]


@pytest.fixture
def server(tmp_path):
    made = SmallServer(tmp_path)
    made.put(*(item(name, f"title {name}", category=f"c{n % 4}") for n, name in enumerate(ITEMS)))
    made.set_bias(np.linspace(0, 0.3, len(ITEMS)))
    yield made
    made.close()


def view_of(server, user, *numbers, start=0):
    """The user views items."""
    server.events(*((user, ITEMS[n], TIMES[start + i], "view", 1.0) for i, n in enumerate(numbers)))


def say(server, user, text, at, *, weight=1.0, encoded=True):
    """The user searches for a text."""
    row = np.zeros(1, EVENT)
    row[0] = (at, event_key(f"{user}/{text}/{at}"), text_key(text), weight, 7, TEXT, at)
    batch = server.folder_of_events.batch(
        EventColumns([user.encode()], row, {text_key(text): text}),
        [Position("events", b"events-topic-id.", 0, 1)],
    )
    with server.store.write() as txn:
        batch.apply(txn)
    if encoded:
        encode(server)


def encode(server):
    with server.store.read() as view:
        texts, upto, _ = texts_to_encode(view, 1000)
    vectors = dict(zip(texts, server.encoder.encode(list(texts.values())), strict=True))
    with server.store.write() as txn:
        TextCommit(vectors, upto).apply(txn)


def write_user(server, user, *, interests=(), identities=(), at=1):
    record = UserRecord(
        at, tuple(map(text_key, interests)), tuple(i.encode() for i in identities), b""
    )
    texts = {text_key(text): text for text in interests}
    commit = UserCommit(
        {user.encode(): record},
        texts,
        Position("users", b"users-topic-id..", 0, 1),
        Keeping(99, int),
    )
    with server.store.write() as txn:
        commit.apply(txn)
    encode(server)


def asked(**given):
    """A task for nobody who is stored."""
    rest = {
        name: given.pop(name) for name in ("item_ids", "k", "explained", "reasons") if name in given
    }
    texts = [given["query"].text] if given.get("query") else []
    texts += given["session"].texts.values() if given.get("session") else []
    return task("", asked=Asked(**given, encoded=vectors_of(texts)), **rest)


def vectors_of(texts):
    return {text: vector_of(text) for text in texts}


def vector_of(text):
    return MadeUpEncoder().encode([text])[0]


def text_row(server, vector):
    row = np.zeros(server.layout.stride)
    row[:TEXT_DIMENSIONS] = vector
    return row


def item_row(server, n):
    return np.array(server.segments.segments.rows[n], np.float64)


def unit(server, total, block_weights=None):
    """Each block scaled to its weight."""
    made = np.zeros_like(total)
    weights = server.layout.weights if block_weights is None else block_weights
    for block, weight in zip(server.layout.blocks, weights, strict=True):
        part = total[block.start : block.stop]
        norm = np.linalg.norm(part)
        if norm:
            made[block.start : block.stop] = weight * part / norm
    return made


def expected(server, query, bias=True):
    """Scores of all items by id."""
    rows = np.array(server.segments.segments.rows[: len(ITEMS)], np.float64)
    own = np.linspace(0, 0.3, len(ITEMS)) if bias else 0.0
    return dict(zip(ITEMS, rows @ query + own, strict=True))


def check(server, answer, query, *, bias=True):
    wanted = expected(server, query, bias)
    found = {i.item_id: i.score for i in items_of(answer)}
    assert found == pytest.approx({name: wanted[name] for name in found}, abs=2e-6)
    best = sorted(wanted, key=lambda name: -wanted[name])[: len(found)]
    assert [wanted[n] for n in found] == pytest.approx([wanted[n] for n in best], abs=2e-6)
    for i in items_of(answer):
        assert sum(i.parts.blocks) + i.parts.bias == pytest.approx(i.score, abs=1e-6)


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


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0, -1.0])
def test_a_query_joins_the_users_vector(server, weight):
    view_of(server, "ann", 3, 8)
    total = 2.0**-0.4 * item_row(server, 3) + item_row(server, 8)
    text = slice(0, TEXT_DIMENSIONS)
    pooled = unit(server, total, np.ones(3))
    pooled[text] += weight * vector_of("red shoes")
    query = Query("red shoes", weight)

    (answer,) = server.rank(
        task("ann", asked=Asked(query=query, encoded=vectors_of(["red shoes"])))
    )

    check(server, answer, unit(server, pooled))


def test_a_query_may_stand_alone(server):
    (answer,) = server.rank(asked(query=Query("red shoes", 1.0), explained=1, reasons=3))

    check(server, answer, unit(server, text_row(server, vector_of("red shoes"))))
    assert [(r.type, r.text) for r in items_of(answer)[0].reasons] == [("$query", "red shoes")]


def test_a_vector_is_a_subject(server):
    whole = item_row(server, 3).astype(np.float32)
    text = vector_of("red shoes")

    (row, part) = server.rank(asked(vector=whole), asked(vector=text))

    check(server, row, unit(server, whole.astype(np.float64)))
    check(server, part, unit(server, text_row(server, text)))


def test_block_weights_of_a_request(server):
    view_of(server, "ann", 3, 8)
    total = 2.0**-0.4 * item_row(server, 3) + item_row(server, 8)
    weights = np.array([0.1, 2.0, 0.0])

    (answer,) = server.rank(task("ann", asked=Asked(block_weights=weights)))

    check(server, answer, unit(server, total, weights))


def test_pooling_of_a_request(server):
    view_of(server, "ann", 3)
    server.events(("ann", ITEMS[8], 11_000, "rate", -1.0))
    change = PoolingChange(500.0, {2: 4.0}, None)
    total = 4.0 * 0.25 * item_row(server, 3) - 1.7 * item_row(server, 8)

    (answer, plain) = server.rank(task("ann", asked=Asked(pooling=change)), task("ann"))

    check(server, answer, unit(server, total))
    check(
        server,
        plain,
        unit(server, 0.25 * 0.5 * item_row(server, 3) - 1.7 * item_row(server, 8)),
    )


def test_as_of_a_time_what_came_later_never_was(server):
    view_of(server, "ann", 3, 8)
    (before,) = server.rank(task("ann", explained=5, reasons=3))
    view_of(server, "ann", 5, start=2)

    (then,) = server.rank(
        task("ann", explained=5, reasons=3, asked=Asked(as_of_ms=TIMES[1])),
    )
    (seen,) = server.rank(task("ann", k=30, exclude_seen=True, asked=Asked(as_of_ms=TIMES[1])))

    assert items_of(then) == items_of(before)
    assert set(ITEMS) - set(ids_of(seen)) == {ITEMS[3], ITEMS[8]}


@pytest.mark.parametrize("with_bias", [False, True])
def test_similar_items(server, with_bias):
    def similar(name):
        return task(
            "",
            k=30,
            excluded=keys_of([name]),
            asked=Asked(item_key=item_key(name), with_bias=with_bias),
        )

    (answer, missing, plain) = server.rank(similar(ITEMS[4]), similar("nothing"), task("nobody"))

    assert ITEMS[4] not in ids_of(answer)
    query = unit(server, item_row(server, 4))
    wanted = expected(server, query, with_bias)
    assert {i.item_id: i.score for i in items_of(answer)} == pytest.approx(
        {name: wanted[name] for name in ITEMS if name != ITEMS[4]}, abs=2e-6
    )
    assert all(with_bias or i.parts.bias == 0 for i in items_of(answer))
    assert isinstance(missing, NotFound)
    assert [i.parts.bias for i in items_of(plain)] == sorted(
        (i.parts.bias for i in items_of(plain)), reverse=True
    )


def test_an_explanation_holds_everything_that_the_score_is_made_of(server):
    view_of(server, "ann", 3, 8)
    say(server, "ann", "red shoes", TIMES[1])
    encoded = vectors_of(["blue"])
    ranking = task(
        "ann",
        item_ids=[*ITEMS[:7], "nothing"],
        asked=Asked(query=Query("blue", 0.7), encoded=encoded),
    )

    (ranked, explained) = server.rank(ranking, ExplainTask(ranking))

    assert explained.missing == [7]
    assert {(c.item_id, c.text) for c in explained.causes} == {
        (ITEMS[3], ""),
        (ITEMS[8], ""),
        ("", "red shoes"),
        ("", "blue"),
    }
    scores = {i.item_id: i for i in items_of(ranked)}
    for score in explained.scores:
        same = scores[ITEMS[score.place]]
        assert score.score == same.score
        assert score.parts.tolist() == list(same.parts.blocks)
        assert score.contributions.sum(axis=0) == pytest.approx(score.parts, abs=1e-6)


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
