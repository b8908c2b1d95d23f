"""Filters over a million items: the mask of three conditions, cold and cached.

    python bench/filter.py [--prepare] [--quick] [--cache DIR] [--out FILE]

A catalogue of 1,000,000 items with category, brand, two tags, price and three attributes each. A
filter comes as the bytes of a RankRequest; it is read, checked, resolved and answered with the
bitmask that top-k takes, in this process, on at most two threads. In the cold cases each run asks
for a range of prices that no run asked for before, so that no mask is remembered.

- ``filter.cold.p50_ms``: category equals, brand is one of three, price in a range; the columns are
  at hand.
- ``filter.cached.p50_ms``: the same filter again and again.
- ``filter.sets.p50_ms``: cold; a tag equals, a flag is set that one item of five has, price in a
  range: columns of more and of less than one value an item.
- ``filter.first_ever_ms``: the first filter of a process, which learns what columns there are and
  reads three.
- ``filter.cold.vs_numpy``: the cold case against its condition as a NumPy expression over the same
  words, one an item, and ``packbits``: no message, nothing that may be missing, nothing to look up.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from arguments import read_arguments
from environment import environment
from numpy.typing import NDArray
from prefill import digest_of_writers
from report import REPEATS, Report
from sizes import SEED, item_id

from rankstream import kernels
from rankstream.proto.v1 import common_pb2, ranking_pb2
from rankstream.server.catalog.blocks import Block, Layout
from rankstream.server.catalog.masks import Masks
from rankstream.server.catalog.segments import SegmentWriter
from rankstream.server.catalog.view import Catalogue
from rankstream.server.config import Limits
from rankstream.server.facts import column_key, item_facts, number_word, words_of
from rankstream.server.filter_wire import filter_from_pb
from rankstream.server.store import Store
from rankstream.server.types import Head, item_keys

_ITEMS = 1_000_000
_ITEMS_AN_APPEND = 50_000
_THREADS = 2
_LIMITS = Limits()
# Rows are not read here: as short as they may be.
_LAYOUT = Layout((Block("text", 0, 16, 1.0),))
_MAP_GIB = 1
_CATEGORY, _BRANDS = "category-3", ("brand-5", "brand-55", "brand-555")
_LOW, _HIGH = 20.0, 80.0


@dataclass(frozen=True, slots=True)
class Words:
    """What the peer computes on: ``uint64 [N]`` each."""

    category: NDArray[np.uint64]
    brand: NDArray[np.uint64]
    price: NDArray[np.uint64]


def _prepare(cache: Path) -> Path:
    """Makes the catalogue unless it is there; returns its folder."""
    place = cache / f"filter-{_ITEMS}-items"
    mark, wanted = place / "prefilled.json", {"written_by": digest_of_writers(), "seed": SEED}
    if mark.exists() and json.loads(mark.read_text()) == wanted:
        return place
    shutil.rmtree(place, ignore_errors=True)
    started = time.monotonic()
    writer = SegmentWriter(place, 1, _LAYOUT.stride, _ITEMS, 16)
    facts = _facts()
    for first in range(0, _ITEMS, _ITEMS_AN_APPEND):
        ids = [item_id(n) for n in range(first, first + _ITEMS_AN_APPEND)]
        rows = np.zeros((len(ids), _LAYOUT.stride), np.float32)
        some = list(itertools.islice(facts, len(ids)))
        writer.append(first, rows, item_keys(ids), ids, some)
    writer.close()
    store = Store(place / "store", map_size_gib=_MAP_GIB, write=True)
    with store.write() as txn:
        txn.set_head(Head(1, _ITEMS, 1, _ITEMS))
    store.close()
    mark.write_text(json.dumps(wanted))
    print(f"prefilled {place} in {time.monotonic() - started:.0f} s", flush=True)
    return place


def _facts() -> Iterator[NDArray[np.uint64]]:
    """The facts of every item, in order."""
    rng = np.random.default_rng(SEED)
    for _ in range(0, _ITEMS, _ITEMS_AN_APPEND):
        numbers = rng.integers(0, 1000, (_ITEMS_AN_APPEND, 4)).tolist()
        prices = rng.uniform(0, 200, _ITEMS_AN_APPEND).tolist()
        for (category, brand, tag, year), price in zip(numbers, prices, strict=True):
            yield item_facts(
                f"category-{category % 20}",
                f"brand-{brand}",
                (f"tag-{tag % 50}", f"shelf-{tag}"),
                price,
                {"year": 1025.0 + year, "colour": f"colour-{tag % 12}"}
                | ({"new": True} if tag % 5 == 0 else {"old": True}),
            )


def _open(place: Path) -> Catalogue:
    store = Store(place / "store", map_size_gib=_MAP_GIB, write=False)
    catalogue = Catalogue(place, _LAYOUT)
    with store.read() as view:
        catalogue.sync(view, 0)
    store.close()
    return catalogue


def _words(catalogue: Catalogue) -> Words:
    facts = catalogue.fact_ends, catalogue.facts
    keys = [column_key(name, "text") for name in ("category", "brand")]
    keys.append(column_key("price", "number"))
    return Words(*(kernels.read_column(*facts, 0, _ITEMS, key)[1] for key in keys))


def _text(text: str) -> common_pb2.AttributeValue:
    return common_pb2.AttributeValue(text=text)


def _request(high: float, *others: ranking_pb2.Condition) -> bytes:
    """Of a range of prices and other conditions."""
    price = ranking_pb2.Condition(column="price", range=ranking_pb2.Range(min=_LOW, max=high))
    filters = [ranking_pb2.Filter(condition=c) for c in (*others, price)]
    asked = ranking_pb2.Filter(all=ranking_pb2.Filters(filters=filters))
    return ranking_pb2.RankRequest(user_id="somebody", filter=asked).SerializeToString()


_PLAIN = (
    ranking_pb2.Condition(column="category", equals=_text(_CATEGORY)),
    ranking_pb2.Condition(
        column="brand", one_of=ranking_pb2.AttributeValues(values=map(_text, _BRANDS))
    ),
)
_SETS = (
    ranking_pb2.Condition(column="tags", equals=_text("tag-7")),
    ranking_pb2.Condition(column="new", equals=common_pb2.AttributeValue(flag=True)),
)


class Filters:
    """The cases, over one catalogue; a call is one run."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._masks = Masks(catalogue, _LIMITS)
        self._words = _words(catalogue)
        self._steps = itertools.count(1)
        self._known = _request(_HIGH, *_PLAIN)

    def new_high(self) -> float:
        """An end of the range that was not asked for before."""
        return _HIGH + next(self._steps) * 1e-7

    def ours(self, request: bytes) -> NDArray[np.uint8]:
        """From a request's bytes to the mask."""
        asked = ranking_pb2.RankRequest.FromString(request).filter
        return self._masks.mask(filter_from_pb(asked, _LIMITS, "filter").resolve({}))

    def numpy(self, high: float) -> NDArray[np.uint8]:
        """The peer."""
        words = self._words
        (category,), brands = words_of(_CATEGORY)[1], words_of(_BRANDS)[1]
        low_word, high_word = number_word(_LOW), number_word(high)
        passes = (
            (words.category == category)
            & ((words.brand == brands[0]) | (words.brand == brands[1]) | (words.brand == brands[2]))
            & (words.price >= low_word)
            & (words.price <= high_word)
        )
        return np.packbits(passes, bitorder="little")

    def p50_ms(self, runs: int) -> dict[str, float]:
        """The median of each case."""
        cases: dict[str, Callable[[], Callable[[], object]]] = {
            "cold": lambda: _bound(self.ours, _request(self.new_high(), *_PLAIN)),
            "cached": lambda: _bound(self.ours, self._known),
            "sets": lambda: _bound(self.ours, _request(self.new_high(), *_SETS)),
            "numpy": lambda: _bound(self.numpy, self.new_high()),
        }
        return {name: _median_ms(make, runs) for name, make in cases.items()}

    def first_ever_ms(self) -> float:
        """A process's first filter."""
        self._masks = Masks(self._catalogue, _LIMITS)
        started = time.perf_counter()
        self.ours(self._known)
        return 1e3 * (time.perf_counter() - started)

    def check(self) -> int:
        """Both answer the same; returns how many items pass."""
        ours, theirs = self.ours(self._known), self.numpy(_HIGH)
        if not np.array_equal(ours, theirs):
            msg = "the mask differs from NumPy's"
            raise AssertionError(msg)
        return int(np.unpackbits(ours).sum())


def _median_ms(make: Callable[[], Callable[[], object]], runs: int) -> float:
    times = []
    for _ in range(runs + 1):
        run = make()
        started = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - started))
    # The first run of the cached case makes the mask.
    return float(np.median(times[1:]))


def _bound(function: Callable[..., object], argument: object) -> Callable[[], object]:
    return lambda: function(argument)


def _measure(filters: Filters, report: Report, runs: int) -> None:
    found: dict[str, list[float]] = {}
    for repeat in range(1, REPEATS + 1):
        figures = {"first_ever": filters.first_ever_ms(), **filters.p50_ms(runs)}
        report.add_result("filter", repeat, {f"{k}_ms": v for k, v in figures.items()})
        for name, figure in figures.items():
            found.setdefault(name, []).append(figure)
    for name in ("cold", "cached", "sets"):
        report.add_plain(f"filter.{name}.p50_ms", found[name])
    report.add_plain("filter.first_ever_ms", found["first_ever"])
    # Time, so the smaller is the better: theirs over ours.
    report.add_ratio("filter.cold.vs_numpy", found["numpy"], found["cold"])


def main() -> int:
    """Runs it; the exit status is 1 where a key failed."""
    arguments = read_arguments(__doc__ or "")
    place = _prepare(arguments.cache)
    if arguments.prepare:
        return 0
    kernels.configure_threads(min(_THREADS, len(os.sched_getaffinity(0))))
    kernels.warm_up(_LAYOUT.stride)
    filters, runs = Filters(_open(place)), 40 if arguments.quick else 200
    workload = {"items": _ITEMS, "conditions": 3, "runs": runs, "threads": kernels.thread_count()}
    workload["passing"] = filters.check()
    report = Report(environment(arguments.cache, SEED, []), workload)
    _measure(filters, report, runs)
    return 0 if report.print_and_write(arguments.out) else 1


if __name__ == "__main__":
    sys.exit(main())
