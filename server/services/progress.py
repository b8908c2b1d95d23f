"""What the state says of generations and of the change between them, as messages."""

from __future__ import annotations

import time

from rankstream.proto.v1 import admin_pb2
from rankstream.server.announce import Announcements
from rankstream.server.clock import now_ms
from rankstream.server.generation import Change
from rankstream.server.generations import (
    current_slot,
    generation_in,
    held_slots,
    newest_change,
    space_of,
)
from rankstream.server.store import View

# Longer than the lanes rest before they try again.
_REFUSED_MS = 15_000


def generations_of(view: View) -> list[admin_pb2.GenerationInfo]:
    """What the state holds, the served one first."""
    change = newest_change(view)
    making = change.target if change is not None and not change.ended else None
    found = []
    for slot in held_slots(view):
        held = generation_in(view, slot)
        assert held is not None
        state = "made" if held == making else "kept"
        found.append(
            admin_pb2.GenerationInfo(
                number=held.number,
                state="served" if slot == current_slot(view) else state,
                model=held.encoding.model,
                space_fingerprint=space_of(view, slot),
                items=view.of(slot).head().items,
            )
        )
    return found


def progress_of(view: View, change: Change, page: Announcements) -> admin_pb2.ReindexProgress:
    """How far a change is, as of a transaction."""
    target = change.target
    own, served = view.of(target.slot), view.of(current_slot(view))
    begun = generation_in(view, target.slot) == target
    until = change.ended_at_ms or now_ms()
    return admin_pb2.ReindexProgress(
        id=change.id,
        kind=change.kind,
        phase=change.phase,
        problem=change.problem,
        generation=target.number,
        model=target.encoding.model,
        space_fingerprint=space_of(view, target.slot) if begun else "",
        items=own.head().items if begun else 0,
        items_total=served.head().items,
        texts=own.count("vectors") if begun else 0,
        texts_total=view.count("texts"),
        elapsed_s=max(0.0, (until - change.started_at_ms) / 1000),
        eta_s=-1.0,
        waiting="" if change.ended else change.waiting or refusal_of(page),
    )


def refusal_of(page: Announcements) -> str:
    """What ingest meets and cannot note in a state that may be what is refused; "": nothing."""
    if 0 <= page.refusal_age_ms < _REFUSED_MS:
        return "the disk refuses what ingest writes (see the log): free some, or give the change up"
    return ""


class Meter:
    """How fast a change encodes, as one stream of its progress sees it."""

    def __init__(self) -> None:
        self._begun: tuple[float, int] | None = None

    def measure(self, progress: admin_pb2.ReindexProgress) -> None:
        """Adds the rate, and the time that is left at that rate."""
        if progress.phase != "encoding":
            return
        now_s, done = time.monotonic(), progress.items + progress.texts
        began_s, before = self._begun = self._begun or (now_s, done)
        if done > before:
            left = max(0, progress.items_total + progress.texts_total - done)
            progress.rate = (done - before) / (now_s - began_s)
            progress.eta_s = left / progress.rate
