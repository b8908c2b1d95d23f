"""A child process says what it has reached, and its exit status whether to start it again."""

import json
import os
import socket
import subprocess
import sys

import pytest

from rankstream.server.child import REFUSED, Inherited
from rankstream.server.config import from_mapping, to_json
from rankstream.server.errors import RankstreamError
from rankstream.server.supervisor import require_free

_CHILD = """
import sys
from rankstream.server import errors
from rankstream.server.child import child_main

def run(settings, control, inherited):
    control.send(f"{inherited.name} {settings.listen.port}")
    if inherited.name != "fine":
        arguments = ("k", "bad") if inherited.name == "InvalidArgument" else ("no",)
        raise getattr(errors, inherited.name)(*arguments)

sys.exit(child_main(run, sys.argv[1:]))
"""


def spawn(name, parent=None):
    """Exit status and lines of a child of this name."""
    ours, theirs = socket.socketpair()
    inherited = Inherited(name, theirs.fileno(), (), os.getpid() if parent is None else parent)
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, inherited.argv(), to_json(from_mapping({"port": 7}))],
        pass_fds=[theirs.fileno()],
        capture_output=True,
        check=False,
    )
    theirs.close()
    with ours, ours.makefile() as lines:
        return done.returncode, lines.read().splitlines()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("fine", 0),
        ("Unavailable", 1),
        ("StateRefused", REFUSED),
        ("CorruptState", REFUSED),
        ("InvalidArgument", REFUSED),
    ],
)
def test_what_another_start_would_meet_again_is_refused(name, code):
    status, lines = spawn(name)

    assert status == code
    assert lines[0] == f"{name} 7"
    reason = "k: bad" if name == "InvalidArgument" else "no"
    assert lines[1:] == ([f"problem {json.dumps(reason)}"] if code else [])


def test_a_child_whose_parent_has_gone_does_not_begin():
    status, lines = spawn("fine", parent=1)

    assert status == 1
    assert lines == []


def test_what_is_inherited_survives_its_way():
    inherited = Inherited("worker-3", 5, (6, 7), 99)

    assert Inherited.from_argv(inherited.argv()) == inherited


def test_a_port_that_is_taken_is_refused_with_its_flag():
    with socket.socket() as taken, socket.socket() as free:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free.bind(("127.0.0.1", 0))
        ports = {"port": free.getsockname()[1], "admin_port": taken.getsockname()[1]}
        free.close()

        with pytest.raises(RankstreamError, match=f"{ports['admin_port']} cannot .*--admin-port"):
            require_free(from_mapping(ports))


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(RankstreamError, match="192.0.2.1:.* cannot be bound"):
        require_free(from_mapping({"host": "192.0.2.1"}))
