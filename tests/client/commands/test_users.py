"""user and profile: what is known of a user, written, shown and forgotten."""

from __future__ import annotations

import json

from fake_state import PRINTED_TOKEN


def test_user_upsert_and_show(run, fake):
    result = run(
        "user", "upsert", "ann", "--attribute", "budget=20", "--attribute", 'sizes=["M"]',
        "--attribute", "city=Oslo", "--interest", "wool", "--identity", "app:7",
    )  # fmt: skip

    assert result.stdout == f"{PRINTED_TOKEN}\n", result.output
    user = fake.requests["UpsertUser"][0].user
    assert (user.attributes["budget"].number, user.attributes["city"].text) == (20, "Oslo")
    assert list(user.attributes["sizes"].texts.values) == ["M"]
    assert (list(user.interests), list(user.identities)) == (["wool"], ["app:7"])
    shown = run("user", "show", "ann").stdout
    assert "interests: wool" in shown
    assert "city Oslo" in shown
    assert json.loads(run("user", "show", "ann", "--json").stdout)["user"]["identities"] == [
        "app:7"
    ]


def test_user_merge_reset_and_purge(run, fake):
    merged = run("user", "merge", "guest", "ann")
    assert (merged.stdout, merged.stderr) == (
        f"{PRINTED_TOKEN}\n", "7 interactions of guest are now ann's\n",
    )  # fmt: skip
    assert json.loads(run("user", "reset", "ann", "--json").stdout)["watermark_ms"] == 500
    assert run("user", "purge", "ann", input="n\n").exit_code == 1
    assert not fake.requests["PurgeUser"]
    assert "until retention" in run("user", "purge", "ann", input="y\n").stdout
    receipt = json.loads(run("user", "purge", "ann", "--yes", "--json").stdout)
    assert receipt["remains"][0]["place"] == "log"


def test_user_export(run, fake):
    run("user", "upsert", "ann", "--interest", "wool")

    lines = [
        json.loads(line) for line in run("user", "export", "ann", "--json").stdout.splitlines()
    ]
    assert lines[0]["user"]["interests"] == ["wool"]
    assert [line["interaction"]["item_id"] for line in lines[1:]] == ["toy", "b"]
    assert "toy" in run("user", "export", "ann").stdout


def test_profile_show(run):
    shown = run("profile", "show", "u1", "-n", "3").stdout
    assert "9 interactions kept, 12 items seen" in shown
    assert "1970-01-01 00:00:01" in shown
    assert "-0.50" in shown
    document = json.loads(run("profile", "show", "u1", "--json").stdout)
    assert document["interactions"][0]["item_id"] == "toy"
    assert "nothing is known" in run("profile", "show", "nobody").stdout
