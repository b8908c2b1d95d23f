"""The benchmark of encoders: ratios from made-up rates, texts, and what processes say."""

import json
from pathlib import Path

import encoder
import encoder_contender
import numpy as np
import pytest
from encoder_alone import Batches
from encoder_bulk import Answered, pace_of
from encoder_contender import ContenderFailed, running
from encoder_figures import VERSUS, Figures, Pace, key_of, peers_of, verdicts
from encoder_peers import BATCH, KINDS
from encoder_plot import draw
from encoder_prepare import Optimise, absence
from encoder_quality import change, cosines, gains, overlap, trials_of
from encoder_roster import DEFAULT, GRPC, NO_BF16, OURS, RAW, REFERENCE, ROSTER, Entry, Places
from encoder_rounds import Plan, compare, measure
from encoder_texts import (
    MIXED,
    MIXES,
    REVIEWS,
    TITLES,
    TokenCounter,
    Workload,
    calibration_texts,
    made_up,
    mixed_lengths,
    review_lengths,
    title_lengths,
    workloads,
)
from report import REPEATS, Report

from rankstream.server.encoder.find import find_model
from rankstream.training.datasets import Interactions
from rankstream.training.titled_log import TitledLog

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def tokenizer():
    return find_model("").tokenizer_file


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A fake process stands for everybody."""
    monkeypatch.setattr(encoder_contender, "_SCRIPT", HERE / "fake_encoder_peer.py")
    monkeypatch.setenv("PYTHONPATH", str(Path(encoder.__file__).parent))
    return Places(tmp_path / "cache", tmp_path)


@pytest.fixture
def texts(tmp_path):
    return Workload(MIXED, ("a", "bb", "ccc", "dddd"), (3, 3, 3, 3)).write(tmp_path)


def figures_of(rates, *, without=(), missing=(), left_out=()):
    """Everybody encodes 1,000 tokens a second of each mix, unless the rates say otherwise."""
    figures = Figures(
        missing=dict.fromkeys(missing, "not installed"),
        left_out=dict.fromkeys(left_out, NO_BF16),
    )
    gone = {*without, *missing, *left_out}
    for _ in range(REPEATS):
        for entry in ROSTER:
            rate = rates.get(entry.name, 1_000.0)
            pace = Pace(rate, rate / 36)
            if entry.name in gone:
                continue
            if entry.peer == GRPC:
                figures.calls.setdefault((MIXED, entry.name), []).append(pace)
                continue
            figures.paces.setdefault((MIXED, entry.name), []).append(pace)
            if entry.peer == OURS:
                figures.calls.setdefault((MIXED, entry.name), []).append(pace)
    return figures


def medians(figures):
    return {key: float(np.median(np.divide(*series))) for key, series in figures.ratios().items()}


def test_each_precision_is_compared_with_its_own_and_with_the_default():
    rates = {"rankstream int8": 6_000.0, "rankstream f32": 2_000.0, "fastembed int8": 3_000.0}
    rates |= {"OpenVINO alone int8": 8_000.0, "rankstream over gRPC int8": 5_400.0}
    rates["onnxruntime alone int8"] = 99_000.0

    found = medians(figures_of(rates))

    assert found["encoder.mixed.vs_sentence_transformers"] == 6.0
    assert found["encoder.mixed.vs_best_peer"] == 2.0
    assert found["encoder.mixed.vs_raw_openvino"] == 0.75
    assert found["encoder.mixed.grpc_vs_in_process"] == 0.9
    assert found["encoder.mixed.f32.vs_best_peer"] == 2.0
    assert found["encoder.mixed.bf16.vs_sentence_transformers"] == 1.0
    assert len(found) == 3 * len(VERSUS)


def test_the_best_peer_is_none_of_ours_and_no_limit():
    for precision in ("f32", "bf16", "int8"):
        names = peers_of(precision)
        assert names
        assert not any(name.startswith((OURS, RAW, "onnxruntime")) for name in names)
    assert figures_of({"fastembed f32": 2_000.0}).best_peer(MIXED, "f32") == "fastembed f32"


def test_what_this_cpu_cannot_is_left_out_with_the_reason():
    bf16 = [entry.name for entry in ROSTER if entry.precision == "bf16"]

    figures = figures_of({}, left_out=bf16)

    assert figures.problems() == {}
    assert figures.omissions() == {key_of(MIXED, "bf16", versus): NO_BF16 for versus in VERSUS}
    assert not any(".bf16." in key for key in figures.ratios())


def test_a_peer_that_is_missing_is_a_fault_of_the_keys_that_need_it():
    figures = figures_of({}, missing=("fastembed f32",))

    assert figures.problems() == {"encoder.mixed.f32.vs_best_peer": "fastembed f32: not installed"}
    assert "encoder.mixed.f32.vs_best_peer" not in figures.ratios()


def test_a_target_is_met_from_the_side_that_it_bounds():
    ratios = {
        "encoder.mixed.vs_best_peer": 1.3,
        "encoder.mixed.vs_raw_openvino": 0.9,
        "encoder.mixed.tokenisation_share": 0.05,
        "encoder.interactive_under_bulk_p99_ms": 41.0,
        "encoder.reviews.vs_best_peer": 0.1,
    }

    found = {key: met for key, (_, met) in verdicts(ratios).items()}

    assert list(found.values()) == [True, False, True, False]
    assert "encoder.reviews.vs_best_peer" not in found


def test_the_mixes_have_the_lengths_that_they_say(tokenizer):
    loads = workloads(tokenizer, ())

    assert tuple(loads) == MIXES[:1] + ("reviews", "mixed")
    assert all(192 <= len(load.texts) <= 2_048 for load in loads.values())
    mixed, reviews = loads[MIXED], loads[REVIEWS]
    assert (min(mixed.lengths), max(mixed.lengths)) == (3, 121)
    assert 34 <= mixed.tokens / len(mixed.texts) <= 38
    assert min(reviews.lengths) >= 60
    assert max(reviews.lengths) <= 250
    assert loads[TITLES].tokens / len(loads[TITLES].texts) < 14


@pytest.mark.parametrize("lengths", [title_lengths, review_lengths, mixed_lengths])
def test_a_made_up_text_is_as_long_as_was_drawn_and_always_the_same(lengths, tokenizer):
    drawn = lengths(50)

    texts = made_up(drawn)

    assert TokenCounter(tokenizer)(texts) == tuple(drawn.tolist())
    assert made_up(lengths(50)) == texts


def test_real_titles_are_drawn_where_there_are_some(tokenizer):
    titles = [f"title {number}" for number in range(3_000)]

    drawn = workloads(tokenizer, titles)[TITLES].texts

    assert set(drawn) < set(titles)
    assert len(set(drawn)) == len(drawn) == 1_024


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


def test_batches_are_sorted_by_length_and_hold_each_text_once(tokenizer):
    from encoder_alone import plain_tokenizer

    texts = made_up(mixed_lengths(50))

    batches = Batches.of(plain_tokenizer(str(tokenizer.parent)), texts, 16)

    assert sorted(np.concatenate(batches.rows).tolist()) == list(range(50))
    longest = [ids.shape[1] for ids in batches.ids]
    assert longest == sorted(longest, reverse=True)
    counted = [int(mask.sum()) for mask in batches.masks]
    assert sum(counted) == sum(mixed_lengths(50).tolist())
    assert BATCH == 32


def test_who_takes_part(tmp_path, monkeypatch):
    places = Places(tmp_path, tmp_path)
    monkeypatch.setattr(encoder, "has_bf16", lambda _: False)

    entries, left_out = encoder.taking_part(places, quick=False)
    few, _ = encoder.taking_part(places, quick=True)

    assert {left_out[entry.name] for entry in ROSTER if entry.precision == "bf16"} == {NO_BF16}
    assert "run --prepare" in left_out["rankstream int8"]
    assert "fastembed f32" in {entry.name for entry in entries}
    assert {entry.name for entry in few} == {f"{OURS} f32", f"{RAW} f32", f"{DEFAULT} f32"}


def test_what_was_not_prepared_says_why(tmp_path):
    places = Places(tmp_path, tmp_path)
    fastembed = next(entry for entry in ROSTER if entry.name == "fastembed f32")

    unprepared = absence(fastembed, places)
    places.environment("fastembed").mkdir(parents=True)
    (places.environment("fastembed") / "FAILED").write_text("no matching distribution")
    failed = absence(fastembed, places)
    (places.environment("fastembed") / "requirements.txt").write_text("")
    unexported = absence(fastembed, places)
    places.export("onnx").parent.mkdir()
    places.export("onnx").with_name("onnx.failed").write_text("no memory")

    assert unprepared == "the environment fastembed is not installed: run --prepare"
    assert failed == "the environment fastembed is not installed: no matching distribution"
    assert unexported == "onnx/onnx/model.onnx is not made: run --prepare"
    assert absence(fastembed, places) == "onnx/onnx/model.onnx is not made: no memory"


def test_int8_is_made_by_the_command_of_the_docs(tmp_path):
    folders = (tmp_path / name for name in ("model", "int8", "texts", "data"))
    words = Optimise(*folders).command()

    assert words[1:] == [
        *("model", "optimize", "--model", str(tmp_path / "model")),
        *("--texts", str(tmp_path / "texts"), "--out", str(tmp_path / "int8")),
        *("--data-dir", str(tmp_path / "data")),
    ]


def test_every_entry_has_a_kind_and_a_pinned_environment():
    peers = HERE.parents[1] / "bench" / "peers"
    for entry in ROSTER:
        assert entry.kind in {*KINDS, "onnxruntime", "raw-openvino", "ours", "ours-grpc"}
        if entry.family:
            lines = (peers / f"{entry.family}.txt").read_text().splitlines()
            assert all("==" in line for line in lines if not line.startswith("#"))


def test_the_command_names_folders_only(monkeypatch):
    monkeypatch.setattr("sys.argv", ["bench/encoder.py", "--data", "/some/where/data", "--quick"])

    assert encoder._command() == "python bench/encoder.py --data data --quick"


def test_a_reason_names_no_folders():
    told = encoder_contender.without_folders("No such file: '/some/where/model.onnx' (1/2)")

    assert told == "No such file: 'model.onnx' (1/2)"


def test_int8_is_calibrated_with_titles_and_other_mixed_texts(tokenizer):
    titles = [f"title {number}" for number in range(8_000)]

    texts = calibration_texts(titles)

    assert sum(text.startswith("title ") for text in texts) == 6000
    assert len(texts) == 7000
    assert not set(texts) & set(workloads(tokenizer, ())[MIXED].texts[2:]) - {""}
    assert len(calibration_texts(())) == 1000
    assert len(calibration_texts(titles[:10])) == 1010


def test_the_bulk_is_timed_from_its_first_answer_to_its_last():
    answers = [Answered(10.0, 64, 500.0), Answered(10.5, 64, 400.0), Answered(12.0, 64, 900.0)]

    assert pace_of(answers) == (64.0, 500.0)


def test_the_plot_is_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is in rankstream[bench]")

    draw(figures_of({"rankstream int8": 6_000.0}), tmp_path / "rates.png")

    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


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
