"""A power loss leaves any mixture of pages; opening goes back to the last checkpoint."""

import os
import random

import pytest

import rankstream.server.store as store_module
from rankstream.server.checkpoint import CHECKPOINT_FILE, lead_to, recover
from rankstream.server.errors import CorruptState
from rankstream.server.store import OF_A_SLOT, Store

PAGE = 4096


def opened(folder):
    return Store(folder, map_size_gib=1, write=True)


def contents(store):
    with store.read() as view:
        return {
            name: [(key, bytes(value)) for key, value in view.items_from(name, b"")]
            for name in ("meta", "recent", "settled", *OF_A_SLOT)
        }


def commit(store, rng):
    with store.write() as txn:
        for _ in range(40):
            key = b"%05d" % rng.randrange(500)
            txn.put("settled", key, rng.randbytes(rng.choice([10, 500, 3000, 9000])))
            txn.put("recent", key, rng.randbytes(700))
            txn.delete("settled", b"%05d" % rng.randrange(500))


def disk_after_power_loss(before, after, rng):
    """The file as it may be found: of the pages written since ``before``, only some."""
    disk = bytearray(before.ljust(len(after), b"\0"))
    share = rng.choice([0.1, 0.5, 0.9])
    for at in range(0, len(after), PAGE):
        if rng.random() < share:
            disk[at : at + PAGE] = after[at : at + PAGE]
    return bytes(disk)


@pytest.fixture
def another_boot(monkeypatch):
    def begin():
        monkeypatch.setattr(store_module, "boot_id", lambda: b"another boot")

    return begin


@pytest.mark.parametrize("seed", range(12))
def test_the_state_goes_back_to_the_checkpoint_whatever_pages_were_lost(
    tmp_path, another_boot, seed
):
    rng = random.Random(seed)
    store = opened(tmp_path / "running")
    for _ in range(rng.randrange(1, 4)):
        commit(store, rng)
    store.checkpoint()
    wanted = contents(store)
    data = tmp_path / "running" / "data.mdb"
    before, checkpoint = data.read_bytes(), (tmp_path / "running" / CHECKPOINT_FILE).read_bytes()
    for _ in range(rng.randrange(1, 9)):
        commit(store, rng)
    lost = tmp_path / "lost"
    lost.mkdir()
    (lost / "data.mdb").write_bytes(disk_after_power_loss(before, data.read_bytes(), rng))
    (lost / CHECKPOINT_FILE).write_bytes(checkpoint)

    another_boot()
    recovered = opened(lost)

    assert contents(recovered) == wanted
    commit(recovered, rng)
    recovered.close()
    store.close()


def test_after_a_kill_in_the_same_boot_nothing_goes_back(tmp_path):
    store, rng = opened(tmp_path / "state"), random.Random(1)
    store.checkpoint()
    commit(store, rng)
    wanted = contents(store)

    # What a new process finds when the old one was killed: the file as the kernel has it.
    assert recover(tmp_path / "state", store_module.boot_id()) is False
    assert contents(store) == wanted
    store.close()


def test_a_clean_close_needs_no_going_back_after_another_boot(tmp_path, another_boot):
    store, rng = opened(tmp_path / "state"), random.Random(2)
    commit(store, rng)
    wanted = contents(store)
    store.close()

    another_boot()
    store = opened(tmp_path / "state")

    assert contents(store) == wanted
    store.close()


def test_an_environment_without_a_checkpoint_was_never_finished(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"half an environment")

    assert recover(tmp_path, b"boot") is True
    assert not (tmp_path / "data.mdb").exists()


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-1], lambda raw: b"x" + raw[1:], lambda _: b""]
)
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    store = opened(tmp_path / "state")
    store.close()
    path = tmp_path / "state" / CHECKPOINT_FILE
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(CorruptState, match="checkpoint"):
        recover(tmp_path / "state", b"another boot")


def test_pages_that_do_not_lead_to_the_commit_are_refused():
    with pytest.raises(CorruptState, match="LMDB"):
        lead_to(os.urandom(2 * PAGE), PAGE, 7)
