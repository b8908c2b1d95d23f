import numpy as np
import pytest

from rankstream.training.baselines import ItemKNN, Popularity, Random, recommend
from rankstream.training.datasets import Interactions
from rankstream.training.evaluation import measure, measure_baselines
from rankstream.training.splits import Trials


def log_of(users, items, times_s=None):
    n = len(users)
    times = range(n) if times_s is None else times_s
    return Interactions(
        np.array(users, np.int32),
        np.array(items, np.int32),
        np.full(n, 5, np.float32),
        np.array(times, np.int64),
    )


def histories(*listed):
    return [np.array(items, np.int32) for items in listed]


def test_random_repeats_with_its_seed_and_differs_by_user():
    first, second = (Random(50, seed=3).scores(histories([], [1])) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first[0], first[1])


def test_popularity_counts_interactions():
    log = log_of([0, 1, 2, 0], [1, 1, 1, 2])
    assert Popularity(log, 4).scores(histories([]))[0].tolist() == [0, 3, 1, 0]


def test_decayed_popularity_halves_with_each_half_life():
    # ages 20, 10 and 0 s at a half-life of 10 s: 1/4 + 1/2 for item 1, 1 for item 2
    log = log_of([0, 1, 2], [1, 1, 2], times_s=[100, 110, 120])
    scores = Popularity(log, 3, half_life_s=10.0).scores(histories([]))
    assert scores[0].tolist() == [0.0, 0.75, 1.0]


def test_item_similarity_is_the_cosine_of_the_columns():
    # item 0 of users {0, 1, 2}, item 1 of {0, 1}, item 2 of {2}, item 3 of nobody
    log = log_of([0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 2])
    scores = ItemKNN(log, 3, 4).scores(histories([0], [1]))
    assert scores[0] == pytest.approx([0, 2 / np.sqrt(6), 1 / np.sqrt(3), 0])
    assert scores[1] == pytest.approx([2 / np.sqrt(6), 0, 0, 0])


def test_an_interaction_that_repeats_counts_once():
    once = ItemKNN(log_of([0, 0, 1], [0, 1, 0]), 2, 2)
    twice = ItemKNN(log_of([0, 0, 1, 0], [0, 1, 0, 1]), 2, 2)
    asked = histories([0])
    assert np.array_equal(once.scores(asked), twice.scores(asked))


def test_only_the_last_items_and_the_nearest_neighbours_count():
    log = log_of([0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 0, 1, 0, 2, 3, 4])
    knn = ItemKNN(log, 4, 5, last=1, neighbours=1)
    # item 3 is older than the last one; of item 0's neighbours 1 is nearer than 2
    scores = knn.scores(histories([3, 0]))[0]
    assert np.flatnonzero(scores).tolist() == [1]


def test_an_empty_history_gets_the_popular_items():
    log = log_of([0, 1, 2], [1, 1, 0])
    assert recommend(ItemKNN(log, 3, 3), histories([]), 3).tolist() == [[1, 0, 2]]


def test_recommend_leaves_out_what_is_known_and_breaks_ties_by_number():
    log = log_of([0, 1, 2], [3, 3, 1])
    got = recommend(Popularity(log, 5), histories([], [3], [0, 1, 2, 3]), 3)
    assert got.tolist() == [[3, 1, 0], [1, 0, 2], [4, -1, -1]]


def test_measure_tells_known_from_new_users():
    trials = Trials(np.arange(2, dtype=np.int32), histories([4], []), histories([0], [1]))
    got = measure("any", np.array([[0, 2], [0, 2]], np.int32), trials, 2)
    assert (got.users, got.hit, got.ndcg) == (2, 0.5, 0.5)
    assert (got.known_ndcg, got.new_ndcg) == (1.0, 0.0)
    only_new = Trials(np.arange(1, dtype=np.int32), histories([]), histories([1]))
    assert measure("any", np.array([[1]], np.int32), only_new, 1).known_ndcg is None


def test_all_baselines_answer_the_same_trials():
    log = log_of([0, 0, 1, 1, 2], [0, 1, 0, 1, 0])
    trials = Trials(np.array([2], np.int32), histories([0]), histories([1]))
    got = measure_baselines(log, trials, 3, 3, k=1, half_life_s=86_400.0)
    assert [q.name for q in got][1:3] == ["popularity", "popularity, half-life 1 d"]
    assert [q.hit for q in got][1:] == [1.0, 1.0, 1.0]
