"""What the tests of a change of models have in common: a small shop, what is asked, a load."""

import threading
from pathlib import Path

from server_process import wait_for

from rankstream.client import Client, Event, Item, RankQuery
from rankstream.server.paths import Paths
from rankstream.server.store import Store

WORDS = ["toy", "story", "alien", "wood", "train", "chess", "board", "red", "blue", "kids"]
STEADY = [f"steady-{n}" for n in range(20)]
USERS = [f"user-{n}" for n in range(8)]


def title(number):
    return " ".join(WORDS[(number * step + step) % len(WORDS)] for step in range(1, 5))


def item(item_id, number):
    return Item(item_id, title=f"{title(number)} {number}", category=WORDS[number % 7])


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


def nicenesses(server):
    """Of the threads of ingest."""
    tasks = Path(f"/proc/{server.children()['ingest']}/task")
    stats = [task.read_text().rpartition(")")[2].split() for task in tasks.glob("*/stat")]
    return {int(fields[16]) for fields in stats}


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
        for ranking in client.batch_rank([query_of(user), query_of(user, 5)]):
            self.seen.append((user, ranking))

    def _write(self, client, turn):
        name = f"moving-{turn % 50}"
        token = client.upsert_items([item(name, turn)]).token
        client.record_events([Event(f"guest-{turn % 9}", "click", item_id=name)])
        ranking = client.rank(USERS[0], [name], min_token=token, max_wait_ms=10_000)
        assert ranking.item_ids == [name]
        self.written += 1


def query_of(user, k=20):
    return RankQuery(user, STEADY, k=k, explain_items=k)


def followed(progress):
    """The phases of a change in their order, and its last word."""
    phases, last = [], None
    for last in progress:
        if not phases or phases[-1] != last.phase:
            phases.append(last.phase)
    return phases, last
