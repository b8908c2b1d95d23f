"""Options that the commands on models have in common, and how these commands fail."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from rankstream.server.config import options
from rankstream.server.encoder.base import EncoderSettings
from rankstream.server.errors import RankstreamError
from rankstream.server.paths import Paths

Command = Callable[..., None]

# Of serve's settings, those that decide a vector and that a command does not choose itself.
SHARED = ("max_tokens", "item_prompt", "query_prompt", "dimensions", "adapter", "pooling")
_DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default="rankstream-data",
    show_default=True,
    help="Where converted models are kept, as serve keeps them.",
)


def settings(command: Command) -> Command:
    """Adds the options that name a model and how it is read; the command gets ``settings``."""

    @functools.wraps(command)
    def with_settings(data_dir: Path, **given: Any) -> None:
        found = {name: given.pop(name) for name in ("model", "threads", *SHARED)}
        command(settings=_settings(data_dir, found), **given)

    made: Command = with_settings
    for option in reversed(list(_options())):
        made = option(made)
    return made


def _settings(data_dir: Path, found: dict[str, Any]) -> EncoderSettings:
    made = EncoderSettings(Paths(data_dir).cache / "encoder", **found)
    # A text must fit in a batch; here nobody waits for somebody else's.
    return dataclasses.replace(made, max_batch_tokens=max(made.max_batch_tokens, made.max_tokens))


def _options() -> Iterator[Callable[[Command], Command]]:
    yield click.option(
        "--model", default="", help="Model folder.  [default: the all-MiniLM-L6-v2 package]"
    )
    served = {option.name: option for option in options() if option.section == "encoding"}
    for name in SHARED:
        option = served[name]
        flag, shown = "--" + name.replace("_", "-"), option.doc[0].upper() + option.doc[1:]
        yield click.option(flag, name, type=option.type, default=option.default, help=f"{shown}.")
    yield _DATA_DIR
    yield click.option("--threads", default=2, show_default=True, help="Threads of one inference.")


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the process with status 1 and the reason in one line, where there is one."""
    try:
        yield
    except (RankstreamError, OSError) as error:
        click.echo(f"error: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
