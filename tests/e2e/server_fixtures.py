"""Servers for tests: ``serve`` makes them, and what they printed is shown where a test fails."""

import functools
import itertools

import pytest
from server_process import ServerProcess, warm_encoder_cache

_running: list[ServerProcess] = []
_numbers = itertools.count()


@pytest.fixture(scope="session")
def encoder_cache(tmp_path_factory):
    return warm_encoder_cache(tmp_path_factory.getbasetemp() / "encoder-cache")


@pytest.fixture(scope="module")
def serve_shared(tmp_path_factory, encoder_cache):
    """``serve`` for servers that a module's tests share."""
    yield from _factory(tmp_path_factory.mktemp("servers"), encoder_cache)


@pytest.fixture(scope="module", params=["embedded", "kafka"])
def serve_on(request, serve_shared):
    """``serve_shared`` over each broker: ``serve_on("prefix.", vectors="image:3")``."""
    if request.param == "embedded":
        # It is this server's alone, and its topics have no prefix of their own.
        return lambda prefix, **flags: serve_shared(**flags)
    broker = request.getfixturevalue("kafka_broker")
    return functools.partial(serve_shared, broker.bootstrap)


@pytest.fixture
def serve(tmp_path, encoder_cache):
    """Makes servers, not yet started: ``serve(bootstrap, prefix, history_cap=5)``."""
    yield from _factory(tmp_path, encoder_cache)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for server in _running:
            report.sections.append(
                (f"log of the server over {server.data_dir}", server.log[-6000:])
            )
    return report


def _factory(folder, encoder_cache):
    made = []

    def make(bootstrap="", prefix="rankstream.", data_dir=None, **flags):
        where = data_dir or folder / f"data-{next(_numbers)}"
        made.append(ServerProcess(where, encoder_cache, bootstrap, prefix, **flags))
        _running.append(made[-1])
        return made[-1]

    yield make
    for server in made:
        server.kill()
        _running.remove(server)
