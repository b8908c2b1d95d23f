"""Streams of queries in both forms of client: order, room, bad ones, and how far one got."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest
from stream_drivers import Async, Blocking

from rankstream.client import (
    AsyncClient,
    FailedPrecondition,
    InvalidArgument,
    Ranking,
    RankQuery,
    RankstreamError,
    Unavailable,
)
from rankstream.client.calls.streams import CHUNK_BYTES


def queries(count):
    return (RankQuery(f"u{n}", request_id=str(n)) for n in range(count))


def test_answers_come_in_the_order_of_the_queries(driver, fake):
    answers = driver.all_of("stream_rank", queries(700), max_in_flight=16)

    assert [answer.request_id for answer in answers] == [str(n) for n in range(700)]


def test_a_bad_query_fails_alone_wherever_it_is_found(driver, fake):
    mixed = [RankQuery("a"), RankQuery("b", k=-1), RankQuery(""), RankQuery("c", request_id="c")]

    answers = driver.all_of("stream_rank", mixed)

    assert isinstance(answers[0], Ranking)
    assert str(answers[1]).startswith("k: is -1")
    assert str(answers[2]) == "user_id: is empty"
    assert answers[3].request_id == "c"


def test_no_queries_are_no_answers(driver):
    assert driver.all_of("stream_rank", []) == []


@pytest.mark.parametrize("per_message", [1, 3, 5])
def test_a_message_may_hold_several_queries(driver, fake, per_message):
    answers = driver.all_of("stream_rank", queries(17), max_in_flight=5, per_message=per_message)

    assert [answer.request_id for answer in answers] == [str(n) for n in range(17)]
    sizes = [len(message.requests) for message in fake.requests["StreamRank"][-1]]
    whole, rest = divmod(17, per_message)
    assert sizes == [per_message] * whole + [rest] * bool(rest)


def test_a_message_holds_fewer_queries_where_they_are_large(driver, fake):
    long = ["x" * (CHUNK_BYTES // 2)]

    answers = driver.all_of("stream_rank", [RankQuery("a", long)] * 5, per_message=4)

    assert len(answers) == 5
    assert [len(m.requests) for m in fake.requests["StreamRank"][-1]] == [2, 2, 1]


@pytest.mark.parametrize("per_message", [0, 5])
def test_a_message_holds_no_more_than_may_be_in_flight(driver, per_message):
    with pytest.raises(InvalidArgument, match="^per_message: .* expected 1 to max_in_flight, 4"):
        driver.all_of("stream_rank", [], max_in_flight=4, per_message=per_message)


def test_a_stream_that_breaks_off_says_how_far_it_got(driver, fake):
    fake.breaks_after.append(5)

    with pytest.raises(Unavailable, match=r"restarting \(after 5 answers\)") as caught:
        driver.all_of("stream_rank", queries(9))
    assert caught.value.answered == 5


def test_a_stream_that_never_began_is_tried_again(driver, fake, make_status):
    fake.fail("StreamRank", make_status(grpc.StatusCode.UNAVAILABLE, "restarting"))

    assert len(driver.all_of("stream_rank", queries(3))) == 3


def test_a_stream_that_the_server_ends_early_is_an_error(driver, fake):
    fake.ends_after = 2

    with pytest.raises(Unavailable, match="ended the stream") as caught:
        driver.all_of("stream_rank", queries(5))
    assert caught.value.answered == 2


def test_what_the_source_raises_comes_after_the_answers(driver, fake):
    def broken():
        yield RankQuery("a", request_id="0")
        message = "the source broke"
        raise LookupError(message)

    with pytest.raises(LookupError, match="the source broke"):
        driver.all_of("stream_rank", broken())
    assert fake.taken == 1


def test_a_source_that_is_none_is_refused(driver):
    with pytest.raises(InvalidArgument, match="^source: "):
        driver.all_of("stream_rank", 5)


def test_no_room_at_all_is_refused(driver):
    with pytest.raises(InvalidArgument, match="^max_in_flight: "):
        driver.all_of("stream_rank", [], max_in_flight=0)


def test_a_closed_client_opens_no_stream(client):
    client.close()

    with pytest.raises(FailedPrecondition, match="closed"):
        list(client.stream_rank(queries(1)))
    with pytest.raises(FailedPrecondition, match="closed"):
        client.import_items([])
    with pytest.raises(FailedPrecondition, match="closed"):
        list(client.list_items())


def test_a_closed_async_client_opens_no_stream(running):
    async def run():
        client = AsyncClient(running.target, admin_target=running.target)
        await client.close()
        with pytest.raises(FailedPrecondition, match="closed"):
            [answer async for answer in client.stream_rank(queries(1))]
        with pytest.raises(FailedPrecondition, match="closed"):
            await client.rank("u")

    asyncio.run(run())


def test_queries_wait_for_room(client, fake):
    """Of an endless source no more is taken than may be in flight, and the one that waits."""
    made = []

    def endless():
        while True:
            made.append(len(made))
            yield RankQuery("u", request_id=str(made[-1]))

    stream = client.stream_rank(endless(), max_in_flight=3)
    for count in range(50):
        assert next(stream).request_id == str(count)
        assert len(made) <= count + 1 + 3 + 2
    stream.close()


def test_an_abandoned_stream_lets_go_of_its_source(client, fake):
    ended = threading.Event()

    def endless():
        try:
            while True:
                yield RankQuery("u")
        finally:
            ended.set()

    stream = client.stream_rank(endless(), max_in_flight=2)
    next(stream)

    stream.close()

    assert ended.wait(timeout=10)


def test_a_query_is_answered_before_the_next_one_is_known(client):
    """A stream holds nothing back: ask, read, ask again."""
    asked = threading.Semaphore(0)

    def one_by_one():
        for n in range(3):
            asked.acquire()
            yield RankQuery("u", request_id=str(n))

    stream = client.stream_rank(one_by_one())
    for n in range(3):
        asked.release()
        assert next(stream).request_id == str(n)
    assert list(stream) == []


def test_an_async_source(running):
    async def source():
        for n in range(3):
            await asyncio.sleep(0)
            yield RankQuery("u", request_id=str(n))

    answers = Async(running).all_of("stream_rank", source())

    assert [answer.request_id for answer in answers] == ["0", "1", "2"]


def test_a_blocking_client_takes_no_async_source(running):
    async def source():
        yield RankQuery("u")

    with pytest.raises(InvalidArgument, match="AsyncClient"):
        Blocking(running).all_of("stream_rank", source())


def test_a_stream_has_the_deadline_it_is_given(driver, fake):
    fake.answers.clear()

    with pytest.raises(RankstreamError) as caught:
        driver.all_of("stream_rank", queries(1), timeout_s=0.2)
    assert caught.value.code == "DEADLINE_EXCEEDED"
