"""Users who view, search and say of themselves, and the scores of a vector by its definition."""

import numpy as np
import pytest
from small_server import TEXT_DIMENSIONS, MadeUpEncoder, item, items_of, task

from rankstream.server.profiles.interaction import EVENT, TEXT, event_key
from rankstream.server.profiles.texts import Keeping, TextCommit, texts_to_encode
from rankstream.server.profiles.users import UserCommit, UserRecord
from rankstream.server.stream.event_columns import EventColumns
from rankstream.server.types import Asked, Position, text_key

ITEMS = [f"item-{n:02d}" for n in range(30)]
TIMES = [10_000, 10_400, 11_000, 12_500]


def stock(server):
    """Thirty items, and a bias that rises from one to the next."""
    server.put(*(item(name, f"title {name}", category=f"c{n % 4}") for n, name in enumerate(ITEMS)))
    server.set_bias(np.linspace(0, 0.3, len(ITEMS)))


def view_of(server, user, *numbers, start=0):
    """The user views items."""
    server.events(*((user, ITEMS[n], TIMES[start + i], "view", 1.0) for i, n in enumerate(numbers)))


def say(server, user, text, at, *, weight=1.0, encoded=True):
    """The user searches for a text."""
    row = np.zeros(1, EVENT)
    row[0] = (at, event_key(f"{user}/{text}/{at}"), text_key(text), weight, 7, TEXT, at)
    batch = server.folder_of_events.batch(
        EventColumns([user.encode()], row, {text_key(text): text}),
        [Position("events", b"events-topic-id.", 0, 1)],
    )
    with server.store.write() as txn:
        batch.apply(txn)
    if encoded:
        encode(server)


def encode(server):
    with server.store.read() as view:
        texts, upto, _ = texts_to_encode(view, 1000)
    vectors = dict(zip(texts, server.encoder.encode(list(texts.values())), strict=True))
    with server.store.write() as txn:
        TextCommit(vectors, upto, "a").apply(txn)


def write_user(server, user, *, interests=(), identities=(), at=1):
    record = UserRecord(
        at, tuple(map(text_key, interests)), tuple(i.encode() for i in identities), b""
    )
    texts = {text_key(text): text for text in interests}
    commit = UserCommit(
        {user.encode(): record},
        texts,
        Position("users", b"users-topic-id..", 0, 1),
        Keeping(99, int),
    )
    with server.store.write() as txn:
        commit.apply(txn)
    encode(server)


def asked(**given):
    """A task for nobody who is stored."""
    rest = {
        name: given.pop(name) for name in ("item_ids", "k", "explained", "reasons") if name in given
    }
    texts = [given["query"].text] if given.get("query") else []
    texts += given["session"].texts.values() if given.get("session") else []
    return task("", asked=Asked(**given, encoded=vectors_of(texts)), **rest)


def vectors_of(texts):
    return {text: vector_of(text) for text in texts}


def vector_of(text):
    return MadeUpEncoder().encode([text])[0]


def text_row(server, vector):
    row = np.zeros(server.layout.stride)
    row[:TEXT_DIMENSIONS] = vector
    return row


def item_row(server, n):
    return np.array(server.segments.segments.rows[n], np.float64)


def unit(server, total, block_weights=None):
    """Each block scaled to its weight."""
    made = np.zeros_like(total)
    weights = server.layout.weights if block_weights is None else block_weights
    for block, weight in zip(server.layout.blocks, weights, strict=True):
        part = total[block.start : block.stop]
        norm = np.linalg.norm(part)
        if norm:
            made[block.start : block.stop] = weight * part / norm
    return made


def expected(server, query, bias=True):
    """Scores of all items by id."""
    rows = np.array(server.segments.segments.rows[: len(ITEMS)], np.float64)
    own = np.linspace(0, 0.3, len(ITEMS)) if bias else 0.0
    return dict(zip(ITEMS, rows @ query + own, strict=True))


def check(server, answer, query, *, bias=True):
    wanted = expected(server, query, bias)
    found = {i.item_id: i.score for i in items_of(answer)}
    assert found == pytest.approx({name: wanted[name] for name in found}, abs=2e-6)
    best = sorted(wanted, key=lambda name: -wanted[name])[: len(found)]
    assert [wanted[n] for n in found] == pytest.approx([wanted[n] for n in best], abs=2e-6)
    for i in items_of(answer):
        assert sum(i.parts.blocks) + i.parts.bias == pytest.approx(i.score, abs=1e-6)
