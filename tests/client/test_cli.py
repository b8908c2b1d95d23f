"""The command line in its two forms, tables and JSON, and its exit statuses."""

from __future__ import annotations

import base64
import json

import pytest
from click.testing import CliRunner

from rankstream.client import Item
from rankstream.client.cli import main

TOKEN = base64.urlsafe_b64encode(b"\x00\xfftoken").decode()


@pytest.fixture
def run(running):
    def invoke(*arguments, **options):
        targets = ["--target", running.target, "--admin-target", running.target]
        environment = {"COLUMNS": "200", "TERM": "dumb"}
        return CliRunner().invoke(main, [*targets, *arguments], env=environment, **options)

    return invoke


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
    result = run("rank", "u1", "--min-token", TOKEN, "--max-wait-ms", "5", "--allow-stale")

    assert result.exit_code == 0, result.output
    read_after = fake.requests["Rank"][0].read_after
    assert (read_after.min_token, read_after.max_wait_ms) == (b"\x00\xfftoken", 5)


def test_events_send_prints_the_token_and_the_wait(run, fake):
    result = run("events", "send", "u1", "rate", "toy", "--value", "4.5", "--wait")

    token, visible = result.stdout.splitlines()
    assert token == TOKEN
    assert visible.startswith("visible after ")
    event = fake.requests["RecordEvents"][0].events[0]
    assert (event.user_id, event.type, event.item_id, event.value) == ("u1", "rate", "toy", 4.5)
    assert fake.requests["GetProfile"][0].read_after.min_token == b"\x00\xfftoken"


def test_events_send_as_json(run, fake):
    document = json.loads(run("events", "send", "u1", "click", "toy", "--json").stdout)

    assert document["token"] == TOKEN
    assert document["event_id"] == fake.requests["RecordEvents"][0].events[0].event_id
    assert document["visible_ms"] is None
    assert not fake.requests["GetProfile"]


def test_events_send_of_a_refused_event_is_an_error(run, fake):
    fake.refused_items.add("bad")

    result = run("events", "send", "u1", "click", "bad")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "Error: item_id: bad is bad\n"


@pytest.fixture
def events_file(tmp_path):
    path = tmp_path / "events.csv"
    rows = [f"u{n},click,i{n}" for n in range(7)]
    path.write_text("\n".join(["user_id,type,item_id", *rows]))
    return path


def test_events_import_over_grpc(run, fake, events_file):
    result = run("events", "import", str(events_file), "--batch", "3")

    assert result.exit_code == 0, result.output
    assert [len(request.events) for request in fake.requests["RecordEvents"]] == [3, 3, 1]
    assert result.stdout.startswith("7 events in ")
    assert result.stdout.endswith("/s), 0 refused, 0 lines skipped\n")
    assert result.stderr == ""


def test_events_import_as_json_with_progress(run, events_file):
    result = run("events", "import", str(events_file), "--progress", "--json")

    document = json.loads(result.stdout)
    assert (document["written"], document["refused"], document["skipped"]) == (7, 0, 0)
    assert document["token"] == TOKEN
    assert "events" in result.stderr


def test_events_import_over_kafka(run, fake, events_file, monkeypatch):
    from rankstream.client import events

    made = []

    class FakeProducer:
        def __init__(self, servers, **settings):
            made.append((servers, settings["topic"]))

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def send_many(self, records, report):
            return events.Sent(len(list(records)), 0.5)

    monkeypatch.setattr(events, "EventProducer", FakeProducer)

    result = run(
        "events", "import", str(events_file), "--bootstrap-servers", "k:9092", "--topic", "t"
    )

    assert result.stdout.startswith("7 events in ")
    assert made == [("k:9092", "t")]
    assert not fake.requests["RecordEvents"]


def test_an_import_stops_at_a_bad_line_and_sums_up(run, fake, tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": "a"}\n{"item_id": 5}\n{"item_id": "c"}\n')

    result = run("items", "import", str(path), "--batch", "1")

    assert result.exit_code == 1
    assert f"Error: {path}:2: item_id: 5 is of type int; expected a string" in result.stderr
    assert result.stdout.startswith("1 items in ")
    assert len(fake.requests["UpsertItems"]) == 1


def test_an_import_skips_bad_lines_and_refused_items(run, fake, tmp_path):
    fake.refused_items.add("b")
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": "a"}\nnot json\n{"item_id": "b"}\n{"item_id": "c"}\n')

    result = run("items", "import", str(path), "--on-error", "skip", "--json")

    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["written"], document["refused"], document["skipped"]) == (2, 1, 1)
    assert f"Warning: {path}:2: is not JSON" in result.stderr
    assert "Warning: item 'b' was refused: item_id: bad" in result.stderr


def test_an_import_stops_at_a_refused_event_and_names_it(run, fake, events_file):
    fake.refused_items.add("i4")

    result = run("events", "import", str(events_file), "--batch", "3")

    assert result.exit_code == 1
    assert "Error: 'click' of 'u4' with 'i4' was refused: item_id: i4 is bad" in result.stderr
    assert result.stdout.startswith("5 events in ")
    assert "1 refused" in result.stdout
    assert len(fake.requests["RecordEvents"]) == 2


def test_an_import_of_standard_input(run, fake):
    line = '{"user_id": "u", "type": "click", "item_id": "\U0001f600"}\n'

    result = run("events", "import", "-", input=line)

    assert result.exit_code == 0, result.output
    assert fake.requests["RecordEvents"][0].events[0].item_id == "\U0001f600"


def test_items_get(run):
    assert "Toy Story" in run("items", "get", "toy").stdout
    document = json.loads(run("items", "get", "toy", "--json").stdout)
    assert document["item"]["title"] == "Toy Story"
    assert document["item_row"] == 11


def test_profile_show(run):
    shown = run("profile", "show", "u1", "-n", "3").stdout
    assert "9 interactions kept, 12 items seen" in shown
    assert "1970-01-01 00:00:01" in shown
    assert "-0.50" in shown
    document = json.loads(run("profile", "show", "u1", "--json").stdout)
    assert document["interactions"][0]["item_id"] == "toy"
    assert "nothing is known" in run("profile", "show", "nobody").stdout


def test_info(run):
    shown = run("info").stdout
    assert "max_k" in shown
    assert "1,682" in shown
    assert json.loads(run("info", "--json").stdout)["limits"]["max_k"]["value"] == 1000


def test_lag(run, fake):
    shown = run("lag").stdout
    assert "healthy, broker heard 4 ms ago, 1 dead letters" in shown
    assert "rankstream.events" in shown
    lines = run("lag", "--watch", "--count", "2", "--interval", "0", "--json").stdout.splitlines()
    assert [json.loads(line)["partitions"][0]["lag"] for line in lines] == [2, 2]
    assert run("lag", "--watch", "--count", "2", "--interval", "0").exit_code == 0


def test_an_error_is_one_line_and_status_1(run):
    result = run("items", "get", "gone")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith("item gone is not known\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["rank"],
        ["rank", "u1", "-k", "-1"],
        ["rank", "u1", "--min-token", "?"],
        ["rank", "u1", "--candidates", "a", "--candidates-file", "-"],
        ["no-such-command"],
        ["items", "import", "/nowhere"],
        ["--timeout", "0", "info"],
    ],
)
def test_wrong_usage_is_status_2(run, arguments):
    assert run(*arguments).exit_code == 2


def test_a_server_that_is_not_there_says_what_to_do(run):
    result = run("--target", "127.0.0.1:1", "rank", "u1")

    assert result.exit_code == 1
    assert "127.0.0.1:1: " in result.stderr
    assert "rankstream serve" in result.stderr


def test_the_target_comes_from_the_environment(running, fake):
    result = CliRunner().invoke(main, ["rank", "u1"], env={"RANKSTREAM_TARGET": running.target})

    assert result.exit_code == 0, result.output
    assert len(fake.requests["Rank"]) == 1


def test_version():
    from importlib.metadata import version

    assert (
        CliRunner().invoke(main, ["--version"]).output
        == f"rankstream, version {version('rankstream')}\n"
    )
