"""Files of events and items, good and bad."""

from __future__ import annotations

import gzip
import io
import sys

import numpy as np
import pytest

from rankstream.client import BadRecord, Event, InvalidArgument, Item, read_events, read_items

HEADER = "user_id,type,item_id,value\n"


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_json_lines_of_events(tmp_path):
    path = write(
        tmp_path,
        "events.jsonl",
        '{"user_id": "u", "type": "rate", "item_id": "i", "value": 4, "event_time_ms": 5}\n'
        "\n"
        '{"user_id": "\U0001f600", "type": "click", "item_id": "ü", "event_id": "e",'
        ' "weight": null}',
    )

    assert list(read_events(path)) == [
        Event("u", "rate", "i", value=4.0, event_time_ms=5),
        Event("\U0001f600", "click", "ü", event_id="e"),
    ]


def test_json_lines_of_items(tmp_path):
    path = write(
        tmp_path,
        "items.ndjson",
        '{"item_id": "i", "title": "T", "tags": ["a", "b"], "price": 1.5,'
        ' "vectors": {"image": [[1, 2], [3, 4.5]]}}\n',
    )

    (item,) = read_items(path)

    assert item == Item("i", "T", tags=("a", "b"), price=1.5)
    assert item.vectors["image"].dtype == np.float32
    assert item.vectors["image"].tolist() == [[1.0, 2.0], [3.0, 4.5]]


def test_csv_with_bom_crlf_quotes_and_unset_cells(tmp_path):
    path = write(
        tmp_path,
        "items.csv",
        "\ufeffitem_id,title,tags,price\r\n"
        'i1,"Heat, ""the"" film",a|b,9.5\r\n'
        'i2,"two\r\nlines",,\r\n',
    )

    assert list(read_items(path)) == [
        Item("i1", 'Heat, "the" film', tags=("a", "b"), price=9.5),
        Item("i2", "two\r\nlines"),
    ]


def test_tsv_knows_no_quotes(tmp_path):
    path = write(tmp_path, "items.tsv", 'item_id\ttitle\ni1\tthe 5" disk\n')

    assert list(read_items(path)) == [Item("i1", 'the 5" disk')]


def test_gzip_is_seen_by_its_content(tmp_path):
    packed = gzip.compress((HEADER + "u,click,i,\n").encode())
    named = write(tmp_path, "events.csv.gz", packed)
    unnamed = write(tmp_path, "events.csv", packed)

    assert list(read_events(named)) == list(read_events(unnamed)) == [Event("u", "click", "i")]


def test_a_damaged_gzip_says_so(tmp_path):
    whole = gzip.compress((HEADER + "u,click,i,\n" * 10_000).encode())
    path = write(tmp_path, "events.csv.gz", whole[:-20])

    with pytest.raises(BadRecord, match=r"events.csv.gz:\d+: cannot be read further"):
        list(read_events(path, on_error="skip"))


def test_standard_input(monkeypatch):
    line = b'{"user_id": "u", "type": "click", "item_id": "i"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line)))

    reader = read_events("-")

    assert reader.size_bytes is None
    assert list(reader) == [Event("u", "click", "i")]
    assert not sys.stdin.buffer.closed


@pytest.mark.parametrize(
    ("line", "field", "says"),
    [
        ("{", "", "is not JSON"),
        ("[" * 100_000, "", "is not JSON"),
        ("[1]", "", "of type list; expected an object"),
        ('{"type": "click", "item_id": "i"}', "user_id", "is absent"),
        ('{"user_id": "", "type": "c", "item_id": "i"}', "user_id", "is empty"),
        ('{"user_id": 5, "type": "c", "item_id": "i"}', "user_id", "5 is of type int; expected a"),
        ('{"user_id": "u", "type": "c", "item_id": "\\ud800"}', "item_id", "not valid UTF-8"),
        ('{"user_id": "u", "type": "c", "item_id": "i", "value": NaN}', "value", "is nan"),
        ('{"user_id": "u", "type": "c", "item_id": "i", "value": true}', "value", "type bool"),
        ('{"user_id": "u", "type": "c", "item_id": "i", "value": "5"}', "value", "type str"),
        (
            '{"user_id": "u", "type": "c", "item_id": "i", "event_time_ms": 1.5}',
            "event_time_ms", "type float; expected an integer",
        ),
        (
            '{"user_id": "u", "type": "c", "item_id": "i", "event_time_ms": 9223372036854775808}',
            "event_time_ms", "expected -9223372036854775808 to",
        ),
        ('{"user_id": "u", "type": "c", "item_id": "i", "x": 1}', "'x'", "unknown field"),
    ],
)  # fmt: skip
def test_a_bad_json_line_names_file_line_and_field(tmp_path, line, field, says):
    good = '{"user_id": "u", "type": "click", "item_id": "i"}'
    path = write(tmp_path, "events.jsonl", f"{good}\n{line}\n{good}\n")

    with pytest.raises(BadRecord) as caught:
        list(read_events(path))

    error = caught.value
    assert (error.path, error.line, error.field) == (path, 2, field)
    assert str(error).startswith(f"{path}:2: ")
    assert says in str(error)
    assert isinstance(error, InvalidArgument)
    assert len(str(error)) < 500
    reader = read_events(path, on_error="skip")
    assert len(list(reader)) == 2
    assert (reader.skipped, reader.first_skipped[0].line) == (1, 2)


@pytest.mark.parametrize(
    ("row", "field", "says"),
    [
        ("u,click", "", "has 2 cells; expected 4"),
        ("u,click,i,5,6", "", "has 5 cells; expected 4"),
        ("u,click,i,five", "value", "'five' is of type str; expected a number"),
        ("u,click,i,inf", "value", "is inf"),
        (",click,i,5", "user_id", "is absent"),
        ('u,"cl"ick,i,5', "", "is not a row of a table"),
        (b"u,click,\xff,5", "item_id", "is not valid UTF-8"),
    ],
)
def test_a_bad_row_names_file_line_and_field(tmp_path, row, field, says):
    raw = row if isinstance(row, bytes) else row.encode()
    path = write(tmp_path, "events.csv", HEADER.encode() + raw + b"\nu,click,i,5\n")

    with pytest.raises(BadRecord) as caught:
        list(read_events(path))

    assert (caught.value.line, caught.value.field) == (2, field)
    assert says in str(caught.value)
    reader = read_events(path, on_error="skip")
    assert list(reader) == [Event("u", "click", "i", 5.0)]
    assert reader.skipped == 1


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("", "user_id: no such column"),
        ("user_id,type\n", "item_id: no such column"),
        ("user_id,type,item_id,rating\n", "'rating': unknown column; expected a header row"),
        ("user_id,type,item_id,type\n", "a column comes twice"),
    ],
)
def test_a_bad_header_always_stops(tmp_path, header, says):
    path = write(tmp_path, "events.csv", header)

    with pytest.raises(BadRecord, match=f"events.csv:1: {says}"):
        list(read_events(path, on_error="skip"))


def test_a_table_has_no_vectors(tmp_path):
    path = write(tmp_path, "items.csv", "item_id,vectors\ni,1\n")

    with pytest.raises(BadRecord, match="unknown column"):
        list(read_items(path))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ('"tags": "a"', "tags"),
        ('"tags": ["a", 1]', r"tags\[1\]"),
        ('"vectors": [1]', "vectors"),
        ('"vectors": {"image": ["a"]}', "vectors.'image'"),
        ('"vectors": {"image": [[1], [2, 3]]}', "vectors.'image'"),
    ],
)
def test_a_bad_list_names_its_place(tmp_path, values, field):
    path = write(tmp_path, "items.jsonl", f'{{"item_id": "i", {values}}}')

    with pytest.raises(BadRecord, match=f":1: {field}: .*expected"):
        list(read_items(path))


def test_a_line_without_end_stops(tmp_path, monkeypatch):
    monkeypatch.setattr("rankstream.client.readers.MAX_LINE_BYTES", 100)
    path = write(tmp_path, "events.jsonl", b"\n" + b"x" * 101)

    with pytest.raises(BadRecord, match=r":2: is longer than 100 bytes"):
        list(read_events(path, on_error="skip"))


def test_the_format_is_asked_for_where_the_name_does_not_say(tmp_path):
    path = write(tmp_path, "events.txt", HEADER)

    with pytest.raises(InvalidArgument, match="^format: .*events.txt ends in none of"):
        read_events(path)
    assert list(read_events(path, format="csv")) == []


def test_a_file_that_is_not_there():
    with pytest.raises(InvalidArgument, match="^path: .*No such file"):
        read_events("/nowhere/events.csv")


def test_progress_ends_at_the_size(tmp_path):
    path = write(tmp_path, "events.csv", HEADER + "u,click,i,\n" * 5)
    reader = read_events(path)

    read = [reader.bytes_read for _ in reader]

    assert read[-1] == reader.size_bytes


def test_how_much_is_read_is_known_until_the_end(tmp_path):
    path = write(tmp_path, "events.csv", HEADER + "u,click,i,\n" * 3)
    reader = read_events(path)

    assert reader.bytes_read == 0
    records = iter(reader)
    next(records)
    assert 0 < reader.bytes_read <= reader.size_bytes
    assert len(list(records)) == 2
    assert reader.bytes_read == reader.size_bytes


def test_an_event_is_with_an_item_or_a_text(tmp_path):
    rows = "user_id,type,item_id,text,position\nu,search,,red shoes,\nu,impression,i,,3\n"
    path = write(tmp_path, "events.csv", rows + "u,click,,,\n")

    reader = read_events(path, on_error="skip")

    assert list(reader) == [
        Event("u", "search", text="red shoes"),
        Event("u", "impression", "i", position=3),
    ]
    assert "item_id: is absent; expected one of item_id, text" in str(reader.first_skipped[0])


def test_attributes_of_json_lines(tmp_path):
    line = '{"item_id": "i", "attributes": {"stock": 3, "new": true, "sizes": ["M", "L"]}}\n'
    bad = '{"item_id": "i", "attributes": {"stock": null}}\n{"item_id": "i", "attributes": 3}\n'
    reader = read_items(write(tmp_path, "items.jsonl", line + bad), on_error="skip")

    assert list(reader) == [Item("i", attributes={"stock": 3.0, "new": True, "sizes": ("M", "L")})]
    assert [error.field for error in reader.first_skipped] == ["attributes.'stock'", "attributes"]
