"""Texts from a file, for the commands that need real ones."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from rankstream.server.errors import InvalidArgument

MAX_BYTES = 256 << 20
MAX_TEXTS = 1_000_000


def read_texts(field: str, file: Path) -> list[str]:
    """One text a line, UTF-8; ``.gz`` is unpacked. Empty lines are left out.

    Raises:
        InvalidArgument: names ``field``: the file cannot be read, or holds too many.
    """
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        lines = content.decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise InvalidArgument(field, f"{file} cannot be read: {error}") from error
    if len(content) > MAX_BYTES:
        raise InvalidArgument(field, f"{file} holds over {MAX_BYTES} bytes; give a part of it")
    texts = [text for line in lines if (text := line.rstrip("\r")).strip()]
    if len(texts) > MAX_TEXTS:
        raise InvalidArgument(field, f"{len(texts)} texts, expected at most {MAX_TEXTS}")
    return texts
