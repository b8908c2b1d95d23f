"""The small JSON files of a model folder, read with suspicion."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from rankstream.server.encoder.base import ModelRefused

MAX_JSON_BYTES = 4 << 20

T = TypeVar("T", dict[str, Any], list[Any])


def read_json(file: Path, expected: type[T]) -> T:
    """A JSON object (``dict``) or array (``list``) of bounded size.

    Raises:
        ModelRefused: it is missing, too large, or something else.
    """
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            message = f"{file}: over {MAX_JSON_BYTES} bytes; expected a small JSON file"
            raise ModelRefused(message)
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        message = f"{file}: not a readable JSON file: {error}"
        raise ModelRefused(message) from error
    if not isinstance(found, expected):
        message = f"{file}: expected a JSON {expected.__name__}, found {type(found).__name__}"
        raise ModelRefused(message)
    return found


def inside(root: Path, relative: Any) -> str:
    """A path that a folder's own file names, if it stays inside the folder.

    Raises:
        ModelRefused: absolute, upward, or not a path at all.
    """
    parts = PurePosixPath(relative).parts if isinstance(relative, str) else ("..",)
    if ".." in parts or parts[:1] == ("/",) or "\\" in str(relative) or "\0" in str(relative):
        message = f"{root}: names the path {relative!r}; expected one inside the folder"
        raise ModelRefused(message)
    return str(relative)
