"""What the three topics say, as plain records, and how scores are tuned."""

from dataclasses import dataclass
from typing import NamedTuple

START = 1_000_000
"""When the first operation is."""
READ_AT = START + 25_000
"""When questions are asked, as far as what expires goes."""


class Said(NamedTuple):
    """An event; ``time`` None: the broker's."""

    user: str
    event_id: str
    time: int | None
    type: str
    item: str = ""
    text: str = ""
    value: float | None = None
    weight: float | None = None
    position: int = 0


class Reset(NamedTuple):
    user: str
    time: int


class Merge(NamedTuple):
    """A guest's retained interactions under ``user``."""

    user: str
    moved: tuple


class Bad(NamedTuple):
    """A record that goes to the dead letters."""

    user: str


class Item(NamedTuple):
    item_id: str
    word: str
    category: str = ""
    tags: tuple = ()
    price: float | None = None
    fit: str = ""
    image: tuple | None = None

    @property
    def title(self):
        return f"{self.item_id} {self.word}"


class User(NamedTuple):
    user: str
    likes: str = ""
    budget: float | None = None
    interests: tuple = ()
    identities: tuple = ()


class Gone(NamedTuple):
    """A deletion, of an item or a user."""

    name: str


@dataclass(frozen=True)
class Tuning:
    """How scores are made."""

    text_weight: float = 1.0
    attributes_weight: float = 0.2
    image_weight: float = 0.7
    bias_weight: float = 0.3
    interests_weight: float = 0.7
    interests_trust: float = 0.6
    popularity_half_life: float = 3.0  # in buckets
    half_life_ms: float = 20_000.0
    half_lives_ms: tuple = (("view", 5_000.0),)
    type_weights: tuple = (("view", 0.25), ("rate", 1.7))
    type_caps: tuple = (("view", 2),)
    ttls_ms: tuple = (("click", 15_000),)
