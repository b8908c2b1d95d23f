import numpy as np
import pytest

from rankstream.training.cold_start import Window, debutants, newcomers, next_trials, windows
from rankstream.training.datasets import Interactions

N_USERS, N_ITEMS = 6, 10
DISTINCT = np.arange(N_ITEMS, dtype=np.int32)


def log_of(*rows):
    """Interactions of (user, item, time) or (user, item, time, stars); five stars by default."""
    users, items, times, values = zip(*((*row, 5)[:4] for row in rows), strict=True)
    return Interactions(
        np.array(users, np.int32),
        np.array(items, np.int32),
        np.array(values, np.float32),
        np.array(times, np.int64),
    )


def window_of(known, inside, *after):
    return Window(log_of(*known), log_of(*inside), log_of(*inside, *after))


def listed(arrays):
    return [array.tolist() for array in arrays]


def test_windows_follow_one_another_and_split_no_moment():
    log = log_of(*((0, 0, time) for time in (0, 1, 2, 2, 2, 3, 4, 5, 5, 6)))

    first, second = windows(log, 0.4, 2)

    assert first.known.times_s.tolist() == [0, 1]
    assert first.inside.times_s.tolist() == [2, 2, 2, 3, 4]
    assert first.later.times_s.tolist() == [2, 2, 2, 3, 4, 5, 5, 6]
    assert second.known.times_s.tolist() == [0, 1, 2, 2, 2, 3, 4]
    assert second.inside.times_s.tolist() == second.later.times_s.tolist() == [5, 5, 6]


@pytest.mark.parametrize(("first", "count"), [(0.0, 1), (1.0, 1), (0.5, 0)])
def test_windows_that_cannot_be_are_refused(first, count):
    with pytest.raises(ValueError, match="expected 0 < first < 1"):
        windows(log_of((0, 0, 0)), first, count)


def test_a_newcomer_is_asked_for_what_comes_at_a_later_moment():
    window = window_of(
        [(0, 1, 0)],
        [(1, 3, 10), (0, 4, 11), (1, 5, 10 + 1), (1, 6, 12)],
    )

    found = newcomers(window, N_USERS, DISTINCT, 4.0)

    assert found.trials.users.tolist() == [1]
    assert found.said.tolist() == [3]
    assert listed(found.trials.histories) == [[3]]
    assert listed(found.trials.relevant) == [[5]]


def test_nothing_of_the_first_moment_and_no_namesake_is_a_target():
    titles = DISTINCT.copy()
    titles[7] = titles[3]
    window = window_of(
        [(0, 1, 0)], [(1, 3, 10), (1, 5, 10), (1, 7, 11), (1, 5, 11), (1, 3, 12), (1, 8, 13)]
    )

    found = newcomers(window, N_USERS, titles, 4.0)

    assert listed(found.trials.histories) == [[3, 5, 7]]
    assert listed(found.trials.relevant) == [[8]]


def test_newcomers_begin_in_the_window_and_may_go_on_after_it():
    window = window_of(
        [(0, 1, 0)], [(0, 2, 5), (1, 3, 6), (3, 3, 6)], (2, 3, 7), (1, 4, 8), (2, 5, 9)
    )

    found = newcomers(window, N_USERS, DISTINCT, 4.0)

    assert found.trials.users.tolist() == [1]
    assert listed(found.trials.relevant) == [[4]]


def test_what_a_newcomer_does_not_like_says_nothing():
    window = window_of([(0, 1, 0)], [(1, 2, 5, 1), (1, 3, 6), (1, 4, 7, 2), (1, 6, 8)])

    found = newcomers(window, N_USERS, DISTINCT, 4.0)

    assert found.said.tolist() == [3]
    assert listed(found.trials.relevant) == [[6]]


def test_debutants_are_the_items_nobody_knew():
    window = window_of([(0, 1, 0), (1, 4, 1)], [(0, 2, 5)])

    assert np.flatnonzero(~debutants(window, N_ITEMS)).tolist() == [1, 4]


def test_the_next_item_is_the_first_allowed_one_that_is_new_to_a_known_user():
    window = window_of(
        [(0, 1, 0), (1, 2, 1), (0, 2, 2)],
        [(0, 2, 5), (0, 7, 6, 3), (1, 3, 7), (2, 8, 8), (0, 8, 9), (0, 9, 10), (1, 9, 11)],
    )

    every = next_trials(window, N_USERS, np.ones(N_ITEMS, np.bool_), 4.0)
    some = next_trials(window, N_USERS, DISTINCT == 9, 4.0)

    assert every.users.tolist() == some.users.tolist() == [0, 1]
    assert listed(every.histories) == [[1, 2], [2]]
    assert listed(every.relevant) == [[8], [3]]
    assert listed(some.relevant) == [[9], [9]]


def test_nobody_to_ask_is_no_trial():
    window = window_of([(0, 1, 0)], [(0, 1, 5)])

    assert len(newcomers(window, N_USERS, DISTINCT, 4.0).trials) == 0
    assert len(next_trials(window, N_USERS, np.ones(N_ITEMS, np.bool_), 4.0)) == 0
