"""What the thread that changes generations is told, and by whom.

The supervisor passes on what RPCs ask for and says how its crews are; lanes say that they cannot go
on. While a generation is made, some of it ends that: it is raised where the thread waits.
"""

from __future__ import annotations

import json
import queue
from collections import deque

_TICK_S = 0.05


class Failed(Exception):
    """The change cannot be made; says why."""


class Cancelled(Exception):
    """Somebody asked for that."""


class Stopped(Exception):
    """Ingest ends; the change goes on when it runs again."""


class Inbox:
    """Lines from any thread, read by one.

    Attributes:
        making: the number of the generation that is made, until it is served or given up; else -1.
        warm: the number of the generation whose crew is ready to serve; -1: none yet.
        drained: the number of the generation that is served by all workers there are.
        delay: why it is not, where that takes long.
    """

    def __init__(self) -> None:
        self.making = self.warm = self.drained = -1
        self.delay = ""
        self._change_id = ""
        # What was heard while this thread was busy, but made nothing: who asked waits for it.
        self._asked: deque[dict[str, str]] = deque()
        self._lines: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def makes(self, number: int, change_id: str) -> None:
        """From now on, this generation is made, by this change."""
        self.making, self._change_id = number, change_id

    def makes_nothing(self) -> None:
        """What was made is served or given up."""
        self.making = -1

    def forget_asked(self) -> None:
        """A change has been under way until now: whatever was asked, the worker has refused."""
        self._asked.clear()

    def tell(self, line: str) -> None:
        """What the supervisor said."""
        word, _, rest = line.partition(" ")
        self._lines.put((word, rest))

    def stop(self) -> None:
        """Ingest ends."""
        self._lines.put(("stop", ""))

    def break_off(self, error: BaseException) -> None:
        """What makes the new generation cannot go on."""
        self._lines.put(("broken", str(error) or type(error).__name__))

    def asked(self) -> dict[str, str]:
        """Waits for something that an RPC asks for.

        Raises:
            Stopped: ingest ends.
        """
        while not self._asked:
            self._hear(*self._lines.get())
        return self._asked.popleft()

    def wait(self) -> None:
        """A moment, in which something may be said.

        Raises:
            Stopped: ingest ends.
            Cancelled: the generation that is made is not wanted any more.
            Failed: its crew or its lanes do not work.
        """
        try:
            word, rest = self._lines.get(timeout=_TICK_S)
        except queue.Empty:
            return
        self._hear(word, rest)

    def check(self) -> None:
        """As ``wait``, of all that was said, without waiting."""
        while not self._lines.empty():
            self.wait()

    def _hear(self, word: str, rest: str) -> None:
        if word == "stop":
            raise Stopped
        if word == "warm":
            self.warm = int(rest)
        elif word == "drained":
            self.drained = int(rest)
        elif word == "delay":
            self.delay = json.loads(rest)
        elif self.making >= 0:
            self._hear_of_change(word, rest)
        elif word == "ask":
            self._asked.append(json.loads(rest))

    def _hear_of_change(self, word: str, rest: str) -> None:
        """What matters only while a generation is made."""
        if word == "ask":
            asked = json.loads(rest)
            if asked["verb"] == "cancel" and asked["id"] == self._change_id:
                raise Cancelled
        if word == "unfit":
            said = json.loads(rest)
            if said["number"] == self.making:
                problem = f"its workers do not start: {said['why']}"
                raise Failed(problem)
        if word == "broken":
            raise Failed(rest)
