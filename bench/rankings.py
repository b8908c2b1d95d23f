"""Serialised ranking requests: drawn at random, the same for the same seed."""

from __future__ import annotations

import numpy as np
from sizes import CANDIDATES, ITEMS, USERS, item_id, user_id

from rankstream.proto.v1 import ranking_pb2

RANK = "/rankstream.v1.Ranking/Rank"
BATCH_RANK = "/rankstream.v1.Ranking/BatchRank"


def rank_candidates(count: int, seed: int, k: int | None = None) -> list[bytes]:
    """RankRequests of 256 candidates by item_id; ``k`` None: all of them are answered."""
    rng = np.random.default_rng(seed)
    return [_candidates(rng, k).SerializeToString() for _ in range(count)]


def rank_whole(count: int, seed: int) -> list[bytes]:
    """RankRequests for the best ten of the whole catalogue."""
    rng = np.random.default_rng(seed)
    whole = ranking_pb2.WholeCatalogue()
    users = rng.integers(0, USERS, count).tolist()
    return [
        ranking_pb2.RankRequest(
            user_id=user_id(user), whole_catalogue=whole, k=10
        ).SerializeToString()
        for user in users
    ]


def batch_rank(count: int, entries: int, seed: int) -> list[ranking_pb2.BatchRankRequest]:
    """Batches of 256 candidates an entry, all of them answered, without reasons."""
    rng = np.random.default_rng(seed)
    found = [ranking_pb2.BatchRankRequest() for _ in range(count)]
    for batch in found:
        for _ in range(entries):
            entry = _candidates(rng, None)
            entry.explain.reasons = 0
            batch.requests.append(entry)
    return found


def _candidates(rng: np.random.Generator, k: int | None) -> ranking_pb2.RankRequest:
    rows = rng.choice(ITEMS, CANDIDATES, replace=False).tolist()
    ids = ranking_pb2.ItemIds(item_ids=[item_id(row) for row in rows])
    return ranking_pb2.RankRequest(user_id=user_id(int(rng.integers(USERS))), item_ids=ids, k=k)
