"""The switch from one generation to another, which is one commit."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from rankstream.server.clock import now_ms
from rankstream.server.generation import Change, Slot
from rankstream.server.generation_lanes import GenerationLanes
from rankstream.server.generations import is_near, put_change, switch
from rankstream.server.inbox import Inbox
from rankstream.server.notes import Notes
from rankstream.server.store import Txn

# So long the lanes of the served generation wait for the switch at a time.
_HOLD_S = 1.0


def hand_over(change: Change, before: GenerationLanes, notes: Notes, inbox: Inbox) -> Change:
    """Has a generation served from now on.

    The lanes of before wait until the new ones are where they are. Where something came in
    meanwhile, they go on, it is waited for, and the switch tried again. Afterwards they still wait.

    Args:
        change: whose generation is near to the served one.
        before: the lanes of the served one.
        notes: the state.
        inbox: what may end it.

    Returns:
        The change as it was noted by the commit.

    Raises:
        Failed, Cancelled, Stopped: nothing is switched.
    """
    after = replace(change, phase="draining", attempts=0)

    def commit(txn: Txn) -> bool:
        done = switch(txn, change.target.slot, now_ms())
        if done:
            put_change(txn, after)
        return done

    while not _held_commit(before, notes, inbox, commit):
        _await_near(change.target.slot, notes, inbox)
    return after


def _held_commit(
    before: GenerationLanes, notes: Notes, inbox: Inbox, commit: Callable[[Txn], bool]
) -> bool:
    """Tries the commit for a moment in which the lanes of before wait."""
    until = time.monotonic() + _HOLD_S
    before.hold()
    try:
        while not notes.commit(commit):
            if time.monotonic() > until:
                before.release()
                return False
            inbox.wait()
    except BaseException:
        before.release()
        raise
    return True


def _await_near(slot: Slot, notes: Notes, inbox: Inbox) -> None:
    inbox.wait()
    while not notes.see(lambda view: is_near(view, slot)):
        inbox.wait()
