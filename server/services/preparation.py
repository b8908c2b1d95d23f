"""What a ranking needs before the engine can answer it: vectors of texts, popularity of a time.

Each task has its own fate: what one of them cannot have is no other's error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from rankstream.server.embedder import Embedder
from rankstream.server.encoder.text_queue import lane_of
from rankstream.server.errors import RankstreamError
from rankstream.server.in_flight import Embedded
from rankstream.server.past_bias import Bias, PastBias
from rankstream.server.types import Asked, RankTask

Prepared = RankTask | BaseException

_TEXTS_AT_ONCE = 256


class Preparation:
    """Completes tasks.

    Args:
        embedder: texts to vectors.
        past_bias: popularity as it was.
        prompt: name of what the encoder reads before a text; None: its default.
    """

    def __init__(
        self,
        embedder: Embedder,
        past_bias: PastBias,
        prompt: str | None = None,
    ) -> None:
        self._embedder = embedder
        self._past_bias = past_bias
        self._prompt = prompt

    async def complete(self, tasks: Sequence[RankTask], deadline: float) -> list[Prepared]:
        """Tasks with all that they need, or why they cannot have it."""
        asked = [task.asked for task in tasks if task.asked is not None]
        if not asked:
            return list(tasks)
        vectors = await self._vectors(asked, deadline)
        biases = await self._biases(asked, deadline)
        return [_completed(task, vectors, biases) for task in tasks]

    async def _vectors(
        self, asked: Sequence[Asked], deadline: float
    ) -> Mapping[str, Embedded | BaseException]:
        texts = dict.fromkeys(text for one in asked for text in one.texts())
        found: dict[str, Embedded | BaseException] = {}
        every, lane = list(texts), lane_of(len(texts))
        for start in range(0, len(every), _TEXTS_AT_ONCE):
            some = every[start : start + _TEXTS_AT_ONCE]
            try:
                answers: Sequence[Embedded | RankstreamError] = await self._embedder.embed(
                    some, deadline, prompt=self._prompt, lane=lane
                )
            except RankstreamError as error:
                answers = [error for _ in some]
            found.update(zip(some, answers, strict=True))
        return found

    async def _biases(
        self, asked: Sequence[Asked], deadline: float
    ) -> Mapping[int, Bias | RankstreamError]:
        found: dict[int, Bias | RankstreamError] = {}
        for at in {one.as_of_ms for one in asked if one.as_of_ms is not None}:
            try:
                found[at] = await self._past_bias.at(at, deadline)
            except RankstreamError as error:
                found[at] = error
        return found


def _completed(
    task: RankTask,
    vectors: Mapping[str, Embedded | BaseException],
    biases: Mapping[int, Bias | RankstreamError],
) -> Prepared:
    asked = task.asked
    if asked is None:
        return task
    encoded = {}
    for text in asked.texts():
        embedded = vectors[text]
        if isinstance(embedded, BaseException):
            return embedded
        encoded[text] = embedded.vector
    bias = None if asked.as_of_ms is None else biases[asked.as_of_ms]
    if isinstance(bias, RankstreamError):
        return bias
    return dataclasses.replace(task, asked=dataclasses.replace(asked, encoded=encoded, bias=bias))
