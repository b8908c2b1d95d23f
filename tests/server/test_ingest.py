"""What ingest does before it folds."""

import socket
import threading

import pytest

from rankstream.server import ingest
from rankstream.server.child import Control, Inherited
from rankstream.server.config import Settings, State
from rankstream.server.encoder.base import ModelRefused


class LyingEncoder:
    """An encoder whose model loads, and makes no vectors."""

    dimension, fingerprint = 12, "space"

    def warm_up(self):
        message = "the warm-up failed: a vector is not finite"
        raise ModelRefused(message)


@pytest.fixture
def said():
    """A control socket, and the supervisor's end of it."""
    ours, theirs = socket.socketpair()
    yield Control(theirs.detach()), ours
    ours.close()


@pytest.fixture
def opened(monkeypatch):
    """The states that ingest opens; closed here, as the end of its process would."""
    states, open_state = [], ingest.open_state

    def noted(*arguments):
        states.append(open_state(*arguments))
        return states[-1]

    monkeypatch.setattr(ingest, "open_state", noted)
    yield states
    for state in states:
        state.store.close()


def test_a_model_that_fails_is_refused_before_the_log_is_read(tmp_path, monkeypatch, said, opened):
    read = []
    monkeypatch.setattr(ingest, "load_encoder", lambda settings: LyingEncoder())
    monkeypatch.setattr(ingest, "wait_for_log", lambda *_: read.append(True))
    monkeypatch.setattr(ingest, "_stop_on_signal", threading.Event)
    control, ours = said
    settings = Settings(state=State(str(tmp_path), map_size_gib=1, max_rows=50))

    with pytest.raises(ModelRefused, match="the warm-up failed: a vector is not finite"):
        ingest.run(settings, control, Inherited("ingest", 0, (), 0))

    assert read == []
    assert b"ready" not in ours.recv(65_536)
