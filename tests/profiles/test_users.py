"""What users say of themselves, and who is the same person."""

import itertools
import random

import pytest

from rankstream.server.errors import CorruptState
from rankstream.server.profiles.texts import Keeping, text_of
from rankstream.server.profiles.users import (
    MAX_CLAIMS,
    UserCommit,
    UserRecord,
    find_person,
)
from rankstream.server.types import Position, text_key


def record(at, *identities, interests=(), payload=b"payload"):
    keys = tuple(text_key(text) for text in interests)
    return UserRecord(at, keys, tuple(name.encode() for name in identities), payload)


def write(store, records, texts=()):
    commit = UserCommit(
        {name.encode(): made for name, made in records.items()},
        {text_key(text): text for text in texts},
        Position("users", b"users-topic-id..", 0, 1),
        Keeping(100, int),
    )
    with store.write() as txn:
        commit.apply(txn)
    commit.committed()


def ids(store, user):
    with store.read() as view:
        return [name.decode() for name in find_person(view, user.encode()).ids]


@pytest.mark.parametrize("n", [0, 1, 16])
def test_a_record_is_read_as_it_was_written(n):
    made = record(7, *(f"id-{i}ü" for i in range(n)), interests=[str(i) for i in range(n)])

    assert UserRecord.unpack(made.pack()) == made


def test_a_damaged_record_is_named():
    with pytest.raises(CorruptState, match="user's record"):
        UserRecord.unpack(record(7, "a", interests=["b"]).pack()[:20])


@pytest.mark.parametrize("left", [1, 9, 12])
def test_damaged_claims_are_named(store, left):
    write(store, {"ann": record(1, "web-1")})
    with store.write() as txn:
        txn.put("identities", b"web-1", bytes(txn.get("identities", b"web-1"))[:left])

    with pytest.raises(CorruptState, match="claims"):
        ids(store, "web-1")


def test_an_identity_leads_to_its_person(store):
    write(store, {"ann": record(1, "web-1", "app-1")})

    assert ids(store, "ann") == ["ann", "web-1", "app-1"]
    assert ids(store, "web-1") == ["ann", "web-1", "app-1"]
    assert ids(store, "bob") == ["bob"]


def test_an_identity_that_is_given_up_is_its_own_again(store):
    write(store, {"ann": record(1, "web-1", "app-1")})
    write(store, {"ann": record(2, "app-1")})

    assert ids(store, "web-1") == ["web-1"]
    assert ids(store, "ann") == ["ann", "app-1"]


def test_a_deleted_user_claims_nothing(store):
    write(store, {"ann": record(1, "web-1")})
    write(store, {"ann": None, "bob": None})

    assert ids(store, "web-1") == ["web-1"]
    with store.read() as view:
        assert find_person(view, b"ann").record is None


def test_an_identity_belongs_to_whom_claimed_it_last_in_any_order(store):
    claims = [("ann", 5), ("bob", 9), ("cat", 7)]
    for order in itertools.permutations(claims):
        for user, at in order:
            write(store, {user: record(at, "web-1")})

        assert ids(store, "web-1") == ["bob", "web-1"]
        assert ids(store, "ann") == ["ann"]
        write(store, dict.fromkeys(("ann", "bob", "cat")))


def test_the_next_to_last_claim_holds_when_the_last_is_given_up(store):
    write(store, {"ann": record(1, "web-1")})
    write(store, {"bob": record(2, "web-1")})
    write(store, {"bob": record(3)})

    assert ids(store, "web-1") == ["ann", "web-1"]


def test_a_user_who_is_claimed_claims_nobody(store):
    write(store, {"ann": record(1, "bob"), "dan": record(2, "ann")})

    assert ids(store, "bob") == ["bob"]
    assert ids(store, "ann") == ids(store, "dan") == ["dan", "ann"]


def test_two_who_claim_each_other_stay_two(store):
    write(store, {"ann": record(1, "bob"), "bob": record(2, "ann")})

    assert ids(store, "ann") == ["ann"]
    assert ids(store, "bob") == ["bob"]


def test_claims_are_bounded(store):
    users = [f"user-{n:03d}" for n in range(3 * MAX_CLAIMS)]
    random.Random(4).shuffle(users)
    for user in users:
        write(store, {user: record(int(user[-3:]), "web-1")})

    with store.read() as view:
        assert len(view.get("identities", b"web-1")) <= MAX_CLAIMS * 32
    assert ids(store, "web-1") == [max(users), "web-1"]


def test_interests_are_remembered_as_texts(store):
    write(store, {"ann": record(1, interests=["jazz"])}, ["jazz"])

    with store.read() as view:
        assert text_of(view, text_key("jazz")) == "jazz"
