"""The lane of events over a log in memory: handed over, held back, read again, dead-lettered."""

import pytest
from memory_log import Letters, Log, Record

from rankstream.proto.v1 import events_pb2
from rankstream.server.announce import slot_of
from rankstream.server.catalog.popularity import Popularity
from rankstream.server.config import Limits
from rankstream.server.errors import StateRefused, Unavailable
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.profiles.texts import Keeping
from rankstream.server.stream.apply import EventFolder
from rankstream.server.stream.event_codec import EventCodec
from rankstream.server.stream.events_lane import EventsLane, rest_after
from rankstream.server.types import Position, item_key

EVENTS_ID = b"events-topic-id."
FOLD = FoldSettings()


def click(user, item, offset):
    event = events_pb2.Event(user_id=user, item_id=item, type="click", event_id=f"{user}/{item}")
    return Record(offset, event.SerializeToString())


def bad(offset):
    return Record(offset, b"\xff\xff")


class EventsCase:
    """An events lane, what it handed over, and where it stood then."""

    def __init__(self, page, log, letters=None, max_records=100):
        self.log, self.page = log, page
        self.letters = letters or Letters()
        self.batches = []
        self.folder = EventFolder(
            FOLD, Popularity(weight=1.0, half_life_s=1.0, bucket_s=1), Keeping(1000, int)
        )
        self.lane = EventsLane(
            log.open,
            dict.fromkeys(log.partitions, 0),
            topic_id=EVENTS_ID,
            topic="events",
            codec=EventCodec(FOLD, Limits(), "events", 2),
            letters=self.letters,
            make_batch=self.folder.batch,
            put=self.batches.append,
            page=page,
            max_records=max_records,
        )
        log.idle.append(self.lane.stop)

    def handed(self):
        """(users, events, positions) of each batch."""
        return [
            (
                [u.decode() for u in b.users],
                len(b.events),
                [(p.partition, p.next_offset) for p in b.positions],
            )
            for b in self.batches
        ]


def test_events_are_handed_over_with_the_positions_behind_them(page):
    log = Log({0: [click("ann", "a", 0), click("bob", "b", 1)], 1: [click("ann", "c", 0)]})
    case = EventsCase(page, log)

    case.lane.run()

    assert case.handed() == [(["ann", "bob"], 3, [(0, 2), (1, 1)])]
    assert case.batches[0].owners.tolist() == [0, 1, 0]
    assert case.batches[0].events["target_key"].tolist() == [item_key(i) for i in "abc"]
    assert case.batches[0].positions[0] == Position("events", EVENTS_ID, 0, 2)
    assert case.lane.positions() == {0: 2, 1: 1}
    assert page.fetch_age_ms >= 0
    assert (page.highwater(slot_of("events", 0)), page.state(1)) == (2, "running")
    assert log.closed == 1


def test_a_position_is_what_the_log_says_not_the_last_offset_plus_one(page):
    case = EventsCase(page, Log({0: [click("ann", "a", 4)]}, markers=1))

    case.lane.run()

    assert case.handed() == [(["ann"], 1, [(0, 6)])]


def test_a_poll_takes_no_more_than_it_may(page):
    case = EventsCase(page, Log({0: [click("ann", f"i{n}", n) for n in range(5)]}), max_records=2)

    case.lane.run()

    assert [p for _, _, p in case.handed()] == [[(0, 2)], [(0, 4)], [(0, 5)]]


def test_a_bad_record_is_dead_lettered_and_the_others_are_kept(page):
    case = EventsCase(page, Log({0: [click("ann", "a", 0), bad(1), click("bob", "b", 2)]}))

    case.lane.run()

    assert case.handed() == [(["ann", "bob"], 2, [(0, 3)])]
    assert case.letters.origins == ["events/0/1"]
    assert case.letters.tickets[0].letters[0].value == b"\xff\xff"
    assert page.dead_letters == 1


def test_records_of_which_all_are_bad_still_move_the_position(page):
    case = EventsCase(page, Log({0: [bad(0), Record(1, None)]}))

    case.lane.run()

    assert case.handed() == [([], 0, [(0, 2)])]
    assert case.letters.origins == ["events/0/0", "events/0/1"]


def test_while_dead_letters_wait_their_partition_does_and_others_go_on(page):
    log = Log({0: [bad(0), click("ann", "a", 1)], 1: [click("bob", "b", 0)]})
    case = EventsCase(page, log, Letters(at_once=False))
    seen = []

    def others_went_on():
        seen.append((case.lane.positions(), page.state(slot_of("events", 0)), page.dead_letters))
        log.partitions[0].append(click("cat", "c", 2))
        log.partitions[1].append(click("dan", "d", 1))

    def letters_are_safe():
        seen.append(case.lane.positions())
        case.letters.tickets[0].finish()

    log.idle[:0] = [others_went_on, letters_are_safe]
    case.lane.run()

    assert seen == [({0: 0, 1: 1}, "paused", 0), {0: 0, 1: 2}]
    assert case.handed() == [
        (["bob"], 1, [(1, 1)]),
        (["dan"], 1, [(1, 2)]),
        (["ann"], 1, [(0, 2)]),
        (["cat"], 1, [(0, 3)]),
    ]
    assert (page.state(slot_of("events", 0)), page.dead_letters) == ("running", 1)


def test_a_new_consumer_reads_again_what_was_held_back(page):
    log = Log({0: [bad(0), click("ann", "a", 1)], 1: [click("bob", "b", 0)]})
    case = EventsCase(page, log, Letters(at_once=False))

    def finish_again():
        case.letters.tickets[1].finish()

    log.idle[:0] = [case.lane.reopen, finish_again]
    case.lane.run()

    assert log.opened == [{0: 0, 1: 0}, {0: 0, 1: 1}]
    assert log.closed == 2
    assert case.handed() == [(["bob"], 1, [(1, 1)]), (["ann"], 1, [(0, 2)])]
    assert [t.wanted() for t in case.letters.tickets] == [False, False]
    assert not case.letters.tickets[0].done()
    assert page.dead_letters == 1


def test_a_client_that_gives_up_is_replaced_where_it_stood(page):
    log = Log({0: [click("ann", "a", 0)]})
    case = EventsCase(page, log)

    def give_up():
        log.partitions[0].append(click("bob", "b", 1))
        raise Unavailable

    log.idle[:0] = [give_up]
    case.lane.run()

    assert log.opened == [{0: 0}, {0: 1}]
    assert [users for users, _, _ in case.handed()] == [["ann"], ["bob"]]


def test_a_position_outside_the_log_ends_the_lane(page):
    log = Log({0: []})
    case = EventsCase(page, log)

    def outside():
        raise StateRefused

    log.idle[:0] = [outside]

    with pytest.raises(StateRefused):
        case.lane.run()
    assert log.closed == 1


def test_events_on_a_partition_that_is_not_theirs_are_applied_and_counted(page):
    users = [f"u{n}" for n in range(30)]
    log = Log({0: [click(u, "a", n) for n, u in enumerate(users)], 1: []})
    case = EventsCase(page, log)

    case.lane.run()

    assert case.handed()[0][1] == 30
    assert 0 < page.misplaced < 30


def test_a_poll_is_followed_by_a_rest_for_what_it_brought():
    pace_s = 0.012
    assert rest_after(0, pace_s) == 0.0
    assert rest_after(1, pace_s) == pytest.approx(0.001)
    assert rest_after(12, pace_s) == rest_after(500, pace_s) == pace_s
    # Behind: everything at once.
    assert rest_after(8_000, pace_s) == 0.0
