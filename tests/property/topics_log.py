"""Logs of the three topics: what users, producers and services might have written, and where."""

from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import strategies as st
from memory_log import Record
from profile_oracle import Caps
from topics_bytes import bytes_of
from topics_oracle import Oracle
from topics_records import START, Bad, Gone, Item, Merge, Reset, Said, Tuning, User

USERS = ("ann", "bob", "cat", "web-1", "app-1")
ITEMS = ("sea", "sky", "sun", "oak")
WORDS = ("red", "blue", "green")
TEXTS = ("red shoes", "blue", "  red   shoes ", "green tea")
PARTITIONS = {"events": 3, "items": 2, "users": 2}
TYPES = {
    "history_types": ("view", "click", "purchase", "rate", "search", "review", "dislike"),
    "seen_types": ("impression", "view", "click", "purchase", "rate", "review", "dislike"),
    "counted_types": ("view", "click", "purchase", "rate", "review"),
    "bucket_ms": 5_000,
}
ROOMY, TIGHT = Caps(history=255, seen=4096, **TYPES), Caps(history=5, seen=8, **TYPES)


class Lost(NamedTuple):
    """An event that its producer's partitioner put elsewhere."""

    said: Said


class Again(NamedTuple):
    """The n-th event so far once more, byte for byte."""

    n: int


class Merged(NamedTuple):
    """MergeProfiles; ``whole``: it lived to write the guest's reset."""

    guest: str
    into: str
    whole: bool


class Purged(NamedTuple):
    user: str


class Pause(NamedTuple):
    """What time passes before the next operation."""

    ms: int


@dataclass
class Log:
    """Partitions by (topic, number), each a list of ``(plain record, Record)``.

    ``produced`` has all of them in the order of their writing.
    """

    caps: Caps
    partitions: dict = field(default_factory=dict)
    produced: list = field(default_factory=list)
    now: int = START

    def __post_init__(self):
        for topic, count in PARTITIONS.items():
            self.partitions.update({(topic, n): [] for n in range(count)})
        self.oracle = Oracle(self.caps, Tuning())

    def write(self, topic, record, misplaced=0):
        """Appends one record where its key belongs, or so many partitions further."""
        name = record.item_id if isinstance(record, Item) else record[0]
        names = ITEMS if topic == "items" else USERS
        number = (names.index(name) + misplaced) % PARTITIONS[topic]
        entries = self.partitions[topic, number]
        made = Record(len(entries), bytes_of(record), name.encode(), self.now)
        entries.append((record, made))
        self.produced.append((topic, number, record, made))
        self.oracle.fold(topic, f"{topic}/{number}/{made.offset}", self.now, record)

    def apply(self, operation):
        """What one operation writes."""
        if isinstance(operation, Pause):
            self.now += operation.ms
        elif isinstance(operation, Said):
            self.write("events", self._timed(operation))
        elif isinstance(operation, Lost):
            unique = operation.said._replace(event_id=f"lost-{len(self.produced)}")
            self.write("events", self._timed(unique), misplaced=1)
        elif isinstance(operation, Again):
            said = [r for _, _, r, _ in self.produced if _is_event(r)]
            if said:
                self.write("events", said[operation.n % len(said)])
        elif isinstance(operation, Merged):
            self._merge(operation)
        elif isinstance(operation, Purged):
            ids = dict.fromkeys([operation.user, *self.oracle.person(operation.user)])
            for user in ids:
                self.write("events", Reset(user, self.now))
            for user in ids:
                self.write("users", Gone(user))
        elif isinstance(operation, (Reset, Bad)):
            self.write("events", operation)
        else:
            name = operation[0]
            self.write("items" if name in ITEMS else "users", operation)

    def _timed(self, said):
        """Its time was drawn as an age."""
        return said if said.time is None else said._replace(time=self.now - said.time)

    def _merge(self, operation):
        moved = self.oracle.retained(operation.guest)
        if moved:
            self.write("events", Merge(operation.into, moved))
            if operation.whole:
                self.write("events", Reset(operation.guest, self.now))

    def records(self, partition):
        return [record for _, record in self.partitions[partition]]

    def without(self, dropped):
        """The records of each partition but those ``(partition, offset)``: a compacted log."""
        return {
            where: [r for _, r in entries if (where, r.offset) not in dropped]
            for where, entries in self.partitions.items()
        }


def _is_event(record):
    """Whether it may come twice: a lost one has no order with its user's others."""
    return isinstance(record, (Said, Merge)) and not str(record[1]).startswith("lost-")


_ages = st.sampled_from([None, -1_000, 0, 0, 1, 700, 700, 4_000, 9_000, 60_000])
_users = st.sampled_from(USERS)
_items = st.sampled_from(ITEMS)
_pauses = st.builds(Pause, st.sampled_from([0, 1, 900, 12_000]))


@st.composite
def _events(draw, ids="abcdef"):
    kind = draw(st.sampled_from([*TYPES["seen_types"], "search", "click", "view", "click"]))
    texts = st.sampled_from(TEXTS if kind == "search" else ("", "", *TEXTS))
    return Said(
        user=draw(_users),
        event_id=draw(st.sampled_from(["", *ids])),
        time=draw(_ages),
        type=kind,
        item="" if kind == "search" else draw(_items),
        text="" if kind in ("impression", "click") else draw(texts),
        value=draw(st.sampled_from([1.0, 2.0, 5.0])) if kind in ("rate", "purchase") else None,
        weight=draw(st.sampled_from([None, None, 0.3, -1.1])),
        position=draw(st.sampled_from([0, 0, 7])),
    )


upserts = st.builds(
    Item,
    item_id=_items,
    word=st.sampled_from(WORDS),
    category=st.sampled_from(["", "c0", "c1"]),
    tags=st.sampled_from([(), ("new",), ("new", "old")]),
    price=st.sampled_from([None, 0.0, 5.0, 20.0, 80.0]),
    fit=st.sampled_from(["", "slim"]),
    image=st.sampled_from([None, (1.0, 2.0, 0.0, -1.0, 0.5), (-3.0, 0.1, 1.0, 1.0, 0.0)]),
)


@st.composite
def _profiles(draw):
    user = draw(_users)
    others = [name for name in USERS if name != user]
    return User(
        user,
        likes=draw(st.sampled_from(["", "c0", "c1"])),
        budget=draw(st.sampled_from([None, 10.0, 50.0])),
        interests=tuple(draw(st.lists(st.sampled_from([*TEXTS, " "]), max_size=3))),
        identities=tuple(draw(st.lists(st.sampled_from(others), max_size=3))),
    )


_merges = st.builds(Merged, _users, _users, st.booleans()).filter(lambda m: m.guest != m.into)
_rare = st.one_of(
    st.builds(Reset, _users, st.integers(START - 9_000, START + 9_000)),
    _merges,
    _merges,
    st.builds(Purged, _users),
    st.builds(Gone, _users),
    st.builds(Bad, _users),
)
_again = st.builds(Again, st.integers(0, 30))
_gone = st.builds(Gone, _items)
_often = st.one_of(
    _events(), _events(), _events(), upserts, upserts, _gone, _profiles(), _pauses, _rare
)


@st.composite
def logs(draw):
    """A log, with few caps and duplicates of all kinds, or with misplaced events."""
    caps = draw(st.sampled_from([ROOMY, TIGHT]))
    more = _again if caps is TIGHT else st.builds(Lost, _events())
    log = Log(caps)
    for made in draw(st.lists(upserts, max_size=3)):
        log.apply(made)
    for operation in draw(
        st.lists(st.one_of(_often, _often, _often, more), min_size=12, max_size=40)
    ):
        log.apply(operation)
    return log
