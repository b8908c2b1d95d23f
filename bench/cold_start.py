"""Cold start: what new users who said one sentence get, and whether new items are found.

    python bench/cold_start.py --data DIR [--prepare] [--quick] [--cache DIR] [--out FILE]

A real server with its defaults folds a data set up to a moment, is asked, folds on to the next
moment, and is asked again: the last half of the interactions is cut into five windows of equal
length. Each item's title (of films, its genres too) is in the catalogue from the start, so that new
items stand among those of later windows, too: more than a shop would have. No interaction of a
window, or after it, is known when it is asked for. Four things are asked of each window:

- **New users with only text.** Users whose whole history lies after the cut and who begin in the
  window. The data have no words of theirs, so a sentence is simulated: the words of the first item
  that they act on (its title; of a film, its genres alone), written with UpsertUser as an interest,
  or sent as a search in a session. The target is the first item that they act on (films: rate with
  four or five stars) at a later moment. Every item is ranked but those of the first moment and
  their namesakes, which no system may answer and which are no targets. So the sentence says what
  the user likes first, and nothing of what comes later.
- **New items.** Users with a history who act on an item in the window that nobody had acted on
  before it; the target is the first such item. Every item is ranked but those the user has acted
  on. Popularity cannot show such an item.
- **New items among themselves.** The same users and targets, the new items alone being ranked.
- **Known users**, as a check: users with a history, and the first item of the window that is new to
  them, whatever it is. What helps new items must not be paid for by these.

Beside it: popularity, popularity that decays as the server's own does (its half-life), both on what
is known at the cut, and a random order. *Similarity alone* is the server with block weights beside
which popularity is nothing. At most 400 users a window are asked for (drawn, seeded). Intervals are
95%: Wilson's of a hit rate, bootstrap over users of NDCG and of paired differences.

``--data`` names a folder with one folder a data set, as ``training/titled_log.py`` reads it;
without one, there is MovieLens 100k alone, which is fetched into the cache, as for the demo.
``--quick`` takes the first data set alone, and leaves out the other weights, which are there to
choose defaults with and never part of the table. The default of ``interests_trust`` was chosen so,
on these data sets.

The ratios compare means over all users (a ranking is the same in each run, so none is repeated):
``cold_start.<data>.new_users.ndcg_vs_decayed``, ``..._vs_popularity``,
``cold_start.<data>.new_items.hit50_vs_random``, and, also over popularity, which knows nothing of
them, ``cold_start.<data>.new_items_among.ndcg_vs_random``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from arguments import Arguments, read_arguments
from cold_figures import add_ratios, figures, show
from cold_server import ColdServer
from cold_trials import Samples, Settings, ask_among, ask_known, ask_newcomers
from demo_screen import Screen
from demo_server import DemoError, DemoServer, free_ports
from environment import environment
from report import Report

from rankstream.client.client import Client
from rankstream.client.errors import RankstreamError
from rankstream.training.cold_start import debutants, windows
from rankstream.training.datasets import DatasetError, load_movielens
from rankstream.training.titled_log import (
    INTERACTIONS,
    ITEMS,
    TitledLog,
    read_titled_log,
    titled_movielens,
)

FIRST, WINDOWS = 0.5, 5
MOST = 400
SEED = 7
QUESTIONS = ("new users", "new items", "new items among themselves", "known users")
_START_S = 180.0


def evaluate(
    server: ColdServer, data: TitledLog, settings: Settings, screen: Screen
) -> dict[str, Samples]:
    """Asks all questions of one data set, window by window."""
    asked = {question: Samples() for question in QUESTIONS}
    users, items, among, known = asked.values()
    everything = np.ones(data.n_items, np.bool_)
    server.import_items()
    for number, window in enumerate(windows(data.log, FIRST, WINDOWS), start=1):
        screen.say(f"window {number}: {len(window.known):,} interactions known")
        server.learn(window.known)
        ask_newcomers(server, data, window, settings, users)
        new = debutants(window, data.n_items)
        trials = ask_known(server, data, window, new, settings, items)
        ask_among(server, data, new, trials, settings, among)
        ask_known(server, data, window, everything, settings, known)
    return asked


@contextmanager
def raised(cache: Path) -> Iterator[Client]:
    """A server with an empty state, and a client of it. Compiled models stay in the cache."""
    models = cache / "models"
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rankstream-cold-") as temporary:
        data_dir = Path(temporary)
        (data_dir / "cache").symlink_to(models)
        with DemoServer(data_dir, *free_ports(2)) as server:
            addresses = server.wait_serving(_START_S)
            with Client(addresses.target, admin_target=addresses.admin_target) as client:
                client.wait_ready()
                yield client


def data_sets(folder: Path | None, cache: Path) -> Iterator[TitledLog]:
    """Each data set, those of the folder first, the smallest before the others.

    Raises:
        DatasetError: one cannot be read or fetched.
    """
    items = folder.glob(f"*/{ITEMS}") if folder else ()
    for path in sorted(items, key=lambda path: (path.with_name(INTERACTIONS)).stat().st_size):
        yield read_titled_log(path.parent)
    yield titled_movielens(load_movielens(cache))


def measure(arguments: Arguments, screen: Screen) -> Report:
    """All questions of all data sets."""
    sizes: list[dict[str, str | int]] = []
    workload = {"first": FIRST, "windows": WINDOWS, "users_a_window_at_most": MOST, "sets": sizes}
    report = Report(environment(arguments.cache, SEED, []), workload)
    settings = Settings(MOST, SEED, sweeps=not arguments.quick)
    for data in data_sets(arguments.data, arguments.cache):
        screen.head(f"{data.name}: {data.n_users:,} users, {data.n_items:,} items")
        with raised(arguments.cache) as client:
            asked = evaluate(ColdServer(client, data, screen), data, settings, screen)
        found = {question: figures(samples) for question, samples in asked.items()}
        show(data.name, found, screen)
        sizes.append(size_of(data))
        report.results.append({"case": data.name, "repeat": 1, **found})
        add_ratios(report, data.name, found)
        if arguments.quick:
            break
    return report


def size_of(data: TitledLog) -> dict[str, str | int]:
    """How large a data set is."""
    sizes = {"users": data.n_users, "items": data.n_items, "interactions": len(data.log)}
    return {"name": data.name, **sizes}


def main() -> int:
    """Runs it; the exit status is 1 where a key failed, or there are no data."""
    arguments, screen = read_arguments(__doc__ or "", wants_data=True), Screen()
    try:
        if arguments.prepare:
            load_movielens(arguments.cache)
            with raised(arguments.cache):
                return 0
        if arguments.data is None:
            screen.say("no --data: MovieLens 100k alone")
        report = measure(arguments, screen)
    except (DatasetError, DemoError, RankstreamError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if report.print_and_write(arguments.out) else 1


if __name__ == "__main__":
    sys.exit(main())
