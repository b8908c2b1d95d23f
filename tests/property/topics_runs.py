"""What is asked of a replica at the end of a log, and the ways through the log."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from small_server import MadeUpEncoder, task
from topics_log import ITEMS, PARTITIONS, USERS
from topics_replica import Replica

from rankstream.server.filters import (
    AllOf,
    BetweenUser,
    EqualsUser,
    Filter,
    NoneOf,
    between,
    equals,
    exists,
)
from rankstream.server.types import Asked, Query

settings.register_profile("topics", derandomize=True, deadline=None, database=None)
deterministic = settings(settings.get_profile("topics"), max_examples=40)
few = settings(deterministic, max_examples=15)

EVERYONE = (*USERS, "nobody")
QUERY = ("blue", 0.7)
EVENTS = [("events", n) for n in range(PARTITIONS["events"])]
OTHERS = [("items", 0), ("items", 1), ("users", 0), ("users", 1)]

FILTERS = {
    "of a category": (equals("category", "c1"), lambda i, u: i.category == "c1"),
    "by price": (between("price", 4, 30), lambda i, u: i.price is not None and 4 <= i.price <= 30),
    "without a fit": (NoneOf((exists("fit"),)), lambda i, u: not i.fit),
    "as the user likes": (
        EqualsUser("category", "likes"),
        lambda i, u: u.likes == i.category != "",
    ),
    "new, in budget": (
        AllOf((equals("tags", "new"), BetweenUser("price", None, "budget"))),
        lambda i, u: "new" in i.tags and None not in (i.price, u.budget) and i.price <= u.budget,
    ),
}


def tasks_of(user):
    """Every kind of question about a user; k is more than there are items."""
    query = Query(*QUERY)
    asked = Asked(query=query, encoded={QUERY[0]: MadeUpEncoder().encode([QUERY[0]])[0]})
    rest = {"k": 20, "explained": 20, "reasons": 300}
    return {
        "whole": task(user, **rest),
        "given": task(user, item_ids=[*ITEMS, "nothing"], **rest),
        "unseen": task(user, exclude_seen=True, **rest),
        "query": task(user, asked=asked, **rest),
        **{name: task(user, filter=Filter.make(t), **rest) for name, (t, _) in FILTERS.items()},
    }


TASKS = {(user, kind): t for user in EVERYONE for kind, t in tasks_of(user).items()}
NAMES = [name.encode() for name in EVERYONE]


@contextmanager
def replica(log, records=None, **more):
    """A replica over a log, or over what is left of it."""
    with tempfile.TemporaryDirectory() as folder:
        ends = {where: len(entries) for where, entries in log.partitions.items()}
        left = {where: log.records(where) for where in ends} if records is None else records
        made = Replica(Path(folder), left, ends, log.caps, log.oracle.tuning, **more)
        try:
            yield made
        finally:
            made.close()


def outcome(made):
    """What a replica holds and says at the end, to its own worker and to a new one."""
    made.finish()
    answers = made.answers(list(TASKS.values()))
    assert made.answers(list(TASKS.values()), made.new_engine()) == answers
    return made.state(NAMES), dict(zip(TASKS, answers, strict=True))


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("events"), st.sets(st.sampled_from(EVENTS), min_size=1), st.integers(1, 9)
        ),
        st.tuples(st.just("others"), st.sampled_from(OTHERS), st.integers(1, 4)),
        st.tuples(st.sampled_from(["encode", "commit", "rank", "bias", "crash"])),
    ),
    max_size=25,
)


def drive(made, schedule):
    """Goes through the log as a schedule says."""
    for step, *how in schedule:
        if step == "events":
            made.take(sorted(how[0]), how[1])
        elif step == "others":
            made.take([how[0]], how[1])
        elif step == "rank":
            made.rank(TASKS["ann", "new, in budget"])
        elif step == "bias":
            made.bias_file.refresh()
        else:
            {"encode": made.encode, "commit": made.commit, "crash": made.crash}[step]()


def in_order(made, log):
    """Each record alone, as it was produced, committed and encoded at once."""
    for topic, number, _, _ in log.produced:
        made.take([(topic, number)], 1)
        made.commit()
        made.encode()
        made.commit()
