"""docs/events.md says what the schema, the settings and the curves say."""

import dataclasses
import re
from pathlib import Path

import pytest

from rankstream.kernels.cells import COUNTED, IN_HISTORY
from rankstream.proto.v1 import events_pb2
from rankstream.server.config import Limits, from_mapping, options
from rankstream.server.derived import fold_settings, pooling_of
from rankstream.server.profiles.curves import parse_curve
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.stream.event_codec import EventCodec

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()


def table(heading, number=0):
    """The cells of a section's table, without its first two lines."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    rows = tables[number].strip().split("\n")
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[:1] + rows[2:]
    ]


def named(rows):
    return {row[0].strip("`"): row[1:] for row in rows[1:]}


def kind_of(field):
    if field.message_type is not None:
        return "map" if field.message_type.GetOptions().map_entry else "message"
    kinds = {
        field.TYPE_STRING: "string",
        field.TYPE_INT64: "int64",
        field.TYPE_DOUBLE: "double",
        field.TYPE_UINT32: "uint32",
    }
    return kinds[field.type]


def test_the_schema_is_the_protos():
    fields = events_pb2.Event.DESCRIPTOR.fields

    found = {name: tuple(cells[:2]) for name, cells in named(table("Schema")).items()}

    assert found == {field.name: (str(field.number), kind_of(field)) for field in fields}


def test_every_limit_of_the_schema_is_one():
    limits = {
        name for _, *cells in table("Schema")[1:] for name in re.findall("`([a-z_]+)`", cells[-1])
    }
    settings = {option.name for option in options()}

    assert limits
    assert limits <= settings


def test_the_types_are_the_defaults():
    fold = FoldSettings()
    pooling = pooling_of(from_mapping({}), fold)
    expected = {}
    for name, number in fold.type_ids.items():
        classes = fold.rules.classes[number]
        expected[name] = [
            str(fold.curve_of[name]),
            f"{pooling.type_weights[number]:g}",
            f"{pooling.half_lives_ms[number] / 86_400_000:g} d",
            str(pooling.caps[number]),
            "yes" if classes & IN_HISTORY else "no",
            "yes" if classes & COUNTED else "no",
        ]

    assert named(table("Types")) == expected


def test_the_starting_points_are_settings():
    for cells in named(table("Types", 1)).values():
        half_lives, caps, ttls, curves = (re.findall("`([^`]*)`", cell) for cell in cells)
        settings = from_mapping(
            {
                "custom_types": "read",
                "half_lives": half_lives[0],
                "type_caps": caps[0],
                "type_ttls": "".join(ttls),
                "curves": "".join(curves[:1]),
            }
        )
        assert pooling_of(settings, fold_settings(settings)).caps.any()


def test_the_weights_of_the_curves_are_theirs():
    rows = table("Curves", 1)
    curves = [parse_curve(f"x:{name.strip('`')}")[1] for name in rows[0][1:]]

    for value, *weights in rows[1:]:
        found = [f"{float(f'{curve.weigh(float(value)):.3f}') + 0.0:g}" for curve in curves]
        assert found == weights, value


def test_the_limits_are_the_defaults():
    fields = {field.name: field for field in dataclasses.fields(Limits)}

    rows = named(table("Limits"))

    assert len(rows) == 8
    for name, (default, doc) in rows.items():
        assert (default, doc) == (str(fields[name].default), fields[name].metadata["doc"])


@pytest.mark.parametrize("outcome", ["ACCEPTED", "DUPLICATE", "LATE", "REJECTED"])
def test_every_outcome_is_told(outcome):
    rows = named(table("Duplicates, order and lateness"))

    assert outcome in rows
    assert set(rows) | {"OUTCOME_UNSPECIFIED"} == set(events_pb2.EventAck.Outcome.keys())


def test_the_line_for_kcat_is_an_event():
    line = re.search(r"echo '(.*)' \|\n +kcat (.*\n.*)", PAGE)
    header = re.search(r"-H ([a-z-]+)=(\S+)", line[2])

    codec = EventCodec(FoldSettings(), Limits(), "events", 1)
    (found,) = codec.decode(line[1].encode(), 1, 0, 0, [(header[1], header[2].encode())])

    assert found.text == "blue shoes"
