"""From stored profiles to an answer's bytes: the calls that the engine makes."""

import numpy as np
import pytest

from rankstream.kernels import KeyTable, pool, rank_candidates
from rankstream.kernels.arrays import freeze
from rankstream.kernels.cells import IN_HISTORY
from rankstream.kernels.encode import Ranked, Why, encode_items
from rankstream.kernels.query import (
    Past,
    Space,
    Weighing,
    make_queries,
    no_extras,
    nothing_added,
)
from rankstream.kernels.rank import pick_candidates
from rankstream.kernels.retained import Rules
from rankstream.kernels.texts import Texts, numbered
from rankstream.proto.v1 import ranking_pb2

LABELS = ["red shoes", "", "ü" * 99]
NAMES = ["a", "ü" * 70, "", *(f"item-{n:06d}" for n in range(300))]
KINDS = {1: "click", 2: "view", 5: "kind" * 40}
LAYOUT = 1
RULES = Rules(np.full(1 << 16, IN_HISTORY, np.uint8), np.full(4, 255))
for array in RULES:
    array.flags.writeable = False


def texts(names):
    joined = [name.encode() for name in names]
    return Texts(np.frombuffer(b"".join(joined), np.uint8), np.cumsum([len(n) for n in joined]))


def decoded(encoded):
    return ranking_pb2.RankResponse.FromString(bytes(encoded)).items


class Answers:
    """Random results of two queries, with reasons."""

    def __init__(self, seed, counts, explained, blocks):
        random = np.random.default_rng(seed)
        found, why, past = sum(counts), sum(explained), 9
        self.ranked = Ranked(
            np.cumsum([0, *counts]),
            random.integers(0, len(NAMES), found).astype(np.int32),
            random.standard_normal(found).astype(np.float32),
            random.standard_normal((found, blocks)),
            random.random(found).astype(np.float32),
        )
        interactions = random.integers(0, 4, (why, 3)).astype(np.int32)
        interactions[random.random((why, 3)) < 0.3] = -1
        # Fewer reasons than asked for end with -1.
        interactions = -np.sort(-interactions, axis=1)
        contributions = random.standard_normal((why, 3))
        self.why = Why(np.cumsum([0, *explained]), np.array([3, 1]), interactions, contributions)
        self.past = Past(
            np.array([0, 4, past]),
            random.integers(-1 - len(LABELS), len(NAMES), past).astype(np.int32),
            random.standard_normal(past),
            random.choice([0, 1, 2, 5, 9, 60_000], past).astype(np.uint16),
            random.integers(0, 2**50, past),
            np.zeros((2, 4), np.int64),
        )

    def encoded(self):
        return encode_items(
            self.ranked, texts(NAMES), self.why, self.past, numbered(KINDS), texts(LABELS)
        )

    def expected(self, b):
        ranked, first = self.ranked, self.ranked.indptr[b]
        made = []
        for place in range(first, ranked.indptr[b + 1]):
            item = ranking_pb2.RankedItem(
                item_id=NAMES[ranked.rows[place]],
                rank=place - first + 1,
                score=ranked.scores[place],
                parts=ranking_pb2.ScoreParts(blocks=ranked.parts[place], bias=ranked.biases[place]),
            )
            pair = self.why.indptr[b] + place - first
            if pair < self.why.indptr[b + 1]:
                item.reasons.extend(self.reasons(b, pair))
            made.append(item)
        return made

    def reasons(self, b, pair):
        past = self.past
        for j, t in enumerate(self.why.interactions[pair][: self.why.limits[b]]):
            if t >= 0:
                at = past.indptr[b] + t
                row = past.rows[at]
                yield ranking_pb2.Reason(
                    item_id=NAMES[row] if row >= 0 else "",
                    text=LABELS[-2 - row] if row < -1 else "",
                    type=KINDS.get(int(past.types[at]), ""),
                    event_time_ms=past.event_times_ms[at],
                    contribution=self.why.contributions[pair, j],
                )


@pytest.mark.parametrize(
    ("counts", "explained", "blocks"),
    [((3, 2), (2, 2), 2), ((0, 5), (0, 0), 1), ((256, 0), (10, 0), 3), ((1, 300), (1, 99), 20)],
)
def test_what_is_written_is_what_protobuf_reads(counts, explained, blocks):
    answers = Answers(7, counts, explained, blocks)

    found = [list(decoded(part)) for part in answers.encoded()]

    assert found == [answers.expected(0), answers.expected(1)]


def test_the_edges_of_numbers_are_written_whole():
    answers = Answers(8, (3, 1), (3, 1), 1)
    answers.ranked.scores[:3] = [np.finfo(np.float32).max, -0.0, np.float32(1e-45)]
    answers.ranked.parts[:3, 0] = [np.finfo(np.float64).max, -0.0, 5e-324]
    answers.past.event_times_ms[:4] = [0, 127, 128, 2**63 - 1]

    found = [list(decoded(part)) for part in answers.encoded()]

    assert found == [answers.expected(0), answers.expected(1)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ks", [(0, 3), (1, 1), (5, 40), (40, 40), (7, 0)])
def test_picked_candidates_are_those_of_the_ranking(seed, ks):
    random = np.random.default_rng(seed)
    items = random.integers(-1, 2, (50, 5)).astype(np.float32)
    queries = random.integers(-1, 2, (2, 5)).astype(np.float32)
    bias = random.integers(0, 2, 50).astype(np.float32)
    rows = np.concatenate([random.permutation(50)[:30], random.permutation(50)[:20]])
    rows = np.where(random.random(50) < 0.2, -1, rows).astype(np.int32)
    indptr = np.array([0, 30, 50])
    whole = rank_candidates(queries, items, indptr, rows, 40, bias=bias)

    best = pick_candidates(queries, items, indptr, rows, np.array(ks), bias)

    for b, k in enumerate(ks):
        count = min(k, int(whole.counts[b]))
        own = rows[indptr[b] : indptr[b + 1]]
        start, stop = best.indptr[b], best.indptr[b + 1]
        assert best.rows[start:stop].tolist() == own[whole.positions[b, :count]].tolist()
        assert best.scores[start:stop].tolist() == whole.scores[b, :count].tolist()


def profile(records, *, layout=LAYOUT, settled=0):
    """The words of a stored profile whose records are all recent."""
    header = [-1, 77, -1, layout | settled << 16]
    bits = [np.float32(weight).view(np.uint32) for *_, weight in records]
    rows = [
        [time, n, key, int(b) | kind << 32]
        for n, ((time, key, kind, _), b) in enumerate(zip(records, bits, strict=True))
    ]
    return np.array([header, *rows]).reshape(-1)


def queries_of(*profiles, table, space, stated=-1, trust=1.0):
    words = np.concatenate([*profiles, np.empty(0, np.int64)])
    sizes = np.array([8 * len(p) for p in profiles] + [0] * len(profiles))
    lives, kinds = np.full(3, 100.0), np.array([0.0, 1.0, 3.0])
    caps, oldest = np.empty(0, np.int64), np.empty(0, np.int64)
    weighing = Weighing(lives, kinds, caps, oldest, stated=stated, trust=trust)
    freeze(weighing[:4])
    extras, added = no_extras(space.items.shape[1]), nothing_added(len(profiles))
    return make_queries(words, sizes, LAYOUT, RULES, table, weighing, space, extras, added)


def a_table_and_a_space():
    table = KeyTable()
    table.insert(np.arange(10, 14, dtype=np.uint64), np.arange(4, dtype=np.int32))
    items = np.random.default_rng(3).standard_normal((4, 6)).astype(np.float32)
    items.flags.writeable = False
    return table, Space(items, np.array([0, 4, 6]), np.array([1.0, 0.5]))


def test_profiles_become_the_queries_that_their_weights_pool_to():
    table, space = a_table_and_a_space()
    ann = profile([(0, 10, 1, 1.0), (100, 11, 2, -0.5), (200, 99, 1, 1.0), (200, 13, 7, 1.0)])

    past, pooled, lengths = queries_of(
        ann, profile([])[:0], profile([(5, 12, 1, 2.0)]), table=table, space=space
    )

    assert past.rows.tolist() == [0, 1, -1, 3, 2]
    assert past.weights.tolist() == [0.25, -0.75, 1.0, 0.0, 2.0]
    assert past.indptr.tolist() == [0, 4, 4, 5]
    assert past.headers[:, 1].tolist() == [77, -1, 77]
    weights = np.tile(space.block_weights, (3, 1))
    np.testing.assert_array_equal(lengths, weights)
    want = pool(past.rows, past.indptr, past.weights, space.items, space.offsets, weights)
    np.testing.assert_array_equal(pooled.queries, want.queries)
    np.testing.assert_array_equal(pooled.norms, want.norms)


def test_what_is_stated_makes_a_query_shorter():
    """By its part of the weights of what is there: item 99 is not."""
    table, space = a_table_and_a_space()
    mixed = profile([(100, 10, 1, -1.0), (100, 11, 2, 0.5), (100, 99, 2, 5.0)])
    stated = profile([(0, 10, 2, 1.0)])
    nothing = profile([(0, 99, 2, 1.0)])

    found = queries_of(mixed, stated, nothing, table=table, space=space, stated=2, trust=0.2)

    assert found is not None
    trusts = [(2.5 - 0.8 * 1.5) / 2.5, 0.2, 1.0]
    wanted = np.outer(trusts, space.block_weights)
    np.testing.assert_allclose(found[2], wanted, rtol=1e-15)
    lengths = [np.linalg.norm(found[1].queries[:2, span], axis=1) for span in np.s_[0:4, 4:6]]
    np.testing.assert_allclose(np.transpose(lengths), wanted[:2], rtol=1e-6)


@pytest.mark.parametrize(
    "damaged",
    [
        profile([(0, 10, 1, 1.0)], layout=2),
        profile([(0, 10, 1, 1.0)], settled=1),
        profile([(0, 10, 1, 1.0)])[:6],
    ],
    ids=["another layout", "missing settled records", "half a record"],
)
def test_a_profile_that_is_not_what_its_header_says_is_none(damaged):
    table, space = a_table_and_a_space()

    assert queries_of(profile([]), damaged, table=table, space=space) is None
