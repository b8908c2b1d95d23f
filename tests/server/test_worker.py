"""What a worker checks before it serves."""

from types import SimpleNamespace

import pytest

from rankstream.server.config import Encoding
from rankstream.server.errors import StateRefused
from rankstream.server.generation import Generation
from rankstream.server.generations import fix_space
from rankstream.server.store import Store
from rankstream.server.worker import _require_same_space


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "state", map_size_gib=1, write=True)
    with made.write() as txn:
        fix_space(txn, "a", "space 1", "")
    yield made
    made.close()


def test_a_model_whose_files_have_changed_is_refused(store):
    generation = Generation("a", 3, Encoding(model="/models/toys"))

    def parts_of(space):
        return SimpleNamespace(store=store, encoder=SimpleNamespace(fingerprint=space))

    _require_same_space(parts_of("space 1"), generation)
    with pytest.raises(StateRefused, match="generation 3 .* /models/toys now gives space 2"):
        _require_same_space(parts_of("space 2"), generation)
