"""Generations of the catalogue: rows, and the encoder that made them; and the change to another.

Only words: what processes tell each other of them, and what the state keeps.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from rankstream.server.config import Encoding, encoding_from

Slot = Literal["a", "b"]
SLOTS: Final[tuple[Slot, ...]] = ("a", "b")
"""Where the state has room for a generation: one is served, the other is made, kept or empty."""

Phase = Literal[
    "loading", "encoding", "starting", "draining", "cancelling", "done", "failed", "cancelled"
]
ENDED: Final[tuple[Phase, ...]] = ("done", "failed", "cancelled")
SWITCHED: Final[tuple[Phase, ...]] = ("draining", "done")
"""The phases in which the new generation is served."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What a process has to know to serve one, or to make one.

    Attributes:
        slot: where in the state it is.
        number: names its files; no two of a state have the same.
        encoding: settings of its encoder.
    """

    slot: Slot
    number: int
    encoding: Encoding

    def to_json(self) -> str:
        """On one line."""
        return json.dumps(dataclasses.asdict(self))

    def encoding_json(self) -> str:
        """The settings of the encoder alone."""
        return json.dumps(dataclasses.asdict(self.encoding))

    @classmethod
    def from_json(cls, text: str) -> Generation:
        """Reads ``to_json``'s line.

        Raises:
            InvalidArgument: a setting that this version does not have.
        """
        found = json.loads(text)
        return cls(found["slot"], found["number"], encoding_from(found["encoding"]))

    @classmethod
    def read(cls, slot: Slot, number: int, encoding: str) -> Generation:
        """One whose encoder has the settings that ``encoding_json`` wrote.

        Raises:
            InvalidArgument: a setting that this version does not have.
        """
        return cls(slot, number, encoding_from(json.loads(encoding)))


@dataclass(frozen=True, slots=True)
class Change:
    """A change to another generation: which, and how far it is.

    Attributes:
        id: who asked for it may ask for the same again.
        kind: whether the generation is made, or was served before.
        target: the generation that is to be served.
        phase: how far it is.
        problem: why it failed.
        started_at_ms: when it was asked for.
        ended_at_ms: 0 while it is under way.
        attempts: how often it was begun since it last got any further.
        waiting: what holds it up; "": nothing that is known.
    """

    id: str
    kind: Literal["reindex", "rollback"]
    target: Generation
    phase: Phase
    problem: str = ""
    started_at_ms: int = 0
    ended_at_ms: int = 0
    attempts: int = 0
    waiting: str = ""

    @property
    def ended(self) -> bool:
        """Whether another may begin."""
        return self.phase in ENDED

    def to_json(self) -> str:
        """On one line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Change:
        """Reads ``to_json``'s line.

        Raises:
            InvalidArgument: a setting that this version does not have.
        """
        found = json.loads(text)
        target = Generation.from_json(json.dumps(found.pop("target")))
        return cls(target=target, **found)


def absolute(encoding: Encoding) -> Encoding:
    """The same settings with whole paths: the next process may begin in another folder."""
    model, adapter = (
        str(Path(path).absolute()) if path else "" for path in (encoding.model, encoding.adapter)
    )
    return dataclasses.replace(encoding, model=model, adapter=adapter)


def other_slot(slot: Slot) -> Slot:
    """The one of two that is not this one."""
    return "b" if slot == "a" else "a"
