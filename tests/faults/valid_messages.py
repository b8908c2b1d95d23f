"""A valid message of every method that takes one."""

from drafts import TEXT, ask, embed, ids, picture, whole
from requests_to import event

from rankstream.proto.v1 import catalog_pb2, encoder_pb2, events_pb2, profiles_pb2, ranking_pb2

BASES = {
    "ranking/Rank": whole(
        k=3, exclude_item_ids=["toy"], exclude_seen=True, explain=ranking_pb2.Explain(items=2)
    ),
    "ranking/BatchRank": ranking_pb2.BatchRankRequest(
        requests=[whole(k=2), ask(item_ids=ids("toy", "alien")), ask()]
    ),
    "events/RecordEvents": events_pb2.RecordEventsRequest(
        events=[event("fuzz", "toy", "rate", value=3, event_id="f"), event("fuzz", "alien")]
    ),
    "catalog/UpsertItems": catalog_pb2.UpsertItemsRequest(
        items=[picture(1, 2, 3, 4), catalog_pb2.Item(item_id="f", tags=["a"], price=1)]
    ),
    "catalog/GetItem": catalog_pb2.GetItemRequest(item_id="toy"),
    "catalog/PatchItem": catalog_pb2.PatchItemRequest(
        item=picture(1, 2, 3, 4),
        update_mask={"paths": ["price", "vectors.image", "attributes.x"]},
        if_version=1,
    ),
    "catalog/DeleteItems": catalog_pb2.DeleteItemsRequest(item_ids=["gone", "never"]),
    "ranking/SimilarItems": ranking_pb2.SimilarItemsRequest(
        item_id="toy", k=2, exclude_item_ids=["alien"], block_weights={"text": 1}, with_bias=True
    ),
    "ranking/Explain": ranking_pb2.ExplainRequest(request=ask(item_ids=ids("toy", "alien"))),
    "profiles/GetProfile": profiles_pb2.GetProfileRequest(user_id="known", max_interactions=3),
    "profiles/UpsertUser": profiles_pb2.UpsertUserRequest(
        user=profiles_pb2.User(
            user_id="fuzz", attributes={"a": TEXT}, interests=["tea"], identities=["fuzz-guest"]
        )
    ),
    "profiles/MergeProfiles": profiles_pb2.MergeProfilesRequest(
        from_user_id="fuzz", into_user_id="fuzz-into"
    ),
    "profiles/ResetProfile": profiles_pb2.ResetProfileRequest(user_id="fuzz"),
    "profiles/PurgeUser": profiles_pb2.PurgeUserRequest(user_id="fuzz"),
    "encoder/Embed": embed("a text", "another"),
    "encoder/Tokenize": encoder_pb2.TokenizeRequest(texts=["a text", "another"]),
}
