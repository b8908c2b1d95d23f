"""The demo: real people's ratings change what they are recommended, milliseconds later.

Starts a server with an embedded broker, fills it with MovieLens 100k, lets three people come back,
ranks 1,000 users in one call and says how good the rankings are. ``--serve`` fills a server on the
default ports instead, and keeps it running.
"""

from __future__ import annotations

import io
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TextIO

import click
from demo_acts import Stage, fill, perform
from demo_load import ending_at
from demo_screen import Screen
from demo_server import DemoError, DemoServer, free_ports

from rankstream.client.client import Client
from rankstream.client.errors import RankstreamError
from rankstream.training.datasets import DEFAULT_CACHE, DatasetError, load_movielens

_START_S = 180.0
_DEFAULT_PORTS = (50051, 50052)
_SERVE_DIR = Path("rankstream-data")
_BEGUN, _FILLED = "demo-begun", "demo-filled"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for.

    Attributes:
        cache: folder of what is kept from one run to the next.
        data_dir: folder of the state; None: one that is deleted in the end.
        ports: of the serving API and of Admin; None: free ones.
    """

    cache: Path
    data_dir: Path | None
    ports: tuple[int, int] | None


@contextmanager
def raised(options: Options, screen: Screen) -> Iterator[Stage]:
    """Fetches the data, starts the server and waits until it is SERVING."""
    screen.head("MovieLens 100k, from the package that carries it (research use only)")
    data = load_movielens(options.cache)
    with ExitStack() as stack:
        data_dir = options.data_dir or _temporary(stack, options.cache)
        data_dir.mkdir(parents=True, exist_ok=True)
        ports = options.ports or free_ports(2)
        screen.head("rankstream serve --embedded: a broker, ingest and a worker")
        screen.say("the first start compiles kernels and converts the encoder: up to a minute")
        server = stack.enter_context(DemoServer(data_dir, *ports))
        addresses = server.wait_serving(_START_S)
        client = stack.enter_context(
            Client(addresses.target, admin_target=addresses.admin_target, timeout_s=10.0)
        )
        client.wait_ready()
        screen.say(f"SERVING on {addresses.target}, log at {addresses.bootstrap_servers}")
        yield Stage(server, addresses, client, data, screen)


def keep_running(stage: Stage) -> NoReturn:
    """Says what to try, and waits until Ctrl-C.

    Raises:
        DemoError: the server ended.
    """
    target, admin_target = stage.addresses.target, stage.addresses.admin_target
    default = target.endswith(f":{_DEFAULT_PORTS[0]}")
    stage.screen.head("Running until Ctrl-C. In another shell:")
    show_commands(stage, "" if default else f" --target {target} --admin-target {admin_target}")
    while stage.server.alive:
        time.sleep(0.2)
    what = "the server ended"
    raise stage.server.failure(what)


def show_commands(stage: Stage, where: str) -> None:
    """Three commands to try on the running server."""
    for command in (
        "rank 196 --exclude-seen",
        "events send 196 rate 50 --value 5 --wait",
        "profile show 196",
    ):
        stage.screen.say(f"{_cli()}{where} {command}", style="bold")


def serve(options: Options, screen: Screen) -> NoReturn:
    """Fills the data folder where it is not filled yet, and keeps the server running.

    All ratings are moved so that the newest is of the first start: an event of today would make
    everything of 1998 unpopular.
    """
    with raised(options, screen) as stage:
        data_dir = options.data_dir or _SERVE_DIR
        filled = data_dir / _FILLED
        if not filled.exists():
            screen.say("the ratings are moved in time: the newest is of now")
            fill(stage, ending_at(stage.data.log, _first_start_s(data_dir)))
            filled.touch()
        keep_running(stage)


def show_all(options: Options, screen: Screen, json_file: TextIO | None, keep: bool) -> None:
    """The whole demo, and its figures as JSON."""
    with raised(options, screen) as stage:
        figures = perform(stage)
        screen.head("Done. Next: make serve keeps a server with these films running; beside it")
        show_commands(stage, "")
        if json_file:
            json_file.write(json.dumps(figures) + "\n")
            json_file.flush()
        if keep:
            keep_running(stage)


@click.command()
@click.option(
    "--data",
    "cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_CACHE,
    show_default=True,
    help="Cache folder of what is fetched.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the state. Default: one that is deleted in the end.",
)
@click.option(
    "--json", "json_file", type=click.File("w"), help="Write the figures here; - : print them last."
)
@click.option("--keep", is_flag=True, help="Keep the server running after the demo, until Ctrl-C.")
@click.option(
    "--serve", "serves", is_flag=True, help="No demo: a filled server on the default ports."
)
def main(
    cache: Path, data_dir: Path | None, json_file: TextIO | None, keep: bool, serves: bool
) -> None:
    """Show on MovieLens 100k what rankstream does; see the module."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Titles and arrows must not end the demo where the terminal lacks them.
        sys.stdout.reconfigure(errors="replace")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    screen = Screen()
    try:
        if serves:
            serve(Options(cache, data_dir or _SERVE_DIR, _DEFAULT_PORTS), screen)
        show_all(Options(cache, data_dir, None), screen, json_file, keep)
    except (DatasetError, DemoError, RankstreamError, OSError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        sys.exit(0 if serves or keep else 130)


def _temporary(stack: ExitStack, cache: Path) -> Path:
    """A data folder for this run; compiled models are kept in the cache, for the next one."""
    data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rankstream-demo-")))
    models = (cache / "models").resolve()
    models.mkdir(parents=True, exist_ok=True)
    (data_dir / "cache").symlink_to(models)
    return data_dir


def _first_start_s(data_dir: Path) -> int:
    """When this folder was first to be filled: the same again after a filling that was cut off."""
    marker = data_dir / _BEGUN
    if not marker.exists():
        marker.write_text(str(int(time.time())))
    return int(marker.read_text())


def _cli() -> str:
    """How to call the command line from here."""
    found = Path(sys.executable).with_name("rankstream")
    try:
        return str(found.relative_to(Path.cwd()))
    except ValueError:
        return str(found)


if __name__ == "__main__":
    main()
