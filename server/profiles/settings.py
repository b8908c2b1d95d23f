"""What decides the fold's result: settings, the types of events, and the version of both."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

import numpy as np

from rankstream.kernels.cells import COUNTED, IN_HISTORY, IN_SEEN
from rankstream.kernels.curves import CONSTANT
from rankstream.kernels.retained import Rules
from rankstream.server.errors import InvalidArgument
from rankstream.server.profiles.curves import DEFAULT_CURVES, Curve, parse_curve

FOLD_REVISION = 2
"""Grows with every change of code that changes what a log folds to."""

TYPES = (
    "impression",
    "view",
    "click",
    "cart",
    "purchase",
    "rate",
    "search",
    "review",
    "like",
    "dislike",
    "play",
)
"""The built-in types; the id of each, from 1 on, is stored in every record. Append only."""

_CUSTOM_BASE = 1024
_CUSTOM_LIKE = "view"
_EXPLICIT = tuple(name for name in TYPES if name != "impression")
_COUNTED = ("click", "cart", "purchase", "rate", "review", "like", "play", "view")
_BOUNDS = {
    "history_cap": (1, 65_535),
    "seen_cap": (1, 40_000),
    "recent_cap": (1, 255),
    "bucket_ms": (1, 2**62),
    "allowed_skew_ms": (0, 2**62),
}


@dataclass(frozen=True)
class FoldSettings:
    """The fold's settings.

    Attributes:
        history_cap: interactions in a history; 255 records fill two overflow pages of LMDB.
        seen_cap: interactions in a seen set.
        recent_cap: recent records before they are settled; changes no result.
        history_types: types that make a history.
        seen_types: types whose target counts as seen.
        counted_types: types that add to an item's popularity; each must be in one of the sets.
        custom_types: further types; each belongs wherever ``view`` does.
        bucket_ms: width of a counter's bucket, ms.
        allowed_skew_ms: how far an event's time may be ahead of the broker's, ms.
        curves: TYPE:CURVE each, in place of the type's default; see ``curves.py``.
    """

    history_cap: int = 255
    seen_cap: int = 4096
    recent_cap: int = 30
    history_types: tuple[str, ...] = _EXPLICIT
    seen_types: tuple[str, ...] = tuple(name for name in TYPES if name != "search")
    counted_types: tuple[str, ...] = _COUNTED
    custom_types: tuple[str, ...] = ()
    bucket_ms: int = 86_400_000
    allowed_skew_ms: int = 300_000
    curves: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks every field, and that no two types share an id.

        Raises:
            InvalidArgument: names the field.
        """
        for field, (low, high) in _BOUNDS.items():
            if not low <= getattr(self, field) <= high:
                problem = f"is {getattr(self, field)}; expected {low} to {high}"
                _refuse(field, problem)
        for field in ("history_types", "seen_types", "counted_types"):
            unknown = sorted(set(getattr(self, field)) - set(self.type_ids))
            if unknown:
                problem = f"{unknown} are no types; add them to custom_types, or use {TYPES}"
                _refuse(field, problem)
        loose = set(self.counted_types) - {*self.history_types, *self.seen_types}
        if loose:
            problem = f"{sorted(loose)} are in neither set, so duplicates could not be recognised"
            _refuse("counted_types", problem)
        _ = self.curve_of  # refuses what does not read

    @cached_property
    def type_ids(self) -> dict[str, int]:
        """The id of every admitted type. A custom type's id is a hash of its name.

        Raises:
            InvalidArgument: a custom name is empty, long, reserved or taken, or two share an id.
        """
        ids = {name: number for number, name in enumerate(TYPES, start=1)}
        for name in sorted(self.custom_types):
            if not 1 <= len(name) <= 64 or name.startswith("$") or name in ids:
                problem = f"{name!r}: expected 1 to 64 characters, no leading $, and no type's name"
                _refuse("custom_types", problem)
            number = _custom_id(name)
            if number in ids.values():
                other = next(n for n, i in ids.items() if i == number)
                problem = f"{name!r} and {other!r} have the same 16-bit id; rename one"
                _refuse("custom_types", problem)
            ids[name] = number
        return ids

    @cached_property
    def type_names(self) -> dict[int, str]:
        """The name of every admitted type, by id."""
        return {number: name for name, number in self.type_ids.items()}

    def type_id(self, name: str) -> int | None:
        """The id of an admitted type; None: an event of this type is refused."""
        return self.type_ids.get(name)

    @cached_property
    def curve_of(self) -> dict[str, Curve]:
        """The curve of every admitted type; a rate must have the value that it reads.

        Raises:
            InvalidArgument: an entry of ``curves`` does not read, or names no type, or one twice.
        """
        given = [parse_curve(entry) for entry in self.curves]
        for name, _ in given:
            if name not in self.type_ids or [n for n, _ in given].count(name) > 1:
                problem = f"{name!r}: expected each of {', '.join(self.type_ids)} at most once"
                _refuse("curves", problem)
        named = {**DEFAULT_CURVES, **dict(given)}
        curves = {name: named.get(name, Curve(CONSTANT)) for name in self.type_ids}
        if curves["rate"].kind != CONSTANT:
            curves["rate"] = dataclasses.replace(curves["rate"], needed=True)
        return curves

    @cached_property
    def rules(self) -> Rules:
        """The settings as the kernels read them."""
        classes = np.zeros(65_536, np.uint8)
        members = (self.history_types, IN_HISTORY), (self.seen_types, IN_SEEN)
        for names, bit in (*members, (self.counted_types, COUNTED)):
            for name, number in self.type_ids.items():
                followed = _CUSTOM_LIKE if name in self.custom_types else name
                if name in names or followed in names:
                    classes[number] |= bit
        limits = np.array(
            [self.history_cap, self.seen_cap, self.recent_cap, self.bucket_ms], np.int64
        )
        classes.flags.writeable = limits.flags.writeable = False
        return Rules(classes, limits)


def fold_version(settings: FoldSettings) -> str:
    """32 hexadecimal digits that differ where the same log would fold to something else.

    ``recent_cap`` takes no part: it says where a record is stored, not whether.
    """
    fields = dataclasses.asdict(settings)
    del fields["recent_cap"]
    # As they are read: what says the same in other words folds to the same.
    fields["curves"] = tuple(f"{name}:{curve}" for name, curve in settings.curve_of.items())
    canonical = {k: sorted(v) if isinstance(v, tuple) else v for k, v in fields.items()}
    text = json.dumps([FOLD_REVISION, TYPES, canonical], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16, person=b"fold").hexdigest()


def _custom_id(name: str) -> int:
    digest = hashlib.blake2b(name.encode(), digest_size=8, person=b"type").digest()
    return _CUSTOM_BASE + int.from_bytes(digest, "little") % (65_536 - _CUSTOM_BASE)


def _refuse(field: str, problem: str) -> NoReturn:
    raise InvalidArgument(field, problem)
