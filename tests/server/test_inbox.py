"""What ends the making of a generation, and what does not."""

import json
import threading

import pytest

from rankstream.server.inbox import Cancelled, Failed, Inbox, Stopped

BEGIN = {"verb": "begin", "change": "{}"}


def ask(verb, **more):
    return "ask " + json.dumps({"verb": verb, **more})


CANCEL = ask("cancel", id="some")


def unfit(number):
    return "unfit " + json.dumps({"number": number, "why": "worker-0: no such folder"})


@pytest.fixture
def inbox():
    made = Inbox()
    made.makes(7, "some")
    return made


def test_how_crews_are_is_remembered(inbox):
    inbox.tell("warm 7")
    inbox.tell("drained 8")
    inbox.tell('delay "worker-0 hangs"')

    inbox.check()

    assert (inbox.warm, inbox.drained, inbox.delay) == (7, 8, "worker-0 hangs")


def test_somebody_may_give_up_what_is_made(inbox):
    inbox.tell(CANCEL)

    with pytest.raises(Cancelled):
        inbox.wait()


def test_another_change_than_the_one_that_was_seen_is_not_given_up(inbox):
    inbox.tell(ask("cancel", id="the one before"))
    inbox.check()

    inbox.tell(CANCEL)
    with pytest.raises(Cancelled):
        inbox.check()


def test_what_is_asked_while_nothing_is_made_is_heard_later_in_its_order(inbox):
    inbox.makes_nothing()
    inbox.tell(ask("drop", number="1"))
    inbox.tell("ask " + json.dumps(BEGIN))
    inbox.check()
    inbox.tell(ask("drop", number="2"))

    asked = [inbox.asked() for _ in range(3)]

    assert asked == [{"verb": "drop", "number": "1"}, BEGIN, {"verb": "drop", "number": "2"}]


def test_what_was_refused_because_something_is_made_is_not_done_afterwards(inbox):
    inbox.tell("ask " + json.dumps(BEGIN))
    inbox.check()
    inbox.makes_nothing()
    inbox.tell(ask("drop", number="1"))
    inbox.check()
    inbox.forget_asked()
    inbox.tell(ask("drop", number="2"))

    assert inbox.asked() == {"verb": "drop", "number": "2"}


def test_nobody_gives_up_what_is_served(inbox):
    inbox.makes_nothing()
    inbox.tell(CANCEL)
    inbox.tell(unfit(7))
    inbox.break_off(OSError("the disk"))

    inbox.check()


def test_workers_that_do_not_start_fail_the_generation_that_they_are_of(inbox):
    inbox.tell(unfit(6))
    inbox.check()
    inbox.tell(unfit(7))

    with pytest.raises(Failed, match="its workers do not start: worker-0: no such folder"):
        inbox.check()


def test_a_lane_that_cannot_go_on_fails_it(inbox):
    inbox.break_off(ValueError())

    with pytest.raises(Failed, match="ValueError"):
        inbox.wait()


def test_the_end_of_ingest_is_the_end_of_everything(inbox):
    inbox.stop()

    with pytest.raises(Stopped):
        inbox.asked()


def test_a_moment_passes_where_nothing_is_said(inbox):
    inbox.wait()

    inbox.makes_nothing()
    threading.Timer(0.05, inbox.tell, ["ask " + json.dumps({"verb": "drop"})]).start()
    assert inbox.asked() == {"verb": "drop"}
