"""Opening the state: what another version, another limit or a damaged disk left is refused."""

import errno

import numpy as np
import pytest

from rankstream.server import writable
from rankstream.server.announce import Announcements
from rankstream.server.catalog.blocks import make_layout
from rankstream.server.catalog.segments import generation_folder
from rankstream.server.checkpoint import CHECKPOINT_FILE, Checkpoints
from rankstream.server.config import Encoding, Scoring, Settings, State
from rankstream.server.errors import CorruptState, StateRefused
from rankstream.server.generation import Generation
from rankstream.server.paths import Paths
from rankstream.server.store import Store
from rankstream.server.writable import open_rows, open_state, served_generation

LAYOUT = make_layout(12, Scoring())


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path)


def opened(paths, space="space", layout=LAYOUT, encoding=None, **state):
    settings = Settings(state=State(str(paths.root), map_size_gib=1, max_rows=50, **state))
    page = Announcements(paths.page, write=True)
    opened = open_state(settings, paths, page)
    try:
        generation = served_generation(opened.store, encoding or Encoding())
        return open_rows(settings, paths, opened, generation, layout, space)
    except BaseException:
        opened.store.close()
        raise


def closed(rows):
    rows.segments.close()
    rows.store.close()


def with_rows(paths):
    """A state with two rows."""
    state = opened(paths)
    rows = np.ones((2, LAYOUT.stride), np.float32)
    facts = [np.full((n, 2), n, np.uint64) for n in (2, 1)]
    keys = np.array([7, 8], np.uint64)
    count, checksum = state.segments.append(0, rows, keys, ["a", "bc"], facts)
    with state.store.write() as txn:
        packed = np.array([count, checksum], "<i8").tobytes()
        txn.put("checksums", (0).to_bytes(8, "big"), packed)
    closed(state)


def test_a_state_opens_again_with_its_rows(paths):
    with_rows(paths)

    state = opened(paths)

    assert state.segments.segments.keys[:2].tolist() == [7, 8]
    assert state.segments.segments.ids[:3].tobytes() == b"abc"
    assert state.segments.segments.facts_of(1).tolist() == [[1, 1]]
    closed(state)


def test_a_state_goes_on_with_the_encoder_that_it_has(paths):
    closed(opened(paths, encoding=Encoding(model="/one", precision="f32")))

    state = opened(paths)

    assert state.generation == Generation("a", 1, Encoding(model="/one", precision="f32"))
    closed(state)


def test_what_is_given_again_takes_the_place_of_what_is_stored(paths):
    closed(opened(paths, encoding=Encoding(model="/one", precision="f32")))
    closed(opened(paths, encoding=Encoding(model="/moved", cache_mib=5)))

    state = opened(paths)

    assert state.generation.encoding == Encoding(model="/moved", precision="f32", cache_mib=5)
    closed(state)


def test_the_start_says_which_encoder_it_takes_and_why(paths, caplog):
    caplog.set_level("INFO", "rankstream.server.writable")
    for encoding in (Encoding("/one"), Encoding(), Encoding("/moved", precision="f32")):
        closed(opened(paths, encoding=encoding))

    assert [record.getMessage() for record in caplog.records] == [
        "the state is new: generation 1 will be encoded by /one",
        "the state has generation 1 served, encoded by /one; given at this start: nothing else",
        "the state has generation 1 served, encoded by /one; given at this start: model '/moved' "
        "for '/one', precision 'f32' for 'auto', taken if the vectors stay the same",
    ]


def test_another_encoder_is_refused_and_the_way_to_it_is_named(paths):
    closed(opened(paths, encoding=Encoding(model="/one")))
    wider = make_layout(20, Scoring())

    with pytest.raises(StateRefused) as refused:
        opened(paths, "other space", wider, Encoding(model="/two"))

    assert "generation 1 is encoded by /one" in str(refused.value)
    assert "rankstream reindex" in str(refused.value)
    state = opened(paths)
    assert state.generation.encoding.model == "/one"
    closed(state)


def test_other_blocks_are_refused(paths):
    closed(opened(paths))

    with pytest.raises(StateRefused, match=r"blocks .*image"):
        opened(paths, layout=make_layout(12, Scoring(vectors="image:4")))


def test_files_that_no_generation_has_are_removed(paths):
    closed(opened(paths))
    stray = generation_folder(paths.segments, 9)
    stray.mkdir()

    closed(opened(paths))

    assert [p.name for p in paths.segments.glob("gen*")] == ["generation-00000001"]


def test_a_state_of_another_layout_is_refused_before_a_file_is_made(paths):
    store = Store(paths.store, map_size_gib=1, write=True)
    with store.write() as txn:
        txn.fix_setting("layout", b"1", "")
    store.close()

    with pytest.raises(StateRefused, match=r"layout '1', .*another version .* empty --data-dir"):
        opened(paths)

    assert not paths.segments.exists()


@pytest.mark.parametrize("at", [0, 8 * 50, 16 * 50 + 2, 24 * 50 + 47, (24 + 4096) * 50 + 2])
def test_a_state_with_damaged_names_or_facts_is_refused(paths, at):
    with_rows(paths)
    with (generation_folder(paths.segments, 1) / "about.bin").open("r+b") as file:
        file.seek(at)
        file.write(b"\x55")

    with pytest.raises(CorruptState, match="rows 0 to 1"):
        opened(paths)


def test_a_full_disk_does_not_end_the_checkpoints(tmp_path, store, monkeypatch, caplog):
    page = Announcements(tmp_path / "page", write=True)
    state = writable.State(store, page, popularity=None, fold=None)

    def refuse(*args):
        raise OSError(errno.ENOSPC, "no space")

    with store.write() as txn:
        txn.put("meta", b"key", b"value")
    with monkeypatch.context() as full:
        full.setattr(Checkpoints, "_write", refuse)
        state.checkpoint()
        assert 0 <= page.refusal_age_ms < 60_000
    assert "cannot be synced, trying again" in caplog.text
    before = (tmp_path / "state" / CHECKPOINT_FILE).read_bytes()

    state.checkpoint()

    assert (tmp_path / "state" / CHECKPOINT_FILE).read_bytes() != before
