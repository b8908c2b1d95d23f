"""A change that an ingest of before has begun, or that cannot be made; the whole way is in e2e."""

import dataclasses
import json
import shutil
import threading
from types import SimpleNamespace

import pytest

import rankstream.server.store as store_module
from rankstream.server import encoder_loading, reindexing
from rankstream.server.announce import Announcements
from rankstream.server.clock import now_ms
from rankstream.server.config import Encoding, Settings, State
from rankstream.server.encoder.base import EncoderError
from rankstream.server.generation import Change, Generation
from rankstream.server.generations import (
    forget_generation,
    generation_in,
    held_slots,
    known_ids,
    newest_change,
    put_change,
    put_generation,
    switch,
)
from rankstream.server.handover import await_encoded
from rankstream.server.notes import Notes
from rankstream.server.reindexing import Reindexing
from rankstream.server.store import OF_A_SLOT, Store
from rankstream.server.types import Position

SERVED = Generation("a", 1, Encoding())
OTHER = Generation("b", 2, Encoding(model="/other"))
DAY_MS = 86_400_000
TOPIC = b"items-topic-id.."


class Encoder:
    """Loads; whether it warms up is the test's."""

    def __init__(self, problem=None):
        self.problem, self.closed = problem, False

    def warm_up(self):
        if self.problem is not None:
            raise self.problem

    def close(self):
        self.closed = True


class Case:
    """A state with two generations, and what ingest runs to change them."""

    def __init__(self, folder, store):
        self.store = store
        with store.write() as txn:
            put_generation(txn, SERVED)
            put_generation(txn, OTHER)
        self.page = Announcements(folder / "page", write=True)
        self.said, self.watched, self.failed = [], [], []
        lanes = SimpleNamespace(rows=SimpleNamespace(generation=SERVED))
        self.made = Reindexing(
            Settings(state=State(str(folder))),
            SimpleNamespace(store=store, page=self.page),
            lanes,
            SimpleNamespace(found=None),
            self.watched.append,
            self.said.append,
            self.failed.append,
        )
        self._thread = threading.Thread(target=self.made.run)

    def note(self, change):
        with self.store.write() as txn:
            put_change(txn, change)

    def start(self):
        self._thread.start()

    def ask(self, change):
        asked = {"verb": "begin", "change": change.to_json()}
        self.made.inbox.tell("ask " + json.dumps(asked))

    def until(self, there_is):
        for _ in range(500):
            found = there_is()
            if found:
                return found
            threading.Event().wait(0.01)
        raise AssertionError(self.change())

    def until_ended(self):
        return self.until(lambda: self.change() if self.change() and self.change().ended else None)

    def change(self):
        with self.store.read() as view:
            return newest_change(view)

    def held(self):
        with self.store.read() as view:
            return held_slots(view)

    def stop(self):
        self.made.stop()
        if self._thread.ident is not None:
            self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def case(tmp_path, store):
    made = Case(tmp_path, store)
    yield made
    made.stop()


def change(phase="loading", **given):
    return Change(**{"id": "some", "kind": "reindex", "target": OTHER, "phase": phase, **given})


def test_what_kills_ingest_again_and_again_is_given_up(case):
    case.note(change(attempts=3))

    case.start()

    ended = case.until_ended()
    assert (ended.phase, ended.problem) == (
        "failed",
        "ingest ended 3 times before it got any further; is there memory for both models?",
    )
    assert case.held() == ["a"]
    assert case.said == ["forget"]


def test_a_change_that_is_served_only_waits_for_the_workers_of_before(case):
    with case.store.write() as txn:
        assert switch(txn, "b", 5)
        put_change(txn, change("draining"))

    case.start()
    case.made.inbox.tell("drained 1")
    case.made.inbox.tell("ask " + json.dumps({"verb": "cancel", "id": "some"}))
    case.made.inbox.tell("drained 2")

    assert case.until_ended().phase == "done"
    assert case.said == ["current " + OTHER.to_json()]
    assert case.held() == ["b", "a"]


def test_a_model_that_does_not_warm_up_leaves_what_may_be_rolled_back_to(case, monkeypatch):
    encoder = Encoder(EncoderError("a vector is not finite"))
    monkeypatch.setattr(encoder_loading, "load_encoder", lambda settings: encoder)
    case.start()

    case.ask(change())

    ended = case.until_ended()
    assert (ended.phase, ended.problem) == ("failed", "a vector is not finite")
    # Where there is room and with a number that is new, whatever the worker thought.
    assert (ended.target.slot, ended.target.number) == ("b", 3)
    assert encoder.closed
    with case.store.read() as view:
        assert generation_in(view, "b") == OTHER


def test_only_what_is_encoded_makes_an_attempt_good(case):
    with case.store.write() as txn:
        txn.advance([Position("items", TOPIC, 0, 10_000)])
    begun = change("encoding", attempts=2)
    case.note(begun)
    notes = Notes(case.store, case.page)
    encoding = threading.Thread(target=await_encoded, args=(begun, notes, case.made.inbox))
    encoding.start()
    encoding.join(0.3)
    assert case.change().attempts == 2

    with case.store.write() as txn:
        txn.of("b").advance([Position("items", TOPIC, 0, 1)])

    case.until(lambda: case.change().attempts == 0)
    with case.store.write() as txn:
        txn.of("b").advance([Position("items", TOPIC, 0, 10_000)])
    encoding.join(10)
    assert not encoding.is_alive()


def test_an_attempt_that_ends_with_ingest_does_not_count(case, monkeypatch):
    loading = threading.Event()
    slow = Encoder()
    slow.warm_up = lambda: loading.wait(10)
    monkeypatch.setattr(encoder_loading, "load_encoder", lambda settings: slow)
    case.start()
    case.ask(change())
    case.until(lambda: case.change() and case.change().attempts == 1)

    case.stop()

    assert (case.change().phase, case.change().attempts) == ("loading", 0)
    loading.set()
    case.until(lambda: slow.closed)


def test_a_change_is_given_up_while_its_model_loads(case, monkeypatch):
    loading = threading.Event()
    slow = Encoder()
    slow.warm_up = lambda: loading.wait(10)
    monkeypatch.setattr(encoder_loading, "load_encoder", lambda settings: slow)
    case.start()
    case.ask(change())
    case.until(lambda: case.change() and case.change().attempts == 1)

    case.made.inbox.tell("ask " + json.dumps({"verb": "cancel", "id": "some"}))

    case.until(lambda: case.change().phase == "cancelling")
    loading.set()
    assert case.until_ended().phase == "cancelled"
    case.until(lambda: slow.closed)


def test_what_was_to_be_given_up_is_given_up_by_the_next_ingest(case):
    case.note(change("cancelling"))

    case.start()

    assert case.until_ended().phase == "cancelled"


def test_workers_that_take_long_to_take_over_are_told_of(case):
    with case.store.write() as txn:
        assert switch(txn, "b", 5)
        put_change(txn, change("draining"))
    case.start()

    case.made.inbox.tell('delay "worker-0 hangs"')

    case.until(lambda: case.change().waiting == "worker-0 hangs")
    case.made.inbox.tell("drained 2")
    assert case.until_ended().waiting == ""


@pytest.mark.parametrize(("days", "problem"), [(7, "was left 7 days ago"), (0, "not there any")])
def test_what_cannot_be_rolled_back_to(case, monkeypatch, days, problem):
    monkeypatch.setattr(encoder_loading, "load_encoder", lambda settings: Encoder())
    with case.store.write() as txn:
        txn.of("b").put("generation", b"left at ms", str(now_ms() - days * DAY_MS).encode())
    target = OTHER if days else dataclasses.replace(OTHER, number=9)
    case.start()

    case.ask(change(kind="rollback", target=target))

    ended = case.until_ended()
    assert ended.phase == "failed"
    assert problem in ended.problem
    assert case.held() == ["a", "b"]


def test_what_is_kept_now_is_not_dropped_in_the_place_of_another(case):
    case.start()
    case.made.inbox.tell("ask " + json.dumps({"verb": "drop", "number": "1"}))
    case.ask(change(kind="rollback", target=dataclasses.replace(OTHER, number=9)))

    assert case.until_ended().phase == "failed"
    assert case.held() == ["a", "b"]


def test_what_is_asked_while_a_generation_is_dropped_is_done_afterwards(case, monkeypatch):
    monkeypatch.setattr(encoder_loading, "load_encoder", lambda settings: Encoder(EncoderError()))
    fill(case)
    case.made.inbox.tell("ask " + json.dumps({"verb": "drop", "number": "2"}))
    case.ask(change())

    case.start()

    assert case.until_ended().phase == "failed"
    assert case.held() == ["a"]


def left_of(case, slot):
    with case.store.read() as view:
        return [name for name in OF_A_SLOT if view.of(slot).count(name)]


def fill(case):
    """So much that it takes several commits to remove it."""
    with case.store.write() as txn:
        for n in range(5_000):
            txn.of("b").put("items", n.to_bytes(8, "big"), b"value")


def test_a_change_that_is_given_up_while_it_makes_room_leaves_nothing(case, monkeypatch):
    monkeypatch.setattr(encoder_loading, "load_encoder", lambda settings: Encoder())
    fill(case)
    clear_some = reindexing.clear_some

    def cancelled_meanwhile(txn, slot):
        case.made.inbox.tell("ask " + json.dumps({"verb": "cancel", "id": "some"}))
        return clear_some(txn, slot)

    monkeypatch.setattr(reindexing, "clear_some", cancelled_meanwhile)
    case.start()

    case.ask(change())

    assert case.until_ended().phase == "cancelled"
    case.until(lambda: not left_of(case, "b"))


def test_what_an_ingest_of_before_has_not_removed_to_the_end_is_removed(case):
    fill(case)
    with case.store.write() as txn:
        forget_generation(txn, "b")

    case.start()

    case.until(lambda: not left_of(case, "b"))
    assert case.held() == ["a"]


def test_what_is_asked_under_an_id_of_before_is_not_done_again(case, monkeypatch):
    monkeypatch.setattr(encoder_loading, "load_encoder", lambda settings: Encoder(EncoderError()))
    case.note(change("done"))
    case.note(change("done", id="other"))
    case.start()

    case.ask(change())
    case.ask(change(id="new"))

    case.until(lambda: case.change().id == "new")
    with case.store.read() as view:
        assert known_ids(view) == ["some", "other", "new"]


def test_the_graphs_of_what_is_served_are_not_forgotten(case, monkeypatch, tmp_path):
    forgotten = []
    monkeypatch.setattr(reindexing, "forget_graphs", lambda *given: forgotten.append(given))
    monkeypatch.setattr(reindexing, "find_model", lambda model: SimpleNamespace(root=("at", model)))
    case.start()

    case.made.inbox.tell("ask " + json.dumps({"verb": "drop", "number": "2"}))

    case.until(lambda: forgotten)
    ((cache, kept),) = forgotten
    assert cache.is_relative_to(tmp_path)
    assert kept == [(("at", SERVED.encoding.model), SERVED.encoding.adapter)]


def test_files_go_only_once_a_power_loss_cannot_bring_their_generation_back(
    case, tmp_path, monkeypatch
):
    lost = tmp_path / "lost"

    def lose_power(folder, kept):
        shutil.copytree(tmp_path / "state", lost)

    monkeypatch.setattr(reindexing, "remove_files", lose_power)
    case.start()
    case.made.inbox.tell("ask " + json.dumps({"verb": "drop", "number": "2"}))
    case.until(lost.exists)
    case.stop()

    monkeypatch.setattr(store_module, "boot_id", lambda: b"another boot")
    after = Store(lost, map_size_gib=1, write=True)

    with after.read() as view:
        assert held_slots(view) == ["a"]
    after.close()
