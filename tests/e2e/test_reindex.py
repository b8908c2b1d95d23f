"""Another model while the server serves: what clients see of it, and what is left of it."""

import os
import shutil
import signal

import pytest
from onnx_files import tensor, weights, write_onnx_model
from reindex_cases import (
    STEADY,
    USERS,
    Load,
    answers_of,
    client_of,
    events_of,
    followed,
    generations,
    item,
    nicenesses,
    only_served,
    reasons_of,
    stored_profiles,
    table_of,
    texts_of,
)
from server_process import REFUSED, wait_for, warm_encoder_cache

from rankstream.client import FailedPrecondition, InvalidArgument, NotFound, User
from rankstream.server.paths import Paths

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

# The niceness of what makes a generation that is not served yet.
MADE = 15
F32 = {"precision": "f32"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models of different dimensions, and one whose weights are no numbers."""
    place = tmp_path_factory.mktemp("models")
    no_numbers = tensor("words", weights()["words"] + float("nan"))
    return {
        "small": write_onnx_model(place / "small", width=32),
        "wide": write_onnx_model(place / "wide", width=64),
        "broken": write_onnx_model(place / "broken", words=no_numbers),
    }


@pytest.fixture(scope="module")
def encoder_cache(models, tmp_path_factory):
    """Of the two that work; no server here has the default model."""
    place = tmp_path_factory.mktemp("encoder-cache")
    return warm_encoder_cache(place, models["small"], models["wide"])


@pytest.fixture(scope="module")
def server(models, serve_shared):
    made = serve_shared(model=models["small"], precision="f32").start()
    with client_of(made) as client:
        client.import_items(item(f"item-{n}", n) for n in range(300))
        client.import_items(item(name, 7 * n) for n, name in enumerate(STEADY))
        client.upsert_user(User("user-0", interests=["red train"]))
        token = client.record_events(events_of(USERS)).token
        client.rank(USERS[0], k=1, min_token=token, max_wait_ms=10_000)
        wait_for(lambda: client.server_info().items == 320, "all items")
        wait_for(lambda: reasons_of(client, "user-1") == {"item", "text"}, "encoded texts")
    return made


def forget_flags(server):
    """From now on the state says which model it has."""
    server.flags.pop("model", None)
    server.flags.pop("precision", None)


def over_the_same_log(server, serve_shared, **flags):
    """Another server, which has read the log that this one has; this one is started again."""
    assert server.stop() == 0
    forget_flags(server)
    other = serve_shared(**flags)
    shutil.copytree(Paths(server.data_dir).broker, Paths(other.data_dir).broker)
    server.start()
    return other.start()


def spaces_seen(load, *tables):
    """The space of each answer that a load has seen, all of which are as its table says."""
    by_space = dict(tables)
    spaces = [ranking.served_by.space_fingerprint for _, ranking in load.seen]
    assert set(spaces) == set(by_space)
    for (user, ranking), space in zip(load.seen, spaces, strict=True):
        assert texts_of(ranking).items() <= by_space[space][user].items()
    return spaces


def test_an_answer_is_of_one_model_while_it_changes_and_back(server, models, serve_shared):
    before = stored_profiles(server)
    with client_of(server) as client:
        old = table_of(client)
        with Load(server) as load:
            wait_for(lambda: load.written > 3, "writes")
            phases, last = followed(client.reindex(str(models["wide"]), settings=F32))
            done_at = len(load.seen)
            wait_for(lambda: len(load.seen) > done_at + 20, "answers after the change")
        new = table_of(client)

        assert [p for p in phases if p != "loading"][-3:] == ["starting", "draining", "done"]
        assert (last.generation, last.problem, last.items) == (2, "", last.items_total)
        assert last.texts == last.texts_total > 0
        assert load.failures == []
        assert old[0] != new[0]
        assert set(spaces_seen(load, old, new)[done_at:]) == {new[0]}
        assert stored_profiles(server) == before
        assert generations(client) == [(2, "served"), (1, "kept")]
        assert MADE not in nicenesses(server)

    fresh = over_the_same_log(server, serve_shared, model=models["wide"], precision="f32")
    with client_of(fresh) as other, client_of(server) as client:
        items = client.server_info().items
        wait_for(lambda: other.server_info().items == items, "the same items")
        wait_for(lambda: answers_of(other) == answers_of(client), "the same answers")
        assert table_of(other) == table_of(client) == new
    assert fresh.stop() == 0

    with client_of(server) as client:
        with pytest.raises(InvalidArgument, match=r"vector.shape: \[32\], expected \[64\]"):
            client.rank(vector=[0.5] * 32, k=3)

        client.upsert_items([item("late", 3)])
        token = client.delete_items(["item-9"]).token
        client.rank(USERS[0], k=1, min_token=token, max_wait_ms=10_000)
        with Load(server) as load:
            wait_for(lambda: load.seen, "answers before the change")
            phases, last = followed(client.rollback_reindex())
            done_at = len(load.seen)
            wait_for(lambda: len(load.seen) > done_at + 20, "answers after the change")
        assert (phases[-1], last.kind, last.generation) == ("done", "rollback", 1)
        assert load.failures == []
        assert set(spaces_seen(load, old, new)[done_at:]) == {old[0]}
        assert table_of(client) == old
        assert client.rank("user-0", ["late", "item-9"]).item_ids == ["late"]
        assert generations(client) == [(1, "served"), (2, "kept")]

        assert client.drop_generation() == 2
        only_served(server, client, (1, "served"))
        with pytest.raises(NotFound, match="no generation is kept"):
            client.drop_generation()


def test_a_model_that_fails_changes_nothing(server, models):
    with client_of(server) as client:
        old, held = table_of(client), generations(client)

        phases, last = followed(client.reindex(str(models["broken"]), settings=F32))

        assert (phases[-1], last.problem.count("not finite")) == ("failed", 1)
        with pytest.raises(FailedPrecondition, match="nowhere"):
            list(client.reindex("/nowhere"))
        with pytest.raises(Exception, match=r"settings\[colour\]: no such setting"):
            list(client.reindex(str(models["wide"]), settings={"colour": "red"}))
        assert table_of(client) == old
        assert generations(client) == held


def test_workers_that_do_not_start_change_nothing(server, models, tmp_path):
    moved = models["wide"].rename(tmp_path / "moving")
    with client_of(server) as client:
        old, held = table_of(client), generations(client)
        last = None
        for last in client.reindex(str(moved), settings=F32):
            if last.phase in ("encoding", "starting") and moved.exists():
                moved.rename(models["wide"])

        assert last.phase == "failed"
        assert "its workers do not start: worker-0" in last.problem
        assert table_of(client) == old
        only_served(server, client, held[0])


def test_a_change_can_be_given_up_and_only_one_is_under_way(server, models):
    with client_of(server) as client, client_of(server) as other:
        served = generations(client)[0]
        progress = client.reindex(str(models["wide"]), id="first", settings=F32)
        next(p for p in progress if p.phase == "starting")
        assert MADE in nicenesses(server)
        with pytest.raises(FailedPrecondition, match=r"reindex first .* is under way"):
            list(other.reindex(str(models["wide"])))

        assert other.cancel_reindex().phase in ("cancelling", "cancelled")

        assert [p.phase for p in progress][-1] == "cancelled"
        assert [p.phase for p in client.reindex("", id="first")] == ["cancelled"]
        assert next(iter(other.watch_reindex())).id == "first"
        only_served(server, client, served)
        with pytest.raises(FailedPrecondition, match="no change of generations is under way"):
            other.cancel_reindex()


def test_what_was_under_way_when_processes_were_killed_goes_on(server, models):
    """Ingest alone, in two phases; then everything, and started without a word of a model."""
    wide = str(models["wide"])
    with client_of(server) as client:
        before, killed = generations(client)[0][0], set()
        for progress in client.reindex(wide, settings=F32):
            if progress.phase in ("loading", "starting") and progress.phase not in killed:
                killed.add(progress.phase)
                os.kill(server.children()["ingest"], signal.SIGKILL)
        assert (progress.phase, killed) == ("done", {"loading", "starting"})
        first, new = progress.generation, table_of(client)
        assert generations(client) == [(first, "served"), (before, "kept")]
        next(p for p in client.reindex(wide, id="whole", settings=F32) if p.phase == "starting")

    server.kill()
    forget_flags(server)
    server.start()

    with client_of(server) as client:
        assert table_of(client) == new
        phases, last = followed(client.reindex(wide, id="whole", settings=F32))
        assert (phases[-1], last.id, last.items) == ("done", "whole", last.items_total)
        assert table_of(client) == new
        assert generations(client) == [(last.generation, "served"), (first, "kept")]


def test_another_model_at_the_start_is_refused_and_the_way_to_it_is_named(server, models):
    """Behind all others: the server is not started again."""
    with client_of(server) as client:
        ((number, _), *_) = generations(client)
    assert server.stop() == 0
    server.flags["model"] = models["small"]

    server.launch()

    assert server.wait() == REFUSED
    assert f"generation {number} is encoded by {models['wide']}" in server.log
    assert "rankstream reindex" in server.log


def test_a_server_without_items_changes_all_its_workers(models, serve):
    empty = serve(model=models["small"], precision="f32", workers=2).start()
    with client_of(empty) as client:
        phases, _ = followed(client.reindex(str(models["wide"]), settings=F32))
        assert phases[-1] == "done"

        token = client.upsert_items([item("first", 1)]).token
        for _ in range(8):
            ranking = client.rank("nobody", min_token=token, max_wait_ms=10_000)
            assert (ranking.item_ids, ranking.served_by.generation) == (["first"], 2)
