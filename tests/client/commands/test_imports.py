"""events import and items import: files in, a sum out, bad lines named."""

from __future__ import annotations

import json

import pytest
from fake_state import PRINTED_TOKEN


@pytest.fixture
def events_file(tmp_path):
    path = tmp_path / "events.csv"
    rows = [f"u{n},click,i{n}" for n in range(7)]
    path.write_text("\n".join(["user_id,type,item_id", *rows]))
    return path


def test_events_import_over_grpc(run, fake, events_file):
    result = run("events", "import", str(events_file))

    assert result.exit_code == 0, result.output
    assert [len(message.events) for message in fake.requests["ImportEvents"][0]] == [7]
    assert result.stdout.startswith("7 events in ")
    assert result.stdout.endswith("/s), 0 refused, 0 lines skipped\n")
    assert result.stderr == ""


def test_events_import_as_json_with_progress(run, events_file):
    result = run("events", "import", str(events_file), "--progress", "--json")

    document = json.loads(result.stdout)
    assert (document["written"], document["refused"], document["skipped"]) == (7, 0, 0)
    assert document["token"] == PRINTED_TOKEN
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
    assert not fake.requests["ImportEvents"]


def test_an_import_ends_at_a_bad_line_and_sums_up(run, fake, tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": "a"}\n{"item_id": 5}\n{"item_id": "c"}\n')

    result = run("items", "import", str(path))

    assert result.exit_code == 1
    assert f"Error: {path}:2: item_id: 5 is of type int; expected a string" in result.stderr
    assert result.stdout.startswith("1 items in ")
    (message,) = fake.requests["ImportItems"][0]
    assert [item.item_id for item in message.items] == ["a"]


def test_an_import_that_breaks_off_sums_up_what_it_knows(run, fake, tmp_path):
    from rankstream.client.calls.streams import CHUNK_ENTRIES

    fake.breaks_after.append(1)
    fake.refused_items.add("7")
    path = tmp_path / "items.jsonl"
    path.write_text("".join(f'{{"item_id": "{n}"}}\n' for n in range(2 * CHUNK_ENTRIES)))

    result = run("items", "import", str(path), "--json")

    assert result.exit_code == 1
    assert f"(after {CHUNK_ENTRIES} answers)" in result.stderr
    assert "Warning: item '7' was refused" in result.stderr
    assert json.loads(result.stdout)["written"] == CHUNK_ENTRIES - 1


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


def test_a_refused_event_fails_alone_and_is_named(run, fake, events_file):
    fake.refused_items |= {"i4", "i5"}

    result = run("events", "import", str(events_file))

    assert result.exit_code == 1
    assert "Error: 'click' of 'u4' with 'i4' was refused: item_id: i4 bad" in result.stderr
    assert "Warning: 'click' of 'u5' with 'i5' was refused" in result.stderr
    assert result.stderr.count("'i4' was") == 1
    assert result.stdout.startswith("5 events in ")
    assert "2 refused" in result.stdout


def test_an_import_of_standard_input(run, fake):
    line = '{"user_id": "u", "type": "click", "item_id": "\U0001f600"}\n'

    result = run("events", "import", "-", input=line)

    assert result.exit_code == 0, result.output
    (message,) = fake.requests["ImportEvents"][0]
    assert message.events[0].item_id == "\U0001f600"
