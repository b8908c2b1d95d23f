"""When an open loop sends, and what: drawn before the run, and no answer changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def send_times(rate: float, seconds: float, *, poisson: bool, seed: int) -> list[float]:
    """Intended times, seconds from the start: ``rate * seconds`` of them, random or even."""
    count = int(rate * seconds)
    if not poisson:
        return [number / rate for number in range(count)]
    rng = np.random.default_rng(seed)
    times: list[float] = np.cumsum(rng.exponential(1 / rate, count)).tolist()
    return times


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """What one of several processes sends.

    Attributes:
        times_s: ``float64 [n]``, rising, seconds from the common start, all before ``seconds``.
        kinds: ``int8 [n]``, which kind of call each is: an index into the mix.
    """

    times_s: NDArray[np.float64]
    kinds: NDArray[np.int8]


def draw_schedule(
    rate: float,
    seconds: float,
    mix: Mapping[str, float],
    *,
    poisson: bool,
    seed: int,
    process: int = 0,
    processes: int = 1,
) -> Schedule:
    """The share of one process; together the shares are a Poisson process, or evenly spaced.

    Args:
        rate: calls a second of all processes.
        seconds: how long.
        mix: proportion by kind; they need not sum to 1.
        poisson: whether times are random; else even.
        seed: of times and kinds.
        process: which share.
        processes: how many there are.
    """
    rng = np.random.default_rng([seed, process])
    if poisson:
        times = _poisson(rng, rate / processes, seconds)
    else:
        times = np.arange(process, int(rate * seconds), processes) / rate
    shares = np.array(list(mix.values()), np.float64)
    kinds = rng.choice(len(shares), len(times), p=shares / shares.sum()).astype(np.int8)
    return Schedule(times, kinds)


def _poisson(rng: np.random.Generator, rate: float, seconds: float) -> NDArray[np.float64]:
    """Given their number, the times of a Poisson process are uniform."""
    return np.sort(rng.uniform(0.0, seconds, rng.poisson(rate * seconds)))
