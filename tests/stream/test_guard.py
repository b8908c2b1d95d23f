"""The guard: what contradicts the state ends the process, a stalled lane gets a new consumer."""

import pytest

from rankstream.server.announce import Announcements
from rankstream.server.errors import StateRefused
from rankstream.server.stream import guard as guard_module
from rankstream.server.stream.guard import LogGuard
from rankstream.server.stream.positions import OffsetOutsideLog
from rankstream.server.stream.topics import BrokerUnavailable, LogBounds, TopicDescription

KNOWN = {"events": TopicDescription(b"e" * 16, 2), "items": TopicDescription(b"i" * 16, 1)}


class Broker:
    """Answers as a broker does that holds these topics."""

    def __init__(self):
        self.described = dict(KNOWN)
        self.ends = {("events", 0): 10, ("events", 1): 5, ("items", 0): 3}
        self.away = False

    def describe(self, bootstrap, topics, incarnation=None):
        if self.away:
            raise BrokerUnavailable
        return {t: self.described[t] for t in topics if t in self.described}

    def log_bounds(self, bootstrap, partitions):
        return {p: LogBounds(0, self.ends[p]) for p in partitions}


class Lane:
    """Stands where it is put."""

    def __init__(self, positions):
        self.at = positions
        self.reopened = 0
        self.held = set()

    def positions(self):
        return dict(self.at)

    def waiting(self):
        return self.held

    def reopen(self):
        self.reopened += 1

    def see_ends(self, ends):
        self.ends = ends


class Watched:
    """A guard over two lanes that have read everything."""

    def note_offsets(self, bootstrap, group_id, positions):
        self.noted = (group_id, positions)

    def __init__(self, page, stall_s):
        self.broker = Broker()
        self.events, self.items = Lane({0: 10, 1: 5}), Lane({0: 3})
        self.refused = []
        self.page = page
        self.guard = LogGuard(
            "broker:1",
            {"events": self.events, "items": self.items},
            KNOWN,
            None,
            page=page,
            group_id="ingest",
            stall_s=stall_s,
            refuse=self.refused.append,
        )


@pytest.fixture
def watch(tmp_path, monkeypatch):
    def make(stall_s=3600.0):
        made = Watched(Announcements(tmp_path / "announce", write=True), stall_s)
        monkeypatch.setattr(guard_module, "describe", made.broker.describe)
        monkeypatch.setattr(guard_module, "log_bounds", made.broker.log_bounds)
        monkeypatch.setattr(guard_module, "note_offsets", made.note_offsets)
        return made

    return make


def test_a_log_as_it_was_is_fine_and_heard(watch):
    watched = watch()

    watched.guard.look()

    assert watched.page.fetch_age_ms >= 0
    group, positions = watched.noted
    assert group == "ingest"
    assert positions["events", 1] == watched.events.at[1]
    assert (watched.events.reopened, watched.items.reopened) == (0, 0)


@pytest.mark.parametrize(
    "changed",
    [
        {"events": TopicDescription(b"x" * 16, 2)},
        {"events": TopicDescription(b"e" * 16, 3)},
        {"items": TopicDescription(b"x" * 16, 1)},
    ],
)
def test_a_topic_that_is_another_one_is_refused(watch, changed):
    watched = watch()
    watched.broker.described |= changed

    with pytest.raises(StateRefused, match=f"topic {next(iter(changed))} was .* empty --data-dir"):
        watched.guard.look()


def test_a_topic_that_is_gone_is_refused(watch):
    watched = watch()
    del watched.broker.described["items"]

    with pytest.raises(StateRefused, match="topic items was .* is None"):
        watched.guard.look()


def test_a_position_past_the_end_is_refused(watch):
    watched = watch()
    watched.broker.ends["events", 1] = 4

    with pytest.raises(OffsetOutsideLog, match="events/1 ends at offset 4, .* up to 5"):
        watched.guard.look()


def test_a_lane_that_does_not_move_while_the_log_is_ahead_is_reopened(watch):
    watched = watch(stall_s=-1.0)
    watched.broker.ends["events", 1] = 6

    watched.guard.look()
    watched.guard.look()

    assert (watched.events.reopened, watched.items.reopened) == (1, 0)
    assert watched.events.ends == {0: 10, 1: 6}


def test_a_partition_that_stands_still_is_noticed_while_another_moves(watch):
    watched = watch(stall_s=-1.0)
    watched.broker.ends |= {("events", 0): 99, ("events", 1): 99}

    watched.guard.look()
    watched.events.at[0] += 1
    watched.guard.look()

    assert watched.events.reopened == 1


def test_a_partition_that_waits_for_its_dead_letters_is_left_alone(watch):
    watched = watch(stall_s=-1.0)
    watched.broker.ends["events", 1] = 99
    watched.events.held = {1}

    watched.guard.look()
    watched.guard.look()

    assert watched.events.reopened == 0


def test_a_lane_gets_its_time_before_it_is_reopened(watch):
    watched = watch(stall_s=3600.0)
    watched.broker.ends["events", 1] = 6

    watched.guard.look()
    watched.guard.look()

    assert watched.events.reopened == 0


def test_a_lane_that_moves_or_has_read_all_is_left_alone(watch):
    watched = watch(stall_s=-1.0)
    watched.guard.look()
    watched.broker.ends["events", 0] = 100
    watched.events.at[0] = 50

    watched.guard.look()

    assert (watched.events.reopened, watched.items.reopened) == (0, 0)


def test_a_broker_that_is_away_is_waited_for(watch, monkeypatch):
    monkeypatch.setattr(guard_module, "_PERIOD_S", 0.0)
    watched = watch()
    watched.broker.away = True
    looks = []

    def look():
        looks.append(1)
        if len(looks) == 3:
            watched.broker.away = False
            watched.broker.described.clear()
        LogGuard.look(watched.guard)

    watched.guard.look = look
    watched.guard.run()

    assert len(looks) == 3
    assert [type(e) for e in watched.refused] == [StateRefused]


def test_a_guard_that_is_stopped_does_not_look(watch):
    watched = watch()
    watched.broker.described.clear()
    watched.guard.stop()

    watched.guard.run()

    assert watched.refused == []
