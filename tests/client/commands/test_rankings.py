"""rank, similar and explain: what is asked, and how the answers are shown."""

from __future__ import annotations

import json

from fake_state import PRINTED_TOKEN, TOKEN

from rankstream.client import Item


def test_rank_as_a_table(run, fake):
    result = run("rank", "u1", "-k", "2", "--exclude-seen", "--exclude", "x", "--exclude", "y")

    assert result.exit_code == 0, result.output
    assert "2 items for u1: personal, 1.50 ms in w0" in result.stdout
    assert "because clicked Toy Story (+0.12)" in result.stdout
    assert "text +0.75, bias +0.25" in result.stdout
    request = fake.requests["Rank"][0]
    assert (request.k, request.exclude_seen) == (2, True)
    assert list(request.exclude_item_ids) == ["x", "y"]
    assert (request.explain.items, request.explain.reasons) == (10, 3)


def test_rank_as_json(run, fake):
    result = run("rank", "u1", "--candidates", "c,no such", "--json")

    document = json.loads(result.stdout)
    assert [item["item_id"] for item in document["items"]] == ["c"]
    assert document["missing_item_ids"] == ["no such"]
    assert document["items"][0]["reasons"][0]["contribution"] == 0.12
    assert document["freshness"]["applied"][0]["next_offset"] == 7
    assert not fake.requests["GetItem"]


def test_rank_says_when_it_is_not_personal_and_what_is_missing(run, fake):
    fake.fallback = "unknown_user"

    result = run("rank", "u1", "--candidates", "b,gone")

    assert "not personal (unknown user)" in result.stdout
    assert "not in the catalogue: gone" in result.stdout


def test_rank_of_a_file_of_candidates(run, fake, tmp_path):
    ids = tmp_path / "ids"
    ids.write_bytes("\ufefftoy\r\nwith,comma\n\n\U0001f600".encode())

    result = run("rank", "u1", "--candidates-file", str(ids), "--json")

    assert result.exit_code == 0, result.output
    asked = list(fake.requests["Rank"][0].item_ids.item_ids)
    assert asked == ["toy", "with,comma", "\U0001f600"]


def test_a_strangers_title_is_neither_markup_nor_control(run, fake):
    fake.catalogue["toy"] = Item("toy", "[red]\x1b[2J\u202eToy")

    result = run("rank", "u1", "-k", "1")

    assert "[red]\ufffd[2J\ufffdToy" in result.stdout
    assert "\x1b" not in result.stdout


def test_rank_after_a_write(run, fake):
    result = run("rank", "u1", "--min-token", PRINTED_TOKEN, "--max-wait-ms", "5", "--allow-stale")

    assert result.exit_code == 0, result.output
    read_after = fake.requests["Rank"][0].read_after
    assert (read_after.min_token, read_after.max_wait_ms) == (TOKEN, 5)


def test_rank_with_all_of_a_query(run, fake):
    result = run(
        "rank", "--session", "view:m1", "--session", "search:red shoes", "--query", "warm",
        "--query-weight", "2", "--filter", "brand=Acme", "--filter", "price<=20",
        "--block-weight", "text=0.5", "--half-life-s", "60", "--type-weight", "view=0",
        "--ttl-s", "900",
        "--context", "device=phone", "--context", "hour=9", "--as-of-ms", "5",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert '3 items for this session and "warm": personal' in result.stdout
    request = fake.requests["Rank"][0]
    assert [(e.type, e.item_id, e.text) for e in request.session.events] == [
        ("view", "m1", ""), ("search", "", "red shoes"),
    ]  # fmt: skip
    assert (request.query.text, request.query.weight) == ("warm", 2.0)
    assert [f.condition.column for f in request.filter.all.filters] == ["brand", "price"]
    assert request.block_weights == {"text": 0.5}
    assert (request.pooling.half_life_s, request.pooling.type_weights["view"]) == (60.0, 0.0)
    assert request.pooling.ttl_s == 900.0
    assert (request.context["device"].text, request.context["hour"].number) == ("phone", 9.0)
    assert request.as_of_ms == 5


def test_rank_by_a_filter_in_json(run, fake):
    asked = '{"condition": {"column": "brand", "equals": {"text": "Acme"}}}'

    assert run("rank", "u1", "--filter", asked).exit_code == 0

    assert fake.requests["Rank"][0].filter.condition.equals.text == "Acme"


def test_similar(run, fake):
    shown = run("similar", "toy", "-k", "2", "--filter", "price<=20", "--with-popularity").stdout
    assert "2 items like toy, 1.50 ms in w0" in shown
    request = fake.requests["SimilarItems"][0]
    assert (request.k, request.with_bias) == (2, True)
    assert request.filter.condition.range.max == 20
    document = json.loads(run("similar", "toy", "--json").stdout)
    assert [item["item_id"] for item in document["items"]] == ["toy", "b", "c"]
    assert run("similar", "gone").exit_code == 1


def test_explain(run, fake):
    shown = run("explain", "u1", "b", "gone").stdout
    assert "1 items for u1, 1.50 ms in w0" in shown
    assert "because clicked Toy Story" in shown
    assert 'despite searched "red shoes"' in shown
    assert "popularity" in shown
    assert "not in the catalogue: gone" in shown
    assert "1 more" in run("explain", "u1", "b", "-n", "1").stdout
    document = json.loads(run("explain", "", "b", "--query", "warm", "--json").stdout)
    assert document["items"][0]["contributions"][1]["blocks"]["text"] == -0.125
    assert fake.requests["Explain"][-1].request.query.text == "warm"
