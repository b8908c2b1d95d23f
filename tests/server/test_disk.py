"""A disk that takes nothing is told in one line, wherever a start meets it."""

import errno
import subprocess
import sys

import lmdb
import pytest
from server_process import free_ports

from rankstream.server.errors import StateRefused, Unavailable
from rankstream.server.paths import Paths
from rankstream.server.writable import only_writer

_ON_A_FULL_DISK = """
import errno
from rankstream.server.main import serve
from rankstream.server.stream.embedded_broker import EmbeddedBroker

def refuse(self):
    raise OSError(errno.ENOSPC, "No space left on device")

EmbeddedBroker.start = refuse
serve()
"""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left"),
        OSError(errno.EROFS, "Read-only"),
        lmdb.DiskError("x"),
    ],
    ids=["full", "read-only", "lmdb"],
)
def test_what_the_only_writer_meets_names_the_folder(tmp_path, error):
    said = f"{tmp_path}: .*; make room on that disk"
    with pytest.raises(Unavailable, match=said), only_writer(Paths(tmp_path)):
        raise error


@pytest.mark.parametrize("error", [BrokenPipeError("gone"), StateRefused("no"), ValueError("no")])
def test_other_errors_go_on_as_they_are(tmp_path, error):
    with pytest.raises(type(error)) as raised, only_writer(Paths(tmp_path)):
        raise error
    assert raised.value is error


def test_a_first_start_on_a_full_disk_ends_with_one_line(tmp_path):
    port, admin_port = map(str, free_ports(2))
    arguments = ["--embedded", "--port", port, "--admin-port", admin_port, "--data-dir", tmp_path]

    done = subprocess.run(
        [sys.executable, "-c", _ON_A_FULL_DISK, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"error: {tmp_path}: [Errno 28] No space left on device; make room on that disk, or mend it"
    )
    assert "Traceback" not in done.stderr
