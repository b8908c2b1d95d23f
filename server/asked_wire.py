"""What a ranking asks for beyond a stored user: from protobuf to ``Asked``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.proto.v1 import common_pb2, ranking_pb2
from rankstream.server.catalog.blocks import Layout
from rankstream.server.config import Limits
from rankstream.server.encoder.base import require_same_space
from rankstream.server.errors import InvalidArgument
from rankstream.server.profiles.pooling import whole_ttl_ms
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.session_wire import session_from_pb
from rankstream.server.stream.attributes import attributes_from_pb
from rankstream.server.stream.item_codec import read_vector
from rankstream.server.types import Asked, PoolingChange, Query, normal_text


@dataclass(frozen=True, slots=True)
class RequestForm:
    """What requests are checked against.

    Attributes:
        limits: bounds.
        layout: the blocks of a row.
        fold: the types of events.
        space: the fingerprint of the vectors that are served.
    """

    limits: Limits
    layout: Layout
    fold: FoldSettings
    space: str


def asked_from_pb(request: ranking_pb2.RankRequest, form: RequestForm, field: str) -> Asked | None:
    """What a request asks for beyond a stored user; None: nothing.

    Raises:
        InvalidArgument: names the field.
        SpaceMismatch: its vector says that it is of another space.
    """
    if request.context:
        attributes_from_pb(request.context, form.limits, field + "context")
    subject = request.WhichOneof("subject")
    plain = subject == "user_id" and not (
        request.HasField("query")
        or request.block_weights
        or request.HasField("pooling")
        or request.HasField("as_of_ms")
    )
    if plain:
        return None
    if subject is None and not request.HasField("query"):
        problem = "not set: give user_id, session or vector, or a query"
        raise InvalidArgument(field + "subject", problem)
    session = vector = None
    if subject == "session":
        session = session_from_pb(request.session, form.fold, form.limits, field + "session.")
    if subject == "vector":
        vector = _vector(request.vector, form, field + "vector")
    as_of = request.as_of_ms if request.HasField("as_of_ms") else None
    if as_of is not None and as_of < 0:
        raise InvalidArgument(field + "as_of_ms", f"{as_of}, expected milliseconds since the epoch")
    return Asked(
        session=session,
        vector=vector,
        query=_query(request, form.limits, field + "query."),
        block_weights=block_weights_from_pb(request.block_weights, form, field),
        pooling=_pooling(request, form, field + "pooling."),
        as_of_ms=as_of,
    )


def block_weights_from_pb(
    given: Mapping[str, float], form: RequestForm, field: str
) -> NDArray[np.float64] | None:
    """Weights ``float64 [n_blocks]``; None: as configured.

    Raises:
        InvalidArgument: no such block, or no such weight.
    """
    if not given:
        return None
    layout, limits = form.layout, form.limits
    names = [block.name for block in layout.blocks]
    weights = layout.weights
    for name, weight in sorted(given.items()):
        where = f"{field}block_weights[{name!r}]"
        if name not in names:
            raise InvalidArgument(where, f"no such block; there are {', '.join(names)}")
        weights[names.index(name)] = _checked_weight(weight, limits, where)
    return weights


def _query(request: ranking_pb2.RankRequest, limits: Limits, field: str) -> Query | None:
    if not request.HasField("query"):
        return None
    text = normal_text(request.query.text)
    if not text:
        raise InvalidArgument(field + "text", "empty, expected what is wanted, in words")
    if len(text) > limits.max_text_chars:
        problem = f"{len(text)} characters, the limit is {limits.max_text_chars}"
        raise InvalidArgument(field + "text", problem)
    weight = request.query.weight if request.query.HasField("weight") else 1.0
    return Query(text, _checked_weight(weight, limits, field + "weight"))


def _vector(given: common_pb2.Vector, form: RequestForm, field: str) -> NDArray[np.float32]:
    if given.space:
        require_same_space(form.space, given.space)
    layout = form.layout
    whole, text = layout.blocks[-1].stop, layout.blocks[0].dimensions
    return read_vector(given, whole if list(given.shape) == [whole] else text, field)


def _pooling(
    request: ranking_pb2.RankRequest, form: RequestForm, field: str
) -> PoolingChange | None:
    if not request.HasField("pooling"):
        return None
    fold, limits = form.fold, form.limits
    given = request.pooling
    weights = {}
    for name, weight in sorted(given.type_weights.items()):
        where = f"{field}type_weights[{name!r}]"
        type_id = fold.type_id(name)
        if type_id is None:
            problem = f"no such type; there are {', '.join(fold.type_ids)}"
            raise InvalidArgument(where, problem)
        weights[type_id] = _checked_weight(weight, limits, where)
    half_life = given.half_life_s if given.HasField("half_life_s") else None
    half_life_ms = _duration_ms(half_life, field + "half_life_s")
    ttl_ms = _duration_ms(given.ttl_s if given.HasField("ttl_s") else None, field + "ttl_s")
    interests = None
    if given.HasField("profile_text_weight"):
        where = field + "profile_text_weight"
        interests = _checked_weight(given.profile_text_weight, limits, where)
    whole = None if ttl_ms is None else whole_ttl_ms(ttl_ms)
    return PoolingChange(half_life_ms, whole, weights, interests)


def _duration_ms(seconds: float | None, field: str) -> float | None:
    if seconds is None:
        return None
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidArgument(field, f"{seconds}, expected seconds above 0")
    return seconds * 1000


def _checked_weight(weight: float, limits: Limits, field: str) -> float:
    if not abs(weight) <= limits.max_weight:
        raise InvalidArgument(field, f"{weight}, expected a number of at most {limits.max_weight}")
    return weight
