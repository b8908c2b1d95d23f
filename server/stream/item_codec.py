"""Records of the items topic to whole items. One that cannot be folded is a ``BadRecord``.

The same rules validate what comes over gRPC (``validate_item``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from rankstream.proto.v1 import catalog_pb2, common_pb2
from rankstream.server.catalog.blocks import Block, attribute_features
from rankstream.server.config import Limits
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.errors import InvalidArgument
from rankstream.server.facts import FIELDS, item_facts
from rankstream.server.stream.attributes import attributes_from_pb
from rankstream.server.stream.checks import BadRecord, check_id, check_size
from rankstream.server.types import item_key


@dataclass(frozen=True, slots=True)
class DecodedItem:
    """A whole item, ready for the catalogue.

    Attributes:
        item_id: the external id.
        key: its 64-bit key.
        text: what the encoder reads.
        features: what ``hash_attributes`` reads.
        vectors: block name -> ``float32 [dimensions]``.
        facts: what filters test, ``uint64 [n, 2]``.
    """

    item_id: str
    key: int
    text: str
    features: list[str]
    vectors: dict[str, NDArray[np.float32]]
    facts: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class CheckedItem:
    """What the check of an item has read of it.

    Attributes:
        vectors: block name -> ``float32 [dimensions]``.
        facts: what filters test, ``uint64 [n, 2]``.
    """

    vectors: dict[str, NDArray[np.float32]]
    facts: NDArray[np.uint64]


def decode_item(
    key: bytes | None,
    value: bytes,
    limits: Limits,
    blocks: tuple[Block, ...],
    template: ItemTemplate,
) -> DecodedItem:
    """Reads one record of the items topic that is not a deletion.

    Raises:
        BadRecord: it cannot be folded.
        InvalidArgument: a field of the item is wrong.
    """
    check_size(value, limits)
    item = catalog_pb2.Item()
    try:
        item.ParseFromString(value)
    except DecodeError as error:
        msg = f"value: not an Item: {error}"
        raise BadRecord(msg) from None
    if key is not None and key != item.item_id.encode():
        msg = f"item_id: {item.item_id!r} differs from the record's key {key!r}"
        raise BadRecord(msg)
    checked = validate_item(item, limits, blocks)
    features = attribute_features(item.category, item.brand, item.tags, _price_of(item))
    return DecodedItem(
        item.item_id,
        item_key(item.item_id),
        item_text(item, template),
        features,
        checked.vectors,
        checked.facts,
    )


def item_text(item: catalog_pb2.Item, template: ItemTemplate) -> str:
    """What the encoder reads of an item."""
    return template.render(item.title, item.description, item.category, item.brand, list(item.tags))


def validate_item(
    item: catalog_pb2.Item, limits: Limits, blocks: tuple[Block, ...], field: str = ""
) -> CheckedItem:
    """Checks an item.

    Args:
        item: the message.
        limits: lengths.
        blocks: the caller-supplied blocks that were declared at start.
        field: where the item stands in a request, as ``items[3].``.

    Raises:
        InvalidArgument: names the field.
    """
    check_id(item.item_id, field + "item_id", limits.max_id_bytes)
    for name in ("title", "description", "category", "brand"):
        length = len(getattr(item, name))
        if length > limits.max_text_chars:
            problem = f"{length} characters, the limit is {limits.max_text_chars}"
            raise InvalidArgument(field + name, problem)
    if len(item.tags) > limits.max_tags:
        raise InvalidArgument(field + "tags", f"{len(item.tags)}, the limit is {limits.max_tags}")
    for i, tag in enumerate(item.tags):
        if len(tag) > limits.max_id_bytes:
            problem = f"longer than {limits.max_id_bytes} characters"
            raise InvalidArgument(field=f"{field}tags[{i}]", problem=problem)
    if item.HasField("price") and not (math.isfinite(item.price) and item.price >= 0):
        raise InvalidArgument(field + "price", f"{item.price}, expected a finite number from 0 up")
    declared = {b.name: b for b in blocks}
    vectors = {}
    for name, vector in item.vectors.items():
        where = f"{field}vectors[{name!r}]"
        if name not in declared:
            names = ", ".join(declared) or "none"
            raise InvalidArgument(where, f"no such block was declared at start; there are: {names}")
        vectors[name] = read_vector(vector, declared[name].dimensions, where)
    return CheckedItem(vectors, _checked_facts(item, limits, field))


def _checked_facts(item: catalog_pb2.Item, limits: Limits, field: str) -> NDArray[np.uint64]:
    attributes = attributes_from_pb(item.attributes, limits, field + "attributes")
    for name in FIELDS:
        if name in attributes:
            where = f"{field}attributes[{name!r}]"
            problem = f"reserved for the item's field {name}, expected another name"
            raise InvalidArgument(where, problem)
    facts = item_facts(item.category, item.brand, item.tags, _price_of(item), attributes)
    if len(facts) > limits.max_facts:
        problem = f"{len(facts)} values with the item's other fields, "
        problem += f"the limit is {limits.max_facts}"
        raise InvalidArgument(field + "attributes", problem)
    return facts


def _price_of(item: catalog_pb2.Item) -> float | None:
    return item.price if item.HasField("price") else None


def read_vector(vector: common_pb2.Vector, dimensions: int, field: str) -> NDArray[np.float32]:
    """A finite ``float32 [dimensions]`` vector.

    Raises:
        InvalidArgument: names the field, what it holds and what was expected.
    """
    if vector.dtype != common_pb2.Vector.FLOAT32:
        raise InvalidArgument(field + ".dtype", f"{vector.dtype}, expected FLOAT32")
    if list(vector.shape) != [dimensions]:
        raise InvalidArgument(field + ".shape", f"{list(vector.shape)}, expected [{dimensions}]")
    if len(vector.data) != 4 * dimensions:
        problem = f"{len(vector.data)} bytes, expected {4 * dimensions} for float32 [{dimensions}]"
        raise InvalidArgument(field + ".data", problem)
    values = np.frombuffer(vector.data, "<f4")
    if not np.isfinite(values).all():
        raise InvalidArgument(field + ".data", "holds NaN or infinity")
    return values
