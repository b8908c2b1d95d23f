"""The change of generations in ingest: load, warm up, encode, catch up, switch, drain.

A thread of its own. What it does is noted in the state step by step (``Change``), so that an ingest
that was killed goes on where it was. Until the switch, which is one commit, whatever fails leaves
everything as it was.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rankstream.server.catalog.blocks import make_layout
from rankstream.server.clock import now_ms
from rankstream.server.config import Settings
from rankstream.server.derived import encoder_settings
from rankstream.server.encoder.base import Encoder
from rankstream.server.encoder.load import load_encoder
from rankstream.server.errors import RankstreamError
from rankstream.server.generation import SWITCHED, Change, Generation, Phase, Slot, other_slot
from rankstream.server.generation_lanes import Feed, GenerationLanes
from rankstream.server.generations import (
    clear_some,
    current_slot,
    forget_generation,
    generation_in,
    held_slots,
    is_near,
    item_positions,
    left_at_ms,
    newest_change,
    next_number,
    put_change,
    remove_files,
    switch,
)
from rankstream.server.inbox import Cancelled, Failed, Inbox, Stopped
from rankstream.server.paths import Paths
from rankstream.server.store import WRITE_ERRORS, Txn, View
from rankstream.server.stream.guard import LogGuard
from rankstream.server.types import Position
from rankstream.server.writable import Rows, State, open_rows

log = logging.getLogger(__name__)

_NICENESS = 10
_RETRY_S = 0.5
# Loading a model and compiling kernels for the first time take minutes, never this.
_START_S = 900.0
# So long the lanes of the served generation wait for the switch at a time.
_HOLD_S = 1.0
# Ingest that is killed while it loads the encoder (by a lack of memory, say) would be so for ever.
_MOST_ATTEMPTS = 3
_STEADY_S = 30.0
# Less than the items topic keeps the records of deletions.
_LONGEST_SLEEP_S = 6 * 86_400.0


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
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ends ``run`` soon."""
        self._stopping.set()
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
        with self._state.store.read() as view:
            begun = newest_change(view)
        try:
            if begun is not None and not begun.ended:
                self._go_on(begun)
            else:
                self._say("forget")
            while True:
                self._asked(self.inbox.asked())
        except Stopped:
            return

    def _asked(self, asked: dict[str, str]) -> None:
        """Does what an RPC asks for; who asked looks into the state for what became of it."""
        if asked["verb"] == "drop":
            self._drop()
        elif asked["verb"] == "begin":
            self._make(self._aimed(Change.from_json(asked["change"])))

    def _aimed(self, change: Change) -> Change:
        """A change whose generation goes where there is room now."""
        if change.kind == "rollback":
            return change
        with self._state.store.read() as view:
            slot, number = other_slot(current_slot(view)), next_number(view)
        return replace(change, target=replace(change.target, slot=slot, number=number))

    def _drop(self) -> None:
        """Forgets the generation that is not served."""
        slot = other_slot(self.live[0].rows.generation.slot)
        while self._commit(lambda txn: clear_some(txn, slot)):
            self.inbox.check()
        remove_files(self._paths.segments, self._held())

    def _held(self) -> list[int]:
        with self._state.store.read() as view:
            return [view.of(slot).head().generation for slot in held_slots(view)]

    def _go_on(self, change: Change) -> None:
        if change.phase in SWITCHED:
            self._finish(change)
        elif change.attempts >= _MOST_ATTEMPTS:
            problem = f"ingest ended {change.attempts} times while it loaded the encoder"
            self._give_up(change, "failed", problem)
        else:
            self._make(change)

    def _make(self, change: Change) -> None:
        """The whole change, from wherever it is."""
        log.info("%s of generation %d begins", change.kind, change.target.number)
        change = self._note(replace(change, phase="loading", attempts=change.attempts + 1))
        self.inbox.making = change.target.number
        try:
            change = self._switched(change)
        except Cancelled:
            self._give_up(change, "cancelled", "")
        except Stopped:
            raise
        except Exception as error:
            # Whatever it is: the old generation serves on, and who asked is told.
            expected = isinstance(error, (Failed, RankstreamError, OSError))
            log.error("the change fails: %s", error, exc_info=None if expected else error)
            self._give_up(change, "failed", str(error) or type(error).__name__)
        else:
            # Nothing that happens from now on takes the new generation away.
            self._finish(change)

    def _switched(self, change: Change) -> Change:
        """Makes the generation, and serves it."""
        target = change.target
        if change.kind == "rollback":
            self._check_rollback(target)
        encoder = self._load(change)
        try:
            rows = self._open(change, encoder)
        except BaseException:
            encoder.close()
            raise
        lanes = GenerationLanes(self._settings, rows, encoder, self._feed)
        self.live = (self.live[0], lanes)
        lanes.start(functools.partial(self._start, lanes))
        guard = self._watch(lanes)
        try:
            change = self._note(replace(change, phase="encoding"))
            steady_at = time.monotonic() + _STEADY_S
            while not self._see(lambda view: is_near(view, target.slot)):
                self.inbox.wait()
                if change.attempts and time.monotonic() > steady_at:
                    change = self._note(replace(change, attempts=0))
            lanes.refresh_bias()
            change = self._note(replace(change, phase="starting"))
            self.inbox.warm = -1
            self._say("prepare " + target.to_json())
            until = time.monotonic() + _START_S
            while self.inbox.warm != target.number:
                self.inbox.wait()
                if time.monotonic() > until:
                    problem = f"its workers were not ready within {_START_S:g} s"
                    raise Failed(problem)
            return self._switch(change, lanes)
        finally:
            guard.stop()

    def _open(self, change: Change, encoder: Encoder) -> Rows:
        """The generation's rows and positions, where it was left or from the beginning."""
        target = change.target
        with self._state.store.read() as view:
            begun = generation_in(view, target.slot) == target
        if change.kind == "reindex" and not begun:
            # Only now: a model that does not load leaves what may be rolled back to.
            self._drop()
        layout = make_layout(encoder.dimension, self._settings.scoring)
        rows = open_rows(
            self._settings, self._paths, self._state, target, layout, encoder.fingerprint
        )
        self._commit(lambda txn: self._place(txn.of(target.slot)))
        return rows

    def _place(self, txn: Txn) -> None:
        """Its items lane begins at 0, where it has never read: workers need to know the topic."""
        known = {(p.topic_id, p.partition) for p in item_positions(txn)}
        items = self._feed.found.described[self._feed.found.topics.items]
        fresh = [(items.topic_id, partition) for partition in range(items.partitions)]
        txn.advance([Position("items", *place, 0) for place in fresh if place not in known])

    def _check_rollback(self, target: Generation) -> None:
        with self._state.store.read() as view:
            asleep_s = (now_ms() - left_at_ms(view, target.slot)) / 1000
            if generation_in(view, target.slot) != target or target.slot == current_slot(view):
                problem = f"generation {target.number} is not there any more"
                raise Failed(problem)
        if asleep_s > _LONGEST_SLEEP_S:
            problem = (
                f"generation {target.number} was left {asleep_s / 86_400:.0f} days ago, and the "
                "log may have forgotten what was deleted since: reindex with its model instead"
            )
            raise Failed(problem)

    def _load(self, change: Change) -> Encoder:
        wanted = replace(self._settings, encoding=change.target.encoding)
        encoder = load_encoder(encoder_settings(wanted, self._paths))
        try:
            encoder.warm_up()
            self.inbox.check()
        except BaseException:
            encoder.close()
            raise
        return encoder

    def _switch(self, change: Change, lanes: GenerationLanes) -> Change:
        """The one commit. The lanes of before wait until the new ones are where they are."""
        before = self.live[0]
        after = replace(change, phase="draining", attempts=0)

        def commit(txn: Txn) -> bool:
            done = switch(txn, change.target.slot, now_ms())
            if done:
                put_change(txn, after)
            return done

        while not self._held_commit(before, commit):
            # Something came in meanwhile: it goes on, and is waited for, as before.
            self._await_near(change.target.slot)
        self.live = (lanes, before)
        before.release()
        return after

    def _held_commit(self, before: GenerationLanes, commit: Callable[[Txn], bool]) -> bool:
        """Tries the commit while the lanes of before wait, for a moment; they go on if it fails."""
        until = time.monotonic() + _HOLD_S
        before.hold()
        try:
            while not self._commit(commit):
                if time.monotonic() > until:
                    before.release()
                    return False
                self.inbox.wait()
        except BaseException:
            before.release()
            raise
        return True

    def _await_near(self, slot: Slot) -> None:
        self.inbox.wait()
        while not self._see(lambda view: is_near(view, slot)):
            self.inbox.wait()

    def _finish(self, change: Change) -> None:
        """Waits for the workers of before, whose lanes go on until they are gone."""
        self.inbox.making = self.inbox.drained = -1
        self._state.store.slot = change.target.slot
        self._watch_served(self.live[0])
        log.info("generation %d is served", change.target.number)
        self._say("current " + change.target.to_json())
        while self.inbox.drained != change.target.number:
            self.inbox.wait()
        served, *before = self.live
        self.live = (served,)
        for lanes in before:
            lanes.close()
        self._note(replace(change, phase="done", ended_at_ms=now_ms()))

    def _give_up(self, change: Change, phase: Phase, problem: str) -> None:
        """Removes what was made; what was served before is kept."""
        self.inbox.making = -1
        self._say("forget")
        served, *made = self.live
        self.live = (served,)
        for lanes in made:
            lanes.close()
        ended = replace(change, phase=phase, problem=problem, ended_at_ms=now_ms())

        def commit(txn: Txn) -> bool:
            put_change(txn, ended)
            begun = generation_in(txn, change.target.slot) == change.target
            if begun and change.kind == "reindex":
                forget_generation(txn, change.target.slot)
                return True
            return False

        if self._commit(commit):
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

    def _note(self, change: Change) -> Change:
        self._commit(lambda txn: put_change(txn, change))
        return change

    def _see(self, look: Callable[[View], bool]) -> bool:
        with self._state.store.read() as view:
            return look(view)

    def _commit(self, change: Callable[[Txn], bool | None]) -> bool:
        """One transaction, again until the disk takes it; what ``change`` answers."""
        while True:
            try:
                with self._state.store.write() as txn:
                    return bool(change(txn))
            except WRITE_ERRORS as error:
                log.error("the change of generations cannot be noted, trying again: %s", error)
                if self._stopping.wait(_RETRY_S):
                    raise Stopped from None
