"""Another model while the server serves: what clients see of it, and what is left of it."""

import os
import shutil
import signal
import threading

import pytest
from folders import write_random_model
from server_process import REFUSED, wait_for

from rankstream.client import (
    Client,
    Event,
    FailedPrecondition,
    InvalidArgument,
    Item,
    NotFound,
    User,
)
from rankstream.server.paths import Paths
from rankstream.server.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

WORDS = ["toy", "story", "alien", "wood", "train", "chess", "board", "red", "blue", "kids"]
STEADY = [f"steady-{n}" for n in range(20)]
USERS = [f"user-{n}" for n in range(8)]


def title(number):
    return " ".join(WORDS[(number * step + step) % len(WORDS)] for step in range(1, 5))


def item(item_id, number):
    return Item(item_id, title=f"{title(number)} {number}", category=WORDS[number % 7])


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models of different dimensions, and one whose weights are no numbers."""
    place = tmp_path_factory.mktemp("models")
    broken = write_random_model(place / "broken")
    _spoil(broken / "model.safetensors")
    return {
        "small": write_random_model(place / "small"),
        "wide": write_random_model(place / "wide", hidden_size=64),
        "broken": broken,
    }


def _spoil(weights):
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights)
    name = next(name for name in tensors if "word_embeddings" in name)
    tensors[name][:] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})


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


def events_of(users):
    for n, user in enumerate(users):
        yield Event(user, "click", item_id=STEADY[n], event_time_ms=1_700_000_000_000 + n)
        yield Event(user, "cart", item_id=STEADY[n + 5], event_time_ms=1_700_000_100_000 + n)
        yield Event(user, "search", text=title(n), event_time_ms=1_700_000_200_000 + n)


def reasons_of(client, user):
    ranking = client.rank(user, STEADY, explain_items=20, reasons=16)
    return {"item" if r.item_id else "text" for i in ranking.items for r in i.reasons}


def client_of(server):
    return Client(server.target, admin_target=f"127.0.0.1:{server.admin_port}", connections=2)


def texts_of(ranking):
    """The parts that the encoder has in the scores of what was asked, by item."""
    return {i.item_id: i.blocks["text"] for i in ranking.items}


def table_of(client):
    """What one model says of items and users that nobody changes: ``(space, parts by user)``."""
    asked = {user: client.rank(user, STEADY, explain_items=20) for user in USERS}
    (space,) = {ranking.served_by.space_fingerprint for ranking in asked.values()}
    return space, {user: texts_of(ranking) for user, ranking in asked.items()}


def answers_of(client, users=USERS):
    """Everything that is to be the same on another server over the same log."""
    found = {}
    for user in users:
        for query in ("", "blue wood"):
            ranking = client.rank(user, k=50, query=query, explain_items=50)
            found[user, query] = sorted(
                (i.score, i.item_id, i.bias, sorted(i.blocks.items())) for i in ranking.items
            )
    return found


def generations(client):
    return [(g.number, g.state) for g in client.server_info().generations]


def folders(server):
    return sorted(p.name for p in Paths(server.data_dir).segments.glob("generation-*"))


def only_served(server, client, served):
    """Nothing is left of another generation."""
    wait_for(lambda: generations(client) == [served], "one generation")
    wait_for(lambda: folders(server) == [f"generation-{served[0]:08d}"], "the files to be gone")


def stored_profiles(server):
    """The bytes of what is kept of the users whom nobody touches."""
    store = Store(Paths(server.data_dir).store, map_size_gib=256, write=False)
    try:
        with store.read() as view:
            return {
                (name, user): bytes(view.get(name, user.encode()) or b"")
                for name in ("recent", "settled", "users")
                for user in USERS
            }
    finally:
        store.close()


class Load:
    """Clients that rank, and one that changes items and events, until told to stop."""

    def __init__(self, server):
        self.server = server
        self.seen, self.failures = [], []
        self.written = 0
        self._stopping = threading.Event()
        work = [self._rank, self._rank_all, self._write]
        self._threads = [threading.Thread(target=self._guarded, args=(w,)) for w in work]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, run):
        with client_of(self.server) as client:
            turn = 0
            while not self._stopping.wait(0.01):
                try:
                    run(client, turn)
                except Exception as error:
                    self.failures.append(repr(error))
                turn += 1

    def _rank(self, client, turn):
        user = USERS[turn % len(USERS)]
        self.seen.append((user, client.rank(user, STEADY, explain_items=20)))

    def _rank_all(self, client, turn):
        user = USERS[turn % len(USERS)]
        for ranking in client.batch_rank([client_query(user), client_query(user, 5)]):
            self.seen.append((user, ranking))

    def _write(self, client, turn):
        name = f"moving-{turn % 50}"
        token = client.upsert_items([item(name, turn)]).token
        client.record_events([Event(f"guest-{turn % 9}", "click", item_id=name)])
        ranking = client.rank(USERS[0], [name], min_token=token, max_wait_ms=10_000)
        assert ranking.item_ids == [name]
        self.written += 1


def client_query(user, k=20):
    from rankstream.client import RankQuery

    return RankQuery(user, STEADY, k=k, explain_items=k)


def followed(progress):
    """The phases of a change in their order, and its last word."""
    phases, last = [], None
    for last in progress:
        if not phases or phases[-1] != last.phase:
            phases.append(last.phase)
    return phases, last


def test_an_answer_is_of_one_model_while_it_changes_and_back(server, models, serve_shared):
    before = stored_profiles(server)
    with client_of(server) as client:
        old = table_of(client)
        with Load(server) as load:
            wait_for(lambda: load.written > 3, "writes")
            phases, last = followed(
                client.reindex(str(models["wide"]), settings={"precision": "f32"})
            )
            done_at = len(load.seen)
            wait_for(lambda: len(load.seen) > done_at + 20, "answers after the change")
        new = table_of(client)

        assert [p for p in phases if p != "loading"][-3:] == ["starting", "draining", "done"]
        assert (last.generation, last.problem, last.items) == (2, "", last.items_total)
        assert last.texts == last.texts_total > 0
        assert load.failures == []
        assert old[0] != new[0]
        tables = dict([old, new])
        spaces = [ranking.served_by.space_fingerprint for _, ranking in load.seen]
        assert set(spaces) == set(tables)
        for user, ranking in load.seen:
            expected = tables[ranking.served_by.space_fingerprint][user]
            assert texts_of(ranking).items() <= expected.items()
        assert set(spaces[done_at:]) == {new[0]}
        assert stored_profiles(server) == before
        assert generations(client) == [(2, "served"), (1, "kept")]

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
            phases, last = followed(client.rollback_reindex())
        assert (phases[-1], last.kind, last.generation) == ("done", "rollback", 1)
        assert load.failures == []
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

        phases, last = followed(
            client.reindex(str(models["broken"]), settings={"precision": "f32"})
        )

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
        for last in client.reindex(str(moved), settings={"precision": "f32"}):
            if last.phase in ("encoding", "starting") and moved.exists():
                moved.rename(models["wide"])

        assert last.phase == "failed"
        assert "its workers do not start: worker-0" in last.problem
        assert table_of(client) == old
        only_served(server, client, held[0])


def test_a_change_can_be_given_up_and_only_one_is_under_way(server, models):
    with client_of(server) as client, client_of(server) as other:
        served = generations(client)[0]
        progress = client.reindex(str(models["wide"]), id="first", settings={"precision": "f32"})
        next(p for p in progress if p.phase == "starting")
        with pytest.raises(FailedPrecondition, match=r"reindex first .* is under way"):
            list(other.reindex(str(models["wide"])))

        assert other.cancel_reindex().phase == "cancelled"

        assert [p.phase for p in progress][-1] == "cancelled"
        assert [p.phase for p in client.reindex("", id="first")] == ["cancelled"]
        assert next(iter(other.watch_reindex())).id == "first"
        only_served(server, client, served)
        with pytest.raises(FailedPrecondition, match="no change of generations is under way"):
            other.cancel_reindex()


def test_what_was_under_way_when_everything_was_killed_goes_on(server, models):
    asked = {"model": str(models["wide"]), "id": "whole", "settings": {"precision": "f32"}}
    with client_of(server) as client:
        before = generations(client)[0][0]
        next(p for p in client.reindex(**asked) if p.phase == "starting")

    server.kill()
    server.start()

    with client_of(server) as client:
        phases, last = followed(client.reindex(**asked))
        assert (phases[-1], last.id, last.items) == ("done", "whole", last.items_total)
        assert generations(client) == [(last.generation, "served"), (before, "kept")]
        assert client.rank(USERS[0], STEADY).served_by.space_fingerprint == last.space_fingerprint


def test_a_killed_ingest_goes_on_and_a_restart_serves_what_the_state_says(server, models):
    with client_of(server) as client:
        before, killed = generations(client)[0][0], set()
        for progress in client.reindex(str(models["wide"]), settings={"precision": "f32"}):
            if progress.phase in ("loading", "starting") and progress.phase not in killed:
                killed.add(progress.phase)
                os.kill(server.children()["ingest"], signal.SIGKILL)
        assert (progress.phase, killed) == ("done", {"loading", "starting"})
        new = table_of(client)
        number = progress.generation

    server.kill()
    forget_flags(server)
    server.start()
    with client_of(server) as client:
        assert table_of(client) == new
        assert [g for g, _ in generations(client)] == [number, before]
    assert server.stop() == 0

    server.flags["model"] = models["small"]
    server.launch()
    assert server.wait() == REFUSED
    assert f"generation {number} is encoded by {models['wide']}" in server.log
    assert "rankstream reindex" in server.log


def test_a_server_without_items_changes_all_its_workers(models, serve):
    empty = serve(model=models["small"], precision="f32", workers=2).start()
    with client_of(empty) as client:
        phases, _ = followed(client.reindex(str(models["wide"]), settings={"precision": "f32"}))
        assert phases[-1] == "done"

        token = client.upsert_items([item("first", 1)]).token
        for _ in range(8):
            ranking = client.rank("nobody", min_token=token, max_wait_ms=10_000)
            assert (ranking.item_ids, ranking.served_by.generation) == (["first"], 2)
