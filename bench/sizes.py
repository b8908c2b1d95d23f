"""The sizes that the targets are stated for, and the names of what is in the prefilled state."""

from __future__ import annotations

ITEMS = 100_000
USERS = 100_000
HISTORY = 255
"""Interactions in every profile: the cap, so that each event displaces one."""

CANDIDATES = 256
SEED = 7


def item_id(number: int) -> str:
    """The id of a prefilled item."""
    return f"item-{number:06d}"


def user_id(number: int) -> str:
    """The id of a prefilled user."""
    return f"user-{number:06d}"
