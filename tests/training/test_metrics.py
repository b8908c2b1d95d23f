import math

import numpy as np
import pytest

from rankstream.training.metrics import hit_at_k, hits, ndcg_at_k


def rows(*ranked):
    return np.array(ranked, np.int32)


def sets(*relevant):
    return [np.array(items, np.int32) for items in relevant]


def test_hit_is_one_where_any_of_the_first_k_is_relevant():
    ranked = rows([5, 3, 9], [5, 3, 9], [5, 3, 9])
    relevant = sets([3, 100], [9], [4])
    assert hit_at_k(ranked, relevant, 2).tolist() == [1.0, 0.0, 0.0]
    assert hit_at_k(ranked, relevant, 3).tolist() == [1.0, 1.0, 0.0]


def test_ndcg_of_one_relevant_item_is_the_discount_of_its_place():
    ranked = rows([7, 8, 9, 10], [7, 8, 9, 10], [7, 8, 9, 10])
    got = ndcg_at_k(ranked, sets([7], [9], [11]), 4)
    # places 1 and 3: 1 / log2(2) = 1 and 1 / log2(4) = 0.5
    assert got.tolist() == [1.0, 0.5, 0.0]


def test_ndcg_by_hand_with_several_relevant_items():
    # hits at places 2 and 3 of three relevant items, k = 3:
    # (1/log2 3 + 1/2) / (1 + 1/log2 3 + 1/2) = (0.6309 + 0.5) / 2.1309 = 0.5307
    got = ndcg_at_k(rows([1, 2, 3, 4]), sets([2, 3, 4]), 3)
    assert got[0] == pytest.approx(0.53072, abs=1e-5)


def test_the_ideal_has_no_more_hits_than_places():
    assert ndcg_at_k(rows([1, 2, 3]), sets(range(1, 50)), 2).tolist() == [1.0]


def test_a_short_ranking_gains_what_it_holds():
    got = ndcg_at_k(rows([1, -1, -1]), sets([1, 2]), 10)
    assert got[0] == pytest.approx(1.0 / (1.0 + 1.0 / math.log2(3)))


def test_relevant_items_that_repeat_count_once():
    assert ndcg_at_k(rows([4, 5]), sets([4, 4, 4]), 2).tolist() == [1.0]


def test_an_empty_place_is_never_a_hit():
    assert not hits(rows([-1, 2]), sets([-1, 3])).any()


def test_a_user_without_relevant_items_gets_zero():
    assert ndcg_at_k(rows([1, 2]), sets([]), 2).tolist() == [0.0]
    assert hit_at_k(rows([1, 2]), sets([]), 2).tolist() == [0.0]


def test_rows_and_users_must_agree():
    with pytest.raises(ValueError, match=r"shape \(1, 2\); expected \[2, K\]"):
        hit_at_k(rows([1, 2]), sets([1], [2]), 2)
