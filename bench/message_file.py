"""Messages in a file, each behind its length: between the processes of a benchmark."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

_LENGTH = struct.Struct("<I")


def append_messages(file: BinaryIO, messages: Iterable[bytes]) -> None:
    """Appends them in one write."""
    file.write(b"".join(_LENGTH.pack(len(message)) + message for message in messages))


def write_messages(path: Path, messages: Iterable[bytes]) -> None:
    """Makes a file of them."""
    with path.open("wb") as file:
        append_messages(file, messages)


def read_messages(path: Path) -> list[bytes]:
    """All that are whole."""
    with path.open("rb") as file:
        return read_new(file)


def read_new(file: BinaryIO) -> list[bytes]:
    """Those that stand behind the file's position and are whole; moves it behind them."""
    start, data, at = file.tell(), file.read(), 0
    found = []
    while at + _LENGTH.size <= len(data):
        end = at + _LENGTH.size + _LENGTH.unpack_from(data, at)[0]
        if end > len(data):
            break
        found.append(data[at + _LENGTH.size : end])
        at = end
    file.seek(start + at)
    return found
