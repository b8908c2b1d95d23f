"""The flags that every benchmark has."""

from __future__ import annotations

import argparse
import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Arguments:
    """What to do.

    Attributes:
        prepare: make the cached state and end.
        quick: end within 60 s on two cores, and leave out the keys that take longer.
        cache: folder of what takes long to make.
        out: where the result goes as JSON; None: nowhere.
        data: folder of the data sets; None: none is needed, or none is there.
    """

    prepare: bool
    quick: bool
    cache: Path
    out: Path | None
    data: Path | None = None


def read_arguments(doc: str, *, wants_data: bool = False) -> Arguments:
    """The command line's flags. From here on SIGTERM ends as Ctrl-C does: children are stopped.

    Args:
        doc: the benchmark's docstring; its first line is the help.
        wants_data: whether it reads data sets; RANKSTREAM_DATA names a folder, too.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--prepare", action="store_true", help="make the cached state and end")
    parser.add_argument("--quick", action="store_true", help="within 60 s; leaves keys out")
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="write the result there, as JSON")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    if wants_data:
        named = os.environ.get("RANKSTREAM_DATA")
        where = Path(named) if named else None
        parser.add_argument(
            "--data", type=Path, default=where, help="folder of data sets, default: RANKSTREAM_DATA"
        )
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if given.device != "cpu":
        parser.error(f"--device {given.device}: nothing measured here runs on one; expected cpu")
    data = given.data if wants_data else None
    return Arguments(given.prepare, given.quick, given.cache.resolve(), given.out, data)
