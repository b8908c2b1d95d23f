import numpy as np
import pytest
from schedule import draw_schedule, send_times

MIX = {"rank": 80.0, "batch": 5.0, "stream": 15.0}


def shares(processes, *, poisson, rate=2_000.0, seconds=10.0, seed=3):
    return [
        draw_schedule(
            rate, seconds, MIX, poisson=poisson, seed=seed, process=i, processes=processes
        )
        for i in range(processes)
    ]


@pytest.mark.parametrize("processes", [1, 3])
def test_even_shares_interleave_to_an_even_whole(processes):
    times = np.sort(np.concatenate([s.times_s for s in shares(processes, poisson=False)]))

    np.testing.assert_allclose(times, np.arange(20_000) / 2_000)


@pytest.mark.parametrize("processes", [1, 3])
def test_poisson_shares_add_up_to_a_poisson_process(processes):
    times = np.concatenate([s.times_s for s in shares(processes, poisson=True)])

    assert all((np.diff(s.times_s) >= 0).all() for s in shares(processes, poisson=True))
    assert times.min() >= 0
    assert times.max() < 10
    # Six standard deviations: the seed is fixed, the bounds are for another one.
    assert abs(len(times) - 20_000) < 6 * 20_000**0.5
    counts = np.histogram(times, 1_000, (0, 10))[0]
    assert 0.7 < counts.var() / counts.mean() < 1.3


def test_calls_of_a_kind_are_as_frequent_as_the_mix_says():
    (share,) = shares(1, poisson=True)

    found = np.bincount(share.kinds, minlength=3) / len(share.kinds)
    np.testing.assert_allclose(found, [0.80, 0.05, 0.15], atol=0.02)


def test_the_seed_decides_and_processes_differ():
    first, second = shares(2, poisson=True)

    np.testing.assert_array_equal(first.times_s, shares(2, poisson=True)[0].times_s)
    assert not np.array_equal(first.times_s[:50], second.times_s[:50])
    assert not np.array_equal(first.times_s, shares(2, poisson=True, seed=4)[0].times_s)


def test_send_times_are_as_many_as_rate_and_seconds_say():
    assert send_times(50, 2, poisson=False, seed=1) == [i / 50 for i in range(100)]
    random = send_times(50, 2, poisson=True, seed=1)
    assert len(random) == 100
    assert random == sorted(random)
