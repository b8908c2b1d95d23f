"""A made-up data set whose answers are known: cakes are popular, new users want rockets."""

import numpy as np
import pytest
from cold_figures import add_ratios, figures
from cold_server import ColdServer, bias_of
from cold_trials import (
    ALONE,
    DECAYED,
    OURS,
    POPULAR,
    SEARCH,
    UNKNOWN,
    Samples,
    Settings,
    ask_among,
    ask_known,
    ask_newcomers,
)
from demo_screen import Screen
from report import Report

from rankstream.client.client import Client
from rankstream.training.cold_start import Window, debutants
from rankstream.training.datasets import Interactions
from rankstream.training.titled_log import TitledLog

TITLES = (
    *(f"Chocolate cake recipe, page {n}" for n in range(12)),
    *(f"Rocket to the moon, part {n}" for n in range(6)),
    *(f"Knitting pattern for wool socks, sheet {n}" for n in range(4)),
    *(f"Violin concerto, movement {n}" for n in range(12)),
)
CAKES, ROCKETS, SOCKS, VIOLINS = range(12), range(12, 18), range(18, 22), range(22, 34)
NEW_SOCK = SOCKS[-1]
BAKERS, KNITTER, NEWCOMERS = range(4), 4, range(5, 11)
N_USERS = 11
DAY_S = 86_400
SETTINGS = Settings(most=100, seed=1, sweeps=False)


def log_of(rows):
    """Interactions of (user, item), a day each."""
    users, items = np.array(rows, np.int32).T.copy()
    times_s = 1_500_000_000 + DAY_S * np.arange(len(rows), dtype=np.int64) // 8
    return Interactions(users, items, np.ones(len(rows), np.float32), times_s)


KNOWN = [
    *((baker, cake) for baker in BAKERS for cake in CAKES),
    *((KNITTER, sock) for sock in SOCKS if sock != NEW_SOCK),
    *((BAKERS[0], rocket) for rocket in ROCKETS),
]
INSIDE = [
    *((user, ROCKETS[n % 6]) for n, user in enumerate(NEWCOMERS)),
    *((BAKERS[1], CAKES[0]) for _ in range(8)),
    (KNITTER, NEW_SOCK),
    *((user, ROCKETS[(n + 2) % 6]) for n, user in enumerate(NEWCOMERS)),
]
EVERYTHING = log_of([*KNOWN, *INSIDE])
WINDOW = Window(
    EVERYTHING.take(slice(0, len(KNOWN))),
    EVERYTHING.take(slice(len(KNOWN), None)),
    EVERYTHING.take(slice(len(KNOWN), None)),
)
DATA = TitledLog(
    name="made-up",
    event_type="purchase",
    least_value=1.0,
    n_users=N_USERS,
    item_ids=tuple(f"item-{n}" for n in range(len(TITLES))),
    titles=TITLES,
    tags=((),) * len(TITLES),
    log=EVERYTHING,
)


@pytest.fixture(scope="module")
def server(serve_shared):
    running = serve_shared().start()
    admin_target = f"127.0.0.1:{running.admin_port}"
    with Client(running.target, admin_target=admin_target, timeout_s=60.0) as client:
        made = ColdServer(client, DATA, Screen())
        made.import_items()
        made.learn(WINDOW.known)
        yield made


def test_a_sentence_finds_what_popularity_does_not(server):
    samples = Samples()
    ask_newcomers(server, DATA, WINDOW, SETTINGS, samples)
    found = figures(samples)

    assert {name: found[name]["hit@10"] for name in (OURS, SEARCH, ALONE)} == dict.fromkeys(
        (OURS, SEARCH, ALONE), 1.0
    )
    for name in (DECAYED, POPULAR, UNKNOWN):
        assert found[name]["users"] == len(NEWCOMERS)
        assert found[name]["hit@10"] == found[name]["ndcg@10"] == 0.0
        assert found[name]["hit@10_ours_above"] == [1.0, 1.0]
        assert found[name]["hit@10_interval"][1] < 0.5


def test_a_new_item_stands_first_among_new_items(server):
    samples, among = Samples(), Samples()
    new = debutants(WINDOW, DATA.n_items)
    trials = ask_known(server, DATA, WINDOW, new, SETTINGS, samples)
    ask_among(server, DATA, new, trials, SETTINGS, among)

    assert trials.users.tolist() == [KNITTER]
    assert np.flatnonzero(new).tolist() == [NEW_SOCK, *VIOLINS]
    assert figures(among)[OURS]["ndcg@10"] == 1.0
    assert figures(samples)[DECAYED]["hit@10"] == 0.0
    assert figures(samples)[ALONE]["ndcg@10"] == 1.0


def test_a_ratio_without_anything_to_compare_with_is_a_problem(server):
    samples = Samples()
    ask_newcomers(server, DATA, WINDOW, SETTINGS, samples)
    report = Report({}, {})

    nobody = {"new items": {}, "new items among themselves": {}}
    add_ratios(report, "made-up", {"new users": figures(samples)} | nobody)

    assert report.ratios == {}
    assert len(report.problems) == 4


def test_popularity_is_that_of_the_newest_days_of_an_item():
    # Item 0 once, thirty days before the newest event of item 1; half of it is left.
    log = Interactions(
        np.array([0, 0], np.int32),
        np.array([0, 1], np.int32),
        np.ones(2, np.float32),
        np.array([10 * DAY_S, 40 * DAY_S], np.int64),
    )

    shares = np.log1p([0.5, 1.0, 0.0]) / np.log1p(1.0)
    expected = 0.7 * np.maximum(shares, 0.35)
    np.testing.assert_allclose(bias_of(log, 3), expected)
