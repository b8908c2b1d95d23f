"""Quantising a small random model, for real, and what verify says of the result."""

import dataclasses
import importlib.util
import json
import re

import adapters
import folders
import numpy as np
import onnx_files
import pytest
from click.testing import CliRunner
from folders import drawn_texts

from rankstream.server.encoder.base import EncoderError, EncoderSettings
from rankstream.server.encoder.load import load_encoder
from rankstream.server.encoder.quality import GATES, Gate, compare
from rankstream.server.encoder.verify import verify
from rankstream.server.errors import InvalidArgument
from rankstream.server.model_command import model_group
from rankstream.server.verify_command import verify as verify_command

if importlib.util.find_spec("nncf") is None or importlib.util.find_spec("openvino") is None:
    pytest.skip("quantisation: pip install 'rankstream[optimize]'", allow_module_level=True)

from rankstream.server.encoder import quantize, trial
from rankstream.server.encoder.optimize import optimize

# A random model keeps less than a trained one; what matters here is that the gate is applied.
LOW = Gate(0.5, 0.5, 0.0)


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


def test_golden_texts_must_pass_too(settings, tmp_path, monkeypatch):
    vectors = iter([np.eye(2, 4), *[np.eye(2, 4)[::-1]] * 9])
    monkeypatch.setattr(trial, "golden_vectors", lambda encoder: next(vectors))

    with pytest.raises(EncoderError, match="quality asked for: golden texts: minimum cosine 0.0"):
        optimize(settings, drawn_texts(400, 1), tmp_path / "out", lambda step: None, LOW)

    assert list(tmp_path.iterdir()) == []


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


@pytest.fixture
def command(settings, tmp_path):
    """Runs the command with good texts; ``tmp_path`` holds nothing else but its cache."""
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(drawn_texts(400, 1)))
    data = tmp_path / "data"
    (data / "cache").mkdir(parents=True)
    (data / "cache" / "encoder").symlink_to(settings.cache_dir)

    def run(**changed):
        given = {"--model": settings.model, "--texts": texts, "--out": tmp_path / "out"}
        given |= {"--data-dir": data} | changed
        words = [str(word) for pair in given.items() for word in pair]
        return CliRunner().invoke(model_group, ["optimize", *words])

    return run


def full_disk(*_, **__):
    raise OSError(28, "No space left on device")


def broken(*_, **__):
    message = "Check 'false' failed at src/core:7:\nnobody knows why"
    raise RuntimeError(message)


@pytest.mark.parametrize(
    ("what", "failure", "reason"),
    [
        ("shutil.copytree", full_disk, "No space left on device; make room"),
        ("nncf.quantize", broken, "RuntimeError: .* failed at src/core:7: nobody knows why"),
        ("openvino.save_model", broken, "RuntimeError: .* failed at src/core:7: nobody knows why"),
    ],
)
def test_what_fails_is_one_line_and_leaves_nothing(
    command, tmp_path, monkeypatch, what, failure, reason
):
    before = set(tmp_path.iterdir())
    # Imported as the product does it: without telemetry.
    quantize.version()
    monkeypatch.setattr(what, failure)

    found = command()

    assert found.exit_code == 1
    assert isinstance(found.exception, SystemExit)
    *_, last = found.stderr.splitlines()
    assert re.match(f"error: .*{reason}", last)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["missing.txt", "data"])
def test_texts_that_cannot_be_read_are_one_line(command, tmp_path, name):
    found = command(**{"--texts": tmp_path / name})

    assert found.exit_code == 1
    assert re.fullmatch(f"error: texts: .*{name} cannot be read: .*\n", found.stderr)


def test_a_folder_of_onnx_alone_is_quantised(tmp_path, encoder_cache):
    words = onnx_files.weights()["words"]
    place = {"location": "words.bin", "offset": 0, "length": words.nbytes}
    beside = onnx_files.tensor("words", words, external=place)
    source = onnx_files.write_onnx_model(tmp_path / "model", "onnx/model.onnx", words=beside)
    (source / "onnx" / "words.bin").write_bytes(words.tobytes())
    (source / "pytorch_model.bin").write_bytes(b"a pickle")
    wanted = EncoderSettings(encoder_cache, str(source), threads=2)
    texts = drawn_texts(300, 9)

    made = optimize(wanted, drawn_texts(400, 1), tmp_path / "out", lambda step: None, LOW)

    served = load_encoder(dataclasses.replace(wanted, model=str(made.folder)))
    reference = load_encoder(dataclasses.replace(wanted, precision="f32"))
    kept = compare(reference.encode(texts), served.encode(texts))
    assert (served.precision, reference.precision) == ("int8", "f32")
    assert 0.5 < kept.min_cosine < 0.99999
    assert not (made.folder / "pytorch_model.bin").exists()


@pytest.fixture
def adapter(tmp_path):
    if importlib.util.find_spec("peft") is None:
        pytest.skip("LoRA adapters: pip install 'rankstream[lora]'")
    targets = tuple(f"encoder.layer.{n}.attention.self.value" for n in (0, 1))
    return adapters.write_adapter(tmp_path / "adapter", targets)


def test_an_adapter_becomes_part_of_the_folder(settings, adapter, tmp_path):
    adapted = dataclasses.replace(settings, adapter=str(adapter))
    texts = drawn_texts(300, 9)

    made = optimize(adapted, drawn_texts(400, 1), tmp_path / "out", lambda step: None, LOW)

    alone = dataclasses.replace(settings, model=str(made.folder))
    expected = load_encoder(dataclasses.replace(adapted, precision="f32")).encode(texts)
    plain = load_encoder(dataclasses.replace(settings, precision="f32")).encode(texts)
    whole = load_encoder(dataclasses.replace(alone, precision="f32", backend="torch"))
    np.testing.assert_allclose(whole.encode(texts), expected, atol=2e-5)
    served = load_encoder(alone)
    assert served.precision == "int8"
    near, far = (compare(vectors, served.encode(texts)) for vectors in (expected, plain))
    assert near.mean_cosine > 0.999 > far.mean_cosine
    with pytest.raises(InvalidArgument, match="adapter: it is part of out's weights already"):
        load_encoder(dataclasses.replace(alone, adapter=str(adapter)))


def test_the_pooling_that_was_asked_for_is_the_folders(settings, tmp_path):
    wanted = dataclasses.replace(settings, pooling="cls", dimensions=16)
    texts = drawn_texts(20, 9)

    made = optimize(wanted, drawn_texts(400, 1), tmp_path / "out", lambda step: None, LOW)

    served = dataclasses.replace(wanted, model=str(made.folder), pooling="", precision="f32")
    np.testing.assert_array_equal(
        load_encoder(served).encode(texts),
        load_encoder(dataclasses.replace(wanted, precision="f32")).encode(texts),
    )
    assert load_encoder(dataclasses.replace(served, precision="int8")).dimension == 16
