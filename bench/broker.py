"""A real Kafka broker for one run: Apache Kafka on loopback, over a folder that is removed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SCRIPT = Path(__file__).parents[1] / "tests" / "kafka" / "apache_kafka.py"
_READY = "--bootstrap-servers "


class BrokerMissing(Exception):
    """The broker did not start; the message holds what it said."""


@contextmanager
def running_broker() -> Iterator[str]:
    """Starts Kafka and gives its ``host:port``.

    Raises:
        BrokerMissing: it did not start: Java or the jars are missing, as the message says.
    """
    command = [sys.executable, str(_SCRIPT), "run", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        if _READY not in said:
            msg = f"no Kafka to measure against: {said or 'see above'} (make kafka-jars fetches it)"
            raise BrokerMissing(msg)
        yield said.split(_READY)[1].strip()
    finally:
        process.terminate()
        process.wait()
