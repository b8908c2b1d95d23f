"""Lines of text to events and items. An error is a value here: the next line may be good."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from rankstream.client import checks
from rankstream.client.attributes import Attribute, attribute_from_pb, attribute_to_pb
from rankstream.client.errors import BadRecord, InvalidArgument, invalid
from rankstream.client.records import Event, Item
from rankstream.client.vectors import array_of

L = TypeVar("L")
Parsed: TypeAlias = tuple[int, "Event | Item | InvalidArgument"]


@dataclass(frozen=True, slots=True)
class Field:
    """How a field is checked, and made from a cell of a table; None: it cannot be in a table."""

    check: Callable[[str, object], object]
    from_cell: Callable[[str], object] | None = str


@dataclass(frozen=True, slots=True)
class Schema:
    """A kind of record: its fields by name, and those that must be there."""

    build: Callable[..., Event | Item]
    fields: Mapping[str, Field]
    required: tuple[str, ...]
    # At least one of these has to be there.
    either: tuple[str, ...] = ()


def _tags(field: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise invalid(field=field, problem=f"{checks.shown(value)}; expected a list of strings")
    return tuple(checks.text(f"{field}[{index}]", tag) for index, tag in enumerate(value))


def _vectors(field: str, value: object) -> dict[str, NDArray[np.float32]]:
    if not isinstance(value, dict):
        problem = f"{checks.shown(value)}; expected an object of arrays by block name"
        raise invalid(field=field, problem=problem)
    return {name: array_of(f"{field}.{ascii(name)}", numbers) for name, numbers in value.items()}


def _attributes(field: str, value: object) -> dict[str, Attribute]:
    if not isinstance(value, dict):
        raise invalid(field=field, problem=f"{checks.shown(value)}; expected an object of values")
    pairs = ((name, attribute_to_pb(f"{field}.{ascii(name)}", v)) for name, v in value.items())
    return {name: attribute_from_pb(message) for name, message in pairs}


def _number_cell(cell: str) -> object:
    """A number; a cell that is none stays text, which the check then refuses."""
    try:
        return float(cell)
    except ValueError:
        return cell


def _integer_cell(cell: str) -> object:
    try:
        return int(cell)
    except ValueError:
        return cell


_TEXT = Field(checks.text)
_NUMBER = Field(checks.number, _number_cell)

EVENT = Schema(
    build=Event,
    fields={
        "event_id": _TEXT,
        "event_time_ms": Field(checks.moment_ms, _integer_cell),
        "user_id": Field(checks.name),
        "type": Field(checks.name),
        "item_id": Field(checks.name),
        "value": _NUMBER,
        "weight": _NUMBER,
        "text": _TEXT,
        "session_id": _TEXT,
        "platform": _TEXT,
        "position": Field(checks.count, _integer_cell),
        "attributes": Field(_attributes, None),
    },
    required=("user_id", "type"),
    either=("item_id", "text"),
)
ITEM = Schema(
    build=Item,
    fields={
        "item_id": Field(checks.name),
        "title": _TEXT,
        "description": _TEXT,
        "category": _TEXT,
        "brand": _TEXT,
        "tags": Field(_tags, lambda cell: cell.split("|")),
        "price": _NUMBER,
        "vectors": Field(_vectors, None),
        "attributes": Field(_attributes, None),
    },
    required=("item_id",),
)


def json_lines(lines: Iterable[str], schema: Schema, path: str) -> Iterator[Parsed]:
    """One record a line; blank lines are passed over."""
    for number, line in enumerate(lines, start=1):
        if not line.isspace():
            yield number, _attempt(_json_object, line, schema)


def table_lines(
    lines: Iterable[str], schema: Schema, path: str, delimiter: str
) -> Iterator[Parsed]:
    """One record a row, after a header row.

    Raises:
        BadRecord: the header row is absent or does not name this schema's fields.
    """
    rows = csv.reader(
        lines,
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE,
        strict=True,
    )
    header = _header(_next_row(rows), schema, path)
    cells = partial(_cells, header=header, schema=schema)
    while (row := _next_row(rows)) is not None:
        if isinstance(row, InvalidArgument):
            yield rows.line_num, row
        elif row:
            yield rows.line_num, _attempt(cells, row, schema)


def _attempt(
    values_of: Callable[[L], dict[str, object]], line: L, schema: Schema
) -> Event | Item | InvalidArgument:
    try:
        return _build(values_of(line), schema)
    except InvalidArgument as problem:
        return problem


def _json_object(line: str) -> dict[str, object]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise invalid(field="", problem=f"is not JSON ({problem}); expected an object") from None
    if not isinstance(values, dict):
        raise invalid(field="", problem=f"{checks.shown(values)}; expected an object")
    return {name: value for name, value in values.items() if value is not None}


def _next_row(rows: csv._reader) -> list[str] | InvalidArgument | None:  # type: ignore[name-defined]
    """The next row, why it is none, or None at the end."""
    try:
        return next(rows, None)
    except csv.Error as problem:
        return invalid(field="", problem=f"is not a row of a table: {problem}")


def _header(row: list[str] | InvalidArgument | None, schema: Schema, path: str) -> list[str]:
    names = [name.strip() for name in row] if isinstance(row, list) else []
    columns = [name for name, field in schema.fields.items() if field.from_cell]
    missing = [name for name in schema.required if name not in names]
    if schema.either and not set(schema.either) & set(names):
        missing.append(schema.either[0])
    unknown = [name for name in names if name not in columns]
    expected = f"expected a header row with some of: {', '.join(columns)}"
    if missing:
        raise BadRecord(path, 1, missing[0], f"no such column; {expected}")
    if unknown:
        raise BadRecord(path, 1, ascii(unknown[0]), f"unknown column; {expected}")
    if len(set(names)) < len(names):
        raise BadRecord(path, 1, "", f"a column comes twice; {expected}")
    return names


def _cells(row: list[str], header: list[str], schema: Schema) -> dict[str, object]:
    if len(row) != len(header):
        problem = f"has {len(row)} cells; expected {len(header)}, as the header row"
        raise invalid(field="", problem=problem)
    values: dict[str, object] = {}
    for name, cell in zip(header, row, strict=True):
        convert = schema.fields[name].from_cell
        if cell and convert:
            values[name] = convert(cell)
    return values


def _build(values: dict[str, object], schema: Schema) -> Event | Item:
    """The record of checked values."""
    for name in schema.required:
        if name not in values:
            raise invalid(field=name, problem="is absent; expected an id or name")
    if schema.either and not any(name in values for name in schema.either):
        problem = f"is absent; expected one of {', '.join(schema.either)}"
        raise invalid(field=schema.either[0], problem=problem)
    checked = {}
    for name, value in values.items():
        field = schema.fields.get(name)
        if field is None:
            problem = f"unknown field; expected some of: {', '.join(schema.fields)}"
            raise invalid(field=ascii(name), problem=problem)
        checked[name] = field.check(name, value)
    return schema.build(**checked)
