"""The state that every run starts from: a full catalogue and full profiles, made once.

It is written through the server's own classes, with two things replaced: texts are not encoded
(random unit vectors stand for them), and no log is read. The state holds no positions, so a server
that opens it begins at offset 0 of an empty log, and the two agree.

Each user has 255 settled interactions and 0 to 29 recent ones, as after a long life: users who all
became full at the same event would be settled in one burst.
"""

from __future__ import annotations

import ast
import hashlib
import json
import mmap
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sizes import HISTORY, ITEMS, SEED, USERS, item_id, user_id

from rankstream import server as server_package
from rankstream.proto.v1 import catalog_pb2
from rankstream.server.announce import Announcements
from rankstream.server.catalog.blocks import Layout, make_layout
from rankstream.server.catalog.popularity import add_counts
from rankstream.server.config import Settings, State
from rankstream.server.derived import encoder_settings, fold_settings
from rankstream.server.encoder.load import load_encoder
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.paths import Paths
from rankstream.server.profiles.counters import sum_counts
from rankstream.server.profiles.fold import fold_batch
from rankstream.server.profiles.interaction import EVENT
from rankstream.server.profiles.settings import FoldSettings, fold_version
from rankstream.server.profiles.stored import StoredProfiles, write_changes
from rankstream.server.store import Store
from rankstream.server.stream.indexer import ItemIndexer, ItemRecordIn
from rankstream.server.stream.item_codec import decode_item
from rankstream.server.types import Position, item_key
from rankstream.server.writable import open_rows, open_state, served_generation

_WRITERS = (
    "facts.py",
    "generations.py",
    "store.py",
    "catalog/blocks.py",
    "catalog/popularity.py",
    "catalog/segments.py",
    "profiles/layout.py",
    "profiles/settling.py",
    "profiles/stored.py",
)
_ITEMS_A_COMMIT = 1_000
_USERS_A_COMMIT = 2_000
_DAY_MS = 86_400_000
_DAYS = 60
_ADJECTIVES = ("red", "small", "wireless", "wooden", "classic", "steel", "soft", "outdoor")
_NOUNS = ("lamp", "chair", "kettle", "jacket", "speaker", "notebook", "tent", "clock")
_BRANDS = tuple(f"brand-{n}" for n in range(50))


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much a state holds."""

    items: int = ITEMS
    users: int = USERS


def prepare(cache: Path, sizes: Sizes = Sizes()) -> Path:  # noqa: B008 - a frozen value
    """Makes the state unless it is there; returns its data folder, which nobody may change."""
    place = cache / f"state-{sizes.items}-items-{sizes.users}-users"
    mark = place / "prefilled.json"
    wanted = {"written_by": digest_of_writers(), "seed": SEED}
    if mark.exists() and json.loads(mark.read_text()) == wanted:
        return place
    shutil.rmtree(place, ignore_errors=True)
    started = time.monotonic()
    _fill(place, sizes)
    mark.write_text(json.dumps(wanted))
    print(f"prefilled {place} in {time.monotonic() - started:.0f} s", flush=True)
    return place


def copy(state: Path, target: Path) -> Path:
    """A copy that a server may change, without the holes of its sparse files; on disk when done.

    The LMDB file is written a page at a time, which is how a server's own reads bring it into the
    page cache. A plain ``cp`` leaves it there in folios of up to 2 MiB, and then each page that
    LMDB writes costs the kernel a walk over all the blocks of its folio.
    """
    command = ["cp", "-r", "--sparse=always", "--reflink=auto", f"{state}", f"{target}"]
    subprocess.run(command, check=True)
    data = Paths(target).store / "data.mdb"
    data.unlink()
    with (Paths(state).store / "data.mdb").open("rb") as old, data.open("wb", buffering=0) as new:
        for page in iter(lambda: old.read(mmap.PAGESIZE), b""):
            new.write(page)
    os.sync()
    return target


def digest_of_writers() -> str:
    """Changes with the code that lays state out, so that no run starts from an older layout."""
    server = Path(server_package.__file__).parent
    digest = hashlib.blake2b(fold_version(fold_settings(Settings())).encode(), digest_size=16)
    for name in _WRITERS:
        # Parsed, so that a comment does not count.
        digest.update(ast.dump(ast.parse((server / name).read_bytes())).encode())
    return digest.hexdigest()


def _fill(place: Path, sizes: Sizes) -> None:
    settings = Settings(state=State(data_dir=str(place)))
    paths = Paths(place)
    encoder = load_encoder(encoder_settings(settings, paths))
    encoder.warm_up()
    layout = make_layout(encoder.dimension, settings.scoring)
    page = Announcements(paths.page, write=True)
    state = open_state(settings, paths, page)
    generation = served_generation(state.store, settings.encoding)
    rows = open_rows(settings, paths, state, generation, layout, encoder.fingerprint)
    rng = np.random.default_rng(SEED)
    template = ItemTemplate.parse(encoder_settings(settings, paths).template)
    indexer = ItemIndexer(rows.store, rows.segments, layout, _RandomText(rng, layout).encode)
    for first in range(0, sizes.items, _ITEMS_A_COMMIT):
        numbers = range(first, min(first + _ITEMS_A_COMMIT, sizes.items))
        _add_items(state.store, indexer, [_item(n) for n in numbers], settings, layout, template)
    if sizes.items:
        _add_profiles(state.store, state.fold, sizes, rng)
    with state.store.write() as txn:
        txn.replace_positions([])
    state.store.close()
    encoder.close()


@dataclass(frozen=True, slots=True)
class _RandomText:
    """Stands for the encoder: unit vectors ``float32 [n, D]`` that no text made."""

    rng: np.random.Generator
    layout: Layout

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        shape = (len(texts), self.layout.blocks[0].dimensions)
        vectors = self.rng.standard_normal(shape, np.float32)
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def _item(number: int) -> catalog_pb2.Item:
    adjective, noun = _ADJECTIVES[number % 8], _NOUNS[number // 8 % 8]
    return catalog_pb2.Item(
        item_id=item_id(number),
        title=f"{adjective} {noun} number {number}",
        category=noun,
        brand=_BRANDS[number % len(_BRANDS)],
        tags=[adjective, f"shelf-{number % 100}"],
        price=5.0 + number % 200,
    )


def _add_items(
    store: Store,
    indexer: ItemIndexer,
    items: Sequence[catalog_pb2.Item],
    settings: Settings,
    layout: Layout,
    template: ItemTemplate,
) -> None:
    records = []
    for item in items:
        payload = item.SerializeToString()
        decoded = decode_item(None, payload, settings.limits, layout.vectors, template)
        records.append(ItemRecordIn(decoded.key, decoded, payload, int(time.time() * 1000)))
    commit = indexer.index(records, Position("items", bytes(16), 0, 0))
    with store.write() as txn:
        commit.apply(txn)


def _add_profiles(store: Store, fold: FoldSettings, sizes: Sizes, rng: np.random.Generator) -> None:
    keys = np.array([item_key(item_id(n)) for n in range(sizes.items)], np.uint64)
    now = int(time.time() * 1000)
    counted = []
    for first in range(0, sizes.users, _USERS_A_COMMIT):
        users = [
            user_id(n).encode() for n in range(first, min(first + _USERS_A_COMMIT, sizes.users))
        ]
        older = np.full(len(users), HISTORY)
        newer = rng.integers(0, fold.recent_cap, len(users))
        for lengths, begin, end in ((older, _DAYS, 1), (newer, 1, 0)):
            span = (now - begin * _DAY_MS, now - end * _DAY_MS - 60_000)
            owners, events = _events(rng, fold, keys, lengths, span)
            counted.append(_fold(store, fold, users, owners, events))
    rows = sum_counts(np.concatenate(counted))
    with store.write() as txn:
        add_counts(txn, rows.target_keys, rows.buckets, rows.deltas)


def _events(
    rng: np.random.Generator,
    fold: FoldSettings,
    keys: NDArray[np.uint64],
    lengths: NDArray[np.int64],
    span: tuple[int, int],
) -> tuple[NDArray[np.int32], NDArray[np.void]]:
    """Clicks of users ``0..``, as many each as ``lengths`` says, in order of time."""
    owners = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    events = np.zeros(len(owners), EVENT)
    times = np.sort(rng.integers(*span, len(owners)))
    events["event_time_ms"] = events["broker_ms"] = times
    events["event_key"] = rng.integers(1, 2**63, len(owners), np.uint64)
    events["target_key"] = rng.choice(keys, len(owners))
    events["weight"] = 1.0
    events["type"] = fold.type_ids["click"]
    return rng.permutation(owners), events


def _fold(
    store: Store,
    fold: FoldSettings,
    users: list[bytes],
    owners: NDArray[np.int32],
    events: NDArray[np.void],
) -> NDArray[np.int64]:
    """Folds them in; returns the counts as rows (target key, bucket, delta)."""
    present, numbered = np.unique(owners, return_inverse=True)
    names = [users[i] for i in present]
    with store.write() as txn:
        reader = StoredProfiles(txn, names)
        changes = fold_batch(fold, reader, numbered.astype(np.int32), len(names), events)
        write_changes(txn, names, changes)
    counts = changes.counts
    return np.column_stack([counts.target_keys.view(np.int64), counts.buckets, counts.deltas])
