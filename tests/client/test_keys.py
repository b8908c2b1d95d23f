"""Item keys are part of the protocol: golden values."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from rankstream.client import item_key, item_keys

# Computed once with Python's hashlib and written down: a change of these breaks stored profiles.
GOLDEN = {
    "": 0x297297C8C3482FD9,
    "1": 0x03B78FF961CDB3C6,
    "item-123": 0x924B3FB176CE5BDB,
    "\U0001f600": 0x7B8B308EF4C2AB45,
}


@pytest.mark.parametrize(("item_id", "key"), GOLDEN.items())
def test_a_key_is_what_it_always_was(item_id, key):
    assert item_key(item_id) == key


def test_a_key_by_its_definition():
    digest = hashlib.blake2b("ä/1".encode(), digest_size=8, person=b"item").digest()

    assert item_key("ä/1") == int.from_bytes(digest, "little")


@pytest.mark.parametrize("item_id", ["", "a", "item-123", "\U0001f600", "x" * 1000])
def test_keys_of_many_are_the_keys_of_each(item_id):
    keys = item_keys([item_id, "other", item_id])

    assert keys.dtype == np.uint64
    assert keys.tolist() == [item_key(item_id), item_key("other"), item_key(item_id)]


def test_keys_of_none():
    assert item_keys([]).shape == (0,)
    assert item_keys([]).dtype == np.uint64
