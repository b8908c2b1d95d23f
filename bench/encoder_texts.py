"""What ``encoder.py`` has encoded: texts of three mixes of lengths, the same for every contender.

Lengths are in tokens of the model with its two special ones. Where texts are made up, each word is
one token of BERT's vocabulary, so a text has exactly the length that was drawn for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray
from sizes import SEED

TITLES, REVIEWS, MIXED = "titles", "reviews", "mixed"
MIXES = (TITLES, REVIEWS, MIXED)
MAX_TOKENS = 256
"""Of a text that are read: what all-MiniLM-L6-v2's folder says."""

_COUNTS = {TITLES: 1024, REVIEWS: 192, MIXED: 512}
_SPECIAL = 2
# Percentiles of the lengths of 19,204 titles of toys, games and household goods.
_TITLE_PLACES = (0, 5, 10, 25, 50, 75, 90, 95, 99, 100)
_TITLE_LENGTHS = (3, 4, 5, 7, 9, 13, 17, 20, 30, 125)
_SHORTEST, _LONGEST, _MEAN = 3, 121, 36
_REVIEW_RANGE = (60, 250)

_SOME_TEXT = """
the a of and in to with for on from this that it is was my our your very really quite new old
small large red blue green black white light heavy soft hard simple great good fine strange happy
quiet dark bright wooden metal paper plastic electric toy game puzzle train car doll book story
adventure city castle dragon robot space island river mountain forest garden kitchen table chair
lamp box bag card board piece set pack edition collection series part one two three four six ten
hundred friends family children kids son daughter wife husband birthday gift price quality color
size battery power sound music play played plays build built break broke bought loved liked
returned arrived works worked fits looks feels lasts made makes easy difficult fun boring worth
money time day week month year night morning summer winter christmas but so because when after
before again never always often only still too more less than best worst much little
"""
_WORDS = _SOME_TEXT.split()


@dataclass(frozen=True, slots=True)
class Workload:
    """One mix.

    Attributes:
        name: of ``MIXES``.
        texts: in the order in which they are given to everybody.
        lengths: tokens that are read of each.
    """

    name: str
    texts: tuple[str, ...]
    lengths: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """That are read, without padding."""
        return sum(self.lengths)

    def first(self, count: int) -> Workload:
        """Its first texts alone."""
        return Workload(self.name, self.texts[:count], self.lengths[:count])

    def write(self, folder: Path) -> Path:
        """As a JSON list, for the contenders."""
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(self.texts))
        return path

    def summary(self) -> dict[str, float]:
        """For the report."""
        lengths = np.array(self.lengths)
        return {
            "texts": len(lengths),
            "tokens": int(lengths.sum()),
            "shortest": int(lengths.min()),
            "mean": round(float(lengths.mean()), 1),
            "longest": int(lengths.max()),
        }


def workloads(tokenizer: Path, titles: Sequence[str]) -> dict[str, Workload]:
    """All mixes.

    Args:
        tokenizer: the model's ``tokenizer.json``.
        titles: real ones, of which some are drawn; none: titles are made up.
    """
    made = {
        TITLES: _drawn(titles) if titles else made_up(title_lengths(_COUNTS[TITLES])),
        REVIEWS: made_up(review_lengths(_COUNTS[REVIEWS])),
        MIXED: made_up(mixed_lengths(_COUNTS[MIXED])),
    }
    count = TokenCounter(tokenizer)
    return {name: Workload(name, tuple(some), count(some)) for name, some in made.items()}


_CALIBRATING_TITLES = 6000
_CALIBRATING_MIXED = 1000


def calibration_texts(titles: Sequence[str]) -> tuple[str, ...]:
    """What int8 is calibrated with: some of the catalogue's titles, and other mixed texts.

    Args:
        titles: real ones, of which some are drawn; none: all are made up.
    """
    rng = np.random.default_rng(SEED + 4)
    drawn = [titles[place] for place in rng.permutation(len(titles))[:_CALIBRATING_TITLES]]
    some = [*drawn, *made_up(mixed_lengths(_CALIBRATING_MIXED, SEED + 5), SEED + 6)]
    return tuple(some[place] for place in rng.permutation(len(some)))


class TokenCounter:
    """Counts the tokens that are read of texts."""

    def __init__(self, tokenizer: Path) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def __call__(self, texts: Sequence[str]) -> tuple[int, ...]:
        """One number a text."""
        return tuple(len(found.ids) for found in self._tokenizer.encode_batch(list(texts)))


def title_lengths(count: int) -> NDArray[np.int64]:
    """As those of real titles are distributed."""
    places = np.random.default_rng(SEED).uniform(0, 100, count)
    return np.rint(np.interp(places, _TITLE_PLACES, _TITLE_LENGTHS)).astype(np.int64)


def review_lengths(count: int) -> NDArray[np.int64]:
    """Any between 60 and 250."""
    low, high = _REVIEW_RANGE
    return np.random.default_rng(SEED + 1).integers(low, high + 1, count)


def mixed_lengths(count: int, seed: int = SEED + 2) -> NDArray[np.int64]:
    """From 3 to 121 with a mean of 36: many short ones, and a few long."""
    skew = (_LONGEST - _MEAN) / (_MEAN - _SHORTEST)
    tail = np.random.default_rng(seed).beta(0.9, 0.9 * skew, count)
    lengths = np.rint(_SHORTEST + (_LONGEST - _SHORTEST) * tail).astype(np.int64)
    lengths[:2] = _SHORTEST, _LONGEST
    return lengths


def made_up(lengths: NDArray[np.int64], seed: int = SEED + 3) -> list[str]:
    """A text of common words for each length."""
    rng = np.random.default_rng(seed)
    return [
        " ".join(_WORDS[word] for word in rng.integers(0, len(_WORDS), length - _SPECIAL))
        for length in lengths.tolist()
    ]


def _drawn(titles: Sequence[str]) -> list[str]:
    rng = np.random.default_rng(SEED)
    chosen = rng.choice(len(titles), min(_COUNTS[TITLES], len(titles)), replace=False)
    return [titles[place] for place in chosen.tolist()]
