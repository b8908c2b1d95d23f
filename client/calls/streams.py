"""Streaming calls, described: what the next message is, what an answer means. No input or output.

A value that has no protobuf form keeps its place in a stream: an empty message is sent for it,
which the server refuses, and its error is put in the answer's place. So one request stays one
answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from google.protobuf.message import Message

from rankstream.client.errors import InvalidArgument, RankstreamError, Unavailable, invalid

V = TypeVar("V")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
# ``Client`` takes iterables, ``AsyncClient`` both.
Source: TypeAlias = "Iterable[V] | AsyncIterable[V]"

# Messages of an import hold at most so many entries and about so many bytes.
CHUNK_ENTRIES = 250
CHUNK_BYTES = 1 << 20
# Errors of one import that its result keeps.
MAX_FAILURES_KEPT = 1000
# Waits before a list that broke off is asked for again; the last one is as long as a restart.
RESUME_PAUSES_S = (0.1, 0.3, 1.0, 3.0)


class Conversation(ABC, Generic[R_co]):
    """A stream of requests made of ``source``, and its answers.

    ``send`` and ``flush`` may run on another thread than ``read``.

    Attributes:
        path: service and method.
        source: the values to send.
        timeout_s: deadline of the whole stream; None: none.
        window: values without an answer at most; None: as many as the connection takes.
        one_answer: there is one answer at the end.
        sent: entries handed over.
        answered: entries the server has answered for.
    """

    def __init__(
        self,
        path: str,
        source: Source[Any],
        timeout_s: float | None,
        window: int | None = None,
        one_answer: bool = False,
    ) -> None:
        if window is not None and window < 1:
            raise invalid(field="max_in_flight", problem=f"is {window}; expected 1 or more")
        self.path = path
        self.source = source
        self.timeout_s = timeout_s
        self.window = window
        self.one_answer = one_answer
        self.sent = 0
        self.answered = 0

    @abstractmethod
    def send(self, value: Any) -> Message | None:
        """The message that takes ``value``; None: it waits for others."""

    def flush(self) -> Message | None:
        """The last message, of what waits; None: nothing does."""
        return None

    def answers(self, message: Any) -> Sequence[Any]:
        """The answers in a message of the server's."""
        return (message,)

    @abstractmethod
    def read(self, answer: Any) -> R_co:
        """Our form of an answer; counts it."""

    def check_end(self, all_sent: bool) -> None:
        """Called when the server ends the stream.

        Raises:
            Unavailable: it did so before it had everything, or had answered everything.
        """
        if not all_sent or self.answered != self.sent:
            raise self.broken(Unavailable("the server ended the stream"))

    def broken(self, error: RankstreamError) -> RankstreamError:
        """``error``, which ended the stream, with how far it got."""
        return error.after(self.answered)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Several values in one message, and several answers in one.

    Attributes:
        most: values in a message, fewer where they are large; the last one has what is left.
        wrap: the message of the forms of some values.
        answers: the answers in a message.
    """

    most: int
    wrap: Callable[[list[Any]], Message]
    answers: Callable[[Any], Sequence[Any]]


class Exchange(Conversation[R], Generic[V, R]):
    """One answer a value, in order.

    Args:
        path: service and method.
        source: the values to send.
        timeout_s: deadline of the whole stream; None: none.
        window: values without an answer at most.
        write: protobuf form of a value.
        read: our form of an answer.
        refused: what stands for a value that has no protobuf form; None: it ends the stream.
        placeholder: what is sent for such a value.
        bundle: how several values go in one message, and several answers come; None: each has
            one of its own.
    """

    def __init__(
        self,
        path: str,
        source: Source[V],
        timeout_s: float | None,
        window: int,
        write: Callable[[V], Message],
        read: Callable[[Any], R],
        refused: Callable[[InvalidArgument], R] | None = None,
        placeholder: Callable[[], Message] | None = None,
        bundle: Bundle | None = None,
    ) -> None:
        super().__init__(path, source, timeout_s, window)
        if bundle is not None and not 1 <= bundle.most <= window:
            problem = f"is {bundle.most}; expected 1 to max_in_flight, {window}"
            raise invalid(field="per_message", problem=problem)
        self._write = write
        self._read = read
        self._refused = refused
        self._placeholder = placeholder
        self._bundle = bundle
        self._waiting: list[Message] = []
        self._waiting_bytes = 0
        self._problems: dict[int, InvalidArgument] = {}

    def send(self, value: V) -> Message | None:
        """The message of ``value``, or of several that it completes; None: it waits for others."""
        try:
            message = self._write(value)
        except InvalidArgument as problem:
            if self._placeholder is None:
                raise
            self._problems[self.sent] = problem
            message = self._placeholder()
        self.sent += 1
        if self._bundle is None:
            return message
        self._waiting.append(message)
        self._waiting_bytes += message.ByteSize()
        full = len(self._waiting) == self._bundle.most or self._waiting_bytes >= CHUNK_BYTES
        return self.flush() if full else None

    def flush(self) -> Message | None:
        """The message of the values that wait."""
        if self._bundle is None or not self._waiting:
            return None
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return self._bundle.wrap(waiting)

    def answers(self, message: Any) -> Sequence[Any]:
        """The answers in a message of the server's."""
        return (message,) if self._bundle is None else self._bundle.answers(message)

    def read(self, answer: Any) -> R:
        """Our form of the next answer."""
        problem = self._problems.pop(self.answered, None)
        self.answered += 1
        if problem is not None and self._refused is not None:
            return self._refused(problem)
        return self._read(answer)


class Upload(Conversation[None], Generic[V, R]):
    """Many entries, a few in each message, and one result.

    Args:
        path: service and method.
        source: the values to send.
        timeout_s: deadline of the whole stream; None: none.
        one_answer: there is one answer at the end.
        write: protobuf form of a value.
        wrap: the message of several such forms; of a placeholder, ``empty``.
        empty: a placeholder.
    """

    def __init__(
        self,
        path: str,
        source: Source[V],
        timeout_s: float | None,
        one_answer: bool,
        write: Callable[[V], Message],
        wrap: Callable[[list[Any]], Message],
        empty: Callable[[], Message],
    ) -> None:
        super().__init__(path, source, timeout_s, one_answer=one_answer)
        self._write = write
        self._wrap = wrap
        self._empty = empty
        self._chunk: list[Message] = []
        self._chunk_bytes = 0
        self._problems: dict[int, InvalidArgument] = {}

    def send(self, value: V) -> Message | None:
        """The message of a chunk that ``value`` does not fit into, or fills; None: it waits."""
        try:
            entry = self._write(value)
        except InvalidArgument as problem:
            if len(self._problems) < MAX_FAILURES_KEPT:
                self._problems[self.sent] = problem
            entry = self._empty()
        self.sent += 1
        size = entry.ByteSize()
        full = None
        if self._chunk_bytes + size > CHUNK_BYTES or len(self._chunk) == CHUNK_ENTRIES:
            full = self.flush()
        self._chunk.append(entry)
        self._chunk_bytes += size
        return full

    def flush(self) -> Message | None:
        """The message of the entries that wait."""
        if not self._chunk:
            return None
        message = self._wrap(self._chunk)
        self._chunk, self._chunk_bytes = [], 0
        return message

    @abstractmethod
    def read(self, answer: Any) -> None:
        """Takes the next report."""

    @abstractmethod
    def result(self) -> R:
        """What became of all."""

    def problem_at(self, index: int, error: RankstreamError) -> RankstreamError:
        """Why entry ``index`` failed: what was wrong before it was sent says more."""
        return self._problems.pop(index, error)


class Listing(ABC, Generic[R_co]):
    """One request and a stream of answers, which is taken up again where it can be.

    Attributes:
        path: service and method.
        timeout_s: deadline of one attempt; None: none.
        admin: it goes to the Admin service.
        answered: answers read.
    """

    def __init__(self, path: str, timeout_s: float | None, *, admin: bool = False) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self.admin = admin
        self.answered = 0

    @abstractmethod
    def request(self) -> Message:
        """What asks for all that was not answered yet."""

    @abstractmethod
    def read(self, answer: Any) -> R_co:
        """Our form of an answer; counts it."""

    def pause_after(self, error: RankstreamError) -> float | None:
        """How long to wait before it is asked for again; None: it cannot be."""
        return None

    def broken(self, error: RankstreamError) -> RankstreamError:
        """``error``, which ended the stream, with how far it got."""
        return error.after(self.answered)
