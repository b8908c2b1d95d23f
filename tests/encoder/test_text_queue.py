"""Which texts make the next batch."""

from dataclasses import dataclass

import numpy as np
import pytest

from rankstream.server.encoder.text_queue import (
    BULK_PATIENCE_S,
    BULK_QUANTUM_S,
    OF_LATE_S,
    TRIED_ONE_IN,
    Pace,
    TextQueue,
    lane_of,
)

BUDGET = 4096


@dataclass(eq=False)
class Waiting:
    tokens: int
    lane: str = "interactive"
    asked: float = 0.0
    deadline: float = 1e9
    wanted: bool = True
    name: int = 0


@pytest.fixture
def pace():
    return Pace(10_000.0)


@pytest.fixture
def queue(pace):
    made = TextQueue(BUDGET, pace)
    # Neither lane has been idle for long.
    for lane in ("interactive", "bulk"):
        made.put(Waiting(8, lane))
        assert made.take(100.0).batch
    return made


def put(queue, *texts):
    for text in texts:
        queue.put(text)
    return list(texts)


def taken_of(queue, now=100.1):
    return queue.take(now).batch


def test_nothing_comes_of_nothing(queue):
    taken = queue.take(100.1)

    assert (taken.batch, taken.gone, taken.late) == ([], [], [])


def test_what_somebody_waits_for_goes_before_what_is_older_in_bulk(queue):
    put(queue, Waiting(8, "bulk"))
    asked = put(queue, Waiting(8))

    assert taken_of(queue) == asked
    assert taken_of(queue)[0].lane == "bulk"


def test_bulk_has_its_turn_however_busy_the_other_lane_is(queue):
    put(queue, *(Waiting(4000) for _ in range(9)), Waiting(8, "bulk"))

    assert taken_of(queue, 100.1)[0].lane == "interactive"
    assert taken_of(queue, 100.01 + BULK_PATIENCE_S)[0].lane == "bulk"


def test_bulk_that_came_just_now_has_no_turn_yet(queue):
    put(queue, Waiting(8, "bulk", asked=200.0), Waiting(8, asked=200.0))

    assert taken_of(queue, 200.01)[0].lane == "interactive"


def test_a_bulk_batch_is_small_where_somebody_waited_of_late(queue, pace):
    put(queue, *(Waiting(10, "bulk") for _ in range(300)))

    beside = sum(text.tokens for text in taken_of(queue, 100.1))
    alone = sum(text.tokens for text in taken_of(queue, 100.1 + OF_LATE_S))

    assert beside <= BULK_QUANTUM_S * pace.tokens_per_s < alone <= BUDGET


def test_a_text_longer_than_a_quantum_still_goes(queue):
    (long,) = put(queue, Waiting(500, "bulk"))

    assert taken_of(queue) == [long]


def test_the_oldest_is_always_in_the_next_batch_and_its_like_go_with_it(queue):
    rng = np.random.default_rng(3)
    lengths = enumerate(rng.integers(3, 120, 400))
    waiting = put(queue, *(Waiting(int(n), name=i) for i, n in lengths))

    while waiting:
        batch = taken_of(queue)
        assert waiting[0] in batch
        longest = max(text.tokens for text in batch)
        padded = longest * len(batch)
        assert padded <= BUDGET
        assert padded - sum(text.tokens for text in batch) <= max(32, padded / 16)
        waiting = [text for text in waiting if text not in batch]
    assert taken_of(queue) == []


def test_what_nobody_waits_for_and_what_would_be_late_is_dropped(queue, pace):
    pace.learn(1000, 0.1, "interactive")
    gone, late, alive = put(
        queue,
        Waiting(8, wanted=False),
        Waiting(1000, deadline=100.1 + pace.least_seconds(1000) / 2),
        Waiting(8, deadline=100.2),
    )

    taken = queue.take(100.1)

    assert (taken.gone, taken.late, taken.batch) == ([gone], [late], [alive])


def test_a_text_that_was_moved_up_is_computed_once(queue):
    (text,) = put(queue, Waiting(8, "bulk"))
    text.lane = "interactive"
    put(queue, text)

    assert taken_of(queue) == [text]
    assert queue.take(100.1).batch == []


def test_the_pace_follows_what_is_measured(pace):
    for _ in range(50):
        pace.learn(500, 0.01, "bulk")

    assert pace.tokens_per_s == pytest.approx(50_000, rel=0.01)
    assert pace.seconds(5_000) == pytest.approx(0.1, rel=0.01)
    assert pace.least_seconds(5_000) == pytest.approx(0.1)


def test_short_texts_do_not_make_long_ones_look_late(queue, pace):
    # The fixed cost of a call: three tokens take as long as thirty.
    for _ in range(50):
        pace.learn(3, 0.004, "interactive")
    (long,) = put(queue, Waiting(256, deadline=100.1 + 0.1))

    assert taken_of(queue) == [long]


def test_until_something_was_measured_only_what_has_expired_is_dropped(queue):
    expired, long = put(queue, Waiting(8, deadline=100.1), Waiting(4000, deadline=100.1 + 1e-6))

    taken = queue.take(100.1)

    assert (taken.late, taken.batch) == ([expired], [long])


def test_on_a_slow_model_what_cannot_be_ready_is_dropped(queue, pace):
    pace.learn(500, 5.0, "bulk")
    late, alive = put(queue, Waiting(200, deadline=101.0), Waiting(8, deadline=101.0))

    taken = queue.take(100.1)

    assert (taken.late, taken.batch) == ([late], [alive])


def test_a_machine_that_becomes_slower_is_followed_slowly(pace):
    pace.learn(500, 0.01, "bulk")

    pace.learn(500, 0.1, "bulk")
    once = pace.fastest
    for _ in range(300):
        pace.learn(500, 0.1, "bulk")

    assert once == pytest.approx(50_000, rel=0.05)
    assert pace.fastest == pytest.approx(5_000, rel=0.05)
    pace.learn(500, 0.01, "bulk")
    assert pace.fastest == pytest.approx(50_000)


def test_one_slow_moment_does_not_drop_all_for_ever(queue, pace):
    pace.learn(64, 10.0, "interactive")
    texts = put(queue, *(Waiting(64, deadline=101.1) for _ in range(TRIED_ONE_IN)))

    taken = queue.take(100.1)

    assert (taken.late, taken.batch) == (texts[:-1], texts[-1:])
    pace.learn(64, 0.01, "interactive")
    (text,) = put(queue, Waiting(64, deadline=101.1))
    assert taken_of(queue) == [text]


def test_a_request_of_many_texts_is_bulk():
    assert [lane_of(texts) for texts in (0, 1, 16, 17)] == ["interactive"] * 3 + ["bulk"]
