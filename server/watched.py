"""Files that are read again when they change, so that a secret is replaced without a restart."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from rankstream.server.errors import RankstreamError

log = logging.getLogger(__name__)

T = TypeVar("T")

_LOOKS_EVERY_S = 1.0


class Watched(Generic[T]):
    """What some files say; where what comes new does not read, what they said before.

    Args:
        files: what is looked at, at most once a second.
        read: makes a value of them.

    Raises:
        RankstreamError: what ``read`` raises at first.
    """

    def __init__(self, files: Sequence[Path], read: Callable[[], T]) -> None:
        self._files = tuple(files)
        self._read = read
        self._stamp = self._stamps()
        self._failed: list[tuple[int, int, int] | None] | None = None
        self._value = read()
        self._next_look = time.monotonic() + _LOOKS_EVERY_S

    @property
    def value(self) -> T:
        """As of the last second."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOKS_EVERY_S
            self._look()
        return self._value

    def _look(self) -> None:
        stamp = self._stamps()
        if stamp == self._stamp:
            return
        try:
            self._value = self._read()
        except (RankstreamError, OSError) as error:
            # Tried again each time, as it may pass, and said once.
            if stamp != self._failed:
                log.error("%s; what it said before stays in force", error)  # noqa: TRY400
            self._failed = stamp
        else:
            self._stamp = stamp
            log.info("read again: %s", ", ".join(map(str, self._files)))

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        return [_stamp_of(file) for file in self._files]


def _stamp_of(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
