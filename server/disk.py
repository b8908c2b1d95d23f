"""What is said of a disk that takes nothing."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rankstream.server.errors import Unavailable

_REFUSALS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


@contextmanager
def on_disk(folder: Path, *refusals: type[Exception]) -> Iterator[None]:
    """For whatever writes under a folder.

    Args:
        folder: which one, for people.
        refusals: what a library raises that says the same.

    Raises:
        Unavailable: the disk is full or broken. Other errors go on as they are.
    """
    met: tuple[type[Exception], ...] = (OSError, *refusals)
    try:
        yield
    except met as error:
        if isinstance(error, OSError) and error.errno not in _REFUSALS:
            raise
        msg = f"{folder}: {error}; make room on that disk, or mend it"
        raise Unavailable(msg) from error
