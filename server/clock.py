"""The time of day. What is folded never depends on it: only what is read, and what is refused."""

import time


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
