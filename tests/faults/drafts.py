"""Requests in short, of a user whom the server knows."""

import grpc
import numpy as np
from requests_to import WHOLE

from rankstream.proto.v1 import catalog_pb2, common_pb2, encoder_pb2, ranking_pb2

MESSAGE_BYTES = 2 << 20
INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


TEXT = common_pb2.AttributeValue(text="x")


def ask(**fields):
    return ranking_pb2.RankRequest(user_id="known", **fields)


def whole(**fields):
    return ask(whole_catalogue=WHOLE, **fields)


def ids(*names):
    return ranking_pb2.ItemIds(item_ids=names)


def embed(*texts):
    return encoder_pb2.EmbedRequest(texts=texts)


def picture(*values, dtype=common_pb2.Vector.FLOAT32, shape=(4,), data=None, block="image"):
    """An item with a vector of its own."""
    made = catalog_pb2.Item(item_id="picture", title="a picture")
    packed = np.array(values, "<f4").tobytes() if data is None else data
    made.vectors[block].CopyFrom(common_pb2.Vector(data=packed, dtype=dtype, shape=shape))
    return made
