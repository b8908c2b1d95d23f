"""Data sets of which no more is known than titles and who acted on what, when.

A folder holds two gzip files of tab-separated values, each with a header: ``items.tsv.gz`` with
``item_id title``, and ``interactions.tsv.gz`` with ``user_id item_id ts`` (seconds since the epoch,
never falling; further columns are not read).
"""

from __future__ import annotations

import csv
import gzip
import html
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rankstream.training.datasets import DatasetError, Interactions, MovieLens

ITEMS, INTERACTIONS = "items.tsv.gz", "interactions.tsv.gz"


@dataclass(frozen=True, slots=True, eq=False)
class TitledLog:
    """A log and the words of its items.

    Attributes:
        name: of the data set.
        event_type: of the interactions, as the server calls it.
        least_value: what the value of an interaction is at least that somebody liked.
        n_users: users are numbered from 0.
        item_ids: by number.
        titles: by number.
        tags: by number.
        log: the interactions.
    """

    name: str
    event_type: str
    least_value: float
    n_users: int
    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]
    log: Interactions

    @property
    def n_items(self) -> int:
        """Items are numbered from 0."""
        return len(self.item_ids)

    @property
    def title_numbers(self) -> NDArray[np.int32]:
        """``int32 [N]``, equal where two titles differ in nothing but case."""
        titles = np.array([title.casefold() for title in self.titles])
        return np.unique(titles, return_inverse=True)[1].astype(np.int32)


def read_titled_log(folder: Path) -> TitledLog:
    """Reads the two files of a folder; every interaction has the value 1.

    Raises:
        DatasetError: a file is missing, or is not as the module says.
    """
    items = _rows(folder / ITEMS, 2)
    rows = _rows(folder / INTERACTIONS, 3)
    numbers = {row[0]: number for number, row in enumerate(items)}
    users: dict[str, int] = {}
    try:
        log = Interactions(
            np.array([users.setdefault(row[0], len(users)) for row in rows], np.int32),
            np.array([numbers[row[1]] for row in rows], np.int32),
            np.ones(len(rows), np.float32),
            np.array([row[2] for row in rows], np.int64),
        )
    except (KeyError, ValueError) as error:
        message = f"{folder / INTERACTIONS}: expected known items and whole seconds, got {error}"
        raise DatasetError(message) from error
    if (np.diff(log.times_s) < 0).any():
        message = f"{folder / INTERACTIONS} is not in the order of time"
        raise DatasetError(message)
    return TitledLog(
        name=folder.name,
        event_type="purchase",
        least_value=1.0,
        n_users=len(users),
        item_ids=tuple(numbers),
        titles=tuple(html.unescape(row[1]) for row in items),
        tags=((),) * len(items),
        log=log,
    )


def titled_movielens(data: MovieLens) -> TitledLog:
    """MovieLens 100k with genres as tags; liked is what has four stars or five."""
    return TitledLog(
        name="ml-100k",
        event_type="rate",
        least_value=4.0,
        n_users=len(data.user_ids),
        item_ids=tuple(film.item_id for film in data.films),
        titles=tuple(film.title for film in data.films),
        tags=tuple(film.genres for film in data.films),
        log=data.log,
    )


def _rows(path: Path, columns: int) -> list[list[str]]:
    """The rows of one file, without the header."""
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        message = f"{path} cannot be read: {error}"
        raise DatasetError(message) from error
    if short := next((row for row in rows if len(row) < columns), None):
        message = f"{path} has the row {short}; expected {columns} columns"
        raise DatasetError(message)
    return rows
