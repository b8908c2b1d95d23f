import numpy as np
import pytest

from rankstream.training.datasets import Interactions
from rankstream.training.splits import make_trials, reveal, split_in_time


def log_of(*rows):
    """Interactions of (user, item, stars), one a second."""
    users, items, values = zip(*rows, strict=True)
    return Interactions(
        np.array(users, np.int32),
        np.array(items, np.int32),
        np.array(values, np.float32),
        np.arange(len(rows), dtype=np.int64),
    )


LOG = log_of(
    (0, 10, 5), (1, 11, 4), (0, 12, 1), (1, 10, 5), (0, 13, 5),
    (2, 10, 4), (0, 11, 2), (2, 13, 5), (2, 10, 5), (1, 11, 5),
)  # fmt: skip


def listed(arrays):
    return [array.tolist() for array in arrays]


def test_everything_known_is_before_everything_asked_for():
    split = split_in_time(LOG, 0.5)
    assert (len(split.train), len(split.test)) == (5, 5)
    assert split.train.times_s.max() < split.test.times_s.min()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(ValueError, match="expected more than 0 and less than 1"):
        split_in_time(LOG, fraction)


def test_trials_ask_for_liked_items_that_were_not_known():
    trials = make_trials(split_in_time(LOG, 0.5), 3, least_value=4.0)
    # user 0 dislikes what is new, user 1 knows item 11 already
    assert trials.users.tolist() == [2]
    assert listed(trials.histories) == [[]]
    assert listed(trials.relevant) == [[10, 13]]
    assert trials.known.tolist() == [False]


def test_histories_are_in_the_order_of_time():
    trials = make_trials(split_in_time(LOG, 0.3), 3, least_value=4.0)
    assert dict(zip(trials.users.tolist(), listed(trials.histories), strict=True)) == {
        0: [10, 12],
        1: [11],
        2: [],
    }
    assert listed(trials.relevant) == [[13], [10], [10, 13]]


def test_reveal_moves_the_first_interactions_of_each_user():
    later = reveal(split_in_time(LOG, 0.5), 1)
    assert listed(later.train.by_user(3)) == [[10, 12, 13, 11], [11, 10, 11], [10]]
    assert listed(later.test.by_user(3)) == [[], [], [13, 10]]
    assert (np.diff(later.train.times_s) > 0).all()


def test_reveal_nothing_changes_nothing():
    split = split_in_time(LOG, 0.5)
    later = reveal(split, 0)
    assert listed(later.test.by_user(3)) == listed(split.test.by_user(3))
