"""The Catalog service."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from rankstream.client import checks
from rankstream.client.answers import (
    Deleted,
    ListedItem,
    Patched,
    StoredItem,
    Upserted,
    deleted_from_pb,
    listed_item_from_pb,
    patched_from_pb,
    stored_item_from_pb,
    upserted_from_pb,
)
from rankstream.client.calls.methods import Answer, Stream, answers, streams
from rankstream.client.calls.shapes import Unary
from rankstream.client.calls.streams import RESUME_PAUSES_S, Listing, Source
from rankstream.client.errors import RankstreamError, Unavailable, invalid
from rankstream.client.host import Host
from rankstream.client.imports import Imported, ImportProgress, ItemImport
from rankstream.client.queries import count_or_none, id_list, read_after
from rankstream.client.records import Item, item_to_pb
from rankstream.proto.v1 import catalog_pb2, common_pb2

_MAPS = ("attributes", "vectors")


class CatalogCalls(Host):
    """What can be ranked."""

    @answers
    def upsert_items(
        self, items: Iterable[Item], *, timeout_s: float | None = None
    ) -> Answer[Upserted]:
        """Writes whole items to the log; they can be ranked once encoded.

        Args:
            items: few enough for one message; ``import_items`` takes any number.
            timeout_s: deadline, in seconds.
        """
        request = catalog_pb2.UpsertItemsRequest(items=[item_to_pb(item) for item in items])
        return Unary("Catalog/UpsertItems", request, upserted_from_pb, timeout_s)

    @answers
    def import_items(
        self,
        items: Source[Item],
        *,
        on_progress: Callable[[ImportProgress], None] | None = None,
        timeout_s: float | None = None,
    ) -> Answer[Imported]:
        """Writes any number of items over one stream. Bad ones fail alone.

        Args:
            items: taken as the server takes them, on a thread of its own where this client blocks.
            on_progress: called with each report, some hundred items apart.
            timeout_s: deadline of the whole stream, in seconds; None: none.

        Raises:
            RankstreamError: the stream broke off; ``answered`` says after how many items. Import
                again: an item that is written twice is the same item.
        """
        return ItemImport(items, on_progress, timeout_s)

    @answers
    def get_item(
        self,
        item_id: str,
        *,
        min_token: bytes = b"",
        max_wait_ms: int | None = None,
        allow_stale: bool = False,
        timeout_s: float | None = None,
    ) -> Answer[StoredItem]:
        """An item as it can be ranked.

        Raises:
            NotFound: the catalogue does not hold it.
        """
        request = catalog_pb2.GetItemRequest(
            item_id=checks.text("item_id", item_id),
            read_after=read_after(min_token, max_wait_ms, allow_stale),
        )
        return Unary("Catalog/GetItem", request, stored_item_from_pb, timeout_s, max_wait_ms)

    @answers
    def patch_item(
        self,
        item_id: str,
        fields: Mapping[str, Any] = {},  # noqa: B006 - never written
        *,
        clear: Collection[str] = (),
        if_version: int | None = None,
        min_token: bytes = b"",
        max_wait_ms: int | None = None,
        allow_stale: bool = False,
        timeout_s: float | None = None,
    ) -> Answer[Patched]:
        """Changes fields of an item; a text that stays is not encoded again.

        It is not retried: a second time ``if_version`` would meet the first. Calling again does no
        harm.

        Args:
            item_id: the item.
            fields: new values by path: "price", "tags", "attributes", "attributes.colour",
                "vectors.image".
            clear: paths whose values go.
            if_version: patch this version alone, as ``get_item`` answered it.
            min_token: patch the item as it stands after this write.
            max_wait_ms: longest wait for it; None: the server's default.
            allow_stale: patch what there is when the wait ends.
            timeout_s: deadline, in seconds.

        Raises:
            NotFound: the catalogue does not hold the item.
            FailedPrecondition: it has another version.
        """
        request = catalog_pb2.PatchItemRequest(
            item=_patch_of(item_id, fields),
            update_mask=FieldMask(paths=[*fields, *checks.texts("clear", clear)]),
            if_version=None if if_version is None else checks.moment_ms("if_version", if_version),
            read_after=read_after(min_token, max_wait_ms, allow_stale),
        )
        return Unary("Catalog/PatchItem", request, patched_from_pb, timeout_s, max_wait_ms)

    @answers
    def delete_items(
        self, item_ids: Iterable[str], *, timeout_s: float | None = None
    ) -> Answer[Deleted]:
        """Deletes items; an unknown id is no error."""
        ids = id_list("item_ids", item_ids if isinstance(item_ids, str) else list(item_ids))
        request = catalog_pb2.DeleteItemsRequest(item_ids=ids)
        return Unary("Catalog/DeleteItems", request, deleted_from_pb, timeout_s)

    @streams
    def list_items(
        self,
        *,
        limit: int | None = None,
        resume_token: bytes = b"",
        min_token: bytes = b"",
        max_wait_ms: int | None = None,
        allow_stale: bool = False,
        timeout_s: float | None = None,
    ) -> Stream[ListedItem]:
        """All items, in the order of their keys.

        A list that breaks off because the server went away is taken up again behind its last item.

        Args:
            limit: at most so many; None: all.
            resume_token: begin behind the item of an earlier list that carried it.
            min_token: of an earlier write that this has to see; empty: no wait.
            max_wait_ms: longest wait for it; None: the server's default.
            allow_stale: answer with what there is when the wait ends.
            timeout_s: deadline of one attempt, in seconds; None: none.

        Raises:
            RankstreamError: the list broke off for good; ``answered`` says after how many items.
        """
        wait = read_after(min_token, max_wait_ms, allow_stale)
        return _ItemList(count_or_none("limit", limit), resume_token, wait, timeout_s)


class _ItemList(Listing[ListedItem]):
    """``ListItems``, taken up again behind the last item that was read."""

    def __init__(
        self,
        limit: int | None,
        resume_token: bytes,
        wait: common_pb2.ReadAfter | None,
        timeout_s: float | None,
    ) -> None:
        super().__init__("Catalog/ListItems", timeout_s)
        self._limit = limit
        self._resume_token = resume_token
        self._wait = wait
        self._pauses = iter(RESUME_PAUSES_S)

    def request(self) -> Message:
        left = None if self._limit is None else self._limit - self.answered
        return catalog_pb2.ListItemsRequest(
            resume_token=self._resume_token, limit=left, read_after=self._wait
        )

    def read(self, answer: Any) -> ListedItem:
        self.answered += 1
        self._resume_token = answer.resume_token
        self._pauses = iter(RESUME_PAUSES_S)
        return listed_item_from_pb(answer)

    def pause_after(self, error: RankstreamError) -> float | None:
        return next(self._pauses, None) if isinstance(error, Unavailable) else None


def _patch_of(item_id: str, fields: Mapping[str, Any]) -> catalog_pb2.Item:
    """An item that holds the new values."""
    values: dict[str, Any] = {}
    for path, value in fields.items():
        name, _, key = checks.text("fields key", path).partition(".")
        if name == "item_id" or name not in Item.__dataclass_fields__:
            known = ", ".join(n for n in Item.__dataclass_fields__ if n != "item_id")
            raise invalid(
                field=f"fields[{path}]", problem=f"no such field; expected one of {known}"
            )
        if key and name not in _MAPS:
            raise invalid(
                field=f"fields[{path}]", problem=f"{name} has no parts; expected {name!r} alone"
            )
        if key:
            values.setdefault(name, {})[key] = value
        else:
            values[name] = value
    return item_to_pb(Item(checks.text("item_id", item_id), **values))
