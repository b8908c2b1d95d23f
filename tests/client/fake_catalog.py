"""Items, as a server takes and gives them."""

from __future__ import annotations

from typing import Any

import grpc
from fake_state import TOKEN, Fake, status

from rankstream.client.records import item_to_pb
from rankstream.proto.v1 import catalog_pb2, catalog_pb2_grpc


class FakeCatalog(catalog_pb2_grpc.CatalogServicer):
    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def UpsertItems(self, request: Any, context: Any) -> Any:
        self.fake.enter("UpsertItems", request, context)
        results = [catalog_pb2.ItemResult(item_id=item.item_id) for item in request.items]
        for result in results:
            if result.item_id in self.fake.refused_items:
                result.status.CopyFrom(status(grpc.StatusCode.INVALID_ARGUMENT, "item_id: bad"))
        return catalog_pb2.UpsertItemsResponse(results=results, token=b"items")

    def GetItem(self, request: Any, context: Any) -> Any:
        self.fake.enter("GetItem", request, context)
        if request.item_id not in self.fake.catalogue:
            context.abort(grpc.StatusCode.NOT_FOUND, f"item {request.item_id} is not known")
        item = self.fake.catalogue[request.item_id]
        return catalog_pb2.GetItemResponse(
            item=item_to_pb(item),
            item_row=11,
            text=item.title.lower(),
            bias=0.5,
            generation=3,
            catalogue_version=5,
            version=99,
        )

    def ImportItems(self, requests: Any, context: Any) -> Any:
        accepted = rejected = 0
        for request in self.fake.streamed("ImportItems", requests, context):
            failures = []
            for item in request.items:
                if not item.item_id or item.item_id in self.fake.refused_items:
                    bad = status(grpc.StatusCode.INVALID_ARGUMENT, "item_id: bad")
                    index = accepted + rejected
                    failures.append(
                        catalog_pb2.ItemFailure(index=index, item_id=item.item_id, status=bad)
                    )
                    rejected += 1
                else:
                    accepted += 1
            yield catalog_pb2.ImportItemsProgress(
                accepted=accepted, rejected=rejected, failures=failures, token=TOKEN
            )

    def PatchItem(self, request: Any, context: Any) -> Any:
        self.fake.enter("PatchItem", request, context)
        return catalog_pb2.PatchItemResponse(item=request.item, token=TOKEN)

    def DeleteItems(self, request: Any, context: Any) -> Any:
        self.fake.enter("DeleteItems", request, context)
        results = [catalog_pb2.ItemResult(item_id=item_id) for item_id in request.item_ids]
        for result in results:
            if result.item_id in self.fake.refused_items:
                result.status.CopyFrom(status(grpc.StatusCode.INVALID_ARGUMENT, "item_id: bad"))
        return catalog_pb2.DeleteItemsResponse(results=results, token=TOKEN)

    def ListItems(self, request: Any, context: Any) -> Any:
        self.fake.enter("ListItems", request, context)
        limit = self.fake.breaks_after.pop(0) if self.fake.breaks_after else None
        ids = sorted(self.fake.catalogue)
        start = ids.index(request.resume_token.decode()) + 1 if request.resume_token else 0
        wanted = ids[start:][: request.limit if request.HasField("limit") else None]
        for count, item_id in enumerate(wanted):
            if count == limit:
                context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
            item = item_to_pb(self.fake.catalogue[item_id])
            yield catalog_pb2.ListedItem(item=item, resume_token=item_id.encode())
