"""Quantising a small random model, for real, and what verify says of the result."""

import dataclasses
import importlib.util
import json

import folders
import numpy as np
import pytest
from click.testing import CliRunner

from rankstream.server.encoder.base import EncoderError, EncoderSettings
from rankstream.server.encoder.load import load_encoder
from rankstream.server.encoder.quality import GATES, Gate, compare
from rankstream.server.encoder.verify import verify
from rankstream.server.errors import InvalidArgument
from rankstream.server.model_command import model_group
from rankstream.server.verify_command import verify as verify_command

if importlib.util.find_spec("nncf") is None or importlib.util.find_spec("openvino") is None:
    pytest.skip("quantisation: pip install 'rankstream[optimize]'", allow_module_level=True)

from rankstream.server.encoder.optimize import optimize

# A random model keeps less than a trained one; what matters here is that the gate is applied.
LOW = Gate(0.5, 0.5, 0.0)


def drawn_texts(count, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(folders.WORDS, rng.integers(2, 12))) for _ in range(count)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return folders.write_random_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def settings(source, encoder_cache):
    return EncoderSettings(encoder_cache, str(source), threads=2)


@pytest.fixture(scope="module")
def made(settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "tiny-int8"
    (out.parent / "steps").mkdir()
    return optimize(settings, drawn_texts(400, 1), out, lambda step: None, LOW)


def test_what_is_kept_is_what_the_served_vectors_have(made, settings):
    served = load_encoder(dataclasses.replace(settings, model=str(made.folder)))
    reference = load_encoder(dataclasses.replace(settings, precision="f32"))
    texts = drawn_texts(300, 9)

    served.warm_up()
    found = compare(reference.encode(texts), served.encode(texts))

    assert served.precision == "int8"
    assert served.fingerprint != reference.fingerprint
    assert found.min_cosine < 0.99999, "these are not int8 vectors"
    assert found.mean_cosine == pytest.approx(made.quality.mean_cosine, abs=0.01)


def test_the_folder_still_serves_in_float32(made, settings):
    whole = dataclasses.replace(settings, precision="f32")
    copied = dataclasses.replace(whole, model=str(made.folder))
    texts = drawn_texts(5, 2)

    a, b = load_encoder(whole), load_encoder(copied)

    np.testing.assert_array_equal(a.encode(texts), b.encode(texts))
    assert a.fingerprint == b.fingerprint


def test_the_note_records_recipe_and_quality(made):
    note = json.loads((made.folder / "int8" / "note.json").read_text())

    assert note["quality"] == dataclasses.asdict(made.quality)
    assert note["recipe"]["kept"] == 0
    assert set(note["tokens_per_s"]) == {"f32", "int8"}
    assert note["calibration_texts"] > 0
    assert not list(made.folder.parent.glob(".tiny-int8.*"))


def test_what_keeps_too_little_is_not_written(settings, tmp_path):
    steps = []
    out = tmp_path / "out"

    with pytest.raises(EncoderError, match="does not keep the quality asked for: minimum cosine"):
        optimize(settings, drawn_texts(400, 1), out, steps.append, Gate(1.1, 0.5, 0.0))

    assert list(tmp_path.iterdir()) == []
    tried = [step for step in steps if step.startswith("quantising")]
    assert len(tried) > 1, "no other recipe was tried"


def test_a_folder_that_is_there_is_left_alone(settings, tmp_path):
    with pytest.raises(InvalidArgument, match="is there already"):
        optimize(settings, drawn_texts(400, 1), tmp_path, lambda step: None)


def test_too_few_texts_are_refused(settings, tmp_path):
    with pytest.raises(InvalidArgument, match="2 different texts, expected at least 300"):
        optimize(settings, ["a", "b"] * 200, tmp_path / "out", lambda step: None)


def test_verify_judges_every_precision(made, settings):
    wanted = dataclasses.replace(settings, model=str(made.folder))

    verdicts = list(verify(wanted, drawn_texts(120, 4), lambda step: None))

    by_name = {(v.backend, v.precision): v for v in verdicts}
    assert not by_name["torch", "f32"].problem
    assert not by_name["openvino", "f32"].problem
    int8 = by_name["openvino", "int8"]
    assert int8.golden is not None
    assert int8.golden.min_cosine < 0.99999
    assert int8.alone_cosine > 0.999


@pytest.mark.parametrize(("gate", "status"), [(LOW, 0), (Gate(1.1, 0.5, 0.0), 1)])
def test_verify_fails_where_a_precision_is_not_near_enough(
    made, encoder_cache, tmp_path, monkeypatch, gate, status
):
    monkeypatch.setitem(GATES, "int8", gate)
    catalogue = tmp_path / "titles.txt"
    catalogue.write_text("\n".join(drawn_texts(120, 4)))
    arguments = ["--model", str(made.folder), "--catalogue", str(catalogue)]
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "encoder").symlink_to(encoder_cache)

    found = CliRunner().invoke(verify_command, [*arguments, "--data-dir", str(tmp_path), "--json"])

    problems = {(v["backend"], v["precision"]): v["problem"] for v in json.loads(found.stdout)}
    assert found.exit_code == status
    assert not problems["torch", "f32"]
    assert bool(problems["openvino", "int8"]) == bool(status)


def test_the_command_says_what_it_needs(tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("one\ntwo\n")
    arguments = ["optimize", "--texts", str(texts), "--out", str(tmp_path / "out")]

    found = CliRunner().invoke(model_group, [*arguments, "--data-dir", str(tmp_path)])

    assert found.exit_code == 1
    assert "2 different texts, expected at least 300" in found.stderr
