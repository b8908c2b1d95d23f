"""From one generation to another: until the new one may serve, and the switch, one commit."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from rankstream.server.clock import now_ms
from rankstream.server.generation import Change, Generation, Slot
from rankstream.server.generation_lanes import GenerationLanes
from rankstream.server.generations import is_near, put_change, reached, switch
from rankstream.server.inbox import Failed, Inbox
from rankstream.server.notes import Notes
from rankstream.server.store import Txn

# Loading a model and compiling kernels for the first time take minutes, never this.
_START_S = 900.0
# So long the lanes of the served generation wait for the switch at a time.
_HOLD_S = 1.0


def await_encoded(change: Change, notes: Notes, inbox: Inbox) -> Change:
    """Waits until a generation is near to the served one; the change as it is noted then.

    Raises:
        Failed, Cancelled, Stopped: it does not get there.
    """
    slot = change.target.slot
    began_at = notes.see(lambda view: reached(view, slot))
    while not notes.see(lambda view: is_near(view, slot)):
        inbox.wait()
        if change.attempts and notes.see(lambda view: reached(view, slot)) > began_at:
            change = notes.note(replace(change, attempts=0))
    return change


def await_crew(target: Generation, inbox: Inbox, say: Callable[[str], None]) -> None:
    """Has workers of a generation prepared, and waits until they are ready to serve.

    Raises:
        Failed, Cancelled, Stopped: they do not get there.
    """
    inbox.warm = -1
    say("prepare " + target.to_json())
    until = time.monotonic() + _START_S
    while inbox.warm != target.number:
        inbox.wait()
        if time.monotonic() > until:
            problem = f"its workers were not ready within {_START_S:g} s"
            raise Failed(problem)


def await_bias(lanes: GenerationLanes, inbox: Inbox) -> None:
    """Has the bias of a generation put in place; without it, nothing would be popular.

    Where the disk refuses, it is waited for: the bias of all lanes is tried again each second.

    Raises:
        Failed, Cancelled, Stopped: nobody waits any more.
    """
    lanes.refresh_bias()
    while lanes.rows.bias.refused:
        inbox.wait()


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
