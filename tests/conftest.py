"""For the whole test tree: an empty state, the embedded broker, and Apache Kafka where fetched.

``broker`` runs a test against both. Under REQUIRE_KAFKA=1 a missing Kafka is a failure, not a skip.

The folders here are no packages: a module beside the tests is imported by its name, from any of
them, so no two may share one. The modules of ``bench`` are imported as they import each other.
"""

import itertools
import os
import re
import sys
import warnings
from pathlib import Path

import pytest

with warnings.catch_warnings():
    # kafka-python reads its schemas with deprecated functions while it is imported
    warnings.filterwarnings("ignore", "(read|open)_text is deprecated", DeprecationWarning)
    import kafka  # noqa: F401

from rankstream.server.store import Store
from rankstream.server.stream.embedded_broker import EmbeddedBroker

TESTS = Path(__file__).parent

# Behind everything else: the names are short, and nothing may be hidden by them.
sys.path += [*map(str, sorted(TESTS.glob("[a-z]*/"))), str(TESTS.parent / "bench")]
pytest.register_assert_rewrite(
    *(path.stem for path in TESTS.glob("*/*.py") if path.stem != "conftest")
)

import apache_kafka  # noqa: E402 - found just above


@pytest.fixture
def store(tmp_path):
    """An empty state, to be written."""
    made = Store(tmp_path / "state", map_size_gib=1, write=True)
    yield made
    made.close()


def kafka_or_skip(data_dir):
    """A new, not yet started KafkaBroker over ``data_dir``."""
    try:
        return apache_kafka.KafkaBroker(data_dir)
    except apache_kafka.KafkaMissing as missing:
        if os.environ.get("REQUIRE_KAFKA") == "1":
            pytest.fail(f"REQUIRE_KAFKA=1, but {missing}", pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def embedded_broker(tmp_path_factory):
    """A running EmbeddedBroker, shared: do not stop it."""
    with EmbeddedBroker(tmp_path_factory.mktemp("embedded-broker")) as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory):
    """A running KafkaBroker, shared: do not stop it."""
    broker = kafka_or_skip(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(params=["embedded", "kafka"])
def broker(request):
    """Either shared broker: ``.bootstrap``, and ``.incarnations`` (empty for Kafka)."""
    return request.getfixturevalue(f"{request.param}_broker")


@pytest.fixture(params=["embedded", "kafka"])
def own_broker(request, tmp_path):
    """A broker of this test alone, not yet started: start, stop, kill and restart it at will."""
    if request.param == "embedded":
        made = EmbeddedBroker(tmp_path / "broker")
    else:
        made = kafka_or_skip(tmp_path / "broker")
    yield made
    made.stop()


_numbers = itertools.count()


@pytest.fixture
def topic_prefix(request):
    """A prefix for topics that no other test has."""
    name = re.sub(r"[^a-zA-Z0-9]+", "-", request.node.name)[:60].strip("-")
    return f"{name}.{next(_numbers)}."
