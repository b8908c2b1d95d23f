"""Changes of generations as a worker sees them; ingest is played by the test."""

import asyncio
import dataclasses
import json

import pytest
from folders import write_fake_model

from rankstream.server.announce import Announcements
from rankstream.server.config import Encoding, Settings
from rankstream.server.derived import encoder_settings
from rankstream.server.encoder.base import ModelRefused
from rankstream.server.encoder.load import check_encoder
from rankstream.server.errors import InvalidArgument, NotFound, StateRefused, Unavailable
from rankstream.server.generation import Change, Generation
from rankstream.server.generations import (
    fix_space,
    forget_generation,
    put_change,
    put_generation,
    switch,
)
from rankstream.server.paths import Paths
from rankstream.server.services.changes import Changes
from rankstream.server.services.progress import Meter, generations_of
from rankstream.server.types import Head

SERVED = Generation("a", 1, Encoding(model="/one", precision="f32"))
# Longer than what is noted waits for its end.
ANSWER_S = 1.5
KEPT = Generation("b", 2, Encoding(model="/two"))


class Ingest:
    """Notes what it is asked for in the state, or does nothing."""

    def __init__(self, store):
        self.store = store
        self.asked = []
        self.answers = True
        self.gives_up_as = "cancelled"

    def hear(self, line):
        word, _, rest = line.partition(" ")
        assert word == "ask"
        asked = json.loads(rest)
        self.asked.append(asked)
        if not self.answers:
            return
        with self.store.write() as txn:
            if asked["verb"] == "begin":
                put_change(txn, Change.from_json(asked["change"]))
            elif asked["verb"] == "drop":
                forget_generation(txn, "b")
            else:
                self._end(txn, self.gives_up_as)

    def note(self, phase, problem=""):
        with self.store.write() as txn:
            self._end(txn, phase, problem)

    def _end(self, txn, phase, problem=""):
        change = Change.from_json(bytes(txn.get("meta", b"change")).decode())
        put_change(txn, dataclasses.replace(change, phase=phase, problem=problem))


@pytest.fixture
def ingest(store):
    with store.write() as txn:
        put_generation(txn, SERVED)
        fix_space(txn, "a", "one", "")
        txn.set_head(Head(1, 9, 3, 9))
    return Ingest(store)


@pytest.fixture
def page(tmp_path):
    made = Announcements(tmp_path / "page", write=True)
    made.beat()
    made.listens()
    return made


@pytest.fixture
def changes(store, ingest, page, tmp_path):
    def check(encoding):
        check_encoder(encoder_settings(Settings(encoding=encoding), Paths(tmp_path)))

    return Changes(store, page, ingest.hear, check, ANSWER_S)


@pytest.fixture
def model(tmp_path):
    return str(write_fake_model(tmp_path / "model"))


def keep(store):
    with store.write() as txn:
        put_generation(txn, KEPT)
        txn.of("b").set_head(Head(2, 4, 3, 4))


async def first(progress):
    try:
        return await anext(progress)
    finally:
        await progress.aclose()


def run(awaitable):
    return asyncio.run(awaitable)


async def everything(progress):
    return [step async for step in progress]


def test_a_change_is_asked_for_with_the_whole_encoder(changes, ingest, model):
    step = run(first(changes.reindex("mine", model, {"precision": "bf16", "max_tokens": "16"})))

    assert (step.id, step.kind, step.phase, step.generation) == ("mine", "reindex", "loading", 2)
    assert (step.items, step.items_total, step.space_fingerprint) == (0, 9, "")
    asked = Change.from_json(ingest.asked[0]["change"])
    wanted = Encoding(model=model, precision="bf16", max_tokens=16)
    assert asked.target == Generation("b", 2, wanted)


def test_without_a_model_the_served_one_is_taken_with_its_settings(changes, ingest, model, store):
    with store.write() as txn:
        put_generation(txn, dataclasses.replace(SERVED, encoding=Encoding(model, max_tokens=16)))

    run(first(changes.reindex("", "", {"cache_mib": "3"})))

    asked = Change.from_json(ingest.asked[0]["change"])
    assert asked.target.encoding == Encoding(model, max_tokens=16, cache_mib=3)
    assert len(asked.id) == 32


def test_the_same_id_follows_what_it_began(changes, ingest, model):
    run(first(changes.reindex("mine", model, {})))
    ingest.note("failed", "too little memory")

    steps = run(everything(changes.reindex("mine", model, {})))

    assert [(s.phase, s.problem) for s in steps] == [("failed", "too little memory")]
    assert len(ingest.asked) == 1


def test_an_id_stands_for_one_change_ever(changes, ingest, model, store):
    keep(store)
    run(first(changes.reindex("deploy-42", model, {})))
    ingest.note("done")
    with pytest.raises(StateRefused, match="id deploy-42 is of a reindex: give another id"):
        run(first(changes.rollback("deploy-42")))
    with pytest.raises(StateRefused, match=f"id deploy-42 is of a reindex to {model}: give anot"):
        run(first(changes.reindex("deploy-42", "/another", {})))
    assert run(first(changes.reindex("deploy-42", "", {}))).phase == "done"
    run(first(changes.rollback("back")))
    ingest.note("done")

    for again in (changes.reindex("deploy-42", model, {}), changes.rollback("deploy-42")):
        with pytest.raises(StateRefused, match="deploy-42 ended, and another .*: give another id"):
            run(first(again))
    assert len(ingest.asked) == 2


def test_a_second_change_is_refused_and_the_first_is_named(changes, model):
    run(first(changes.reindex("mine", model, {})))

    for second in (changes.reindex("", model, {}), changes.rollback(""), changes.rollback("x")):
        with pytest.raises(StateRefused, match=r"reindex mine to generation 2 .*\(loading\)"):
            run(first(second))
    with pytest.raises(StateRefused, match="reindex mine"):
        run(changes.drop())


def test_what_is_asked_wrongly_is_refused_before_ingest_hears_of_it(changes, ingest, model):
    for arguments, problem in (
        (("", model, {"colour": "red"}), r"settings\[colour\]: no such setting of an encoder"),
        (("", model, {"cache_mib": "much"}), r"settings\[cache_mib\]: 'much' is str, expected int"),
        (("", model, {"model": "/x"}), r"settings\[model\]: expected a setting beside"),
        (("", "x" * 5000, {}), "model: 5000 characters"),
        (("a b", model, {}), "id: 'a b', expected up to 64"),
        (
            ("", model, {"backend": "abacus"}),
            r"settings\[backend\]: 'abacus'; expected one of",
        ),
        (("", model, {"precision": "int3"}), r"settings\[precision\]: 'int3'; expected one of"),
        (("", model, {"dimensions": "99"}), r"settings\[dimensions\]: 99; model gives 1 to 4"),
        (("", model, {"max_tokens": "-1"}), r"settings\[max_tokens\]: -1; model reads 8 to 64"),
        (("", model, {"max_batch_tokens": "3"}), r"settings\[max_batch_tokens\]: 3; a text of"),
        (("", model, {"cache_mib": "-1"}), r"settings\[cache_mib\]: -1, expected MiB"),
        (("", model, {"item_prompt": "x"}), r"settings\[item_prompt\]: no prompt 'x'"),
    ):
        with pytest.raises(InvalidArgument, match=problem):
            run(first(changes.reindex(*arguments)))
    with pytest.raises(ModelRefused, match="/nowhere"):
        run(first(changes.reindex("", "/nowhere", {})))
    assert ingest.asked == []


def test_an_ingest_that_is_away_is_said_so(changes, ingest, model):
    ingest.answers = False

    with pytest.raises(Unavailable, match="ingest did not begin within 1.5 s"):
        run(first(changes.reindex("", model, {})))


def test_an_ingest_that_cannot_begin_for_a_full_disk_is_said_so(changes, ingest, model, page):
    ingest.answers = False
    page.refused()

    with pytest.raises(Unavailable, match=r"did not begin within 1.5 s: the disk refuses"):
        run(first(changes.reindex("", model, {})))


def test_an_ingest_that_waits_for_the_log_is_not_asked(store, ingest, model, tmp_path):
    page = Announcements(tmp_path / "new page", write=True)
    changes = Changes(store, page, ingest.hear, lambda encoding: None, 0.2)
    with pytest.raises(Unavailable, match="ingest is not there"):
        run(first(changes.reindex("", model, {})))

    page.beat()

    with pytest.raises(Unavailable, match="waits for the log: the broker does not answer"):
        run(first(changes.reindex("", model, {})))
    keep(store)
    with pytest.raises(Unavailable, match="waits for the log"):
        run(changes.drop())
    assert ingest.asked == []


def test_nothing_to_follow_to_roll_back_to_or_to_give_up(changes, model):
    with pytest.raises(NotFound, match="no such change"):
        run(first(changes.follow()))
    with pytest.raises(NotFound, match="no generation is kept"):
        run(first(changes.rollback("")))
    with pytest.raises(NotFound, match="no generation is kept"):
        run(changes.drop())
    with pytest.raises(StateRefused, match="no change of generations is under way"):
        run(changes.cancel())
    run(first(changes.reindex("mine", model, {})))
    with pytest.raises(NotFound, match="another has begun since"):
        run(first(changes.follow("other")))


def test_back_to_what_is_kept(changes, ingest, store):
    keep(store)

    step = run(first(changes.rollback("back")))

    assert (step.id, step.kind, step.generation, step.items) == ("back", "rollback", 2, 4)
    assert Change.from_json(ingest.asked[0]["change"]).target == KEPT


def test_a_change_is_given_up(changes, ingest, model):
    run(first(changes.reindex("mine", model, {})))

    assert run(changes.cancel()).phase == "cancelled"
    assert ingest.asked[1:] == [{"verb": "cancel", "id": "mine"}]


def test_to_give_up_a_change_whose_model_still_loads_is_noted_at_once(changes, ingest, model):
    run(first(changes.reindex("mine", model, {})))
    ingest.gives_up_as = "cancelling"

    assert run(changes.cancel()).phase == "cancelling"


def test_a_disk_that_refuses_is_told_of(changes, ingest, model, page, store):
    assert run(first(changes.reindex("mine", model, {}))).waiting == ""

    page.refused()

    assert "the disk refuses" in run(first(changes.follow())).waiting
    ingest.note("failed", "why")
    assert run(first(changes.follow())).waiting == ""


def test_what_is_served_already_is_not_given_up(changes, ingest, model):
    run(first(changes.reindex("mine", model, {})))
    ingest.note("draining")

    wait = r"generation 2 is served already.*wait until the workers of before .*\(WatchReindex\)"
    with pytest.raises(StateRefused, match=wait + ", then roll back"):
        run(changes.cancel())
    with pytest.raises(StateRefused, match=wait) as raised:
        run(first(changes.rollback("")))
    assert "CancelReindex" not in str(raised.value)
    assert len(ingest.asked) == 1


def test_what_was_served_before_it_could_be_given_up(changes, ingest, model):
    for phase, problem in (("draining", "wait until the workers"), ("done", "roll back instead")):
        run(first(changes.reindex(phase, model, {})))
        ingest.gives_up_as = phase

        with pytest.raises(StateRefused, match=f"generation 2 is served already.*{problem}"):
            run(changes.cancel())
        ingest.note("done")


def test_what_is_kept_is_dropped(changes, store):
    keep(store)
    for other in (1, 7):
        with pytest.raises(NotFound, match=f"generation {other} is not kept; generation 2 is"):
            run(changes.drop(other))

    assert run(changes.drop()) == 2
    keep(store)
    assert run(changes.drop(2)) == 2


def test_a_worker_of_before_sends_on_to_the_others(changes, ingest, model, store):
    run(first(changes.reindex("mine", model, {})))
    ingest.note("draining")
    keep(store)
    with store.write() as txn:
        assert switch(txn, "b", 1)

    async def follow():
        progress = changes.follow("mine")
        assert (await anext(progress)).phase == "draining"
        await anext(progress)

    with pytest.raises(Unavailable, match="being replaced: ask again"):
        run(follow())


def test_the_generations_of_a_state(changes, ingest, model, store):
    keep(store)
    with store.read() as view:
        found = [(g.number, g.state, g.model, g.items) for g in generations_of(view)]
    assert found == [(1, "served", "/one", 9), (2, "kept", "/two", 4)]

    run(first(changes.rollback("back")))

    with store.read() as view:
        assert [g.state for g in generations_of(view)] == ["served", "made"]


def test_a_rate_and_what_is_left(monkeypatch):
    from rankstream.proto.v1 import admin_pb2
    from rankstream.server.services import progress

    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    meter = Meter()

    def measured(phase, items):
        step = admin_pb2.ReindexProgress(
            phase=phase, items=items, items_total=100, texts_total=20, eta_s=-1
        )
        meter.measure(step)
        return step.rate, step.eta_s

    assert measured("loading", 0) == (0, -1)
    assert measured("encoding", 10) == (0, -1)
    now[0] = 105.0
    assert measured("encoding", 60) == (10, 6)
    assert measured("starting", 100) == (0, -1)
