"""The change of generations in ingest: load, warm up, encode, catch up, switch, drain.

A thread of its own. What it does is noted in the state step by step (``Change``), so that an ingest
that was killed goes on where it was. Until the switch, which is one commit, whatever fails leaves
everything as it was.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rankstream.server.beginnings import Beginnings
from rankstream.server.clock import now_ms
from rankstream.server.config import Settings
from rankstream.server.derived import encoder_settings
from rankstream.server.encoder.base import EncoderSettings
from rankstream.server.encoder.find import find_model
from rankstream.server.encoder.graph_cache import forget_graphs
from rankstream.server.errors import RankstreamError
from rankstream.server.generation import SWITCHED, Change, Phase, other_slot
from rankstream.server.generation_lanes import Feed, GenerationLanes
from rankstream.server.generations import (
    clear_some,
    current_slot,
    forget_generation,
    generation_in,
    has_remains,
    held_numbers,
    known_ids,
    newest_change,
    next_number,
    put_change,
    remove_files,
)
from rankstream.server.handover import await_bias, await_crew, await_encoded, hand_over
from rankstream.server.inbox import Cancelled, Failed, Inbox, Stopped
from rankstream.server.notes import Notes
from rankstream.server.paths import Paths
from rankstream.server.store import Txn
from rankstream.server.stream.guard import LogGuard
from rankstream.server.writable import State

log = logging.getLogger(__name__)

_NICENESS = 10
# Ingest that is killed before it has encoded anything (by a lack of memory, say) would be so for
# ever. What it has encoded counts for the next time, so that an end is in sight.
_MOST_ATTEMPTS = 3


class Reindexing:
    """Changes generations, one after the other.

    Args:
        settings: of everything.
        state: the open state.
        served: the lanes of the generation that is served, running.
        feed: what lanes are made of.
        watch: has the log's guard watch the lanes that are served now.
        say: tells the supervisor.
        fail: ends ingest, where served lanes cannot go on.

    Attributes:
        live: the generations whose lanes run, the served one first; swapped whole.
        inbox: what the supervisor says.
    """

    def __init__(
        self,
        settings: Settings,
        state: State,
        served: GenerationLanes,
        feed: Feed,
        watch: Callable[[GenerationLanes], None],
        say: Callable[[str], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.live: tuple[GenerationLanes, ...] = (served,)
        self.inbox = Inbox()
        self._settings = settings
        self._paths = Paths(Path(settings.state.data_dir))
        self._state = state
        self._feed = feed
        self._watch_served = watch
        self._say = say
        self._fail = fail
        self._notes = Notes(state.store, state.page)
        self._beginnings = Beginnings(
            settings, self._paths, state, self._notes, self.inbox, self._drop
        )

    def stop(self) -> None:
        """Ends ``run`` soon."""
        self._notes.stop()
        self.inbox.stop()

    def wake_texts(self) -> None:
        """A commit has remembered texts."""
        for lanes in self.live:
            lanes.texts.wake()

    def refresh_bias(self) -> None:
        """Puts new biases in place, where there is anything new."""
        for lanes in self.live:
            lanes.refresh_bias()

    def run(self) -> None:
        """Goes on with what was begun, then does what it is asked."""
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        begun = self._notes.see(newest_change)
        try:
            if begun is not None and not begun.ended:
                self._go_on(begun)
            else:
                self._say("forget")
                slot = other_slot(self.live[0].rows.generation.slot)
                if self._notes.see(lambda view: has_remains(view, slot)):
                    self._drop()
            while True:
                self._asked(self.inbox.asked())
        except Stopped:
            return

    def _asked(self, asked: dict[str, str]) -> None:
        """Does what an RPC asks for; who asked looks into the state for what became of it."""
        if asked["verb"] == "drop":
            # What was meant may have made room for another meanwhile.
            if int(asked["number"]) in self._notes.see(held_numbers)[1:]:
                self._drop()
        elif asked["verb"] == "begin":
            change = Change.from_json(asked["change"])
            # Asked for twice at once; who did follows the one that there was.
            if change.id not in self._notes.see(known_ids):
                self._make(self._aimed(change))

    def _aimed(self, change: Change) -> Change:
        """A change whose generation goes where there is room now."""
        if change.kind == "rollback":
            return change
        slot = other_slot(self._notes.see(current_slot))
        number = self._notes.see(next_number)
        return replace(change, target=replace(change.target, slot=slot, number=number))

    def _drop(self) -> None:
        """Forgets the generation that is not served."""
        slot = other_slot(self.live[0].rows.generation.slot)
        while self._notes.commit(lambda txn: clear_some(txn, slot)):
            self.inbox.check()
        # A power loss must not bring back a generation whose files are gone.
        self._notes.sync()
        remove_files(self._paths.segments, self._notes.see(held_numbers))
        served = replace(self._settings, encoding=self.live[0].rows.generation.encoding)
        _forget_graphs_but(encoder_settings(served, self._paths))

    def _go_on(self, change: Change) -> None:
        if change.phase in SWITCHED:
            self._finish(change)
        elif change.attempts >= _MOST_ATTEMPTS:
            problem = (
                f"ingest ended {change.attempts} times before it got any further; "
                "is there memory for both models?"
            )
            self._give_up(change, "failed", problem)
        elif change.phase == "cancelling":
            self._give_up(change, "cancelled", "")
        else:
            self._make(change)

    def _make(self, change: Change) -> None:
        """The whole change, from wherever it is."""
        log.info("%s of generation %d begins", change.kind, change.target.number)
        before = change
        change = self._notes.note(replace(change, phase="loading", attempts=change.attempts + 1))
        self.inbox.makes(change.target.number, change.id)
        try:
            change = self._switched(change)
        except Cancelled:
            self._give_up(change, "cancelled", "")
        except Stopped:
            self._notes.commit(lambda txn: _uncount(txn, before.attempts))
            raise
        except Exception as error:
            # Whatever it is: the old generation serves on, and who asked is told.
            expected = isinstance(error, (Failed, RankstreamError, OSError))
            log.error("the change fails: %s", error, exc_info=None if expected else error)
            self._give_up(change, "failed", str(error) or type(error).__name__)
        else:
            # Nothing that happens from now on takes the new generation away.
            self._finish(change, made_now=True)

    def _switched(self, change: Change) -> Change:
        """Makes the generation, and serves it."""
        rows, encoder = self._beginnings.begin(change, self._feed.found)
        lanes = GenerationLanes(self._settings, rows, encoder, self._feed, served=False)
        self.live = (self.live[0], lanes)
        lanes.start(functools.partial(self._start, lanes))
        guard = self._watch(lanes)
        try:
            change = self._notes.note(replace(change, phase="encoding"))
            change = await_encoded(change, self._notes, self.inbox)
            await_bias(lanes, self.inbox)
            change = self._notes.note(replace(change, phase="starting"))
            await_crew(change.target, self.inbox, self._say)
            before = self.live[0]
            change = hand_over(change, before, self._notes, self.inbox)
            self.live = (lanes, before)
            before.release()
            return change
        finally:
            guard.stop()

    def _finish(self, change: Change, *, made_now: bool = False) -> None:
        """Waits for the workers of before, whose lanes go on until they are gone."""
        self.inbox.makes_nothing()
        self.inbox.drained = -1
        self.inbox.delay = ""
        self._state.store.slot = change.target.slot
        log.info("generation %d is served", change.target.number)
        self._say("current " + change.target.to_json())
        served = self.live[0]
        if made_now:
            served.start_as_served(functools.partial(self._start, served))
        self._watch_served(served)
        while self.inbox.drained != change.target.number:
            if self.inbox.delay != change.waiting:
                change = self._notes.note(replace(change, waiting=self.inbox.delay))
            self.inbox.wait()
        served, *before = self.live
        self.live = (served,)
        for lanes in before:
            lanes.close()
        self.inbox.forget_asked()
        self._notes.note(replace(change, phase="done", waiting="", ended_at_ms=now_ms()))

    def _give_up(self, change: Change, phase: Phase, problem: str) -> None:
        """Removes what was made; what was served before is kept."""
        self.inbox.makes_nothing()
        if phase == "cancelled":
            # A batch that is being encoded may take its time.
            self._notes.note(replace(change, phase="cancelling"))
        self._say("forget")
        served, *made = self.live
        self.live = (served,)
        for lanes in made:
            lanes.close()
        ended = replace(change, phase=phase, problem=problem, ended_at_ms=now_ms())

        def commit(txn: Txn) -> bool:
            put_change(txn, ended)
            held = generation_in(txn, change.target.slot)
            if held == change.target and change.kind == "reindex":
                forget_generation(txn, change.target.slot)
                return True
            # It may have ended while what was kept was being removed.
            return held is None

        self.inbox.forget_asked()
        if self._notes.commit(commit):
            self._drop()

    def _watch(self, lanes: GenerationLanes) -> LogGuard:
        """A guard of the new lane: one that stalls gets a new consumer."""
        kafka, found = self._settings.kafka, self._feed.found
        guard = LogGuard(
            kafka.bootstrap_servers,
            {found.topics.items: lanes.items},
            found.described,
            found.incarnation,
            page=self._feed.page,
            group_id=f"{kafka.topic_prefix}reindex",
            stall_s=kafka.stall_timeout_s,
            refuse=self.inbox.break_off,
        )
        self._start(lanes, guard.run, "reindex-guard")
        return guard

    def _start(
        self, lanes: GenerationLanes, run: Callable[[], None], name: str
    ) -> threading.Thread:
        def guarded() -> None:
            try:
                run()
            except BaseException as error:  # noqa: BLE001 - carried to another thread
                (self._fail if lanes is self.live[0] else self.inbox.break_off)(error)

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread


def _forget_graphs_but(served: EncoderSettings) -> None:
    """Removes converted graphs of long ago, but not what is served, whatever was tried since."""
    kept = []
    # Where the model's folder is gone, nothing of it could be converted again, nor loaded.
    with contextlib.suppress(RankstreamError, OSError):
        kept.append((find_model(served.model).root, served.adapter))
    forget_graphs(served.cache_dir, kept)


def _uncount(txn: Txn, attempts: int) -> None:
    """An attempt that ended because ingest was told to has not failed."""
    change = newest_change(txn)
    assert change is not None
    put_change(txn, replace(change, attempts=min(change.attempts, attempts)))
