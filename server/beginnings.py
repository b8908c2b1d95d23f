"""What a generation begins with: its encoder, warm, and its rows and positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rankstream.server.catalog.blocks import make_layout
from rankstream.server.clock import now_ms
from rankstream.server.config import Settings
from rankstream.server.derived import encoder_settings
from rankstream.server.encoder.base import Encoder
from rankstream.server.encoder_loading import EncoderLoading
from rankstream.server.generation import Change, Generation
from rankstream.server.generations import current_slot, generation_in, item_positions, left_at_ms
from rankstream.server.inbox import Cancelled, Failed, Inbox
from rankstream.server.notes import Notes
from rankstream.server.paths import Paths
from rankstream.server.store import Txn, View
from rankstream.server.stream.log import Log
from rankstream.server.types import Position
from rankstream.server.writable import Rows, State, open_rows

# Less than the items topic keeps the records of deletions.
_LONGEST_SLEEP_S = 6 * 86_400.0


class Beginnings:
    """Loads and opens generations.

    Args:
        settings: of everything.
        paths: of the data folder.
        state: the open state.
        notes: the same, for a thread beside its writer.
        inbox: what the supervisor says.
        make_room: removes the generation that is not served.
    """

    def __init__(
        self,
        settings: Settings,
        paths: Paths,
        state: State,
        notes: Notes,
        inbox: Inbox,
        make_room: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._paths = paths
        self._state = state
        self._notes = notes
        self._inbox = inbox
        self._make_room = make_room

    def begin(self, change: Change, found: Log) -> tuple[Rows, Encoder]:
        """A generation where it was left, or from the beginning; the caller closes both.

        Raises:
            Failed: it cannot be rolled back to.
            Cancelled, Stopped: it is not wanted any more.
            RankstreamError: its model does not load, or does not work.
            OSError: the disk refuses its files.
        """
        if change.kind == "rollback":
            self._notes.see(lambda view: _check_rollback(view, change.target))
        encoder = self._loaded(change)
        try:
            return self._open(change, encoder, found), encoder
        except BaseException:
            encoder.close()
            raise

    def _loaded(self, change: Change) -> Encoder:
        """The encoder, warm. It is loaded beside: this thread hears what is said meanwhile."""
        wanted = replace(self._settings, encoding=change.target.encoding)
        loading = EncoderLoading(encoder_settings(wanted, self._paths))
        try:
            while not loading.done():
                self._inbox.wait()
            self._inbox.check()
        except Cancelled:
            self._notes.note(replace(change, phase="cancelling"))
            self._inbox.makes_nothing()
            while not loading.done():
                self._inbox.wait()
            loading.discard()
            raise
        except BaseException:
            loading.discard()
            raise
        return loading.encoder()

    def _open(self, change: Change, encoder: Encoder, found: Log) -> Rows:
        target = change.target
        begun = self._notes.see(lambda view: generation_in(view, target.slot) == target)
        if change.kind == "reindex" and not begun:
            # Only now: a model that does not load leaves what may be rolled back to.
            self._make_room()
        layout = make_layout(encoder.dimension, self._settings.scoring)
        rows = open_rows(
            self._settings, self._paths, self._state, target, layout, encoder.fingerprint
        )
        self._notes.commit(lambda txn: _place(txn.of(target.slot), found))
        return rows


def _place(txn: Txn, found: Log) -> None:
    """Its items lane begins at 0, where it has never read: workers need to know the topic."""
    known = {(p.topic_id, p.partition) for p in item_positions(txn)}
    items = found.described[found.topics.items]
    fresh = [(items.topic_id, partition) for partition in range(items.partitions)]
    txn.advance([Position("items", *place, 0) for place in fresh if place not in known])


def _check_rollback(view: View, target: Generation) -> None:
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
