"""The fake server, a client of it, and the command line that speaks to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_server import Running, run_fake_server
from fake_state import Fake, status
from stream_drivers import Async, Blocking

from rankstream.client import Client
from rankstream.client.cli import main


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


@pytest.fixture(params=[Blocking, Async])
def driver(running: Running, request: pytest.FixtureRequest) -> Blocking:
    """One form of client after the other."""
    made: Blocking = request.param(running)
    return made


@pytest.fixture
def make_status() -> Any:
    return status


@pytest.fixture
def run(running: Running) -> Any:
    """``rankstream`` with these arguments, asking the fake server."""

    def invoke(*arguments: str, **options: Any) -> Result:
        targets = ["--target", running.target, "--admin-target", running.target]
        environment = {"COLUMNS": "200", "TERM": "dumb"}
        return CliRunner().invoke(main, [*targets, *arguments], env=environment, **options)

    return invoke
