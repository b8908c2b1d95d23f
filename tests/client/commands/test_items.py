"""items patch, delete, list and get."""

from __future__ import annotations

import json

from fake_state import PRINTED_TOKEN


def test_items_patch(run, fake):
    result = run(
        "items", "patch", "toy", "price=9.5", "attributes.stock=12", "title=42", "tags=new",
        "--clear", "brand", "--if-version", "99",
    )  # fmt: skip

    assert result.stdout == f"{PRINTED_TOKEN}\n", result.output
    request = fake.requests["PatchItem"][0]
    assert list(request.update_mask.paths) == [
        *("price", "attributes.stock", "title", "tags", "brand")
    ]
    assert (request.item.price, request.item.title, list(request.item.tags)) == (9.5, "42", ["new"])
    assert request.item.attributes["stock"].number == 12
    assert run("items", "patch", "toy").exit_code == 2
    assert "no such field" in run("items", "patch", "toy", "colour=red").stderr
    document = json.loads(run("items", "patch", "toy", "price=1", "--json").stdout)
    assert document["token"] == PRINTED_TOKEN


def test_items_delete(run, fake):
    fake.refused_items.add("bad")

    assert run("items", "delete", "toy", "b").stdout == f"{PRINTED_TOKEN}\n"
    assert list(fake.requests["DeleteItems"][0].item_ids) == ["toy", "b"]
    assert run("items", "delete", "bad").exit_code == 1


def test_items_list(run, fake):
    assert "Toy Story" in run("items", "list").stdout
    lines = run("items", "list", "--limit", "2", "--json").stdout.splitlines()
    listed = [json.loads(line) for line in lines]
    assert [entry["item"]["item_id"] for entry in listed] == ["b", "c"]
    token = listed[-1]["resume_token"]
    rest = run("items", "list", "--resume-token", token, "--json").stdout
    assert json.loads(rest)["item"]["item_id"] == "toy"


def test_items_get(run):
    assert "Toy Story" in run("items", "get", "toy").stdout
    document = json.loads(run("items", "get", "toy", "--json").stdout)
    assert document["item"]["title"] == "Toy Story"
    assert document["item_row"] == 11
