"""A patch of an item: which paths it names, and what the item is with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rankstream.proto.v1 import catalog_pb2
from rankstream.server.catalog.blocks import Block
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument

_MASK = "update_mask"
_MAPS = ("attributes", "vectors")
_ID = "item_id"
# Any: protobuf's stubs know the names as literals alone.
_ALL: tuple[Any, ...] = tuple(field.name for field in catalog_pb2.Item.DESCRIPTOR.fields)
_FIELDS = tuple(name for name in _ALL if name != _ID)


@dataclass(frozen=True, slots=True)
class ItemPath:
    """One path of a mask: a whole field, or with ``key`` one entry of a map."""

    field: str
    key: str = ""


def item_paths(
    paths: Sequence[str], limits: Limits, blocks: tuple[Block, ...]
) -> tuple[ItemPath, ...]:
    """Reads an ``update_mask``.

    Args:
        paths: as the caller gave them.
        limits: how many there may be.
        blocks: the caller-supplied blocks that were declared at start.

    Raises:
        InvalidArgument: there are none or too many, or one is not a path; names it.
    """
    if not paths:
        raise InvalidArgument(_MASK, f"empty, expected what to change: {_known(blocks)}")
    if len(paths) > limits.max_mask_paths:
        problem = f"{len(paths)} paths, the limit is {limits.max_mask_paths}"
        raise InvalidArgument(_MASK, problem)
    return tuple(_read_all(paths, blocks))


def patched(
    item: catalog_pb2.Item, patch: catalog_pb2.Item, paths: Sequence[ItemPath]
) -> catalog_pb2.Item:
    """The item with what ``paths`` name as it is in ``patch``; what is not set there is cleared."""
    result, given = catalog_pb2.Item(), catalog_pb2.Item()
    result.CopyFrom(item)
    given.CopyFrom(patch)
    whole = {path.field for path in paths if not path.key}
    for name in _ALL:
        (result if name in whole else given).ClearField(name)
    result.MergeFrom(given)
    for path in paths:
        if path.key:
            _take_entry(result, patch, path)
    return result


def _read_all(paths: Sequence[str], blocks: tuple[Block, ...]) -> Iterator[ItemPath]:
    declared = {block.name for block in blocks}
    for i, path in enumerate(paths):
        field, dot, key = path.partition(".")
        where = f"{_MASK}.paths[{i}]"
        if field == _ID:
            raise InvalidArgument(where, "item_id cannot change; write another item instead")
        entry = field in _MAPS and key and (field != "vectors" or key in declared)
        if field not in _FIELDS or (dot and not entry):
            raise InvalidArgument(where, f"{path!r} is no path; there are: {_known(blocks)}")
        yield ItemPath(field, key)


def _take_entry(item: catalog_pb2.Item, patch: catalog_pb2.Item, path: ItemPath) -> None:
    entries, given = getattr(item, path.field), getattr(patch, path.field)
    # A message map has no assignment, and reading a key that is not there makes it.
    entries.pop(path.key, None)
    if path.key in given:
        entries[path.key].CopyFrom(given[path.key])


def _known(blocks: tuple[Block, ...]) -> str:
    entries = ["attributes.NAME", *(f"vectors.{block.name}" for block in blocks)]
    return ", ".join([*_FIELDS, *entries])
