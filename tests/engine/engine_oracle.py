"""The definition of the engine's answers in plain Python, and what to ask of a furnished server."""

import kernels_oracle
import numpy as np
from small_server import HALF_LIFE_MS, item, items_of, keys_of, task

from rankstream.kernels import distinct_keys
from rankstream.server.candidates import GivenIds
from rankstream.server.types import item_key

USERS = ("ann", "bob", "cat", "dan")


class Oracle:
    """Answers from what was written, one query after the other; reads only the fused rows."""

    def __init__(self, server, live, history, bias):
        head = server.head()
        self.items = np.array(server.segments.segments.rows[: head.rows])
        keys = server.segments.segments.keys[: head.rows].tolist()
        # The latest row of a key is its live one, where the item is live.
        self.rows = {
            name: max(r for r, k in enumerate(keys) if k == item_key(name)) for name in live
        }
        self.names = {row: name for name, row in self.rows.items()}
        self.bias = np.zeros(head.rows, np.float32)
        self.bias[: len(bias)] = bias[: head.rows]
        self.history, self.server = history, server

    def query(self, user):
        events = sorted((e for e in self.history if e[0] == user), key=lambda e: e[2])
        rows = np.array([self.rows.get(e[1], -1) for e in events], np.int32)
        newest = max((e[2] for e in events), default=0)
        ages = [newest - e[2] for e in events]
        decay = np.exp2(-np.array(ages, np.float64) / HALF_LIFE_MS)
        kinds = self.server.pooling.type_weights[[self.server.fold.type_ids[e[3]] for e in events]]
        signed = np.array([np.float32(e[4]) for e in events], np.float64)
        layout = self.server.layout
        offsets = np.cumsum([0] + [b.dimensions for b in layout.blocks])
        weights = np.array([[b.weight for b in layout.blocks]])
        indptr = np.array([0, len(rows)])
        pooled, _ = kernels_oracle.pool(
            rows, indptr, kinds * signed * decay, self.items, offsets, weights
        )
        return pooled[0]

    def answer(self, asked):
        query = self.query(asked.user.decode())
        out = {self.names.get(r) for r in range(len(self.items))} - {None}
        out -= {name for name in out if item_key(name) in asked.excluded.tolist()}
        if asked.exclude_seen:
            out -= {e[1] for e in self.history if e[0] == asked.user.decode() and e[3] != "search"}
        if asked.candidates is not None:
            given = asked.candidates
            wanted = (given.read().keys if isinstance(given, GivenIds) else given).tolist()
            out = {name for name in out if item_key(name) in wanted}
        found = []
        for name in out:
            row = self.rows[name]
            score = kernels_oracle.score(query, self.items[row], self.bias[row])
            found.append((-float(score), row, name, score))
        best = sorted(found)[: asked.k]
        return [b[2] for b in best], np.array([b[3] for b in best], np.float32)


def furnish(server, seed):
    """Items that come, change, go and come again; events of known and unknown items; a bias."""
    random = np.random.default_rng(seed)
    live = set()

    def made(number, word):
        image = random.standard_normal(5) if number % 3 else None
        tags = [f"t{t}" for t in random.integers(0, 4, 2)]
        live.add(f"i{number}")
        return item(f"i{number}", f"{word} {number % 9}", tags=tags, price=number, image=image)

    server.put(*(made(n, "first") for n in range(20)))
    server.put(*(made(n, "second") for n in range(15, 30)), delete=["i3", "i4", "i99"])
    server.put(made(4, "again"), *(made(n, "third") for n in range(5, 8)))
    server.put(delete=["i7"])
    live -= {"i3", "i7"}
    history = [
        (user, f"i{random.integers(0, 33)}", int(at), kind, float(weight))
        for user in USERS[:3]
        for at, kind, weight in zip(
            np.cumsum(random.integers(1, 900, 25)),
            random.choice(["view", "click", "rate", "search"], 25),
            random.uniform(-1, 1, 25),
            strict=True,
        )
    ]
    server.events(*history)
    bias = random.uniform(0, 0.3, server.head().rows - 2).astype(np.float32)
    server.set_bias(bias)
    return Oracle(server, live, history, bias)


def tasks(random):
    """Every way of asking."""
    some = [f"i{n}" for n in random.permutation(35)[:17]]
    yield task("ann")
    yield task("bob", k=1)
    yield task("ann", k=500)
    yield task("nobody", k=7)
    yield task("dan", exclude_seen=True)
    yield task("cat", k=40, exclude_seen=True, exclude=["i1", "i3", "i17", "unknown"])
    yield task("bob", k=0)
    yield task("ann", item_ids=some, k=17)
    yield task("cat", candidates=distinct_keys(keys_of(some)), k=3, exclude=some[:4])
    yield task("bob", item_ids=some, k=17, exclude_seen=True)
    yield task("ann", item_ids=["i3", "i7", "unknown"], k=3)
    yield task("ann", item_ids=[], k=0)
    yield task("nobody", item_ids=some, k=5)


def assert_answers(answers, asked, oracle):
    for answer, wanted in zip(answers, asked, strict=True):
        names, scores = oracle.answer(wanted)
        found = items_of(answer)
        assert [item.item_id for item in found] == names
        assert np.array([item.score for item in found], np.float32).tobytes() == scores.tobytes()
        assert [item.rank for item in found] == list(range(1, len(names) + 1))
