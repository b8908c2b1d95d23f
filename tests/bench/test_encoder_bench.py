"""The benchmark of encoders: ratios from made-up rates, texts, and who takes part."""

from pathlib import Path

import encoder
import encoder_contender
import numpy as np
import pytest
from encoder_alone import Batches
from encoder_bulk import Answered, pace_of
from encoder_figures import VERSUS, Figures, Pace, key_of, peers_of, verdicts
from encoder_peers import BATCH, KINDS
from encoder_plot import draw
from encoder_prepare import Optimise, absence
from encoder_roster import DEFAULT, GRPC, NO_BF16, OURS, RAW, ROSTER, Places
from encoder_texts import (
    MIXED,
    MIXES,
    REVIEWS,
    TITLES,
    TokenCounter,
    calibration_texts,
    made_up,
    mixed_lengths,
    review_lengths,
    title_lengths,
    workloads,
)
from report import REPEATS

from rankstream.server.encoder.find import find_model

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def tokenizer():
    return find_model("").tokenizer_file


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
