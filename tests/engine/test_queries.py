"""What one request says of its vector: a query, weights, pooling, a time, another item."""

import numpy as np
import pytest
from small_server import TEXT_DIMENSIONS, ids_of, items_of, keys_of, task
from subject_oracle import (
    ITEMS,
    TIMES,
    asked,
    check,
    expected,
    item_row,
    say,
    stock,
    text_row,
    unit,
    vector_of,
    vectors_of,
    view_of,
)

from rankstream.server.errors import NotFound
from rankstream.server.types import Asked, ExplainTask, PoolingChange, Query, item_key


@pytest.fixture
def server(server):
    """Thirty items and a bias."""
    stock(server)
    return server


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
    change = PoolingChange(half_life_ms=500.0, type_weights={2: 4.0})
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
