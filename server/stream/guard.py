"""Looks at the log from outside: is it still the one we fold, and do the lanes keep up with it?

Clients are silent about a topic that was deleted and created again, a position past the end, a dead
broker, and (some versions) a fetcher that stopped. So a thread of its own asks the broker on a
timer. What contradicts the state is a refusal that ends the process; a stall reopens the consumer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from rankstream.server.announce import Announcements
from rankstream.server.errors import StateRefused, Unavailable
from rankstream.server.stream.incarnations import Incarnation
from rankstream.server.stream.positions import check_highwater
from rankstream.server.stream.topics import (
    TopicDescription,
    describe,
    log_bounds,
    note_offsets,
)

log = logging.getLogger(__name__)

_PERIOD_S = 5.0


class Lane(Protocol):
    """What the guard watches."""

    def positions(self) -> dict[int, int]:
        """Handed to the writer up to here, by partition."""

    def waiting(self) -> set[int]:
        """Partitions that stand still on purpose: their records are being worked on."""

    def reopen(self) -> None:
        """Asks for a new consumer."""

    def see_ends(self, ends: Mapping[int, int]) -> None:
        """The log's ends by partition, where its own consumer may get no answer."""


class LogGuard:
    """Watches every lane.

    Args:
        bootstrap: address of the brokers.
        lanes: by topic.
        known: the topics as they were when the lanes began.
        incarnation: of the embedded broker, else None.
        page: told when the broker has answered.
        group_id: under which lag tools find the positions.
        stall_s: seconds without progress, while the log is ahead, that count as a stall.
        refuse: ends the process.
    """

    def __init__(
        self,
        bootstrap: str,
        lanes: Mapping[str, Lane],
        known: Mapping[str, TopicDescription],
        incarnation: Incarnation | None,
        *,
        page: Announcements,
        group_id: str,
        stall_s: float,
        refuse: Callable[[StateRefused], None],
    ) -> None:
        self._bootstrap = bootstrap
        self._lanes = lanes
        self._known = known
        self._incarnation = incarnation
        self._page = page
        self._group_id = group_id
        self._stall_s = stall_s
        self._refuse = refuse
        self._stopping = threading.Event()
        self._progress: dict[tuple[str, int], tuple[int, float]] = {}

    def watch(self, lanes: Mapping[str, Lane]) -> None:
        """From the next look on, watches these lanes instead."""
        self._lanes = lanes

    def stop(self) -> None:
        """Ends ``run`` soon."""
        self._stopping.set()

    def run(self) -> None:
        """Looks every few seconds until ``stop``."""
        while not self._stopping.wait(_PERIOD_S):
            try:
                self.look()
            except StateRefused as error:
                self._refuse(error)
                return
            except Unavailable as error:
                log.warning("%s", error)

    def look(self) -> None:
        """One look.

        Raises:
            StateRefused: a topic is another one now, or ends before our position.
            Unavailable: no broker answers.
        """
        lanes = self._lanes
        described = describe(self._bootstrap, lanes, self._incarnation)
        for topic, known in self._known.items():
            if topic in lanes and described.get(topic) != known:
                msg = (
                    f"topic {topic} was {known} and is {described.get(topic)}: it was deleted and "
                    "created again, or its partitions changed; what was applied is no longer "
                    "what the log says. Start over with an empty --data-dir"
                )
                raise StateRefused(msg)
        # Positions first: a lane only moves on, so the ends that are read next are not behind.
        before = {topic: lane.positions() for topic, lane in lanes.items()}
        bounds = log_bounds(self._bootstrap, [(t, p) for t in before for p in before[t]])
        self._page.fetched()
        for topic, positions in before.items():
            ends = {p: bounds[topic, p].end for p in positions}
            for partition, position in positions.items():
                check_highwater(topic, partition, position, ends[partition])
            lanes[topic].see_ends(ends)
            self._watch(topic, lanes[topic], positions, ends)
        self._note({(t, p): at for t, found in before.items() for p, at in found.items()})

    def _note(self, positions: dict[tuple[str, int], int]) -> None:
        try:
            note_offsets(self._bootstrap, self._group_id, positions)
        except (StateRefused, Unavailable) as error:
            log.debug("the offsets for lag tools were not taken: %s", error)

    def _watch(
        self, topic: str, lane: Lane, positions: dict[int, int], ends: dict[int, int]
    ) -> None:
        """Reopens a lane of which one partition stands still although it could move."""
        now, waiting = time.monotonic(), lane.waiting()
        stuck = []
        for partition, position in positions.items():
            last, since = self._progress.get((topic, partition), (-1, now))
            moving = position != last or position >= ends[partition] or partition in waiting
            if moving:
                self._progress[topic, partition] = (position, now)
            elif now - since > self._stall_s:
                stuck.append(partition)
        if stuck:
            log.warning(
                "%s: partitions %s stand still at %s, the log ends at %s",
                topic,
                stuck,
                positions,
                ends,
            )
            lane.reopen()
            self._progress |= {(topic, p): (positions[p], now) for p in stuck}
