"""What verify loads, and how it reads the texts; of int8 see ``test_optimize.py``."""

import folders
import pytest
from click.testing import CliRunner
from folders import drawn_texts

from rankstream.server.encoder import verify as verify_module
from rankstream.server.encoder.base import EncoderSettings
from rankstream.server.encoder.golden import GOLDEN_TEXTS
from rankstream.server.encoder.verify import verify
from rankstream.server.verify_command import verify as verify_command


@pytest.fixture(scope="module")
def settings(tmp_path_factory, encoder_cache):
    model = folders.write_random_model(tmp_path_factory.mktemp("models") / "tiny")
    return EncoderSettings(encoder_cache, str(model), threads=2)


def test_verify_loads_each_once(settings, monkeypatch):
    loaded = []
    load = verify_module.load_encoder

    def counted(wanted):
        loaded.append((wanted.backend, wanted.precision))
        return load(wanted)

    monkeypatch.setattr(verify_module, "load_encoder", counted)

    verdicts = list(verify(settings, [], lambda step: None))

    assert loaded == [(verdict.backend, verdict.precision) for verdict in verdicts]
    assert loaded[0] == ("torch", "f32")
    assert not any(verdict.problem for verdict in verdicts)


def test_commands_read_the_model_as_serve_would(monkeypatch, tmp_path):
    asked = []

    def noted(settings, catalogue, say):
        asked.append(settings)
        return []

    monkeypatch.setattr("rankstream.server.verify_command.verdicts_of", noted)
    words = "--model m --adapter a --pooling cls --max-tokens 8192 --dimensions 64"
    words += f" --item-prompt passage --query-prompt ask --threads 1 --data-dir {tmp_path}"

    found = CliRunner().invoke(verify_command, words.split())

    assert found.exit_code == 0
    (read,) = asked
    assert (read.model, read.adapter, read.pooling, read.threads) == ("m", "a", "cls", 1)
    assert (read.max_tokens, read.max_batch_tokens, read.dimensions) == (8192, 8192, 64)
    assert (read.item_prompt, read.query_prompt) == ("passage", "ask")


def test_verify_reads_items_and_queries_behind_their_prompts(tmp_path, encoder_cache):
    folder = folders.write_random_model(tmp_path / "model")
    prompts = {"document": "toy ", "query": "red train: "}
    folders.write_sentence_folder(folder, {"pooling_mode_mean_tokens": True})
    folders.write_sentence_config(folder, prompts=prompts)
    wanted = EncoderSettings(encoder_cache, str(folder), threads=2)

    first, *_ = verify(wanted, drawn_texts(20, 4), lambda step: None)

    assert first.golden.texts == 2 * len(GOLDEN_TEXTS)
    assert not first.problem
