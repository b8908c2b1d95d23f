"""The fake server, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fake_server import Running, run_fake_server
from fake_state import Fake, status

from rankstream.client import Client


@pytest.fixture
def running() -> Iterator[Running]:
    """A fake server with three items, each call of which answers at once."""
    with run_fake_server() as made:
        yield made


@pytest.fixture
def fake(running: Running) -> Fake:
    return running.fake


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    with running.client() as made:
        yield made


@pytest.fixture
def make_status() -> Any:
    return status
