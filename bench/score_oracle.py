"""Scores made again from what the public API shows, without Explain and without the state.

An item's row is put together from GetItem and Embed, a user's vector from GetProfile and those
rows, as ``ARCHITECTURE.md`` and ``kernels/query.py`` define them, all in NumPy and fp64. A text is
encoded anew, perhaps in other company than when it was stored, so parts agree within a tolerance.

An answer is comparable where the profile has not changed since, and is made of items alone.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc
import numpy as np
from numpy.typing import NDArray

from rankstream.proto.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    encoder_pb2,
    encoder_pb2_grpc,
    profiles_pb2,
    profiles_pb2_grpc,
    ranking_pb2,
)
from rankstream.server.catalog.blocks import attribute_features, hash_attributes

TOLERANCE = 0.01
_ITEMS = 10
_TEXTS_A_CALL = 64
_TIMEOUT_S = 20.0

Row = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Rules:
    """How this server scores.

    Attributes:
        block_weights: by block.
        type_weights: by event type.
        half_lives_ms: by event type: age at which an interaction counts half.
        caps: by event type: so many of the newest count.
        ttls_ms: by event type: age beyond which it does not count; types that are not in it: none.
    """

    block_weights: Mapping[str, float]
    type_weights: Mapping[str, float]
    half_lives_ms: Mapping[str, float]
    caps: Mapping[str, int]
    ttls_ms: Mapping[str, float]


def read_rules(admin: str) -> Rules:
    """Asks the Admin service at host:port."""
    with grpc.insecure_channel(admin) as channel:
        request = admin_pb2.GetServerInfoRequest()
        info = admin_pb2_grpc.AdminStub(channel).GetServerInfo(request, timeout=_TIMEOUT_S)
    return Rules(
        {block.name: block.weight for block in info.blocks},
        {kind.name: kind.pooling_weight for kind in info.event_types},
        {kind.name: 1000 * kind.half_life_s for kind in info.event_types},
        {kind.name: kind.pooled_at_most for kind in info.event_types},
        {kind.name: 1000 * kind.ttl_s for kind in info.event_types if kind.ttl_s},
    )


class ScoreOracle:
    """Checks the parts of answers.

    Attributes:
        compared: answers that were comparable.
        skipped: those that were not.
    """

    def __init__(self, channel: grpc.Channel, rules: Rules) -> None:
        self._catalog = catalog_pb2_grpc.CatalogStub(channel)
        self._encoder = encoder_pb2_grpc.EncoderStub(channel)
        self._profiles = profiles_pb2_grpc.ProfilesStub(channel)
        self._rules = rules
        self._rows: dict[str, Row] = {}
        self._version = -1
        self.compared = 0
        self.skipped = 0

    def problems(
        self, request: ranking_pb2.RankRequest, response: ranking_pb2.RankResponse
    ) -> list[str]:
        """What is wrong with the parts of the best items and of the last."""
        profile = self._profile_of(request, response)
        items = [*response.items[: _ITEMS - 1], *response.items[_ITEMS - 1 :][-1:]]
        version = response.freshness.catalogue_version
        if profile is None or not self._learn(profile, items, version):
            self.skipped += 1
            return []
        self.compared += 1
        query = self._query(profile.interactions)
        found = []
        for item in items:
            for name, part in zip(response.block_names, item.parts.blocks, strict=True):
                expected = _inner(query[name], self._rows[item.item_id][name])
                if not abs(part - expected) <= TOLERANCE:
                    what = f"{request.user_id}: the {name} part of {item.item_id} is {part:.5f}"
                    found.append(f"{what}, made again it is {expected:.5f}")
        return found

    def _profile_of(
        self, request: ranking_pb2.RankRequest, response: ranking_pb2.RankResponse
    ) -> profiles_pb2.GetProfileResponse | None:
        """What the answer was made from; None where that is not known any more."""
        if request.WhichOneof("subject") != "user_id" or request.HasField("query"):
            return None
        asked = profiles_pb2.GetProfileRequest(user_id=request.user_id)
        profile = self._profiles.GetProfile(asked, timeout=_TIMEOUT_S)
        texts = profile.user.interests or any(i.text for i in profile.interactions)
        ours, theirs = profile.freshness, response.freshness
        if texts or profile.canonical_user_id:
            return None
        if ours.profile_updated_at_ms != theirs.profile_updated_at_ms:
            return None
        return profile

    def _learn(
        self,
        profile: profiles_pb2.GetProfileResponse,
        items: Sequence[ranking_pb2.RankedItem],
        version: int,
    ) -> bool:
        """Makes the rows that are needed; False where the catalogue has moved on."""
        if version != self._version:
            self._rows.clear()
            self._version = version
        wanted = {i.item_id for i in items} | {i.item_id for i in profile.interactions}
        unknown = sorted(wanted - {""} - self._rows.keys())
        for first in range(0, len(unknown), _TEXTS_A_CALL):
            if not self._make_rows(unknown[first : first + _TEXTS_A_CALL]):
                return False
        return profile.freshness.catalogue_version == version

    def _make_rows(self, item_ids: Sequence[str]) -> bool:
        found = []
        for item_id in item_ids:
            request = catalog_pb2.GetItemRequest(item_id=item_id)
            found.append(self._catalog.GetItem(request, timeout=_TIMEOUT_S))
            if found[-1].catalogue_version != self._version:
                return False
        texts_of = encoder_pb2.EmbedRequest(texts=[one.text for one in found])
        embedded = self._encoder.Embed(texts_of, timeout=_TIMEOUT_S).embeddings
        texts = np.frombuffer(embedded.data, "<f4").reshape(tuple(embedded.shape))
        for one, text in zip(found, texts, strict=True):
            self._rows[one.item.item_id] = self._row(one.item, text if one.text else 0 * text)
        return True

    def _row(self, item: catalog_pb2.Item, text: NDArray[np.float32]) -> Row:
        price = item.price if item.HasField("price") else None
        features = attribute_features(item.category, item.brand, item.tags, price)
        row = {"text": _unit(text), "attributes": _unit(hash_attributes(features))}
        for name in self._rules.block_weights:
            if name not in row:
                row[name] = _unit(np.frombuffer(item.vectors[name].data, "<f4"))
        return row

    def _query(self, interactions: Sequence[profiles_pb2.Interaction]) -> Row:
        """The pooled, weighted vector by block; zero where nothing counts."""
        newest = max((i.event_time_ms for i in interactions), default=0)
        counted = self._counted(interactions)
        query: dict[str, NDArray[np.float64]] = {}
        for name, weight in self._rules.block_weights.items():
            total = np.zeros(0)
            for one in counted:
                row = self._rows[one.item_id][name] if one.item_id else np.zeros(0)
                if row.size:
                    age = (newest - one.event_time_ms) / self._rules.half_lives_ms[one.type]
                    own = self._rules.type_weights[one.type] * one.weight * 2.0**-age
                    total = own * row + (total if total.size else 0.0)
            query[name] = weight * _unit(total)
        return query

    def _counted(
        self, interactions: Sequence[profiles_pb2.Interaction]
    ) -> list[profiles_pb2.Interaction]:
        """The newest of each type that have not expired; ``interactions`` are newest first."""
        now_ms, found = time.time() * 1000, []
        counts: Counter[str] = Counter()
        for one in interactions:
            counts[one.type] += 1
            fresh = now_ms - one.event_time_ms <= self._rules.ttls_ms.get(one.type, math.inf)
            if fresh and counts[one.type] <= self._rules.caps[one.type]:
                found.append(one)
        return found


def _unit(vector: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = vector.astype(np.float64)
    norm = float(np.linalg.norm(wide))
    return wide / norm if norm else wide


def _inner(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """An inner product; with a vector that is not there it is zero."""
    return float(one @ other) if one.size == other.size else 0.0
