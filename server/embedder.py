"""Texts of many callers to vectors: what is known or on its way is not computed again.

A text's way: the cache; a text with the same reading that is in flight; a reader, which makes
tokens of it (several side by side, off the event loop); the queue (``encoder/text_queue.py``); the
engine, one batch at a time; the cache, and all who asked. Nothing waits while the engine is idle.

All state belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankstream.server.encoder.base import Encoded, Encoder, TokenizedText, Tokens
from rankstream.server.encoder.cache import CacheStats, VectorCache
from rankstream.server.encoder.text import text_hash
from rankstream.server.encoder.text_queue import LaneName, Pace, Taken, TextQueue
from rankstream.server.encoder.tokenizer import CHARS_PER_TOKEN
from rankstream.server.errors import DeadlineExceeded, Overloaded, RankstreamError, Unavailable
from rankstream.server.in_flight import Answer, Embedded, Request, Text, Work
from rankstream.server.text_readers import TextReaders, parts_of

log = logging.getLogger(__name__)

# What a text is taken for that is not read yet, where the wait is estimated.
UNREAD_TOKENS = 32


class Embedder:
    """Answers questions for vectors.

    Args:
        encoder: reads and encodes; called from several threads.
        cache_bytes: budget of the cache.
        max_queued: texts in flight at most.
        max_batch_tokens: padded tokens of one batch at most.
        readers: threads that make tokens.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        cache_bytes: int,
        max_queued: int,
        max_batch_tokens: int,
        readers: int,
    ) -> None:
        self._encoder = encoder
        self._max_chars = encoder.max_tokens * CHARS_PER_TOKEN
        self._cache = VectorCache(cache_bytes)
        self._max_queued = max_queued
        self._pace = Pace()
        self._queue: TextQueue[Text] = TextQueue(max_batch_tokens, self._pace)
        self._in_flight: dict[bytes, Text] = {}
        self._readers = TextReaders(readers)
        self._tokenizing = 0
        self._engine = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._busy = self._closed = False
        self.work = Work()

    async def embed(
        self,
        texts: Sequence[str],
        deadline: float,
        *,
        prompt: str | None = None,
        lane: LaneName = "interactive",
    ) -> list[Answer]:
        """One answer or error a text, in order.

        Args:
            texts: to be encoded.
            deadline: on ``time.monotonic``'s clock.
            prompt: name of what is read before each; None: the model's default.
            lane: where they wait.

        Raises:
            InvalidArgument: there is no such prompt.
            Overloaded: too many texts wait.
            Unavailable: it is closed.
        """
        loop, now = asyncio.get_running_loop(), time.monotonic()
        request = Request(len(texts), loop.create_future())
        fresh = self._ask(request, texts, prompt, Text(b"", "", lane, now, deadline))
        # Side by side, and none holds up another for long.
        for part in parts_of([text.text for text in fresh], self._max_chars):
            self._read(loop, fresh[part], prompt)
        if request.left:
            await self._wait(loop, request, deadline - now)
        late = DeadlineExceeded("the deadline passed before there was a vector")
        return [late if answer is None else answer for answer in request.answers]

    async def tokenize(
        self, texts: Sequence[str], deadline: float, *, prompt: str | None = None
    ) -> list[TokenizedText]:
        """What the model reads of each text.

        Raises:
            InvalidArgument: there is no such prompt.
            DeadlineExceeded: the readers did not come to it in time.
            Overloaded: too many texts wait.
            Unavailable: it is closed.
        """
        self._encoder.prompts.before(prompt)
        self._admit(len(texts), "bulk")
        self._tokenizing += len(texts)
        loop, left = asyncio.get_running_loop(), max(0.0, deadline - time.monotonic())
        try:
            parts = [texts[part] for part in parts_of(texts, self._max_chars)]
            lane: LaneName = "interactive" if len(parts) == 1 else "bulk"
            reading = [self._tokenize(loop, lane, part, prompt) for part in parts]
            found = await asyncio.wait_for(asyncio.gather(*reading), left)
            return [one for part in found for one in part]
        except TimeoutError as error:
            message = "the deadline passed before the texts were read"
            raise DeadlineExceeded(message) from error
        except asyncio.CancelledError:
            if self._closed:
                raise _draining() from None
            raise
        finally:
            self._tokenizing -= len(texts)

    @property
    def cache(self) -> CacheStats:
        """The cache's counters."""
        return self._cache.stats()

    @property
    def waiting(self) -> int:
        """Texts in flight."""
        return len(self._in_flight)

    def close(self) -> None:
        """Refuses what waits and what comes; waits for the batch in flight."""
        self._closed = True
        for text in [t for t in self._in_flight.values() if not t.running]:
            self._settle(text, _draining())
        self._readers.close()
        self._engine.shutdown(wait=True)

    def _ask(
        self, request: Request, texts: Sequence[str], prompt: str | None, like: Text
    ) -> list[Text]:
        """Answers what is known, joins what is in flight; the texts that are neither."""
        before = self._encoder.prompts.before(prompt)
        keys = [text_hash(before + text) for text in texts]
        known = self._cache.get(keys)
        more = {key for key, k in zip(keys, known, strict=True) if k is None}
        self._admit(len(more - self._in_flight.keys()), like.lane)
        fresh = []
        for index, (key, found) in enumerate(zip(keys, known, strict=True)):
            if found is not None:
                request.settle(index, Embedded(*found))
                continue
            text = self._in_flight.get(key)
            if text is None:
                text = Text(key, texts[index], like.lane, like.asked, like.deadline)
                self._in_flight[key] = text
                fresh.append(text)
            else:
                self._join(text, like)
            text.callers.append((request, index))
        return fresh

    def _join(self, text: Text, like: Text) -> None:
        self.work.shared += 1
        text.deadline = max(text.deadline, like.deadline)
        if like.lane == "interactive" and text.lane == "bulk" and not text.running:
            text.lane = like.lane
            if text.ids:
                self._queue.put(text)
            elif text.reading is not None:
                self._readers.lift(text.reading)

    def _admit(self, more: int, lane: LaneName) -> None:
        if self._closed:
            raise _draining()
        waiting = len(self._in_flight) + self._tokenizing
        # Bulk leaves room for what somebody waits for; alone, any request within its limits fits.
        whole = lane == "interactive" or not waiting
        limit = self._max_queued if whole else self._max_queued * 3 // 4
        if waiting + more > limit:
            texts = self._in_flight.values()
            tokens = sum(text.tokens or UNREAD_TOKENS for text in texts)
            message = f"{waiting} texts wait for the encoder, the limit of this lane is {limit}"
            raise Overloaded(message, retry_after_s=max(0.01, self._pace.seconds(tokens)))

    async def _wait(
        self, loop: asyncio.AbstractEventLoop, request: Request, timeout_s: float
    ) -> None:
        expiry = loop.call_later(max(0.0, timeout_s), _expire, request.done)
        try:
            await request.done
        finally:
            expiry.cancel()
            # Also when the caller has gone: what nobody waits for is dropped, not computed.
            request.done.cancel()

    def _read(self, loop: asyncio.AbstractEventLoop, texts: list[Text], prompt: str | None) -> None:
        words = [text.text for text in texts]
        work = functools.partial(_timed, self._encoder.read, words, prompt)
        # Those that are read again may be of both lanes.
        lane: LaneName = "bulk" if all(text.lane == "bulk" for text in texts) else "interactive"
        reading = self._readers.submit(loop, lane, work, lambda: any(text.wanted for text in texts))
        for text in texts:
            text.reading = reading
        reading.add_done_callback(lambda done: self._was_read(loop, texts, prompt, done))

    def _tokenize(
        self,
        loop: asyncio.AbstractEventLoop,
        lane: LaneName,
        texts: Sequence[str],
        prompt: str | None,
    ) -> asyncio.Future[list[TokenizedText]]:
        work = functools.partial(self._encoder.tokenize, texts, prompt)
        return self._readers.submit(loop, lane, work, lambda: True)

    def _was_read(
        self,
        loop: asyncio.AbstractEventLoop,
        texts: list[Text],
        prompt: str | None,
        done: asyncio.Future[tuple[Tokens, int]],
    ) -> None:
        if done.cancelled():
            # At its turn nobody waited for any of them; since then, somebody may have come.
            wanted = [] if self._closed else [text for text in texts if text.wanted]
            self._drop(Taken(gone=[text for text in texts if text not in wanted]))
            if wanted:
                self._read(loop, wanted, prompt)
            return
        error = _error_of(done)
        if error is not None:
            self._was_unreadable(loop, texts, prompt, error)
            return
        tokens, spent_us = done.result()
        self.work.read_us += spent_us
        for text, ids, cut in zip(texts, tokens.ids, tokens.truncated.tolist(), strict=True):
            text.ids, text.tokens, text.truncated = ids, len(ids), cut
            self._queue.put(text)
        self._start_batch(loop)

    def _was_unreadable(
        self,
        loop: asyncio.AbstractEventLoop,
        texts: list[Text],
        prompt: str | None,
        error: RankstreamError,
    ) -> None:
        if len(texts) == 1 or self._closed:
            for text in texts:
                self._settle(text, error)
            return
        # Each alone, so that one does not fail the others.
        for text in texts:
            self._read(loop, [text], prompt)

    def _start_batch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._busy or self._closed:
            return
        taken = self._queue.take(time.monotonic())
        self._drop(taken)
        batch = taken.batch
        if not batch:
            return
        self._busy = True
        for text in batch:
            text.running = True
        started = time.monotonic()
        running = loop.run_in_executor(self._engine, self._encode, [text.ids for text in batch])
        running.add_done_callback(lambda done: self._encoded(loop, batch, started, done))

    def _drop(self, taken: Taken[Text]) -> None:
        self.work.dropped += len(taken.gone) + len(taken.late)
        late = DeadlineExceeded("it could not have been ready before the deadline; not encoded")
        for text in taken.gone + taken.late:
            self._settle(text, late)

    def _encode(self, ids: list[list[int]]) -> list[NDArray[np.float32] | RankstreamError]:
        """Vectors; where a batch fails, each text alone, so that one does not fail the others."""
        try:
            return list(self._encoder.encode_tokens(ids))
        except Exception as error:  # noqa: BLE001 - one text must not fail the others
            if len(ids) == 1:
                return [_typed(error)]
        return [answer for one in ids for answer in self._encode([one])]

    def _encoded(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[Text],
        started: float,
        done: asyncio.Future[list[NDArray[np.float32] | RankstreamError]],
    ) -> None:
        self._busy = False
        self._start_batch(loop)
        spent = time.monotonic() - started
        tokens, work = sum(text.tokens for text in batch), self.work
        self._pace.learn(tokens, spent, batch[0].lane)
        work.texts, work.tokens = work.texts + len(batch), work.tokens + tokens
        work.batches, work.encode_us = work.batches + 1, work.encode_us + int(spent * 1e6)
        error = _error_of(done)
        answers = [error] * len(batch) if error is not None else done.result()
        for text, answer in zip(batch, answers, strict=True):
            self._answer(text, answer, started, int(spent * 1e6), len(batch))

    def _answer(
        self,
        text: Text,
        answer: NDArray[np.float32] | RankstreamError | None,
        started: float,
        encode_us: int,
        size: int,
    ) -> None:
        if isinstance(answer, np.ndarray):
            # One copy for all who asked: a view would keep the whole batch alive.
            answer = answer.copy()
            answer.flags.writeable = False
            found = Encoded(answer[None], np.array([text.tokens]), np.array([text.truncated]))
            self._cache.put([text.key], found)
            waited = int((started - text.asked) * 1e6)
            made = Embedded(answer, text.tokens, text.truncated, waited, encode_us, size)
            self._settle(text, made)
        elif answer is not None:
            self._settle(text, answer)

    def _settle(self, text: Text, answer: Answer) -> None:
        if self._in_flight.get(text.key) is not text:
            # Settled already, when this closed.
            return
        del self._in_flight[text.key]
        for request, index in text.callers:
            request.settle(index, answer)


def _timed(read: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    started = time.perf_counter_ns()
    found = read(*arguments)
    return found, (time.perf_counter_ns() - started) // 1000


def _error_of(done: asyncio.Future[Any]) -> RankstreamError | None:
    error = done.exception()
    return None if error is None else _typed(error)


def _typed(error: BaseException) -> RankstreamError:
    if isinstance(error, RankstreamError):
        return error
    log.error("the encoder failed", exc_info=error)
    return RankstreamError(
        f"the encoder failed: {type(error).__name__}; the server's log says more"
    )


def _expire(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _draining() -> Unavailable:
    return Unavailable("this worker is draining; another connection reaches another worker")
