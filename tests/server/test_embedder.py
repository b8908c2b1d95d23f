"""Texts of many callers: shared, remembered, dropped, each with its own fate."""

import asyncio
import threading
import time

import numpy as np
import pytest

from rankstream.server.embedder import Embedder
from rankstream.server.encoder.base import EncoderError, Tokens
from rankstream.server.encoder.prompts import Prompts
from rankstream.server.errors import (
    DeadlineExceeded,
    InvalidArgument,
    Overloaded,
    RankstreamError,
    Unavailable,
)


class GatedEncoder:
    """Vectors of the texts' first letters; computes a batch when the gate lets it."""

    prompts = Prompts({"query": "find: "})
    max_tokens = 512

    def __init__(self):
        self.batches = []
        self.gate = threading.Semaphore(0)
        self.started = threading.Event()

    def read(self, texts, prompt=None):
        if "unreadable" in texts:
            msg = "it cannot be read"
            raise EncoderError(msg)
        ids = [list(map(ord, self.prompts.before(prompt) + text)) for text in texts]
        return Tokens(ids, np.array([len(one) for one in ids]), np.zeros(len(ids), bool))

    def encode_tokens(self, ids):
        self.started.set()
        assert self.gate.acquire(timeout=10)
        words = ["".join(map(chr, one)) for one in ids]
        self.batches.append(words)
        if "bad" in words:
            msg = "the encoder failed"
            raise EncoderError(msg)
        if "broken" in words:
            msg = "not ours"
            raise ValueError(msg)
        return np.array([[one[0], 0.0] for one in ids], np.float32)


@pytest.fixture
def encoder():
    return GatedEncoder()


@pytest.fixture
def embedder(encoder):
    made = Embedder(encoder, cache_bytes=1 << 16, max_queued=8, max_batch_tokens=512, readers=2)
    yield made
    encoder.gate.release(100)
    made.close()


def soon(seconds=5.0):
    return time.monotonic() + seconds


def begun(embedder, *texts, **options):
    return asyncio.create_task(embedder.embed(list(texts), soon(), **options))


async def until(holds, seconds=10.0):
    """Lets the loop run until something holds."""
    last = soon(seconds)
    while not holds():
        assert time.monotonic() < last, "it never came to hold"
        await asyncio.sleep(0.001)


async def busy(encoder):
    """Until the encoder is computing."""
    await until(encoder.started.is_set)
    encoder.started.clear()


async def read(embedder, *texts):
    """Until these have been read, and wait for the encoder."""

    def have_tokens():
        return {text.text for text in embedder._in_flight.values() if text.ids}

    await until(lambda: have_tokens() >= set(texts))


def letters(answers):
    return [chr(int(answer.vector[0])) for answer in answers]


def test_vectors_come_in_the_order_of_the_texts_and_are_remembered(embedder, encoder):
    async def scenario():
        encoder.gate.release(9)
        first = await embedder.embed(["sea", "sky", "air"], soon())
        again = await embedder.embed(["air", "sea"], soon())
        return first, again

    first, again = asyncio.run(scenario())

    assert (letters(first), letters(again)) == (["s", "s", "a"], ["a", "s"])
    assert [(a.tokens, a.batch_size) for a in again] == [(3, 0), (3, 0)]
    assert sum(map(len, encoder.batches)) == 3
    assert (embedder.cache.hits, embedder.work.texts, embedder.waiting) == (2, 3, 0)


def test_a_text_in_flight_is_encoded_once_for_all_who_ask(embedder, encoder):
    async def scenario():
        first = begun(embedder, "sea", "sea")
        await busy(encoder)
        second = begun(embedder, "sea")
        await asyncio.sleep(0)
        encoder.gate.release(9)
        return await first, await second

    first, second = asyncio.run(scenario())

    assert letters(first + second) == ["s"] * 3
    assert encoder.batches == [["sea"]]
    assert embedder.work.shared == 2


def test_prompts_are_never_mixed(embedder, encoder):
    async def scenario():
        encoder.gate.release(9)
        return await asyncio.gather(
            embedder.embed(["sea"], soon()), embedder.embed(["sea"], soon(), prompt="query")
        )

    plain, asked = asyncio.run(scenario())

    assert letters(plain + asked) == ["s", "f"]
    with pytest.raises(InvalidArgument, match="no prompt 'qury'"):
        asyncio.run(embedder.embed(["sea"], soon(), prompt="qury"))


def test_what_waits_while_the_encoder_is_busy_makes_one_batch(embedder, encoder):
    async def scenario():
        first = begun(embedder, "sea")
        await busy(encoder)
        others = [begun(embedder, name) for name in ("sky", "sun", "air")]
        await read(embedder, "sky", "sun", "air")
        encoder.gate.release(9)
        return await asyncio.gather(first, *others)

    asyncio.run(scenario())

    assert encoder.batches[0] == ["sea"]
    assert [sorted(batch) for batch in encoder.batches[1:]] == [["air", "sky", "sun"]]


def test_an_interactive_text_passes_a_bulk(embedder, encoder):
    async def scenario():
        first = begun(embedder, "first", lane="bulk")
        await busy(encoder)
        bulk = begun(embedder, "bulk", lane="bulk")
        await read(embedder, "bulk")
        asked = begun(embedder, "asked")
        await read(embedder, "asked")
        encoder.gate.release(9)
        await asyncio.gather(first, bulk, asked)

    asyncio.run(scenario())

    assert encoder.batches == [["first"], ["asked"], ["bulk"]]


def test_a_bulk_text_that_somebody_asks_for_moves_up(embedder, encoder):
    async def scenario():
        first = begun(embedder, "first", lane="bulk")
        await busy(encoder)
        bulk = begun(embedder, "bulk a", lane="bulk")
        later = begun(embedder, "a longer one", lane="bulk")
        await read(embedder, "bulk a", "a longer one")
        asked = begun(embedder, "a longer one")
        await asyncio.sleep(0)
        encoder.gate.release(9)
        await asyncio.gather(first, bulk, later, asked)

    asyncio.run(scenario())

    assert encoder.batches == [["first"], ["a longer one"], ["bulk a"]]


def test_a_text_whose_caller_has_gone_is_not_encoded(embedder, encoder):
    async def scenario():
        first = begun(embedder, "sea")
        await busy(encoder)
        gone = begun(embedder, "gone")
        await read(embedder, "gone")
        gone.cancel()
        last = begun(embedder, "sky")
        await read(embedder, "sky")
        encoder.gate.release(9)
        await asyncio.gather(first, last)

    asyncio.run(scenario())

    assert encoder.batches == [["sea"], ["sky"]]
    assert (embedder.work.dropped, embedder.waiting) == (1, 0)


def test_a_text_that_is_asked_for_as_its_reading_is_given_up_is_read(encoder):
    encoder.gate.release(9)
    reading, again = threading.Semaphore(0), []
    embedder = Embedder(encoder, cache_bytes=0, max_queued=8, max_batch_tokens=512, readers=1)
    read, submit = encoder.read, embedder._readers.submit

    def slow_read(texts, prompt=None):
        assert reading.acquire(timeout=10)
        return read(texts, prompt)

    def submit_and_ask_again(loop, lane, work, wanted):
        def asked_for_again():
            found = wanted()
            if not found:
                again.append(begun(embedder, "gone"))
            return found

        return submit(loop, lane, work, asked_for_again)

    encoder.read, embedder._readers.submit = slow_read, submit_and_ask_again

    async def scenario():
        first, gone = begun(embedder, "sea"), begun(embedder, "gone", "gone too")
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        reading.release(9)
        await first
        return await again[0]

    answers = asyncio.run(scenario())
    embedder.close()

    assert letters(answers) == ["g"]
    assert encoder.batches == [["sea"], ["gone"]]
    assert (embedder.work.dropped, embedder.waiting) == (1, 0)


def test_a_deadline_that_has_passed_is_an_error_of_each_text(embedder, encoder):
    async def scenario():
        first = begun(embedder, "sea")
        await busy(encoder)
        late = await embedder.embed(["sky", "sea"], time.monotonic() + 0.01)
        encoder.gate.release(9)
        return await first, late

    first, late = asyncio.run(scenario())

    assert letters(first) == ["s"]
    assert [type(answer) for answer in late] == [DeadlineExceeded] * 2
    assert encoder.batches == [["sea"]]


def test_one_bad_text_does_not_fail_the_others(embedder, encoder):
    async def scenario():
        first = begun(embedder, "sea")
        await busy(encoder)
        others = [begun(embedder, name) for name in ("sky", "bad", "air")]
        await read(embedder, "sky", "bad", "air")
        encoder.gate.release(9)
        await first
        return [(await task)[0] for task in others]

    sky, bad, air = asyncio.run(scenario())

    assert letters([sky, air]) == ["s", "a"]
    assert isinstance(bad, EncoderError)


def test_what_nobody_foresaw_is_an_error_and_the_embedder_lives(embedder, encoder):
    async def scenario():
        encoder.gate.release(9)
        (broken,) = await embedder.embed(["broken"], soon())
        (unreadable,) = await embedder.embed(["unreadable"], soon())
        return broken, unreadable, await embedder.embed(["sea"], soon())

    broken, unreadable, good = asyncio.run(scenario())

    assert type(broken) is RankstreamError
    assert "ValueError; the server's log says more" in str(broken)
    assert isinstance(unreadable, EncoderError)
    assert letters(good) == ["s"]


def test_one_unreadable_text_does_not_fail_the_others_of_its_part(embedder, encoder):
    encoder.gate.release(9)

    answers = asyncio.run(embedder.embed(["sea", "unreadable", "sky"], soon()))

    assert letters([answers[0], answers[2]]) == ["s", "s"]
    assert isinstance(answers[1], EncoderError)
    assert embedder.waiting == 0


def test_more_than_may_wait_is_refused_whole(embedder, encoder):
    async def scenario():
        first = begun(embedder, *(f"text {n}" for n in range(8)))
        await busy(encoder)
        with pytest.raises(
            Overloaded, match="8 texts wait for the encoder, the limit of this lane is 8"
        ):
            await embedder.embed(["one more"], soon())
        # What is on its way already costs nothing.
        known = begun(embedder, "text 3")
        await asyncio.sleep(0)
        encoder.gate.release(9)
        return await first, await known

    first, known = asyncio.run(scenario())

    assert len(first) == 8
    assert letters(known) == ["t"]


def test_bulk_leaves_room_for_what_somebody_waits_for(embedder, encoder):
    async def scenario():
        bulk = begun(embedder, *(f"text {n}" for n in range(6)), lane="bulk")
        await busy(encoder)
        with pytest.raises(Overloaded, match="6 texts wait for the encoder, the limit of this"):
            await embedder.embed(["more bulk"], soon(), lane="bulk")
        asked = begun(embedder, "asked")
        await asyncio.sleep(0)
        encoder.gate.release(9)
        return await bulk, await asked

    bulk, asked = asyncio.run(scenario())

    assert (len(bulk), letters(asked)) == (6, ["a"])


def test_an_interactive_text_is_read_before_a_bulk_that_waits_to_be_read(encoder):
    order, reading = [], threading.Semaphore(0)
    read = encoder.read

    def slow_read(texts, prompt=None):
        order.append(texts[0])
        assert reading.acquire(timeout=10)
        return read(texts, prompt)

    encoder.read = slow_read
    encoder.gate.release(100)
    embedder = Embedder(encoder, cache_bytes=0, max_queued=900, max_batch_tokens=512, readers=1)

    async def scenario():
        bulk = begun(embedder, *(f"bulk {n}" for n in range(200)), lane="bulk")
        gone = begun(embedder, "gone")
        # The only reader is busy with the first of the bulk; all else waits for it.
        await until(lambda: order)
        gone.cancel()
        asked = begun(embedder, "asked")
        await asyncio.sleep(0)
        reading.release(100)
        return await bulk, await asked

    asyncio.run(scenario())
    embedder.close()

    assert order == ["bulk 0", "asked", "bulk 64", "bulk 128", "bulk 192"]


@pytest.fixture
def slow_reading(encoder):
    """An embedder of one reader: what it was given, and what lets it read."""
    given, gate = [], threading.Semaphore(0)
    read = encoder.read

    def slow_read(texts, prompt=None):
        given.append(texts)
        assert gate.acquire(timeout=10)
        return read(texts, prompt)

    encoder.read = slow_read
    encoder.gate.release(900)
    made = Embedder(encoder, cache_bytes=0, max_queued=900, max_batch_tokens=1 << 16, readers=1)
    yield made, given, gate
    gate.release(900)
    made.close()


def test_a_text_waits_for_few_long_ones_to_be_read(slow_reading):
    embedder, given, gate = slow_reading

    async def scenario():
        long = [f"{n}" + "x" * 15_000 for n in range(6)]
        bulk = begun(embedder, *long, lane="bulk")
        await until(lambda: given)
        asked = begun(embedder, "asked")
        await asyncio.sleep(0)
        gate.release(9)
        return await bulk, await asked

    bulk, asked = asyncio.run(scenario())

    assert letters(bulk + asked) == ["0", "1", "2", "3", "4", "5", "a"]
    assert [[text[:1] for text in texts] for texts in given] == [
        ["0", "1"],
        ["a"],
        ["2", "3"],
        ["4", "5"],
    ]


def test_a_bulk_text_that_somebody_asks_for_is_read_before_the_others(slow_reading):
    embedder, given, gate = slow_reading

    async def scenario():
        bulk = begun(embedder, *(f"bulk {n}" for n in range(200)), lane="bulk")
        await until(lambda: given)
        asked = begun(embedder, "bulk 130", "bulk 131")
        await asyncio.sleep(0)
        gate.release(9)
        return await bulk, await asked

    asyncio.run(scenario())

    assert [texts[0] for texts in given] == ["bulk 0", "bulk 128", "bulk 64", "bulk 192"]


def test_a_vector_is_nobodys_to_change(embedder, encoder):
    encoder.gate.release(9)

    (answer,) = asyncio.run(embedder.embed(["sea"], soon()))

    assert not answer.vector.flags.writeable
    assert answer.vector.base is None


def test_no_texts_are_answered_at_once(embedder):
    assert asyncio.run(embedder.embed([], soon())) == []


def test_closing_refuses_what_waits_and_what_comes(embedder, encoder):
    async def scenario():
        first = begun(embedder, "sea")
        await busy(encoder)
        waiting = begun(embedder, "sky")
        await read(embedder, "sky")
        encoder.gate.release(9)
        embedder.close()
        with pytest.raises(Unavailable, match="draining"):
            await embedder.embed(["air"], soon())
        with pytest.raises(Unavailable, match="draining"):
            await embedder.tokenize(["air"], soon())
        return await first, await waiting

    first, (waiting,) = asyncio.run(scenario())

    assert letters(first) == ["s"]
    assert isinstance(waiting, Unavailable)


def test_a_stormy_day_leaves_nothing_in_flight(encoder):
    encoder.gate.release(10_000)
    embedder = Embedder(encoder, cache_bytes=2000, max_queued=500, max_batch_tokens=64, readers=2)
    rng = np.random.default_rng(1)

    async def ask(n):
        texts = [f"{chr(97 + rng.integers(26))}{rng.integers(40)}" for _ in range(n)]
        lane = ("interactive", "bulk")[n % 2]
        answers = await asyncio.wait_for(embedder.embed(texts, soon(), lane=lane), 5)
        assert letters(answers) == [text[0] for text in texts]

    async def scenario():
        asking = [asyncio.create_task(ask(int(n))) for n in rng.integers(0, 9, 100)]
        for task in asking[::7]:
            task.cancel()
        done = await asyncio.gather(*asking, return_exceptions=True)
        assert [e for e in done if e and not isinstance(e, asyncio.CancelledError)] == []
        # Abandoned texts are dropped by the next batch.
        await embedder.embed(["z"], soon())

    asyncio.run(scenario())
    embedder.close()

    assert embedder.waiting == 0
