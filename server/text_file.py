"""Texts from a file, for the commands that need real ones."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from rankstream.server.errors import InvalidArgument

MAX_TEXTS = 1_000_000


def read_texts(field: str, file: Path) -> list[str]:
    """One text a line, UTF-8; ``.gz`` is unpacked. Empty lines are left out.

    Raises:
        InvalidArgument: names ``field``: the file cannot be read, or holds too many.
    """
    try:
        raw = file.read_bytes()
        content = gzip.decompress(raw) if file.suffix == ".gz" else raw
        lines = content.decode().split("\n")
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise InvalidArgument(field, f"{file} cannot be read: {error}") from error
    texts = [text for line in lines if (text := line.rstrip("\r")).strip()]
    if len(texts) > MAX_TEXTS:
        raise InvalidArgument(field, f"{len(texts)} texts, expected at most {MAX_TEXTS}")
    return texts
