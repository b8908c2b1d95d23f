"""What ``top_k.py`` searches with ``--titles``; a module of its own, as peers need no encoder."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
from rich.progress import track
from sizes import SEED
from top_k_data import Data, given_data

from rankstream.server.config import Settings
from rankstream.server.derived import encoder_settings
from rankstream.server.encoder.load import load_encoder
from rankstream.server.paths import Paths
from rankstream.training.datasets import DatasetError
from rankstream.training.titled_log import read_titled_log

_TEXTS_AT_ONCE = 2_000


def title_data(folder: Path, cache: Path, items: int) -> Data:
    """The titles of all data sets of a folder, encoded as the server does, and such queries.

    Where there are fewer than so many, two at random are one text: what a bundle would be called.

    Raises:
        ValueError: the folder does not hold what ``training/titled_log.py`` reads.
    """
    names = sorted(one for one in folder.iterdir() if one.is_dir())
    try:
        titles = list(dict.fromkeys(text for one in names for text in read_titled_log(one).titles))
    except DatasetError as error:
        raise ValueError(str(error)) from error
    if not titles:
        msg = f"{folder} has no folders with data sets"
        raise ValueError(msg)
    pairs = np.random.default_rng(SEED).integers(0, len(titles), (max(0, items - len(titles)), 2))
    texts = [*titles, *(f"{titles[a]}, {titles[b]}" for a, b in pairs.tolist())][:items]
    encoder = load_encoder(encoder_settings(Settings(), Paths(cache)))
    told = "\0".join([encoder.fingerprint, *texts]).encode()
    place = cache / f"top-k-titles-{hashlib.blake2b(told, digest_size=8).hexdigest()}"
    made = Data(place / "items.npy", place / "queries.npy")
    if place.exists():
        return made
    vectors = np.empty((len(texts), encoder.dimension), np.float32)
    for first in track(range(0, len(texts), _TEXTS_AT_ONCE), "encoding titles"):
        some = texts[first : first + _TEXTS_AT_ONCE]
        vectors[first : first + len(some)] = encoder.encode(some)
    encoder.close()
    partial = place.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    np.save(partial / "items.npy", vectors)
    given_data(partial / "items.npy", partial)
    os.rename(partial, place)
    return made
