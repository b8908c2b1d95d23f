"""Which backend is faster on this machine: measured once, where a model is converted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from rankstream.server.encoder.base import TokenBatch

# Texts and tokens of the batch that is timed: a few titles, as many as a busy moment brings.
SHAPE = (16, 32)
TURNS = 5
# So much faster must torch be to be preferred: its memory and its start are larger.
WORTH = 1.25

Embed = Callable[[TokenBatch], NDArray[np.float32]]


def tokens_per_s(backends: Mapping[str, Embed]) -> dict[str, float]:
    """Tokens a second of each backend over one batch: the best of a few turns.

    They take turns, so that whatever else the machine does meets all of them.
    """
    ids = np.ones(SHAPE, np.int64)
    batch = TokenBatch(np.arange(SHAPE[0]), ids, np.ones(SHAPE, np.int64))
    least = {name: float("inf") for name in backends}
    for embed in backends.values():
        embed(batch)
    for _ in range(TURNS):
        for name, embed in backends.items():
            started = time.perf_counter()
            embed(batch)
            least[name] = min(least[name], time.perf_counter() - started)
    return {name: ids.size / spent for name, spent in least.items()}


def faster(speeds: Mapping[str, float]) -> tuple[str, str]:
    """The backend to take and the reason, from ``tokens_per_s`` of openvino and torch."""
    openvino, torch = speeds["openvino"], speeds["torch"]
    name = "torch" if torch > WORTH * openvino else "openvino"
    return name, f"measured here: openvino {openvino:,.0f} tokens/s, torch {torch:,.0f}"
