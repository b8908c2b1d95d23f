"""Streams in both forms of client: order, room, bad entries, and how far a broken one got."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest
from fake_state import TOKEN

from rankstream.client import (
    AsyncClient,
    Event,
    FailedPrecondition,
    ImportProgress,
    Interaction,
    InvalidArgument,
    Item,
    Ranking,
    RankQuery,
    RankstreamError,
    Unavailable,
    User,
)
from rankstream.client.calls.streams import CHUNK_BYTES, CHUNK_ENTRIES


class Blocking:
    """Drives the blocking client."""

    def __init__(self, running):
        self.running = running

    def all_of(self, name, *arguments, **options):
        with self.running.client() as client:
            return list(getattr(client, name)(*arguments, **options))

    def one(self, name, *arguments, **options):
        with self.running.client() as client:
            return getattr(client, name)(*arguments, **options)


class Async(Blocking):
    """Drives the asyncio client."""

    def all_of(self, name, *arguments, **options):
        async def run(client):
            return [answer async for answer in getattr(client, name)(*arguments, **options)]

        return asyncio.run(self._with_client(run))

    def one(self, name, *arguments, **options):
        async def run(client):
            return await getattr(client, name)(*arguments, **options)

        return asyncio.run(self._with_client(run))

    async def _with_client(self, run):
        target = self.running.target
        async with AsyncClient(target, admin_target=target) as client:
            return await run(client)


@pytest.fixture(params=[Blocking, Async])
def driver(running, request):
    return request.param(running)


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
