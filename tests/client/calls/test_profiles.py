"""Profiles and users: read, written, merged and forgotten."""

from __future__ import annotations

from rankstream.client import User, item_keys


def test_get_profile(client, fake):
    profile = client.get_profile("u1", max_interactions=5)

    assert profile.known
    assert profile.interactions[0].item_id == "toy"
    assert profile.interactions[0].item_key == int(item_keys(["toy"])[0])
    assert profile.interactions[0].weight == -0.5
    assert (profile.history_size, profile.seen_size, profile.watermark_ms) == (9, 12, 500)
    assert profile.freshness.catalogue_version == 5
    assert fake.requests["GetProfile"][0].max_interactions == 5
    assert client.get_profile("nobody").watermark_ms is None


def test_users_are_forgotten_and_merged(client, fake):
    assert client.merge_profiles("guest", "ann", min_token=b"t").moved == 7
    assert client.reset_profile("ann").watermark_ms == 500
    receipt = client.purge_user("ann")

    assert (receipt.watermark_ms, receipt.remains[0].place) == (500, "log")
    assert fake.requests["MergeProfiles"][0].read_after.min_token == b"t"


def test_what_is_known_of_a_user_comes_back(client):
    user = User("ann", {"sizes": ("M", "L"), "member": True}, ("wool",), ("app:7",))
    client.upsert_user(user)

    assert client.get_profile("ann").user == user
    assert client.get_profile("bob").user is None
