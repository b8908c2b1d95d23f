"""What is waited for before a generation is served."""

import threading
from types import SimpleNamespace

import pytest

from rankstream.server.handover import await_bias
from rankstream.server.inbox import Inbox, Stopped


class Lanes:
    """Lanes whose bias the disk refuses, until it has room."""

    def __init__(self):
        self.rows = SimpleNamespace(bias=SimpleNamespace(refused=False))
        self.room = False

    def refresh_bias(self):
        self.rows.bias.refused = not self.room


@pytest.fixture
def lanes():
    return Lanes()


def test_a_bias_that_the_disk_refuses_is_waited_for(lanes):
    waiting = threading.Thread(target=await_bias, args=(lanes, Inbox()))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()

    lanes.room = True
    lanes.refresh_bias()

    waiting.join(10)
    assert not waiting.is_alive()


def test_nobody_waits_for_a_bias_once_ingest_ends(lanes):
    inbox = Inbox()
    inbox.stop()

    with pytest.raises(Stopped):
        await_bias(lanes, inbox)
