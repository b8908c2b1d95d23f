"""Records that no replica can fold go to the dead-letter topic; those around them are applied."""

import time

import numpy as np
import pytest
from requests_to import event, ids_of, log_of, producer, profile, rank
from server_process import wait_for

from rankstream.proto.v1 import catalog_pb2, common_pb2, profiles_pb2

LARGEST = 20_000
NOW = time.time_ns() // 1_000_000
HOUR = 3_600_000


@pytest.fixture(scope="module")
def server(serve_on):
    return serve_on("poison.", max_record_bytes=LARGEST, vectors="image:2").start()


def encoded(kind="click", **fields):
    fields = {"user_id": "victim", "item_id": "toy"} | fields
    return event(fields.pop("user_id"), fields.pop("item_id"), kind, **fields).SerializeToString()


POISON_EVENTS = {
    "null value": (None, "value: null"),
    "garbage": (b"\xff\xfe\x00garbage", "Error parsing"),
    "truncated": (encoded()[:-3], "Error parsing"),
    "deeply nested unknown groups": (b"\xfb\x01" * 5000, "Error parsing"),
    "not UTF-8": (b"\x1a\x02\xff\xfe", "Error parsing"),
    "unknown type": (encoded("stare"), "'stare' is not a known type"),
    "no type": (encoded(""), "not a known type"),
    "a later version's reset": (encoded("$purge"), "'$purge' is not a known type"),
    "the year 2262": (encoded(event_time_ms=9_223_372_036_854), "event_time_ms"),
    "an hour ahead": (encoded(event_time_ms=NOW + HOUR), "event_time_ms"),
    "the greatest time": (encoded(event_time_ms=2**63 - 1), "event_time_ms"),
    "before 1970": (encoded(event_time_ms=-1), "event_time_ms"),
    "NaN weight": (encoded(weight=float("nan")), "weight"),
    "infinite weight": (encoded(weight=float("-inf")), "weight"),
    "infinite value": (encoded(value=float("inf")), "value"),
    "a rate without stars": (encoded("rate"), "value"),
    "no user": (encoded(user_id=""), "user_id: empty"),
    "a reset of nobody": (encoded("$reset", user_id=""), "user_id"),
    "a reset of a long name": (encoded("$reset", user_id="u" * 600), "user_id"),
    "no item": (encoded(item_id=""), "item_id: empty"),
    "a long user": (encoded(user_id="u" * 257), "user_id: longer than 256 bytes"),
    "NUL in a user": (encoded(user_id="a\0b"), "user_id: holds a NUL"),
    "a long event_id": (encoded(event_id="e" * 257), "event_id: longer"),
    "oversized": (encoded(event_id="e" * LARGEST), f"the limit is {LARGEST}"),
}


def test_poison_events(server):
    with producer(server) as out:
        topic, partition = server.topics["events"], 1
        sent = {}
        for number, (name, (value, _)) in enumerate(POISON_EVENTS.items()):
            good = event(f"healthy-{number}", "toy").SerializeToString()
            out.send(topic, good, partition=partition)
            sent[name] = out.send(topic, value, b"some key", partition=partition).get(10).offset
        last = out.send(topic, encoded(user_id="after"), partition=partition).get(10).offset

    wait_for(lambda: server.positions()["events", 1] == last + 1, "the position behind them")
    assert profile(server, "after").history_size == 1
    assert not profile(server, "victim").known
    for number in range(len(POISON_EVENTS)):
        assert profile(server, f"healthy-{number}").history_size == 1
    letters = dead_letters(server, server.topics["events"])
    assert set(letters) == set(sent.values())
    for name, offset in sent.items():
        value, words = POISON_EVENTS[name]
        letter, headers = letters[offset]
        assert words in headers["error"], name
        assert headers["key"] == "some key"
        assert headers["partition"] == "1"
        assert letter.value == value, name


def an_item(name, **fields):
    return catalog_pb2.Item(item_id=name, title="a title", **fields)


def an_image(*values, dtype=common_pb2.Vector.FLOAT32, shape=None, data=None, name="image"):
    item = an_item("ill")
    item.vectors[name].CopyFrom(
        common_pb2.Vector(
            data=np.array(values, "<f4").tobytes() if data is None else data,
            dtype=dtype,
            shape=[len(values)] if shape is None else shape,
        )
    )
    return item.SerializeToString()


POISON_ITEMS = {
    "garbage": (b"ill", b"\xff\xff\xff", "not an Item"),
    "nothing deleted": (b"", None, "expected the item_id to delete"),
    "another's key": (b"well", an_item("ill").SerializeToString(), "differs from the record's key"),
    "no id": (b"", an_item("").SerializeToString(), "item_id: empty"),
    "NaN": (b"ill", an_image(1, float("nan")), "NaN or infinity"),
    "infinity": (b"ill", an_image(float("inf"), 1), "NaN or infinity"),
    "too few bytes": (b"ill", an_image(1, 2, data=b"1234567"), "7 bytes, expected 8"),
    "other dimensions": (b"ill", an_image(1, 2, 3), "[3], expected [2]"),
    "no dtype": (b"ill", an_image(1, 2, dtype=0), "expected FLOAT32"),
    "no such block": (b"ill", an_image(1, 2, name="sound"), "no such block"),
    "a negative price": (b"ill", an_item("ill", price=-1).SerializeToString(), "price"),
    "oversized": (b"ill", an_item("ill", brand="b" * LARGEST).SerializeToString(), "the limit"),
    "a key that is not UTF-8": (b"\xff\xfe", None, "decode"),
}


def test_poison_items(server):
    with producer(server) as out:
        sent = {}
        for number, (name, (key, value, _)) in enumerate(POISON_ITEMS.items()):
            good = an_item(f"good-{number}")
            out.send(server.topics["items"], good.SerializeToString(), good.item_id.encode())
            sent[name] = out.send(server.topics["items"], value, key).get(10).offset
        good = an_item("last one")
        last = out.send(server.topics["items"], good.SerializeToString(), b"last one")
        last = last.get(10).offset

    wait_for(lambda: server.positions()["items", 0] == last + 1, "the position behind them")
    live = {f"good-{number}" for number in range(len(POISON_ITEMS))} | {"last one"}
    assert set(ids_of(rank(server, "anyone", k=1000))) == live
    letters = dead_letters(server, server.topics["items"])
    assert set(letters) == set(sent.values())
    for name, offset in sent.items():
        _, value, words = POISON_ITEMS[name]
        letter, headers = letters[offset]
        assert words in headers["error"], name
        assert letter.value == value, name


def a_user(user_id, **fields):
    return profiles_pb2.User(user_id=user_id, **fields).SerializeToString()


POISON_USERS = {
    "garbage": (b"ill", b"\xff\xff\xff", "Error parsing"),
    "nobody deleted": (b"", None, "expected the user_id to delete"),
    "a long key deleted": (b"u" * 600, None, "key: 600 bytes, the limit is 256"),
    "another's key": (b"well", a_user("ill"), "differs from the record's key"),
    "no id": (b"", a_user(""), "user_id: empty"),
    "its own identity": (b"ill", a_user("ill", identities=["ill"]), "is the user_id itself"),
    "oversized": (b"ill", a_user("ill", interests=["i" * LARGEST]), "the limit"),
}


def test_poison_users(server):
    topic = server.prefix + "users"
    with producer(server) as out:
        sent = {
            name: out.send(topic, value, key, partition=0).get(10).offset
            for name, (key, value, _) in POISON_USERS.items()
        }
        last = out.send(topic, a_user("good", interests=["tea"]), b"good", partition=0)
        last = last.get(10).offset

    wait_for(lambda: server.positions().get(("users", 0)) == last + 1, "the position behind them")
    assert list(profile(server, "good").user.interests) == ["tea"]
    letters = dead_letters(server, topic)
    assert set(letters) == set(sent.values())
    for name, offset in sent.items():
        assert POISON_USERS[name][2] in letters[offset][1]["error"], name


def test_what_is_dead_stays_dead_after_a_restart(server):
    before = len(log_of(server, "dead-letters"))
    positions = server.positions()

    server.restart()

    assert server.positions() == positions
    assert len(log_of(server, "dead-letters")) == before
    assert not profile(server, "victim").known


def dead_letters(server, topic):
    """``(record, headers)`` by the offset it had, each once; of one topic."""
    found = {}
    for letter in log_of(server, "dead-letters"):
        headers = {name: value.decode(errors="replace") for name, value in letter.headers}
        if headers["topic"] != topic:
            continue
        offset = int(headers["offset"])
        assert letter.key.decode() == f"{topic}/{headers['partition']}/{offset}"
        assert offset not in found
        found[offset] = letter, headers
    return found
