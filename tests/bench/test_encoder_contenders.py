"""Contenders of the benchmark of encoders: what their processes say, and their quality."""

import json
from pathlib import Path

import encoder
import encoder_contender
import numpy as np
import pytest
from encoder_contender import ContenderFailed, running
from encoder_quality import change, cosines, gains, overlap, trials_of
from encoder_roster import OURS, REFERENCE, Entry, Places
from encoder_rounds import Plan, compare, measure
from encoder_texts import (
    MIXED,
    Workload,
)
from report import REPEATS, Report

from rankstream.training.datasets import Interactions
from rankstream.training.titled_log import TitledLog

HERE = Path(__file__).parent


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A fake process stands for everybody."""
    monkeypatch.setattr(encoder_contender, "_SCRIPT", HERE / "fake_encoder_peer.py")
    monkeypatch.setenv("PYTHONPATH", str(Path(encoder.__file__).parent))
    return Places(tmp_path / "cache", tmp_path)


@pytest.fixture
def texts(tmp_path):
    return Workload(MIXED, ("a", "bb", "ccc", "dddd"), (3, 3, 3, 3)).write(tmp_path)


def test_a_contender_answers_whatever_its_library_prints(places, texts, tmp_path):
    entry = Entry("fake", "f32", "fake")

    with running([entry], places, 1, texts) as contenders:
        one = contenders["fake f32"]
        whole = one.rate(texts, seconds=0.0)
        by_call = one.rate(texts, call=3, seconds=0.0)
        times = one.singles(texts, 7)
        one.write_vectors(texts, tmp_path / "v.npy", call=3)
        memory = one.memory()

    assert (one.missing, one.settings) == ("", {"threads": 1})
    assert one.versions == {"numpy": np.__version__}
    assert whole["passes"] == by_call["passes"] == 1
    assert whole["seconds"] > 0
    assert len(times) == 7
    assert np.load(tmp_path / "v.npy").shape == (4, 4)
    assert memory["peak_rss_mib"] >= memory["pss_mib"] > 1
    assert one.process.returncode == 0
    assert "something that is no answer" in (places.logs / "fake_f32.log").read_text()


def test_a_contender_that_does_not_load_says_why_and_the_others_go_on(places, texts):
    entries = [Entry("gone", "f32", "absent"), Entry("fake", "f32", "fake")]
    report = Report({}, {})
    load = Workload(MIXED, ("a", "bb"), (3, 3))

    with running(entries, places, 1, texts) as contenders:
        plan = Plan((MIXED,), 0.0, 2)
        figures = measure(plan, {MIXED: load}, {MIXED: texts}, contenders, report)

    assert figures.missing == {"gone f32": "ImportError: no module named made_up"}
    assert len(figures.paces[MIXED, "fake f32"]) == REPEATS
    assert len(figures.singles["fake f32"]) == 2 * REPEATS
    assert figures.latencies()["fake f32"]["p50_ms"] > 0


def test_a_contender_that_ends_is_an_error(places, texts, tmp_path):
    ending = tmp_path / "ending.json"
    ending.write_text(json.dumps(["end"]))

    with (
        running([Entry("fake", "f32", "fake")], places, 1, texts) as contenders,
        pytest.raises(ContenderFailed, match="fake f32 ended with status 3"),
    ):
        contenders["fake f32"].rate(ending, seconds=0.0)


def test_ours_is_compared_with_the_reference(places, texts, tmp_path):
    entries = [Entry(OURS, "f32", "fake"), Entry(REFERENCE.peer, "f32", "fake")]
    report = Report({}, {})

    with running(entries, places, 1, texts) as contenders:
        compare(contenders, texts, [], tmp_path, report)

    assert report.ratios["encoder.titles.f32.cosine_min"] == pytest.approx(1.0)
    assert set(report.ratios) == {"encoder.titles.f32.cosine_min", "encoder.titles.f32.cosine_mean"}


def test_rankings_of_ours_are_compared_on_each_data_set_and_on_all(places, texts, tmp_path):
    entries = [Entry(OURS, "int8", "fake"), Entry(REFERENCE.peer, "f32", "fake")]
    report = Report({}, {})

    with running(entries, places, 1, texts) as contenders:
        compare(contenders, texts, [log_of(users=60, items=30)], tmp_path, report)

    assert report.ratios["encoder.titles.top_10_overlap"] == 1.0
    assert report.ratios["encoder.titles.ndcg_change_low"] == 0.0
    told = {entry["case"]: entry for entry in report.results}
    assert told["made-up rankstream int8"]["ndcg_reference"] > 0
    assert "all data sets rankstream int8" in told


def test_without_the_reference_nothing_is_said_of_quality(places, texts, tmp_path):
    report = Report({}, {})

    with running([Entry(OURS, "f32", "fake")], places, 1, texts) as contenders:
        compare(contenders, texts, [], tmp_path, report)

    assert report.ratios == {}
    assert report.problems == {"encoder.titles.cosine_min": f"{REFERENCE.name} is missing"}


def test_the_same_vectors_change_nothing_and_others_do():
    rng = np.random.default_rng(3)
    vectors = unit(rng.standard_normal((200, 8)))
    others = unit(rng.standard_normal((200, 8)))
    data = log_of(users=40, items=200)
    trials = trials_of(data)
    base = gains(vectors, trials)

    same = change([gains(vectors, trials)], [base])
    worse = change([np.zeros_like(base)], [base])

    assert (same.low, same.mean, same.high) == (0.0, 0.0, 0.0)
    assert same.users == len(trials) > 10
    assert worse.mean == pytest.approx(-1.0)
    assert worse.low < -1.0 < worse.high
    assert overlap(vectors, vectors) == 1.0
    assert overlap(others, vectors) < 0.3
    np.testing.assert_allclose(cosines(vectors, vectors), 1.0, rtol=1e-6)


def test_gains_are_those_of_the_nearest_unknown_item():
    vectors = unit(np.array([[1, 0.0], [1, 0.1], [0, 1], [-1, 0]] * 3, np.float32) + 0.01)
    data = log_of(users=40, items=12)

    found = gains(vectors, trials_of(data))

    assert found.min() >= 0
    assert 0 < found.max() <= 1


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def log_of(users, items):
    """Ten items for each user, whoever comes first."""
    rng = np.random.default_rng(5)
    count = 10 * users
    log = Interactions(
        rng.integers(0, users, count).astype(np.int32),
        rng.integers(0, items, count).astype(np.int32),
        np.ones(count, np.float32),
        np.arange(count, dtype=np.int64),
    )
    names = tuple(str(item) for item in range(items))
    return TitledLog("made-up", "purchase", 1.0, users, names, names, ((),) * items, log)
