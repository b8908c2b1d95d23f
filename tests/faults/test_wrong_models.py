"""A model that must not serve: the server says why, ends, and was at no moment ready."""

import importlib.util
import json

import adapters
import folders
import grpc
import pytest
from grpc_health.v1 import health_pb2
from server_process import REFUSED, SERVING


def not_finite(folder):
    """Weights that are read and checked, and of which every vector is NaN."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["embeddings.word_embeddings.weight"][:] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})


def lying(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])


def without_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def of_another_size(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 1 << 30}))


@pytest.fixture
def model(tmp_path):
    return folders.write_random_model(tmp_path / "model")


def assert_never_ready(server, *words):
    """Starts it, asks its health until it has ended, and reads the reason."""
    server.launch()
    seen = set()
    while server.process.poll() is None:
        try:
            seen.add(server.health.Check(health_pb2.HealthCheckRequest(), timeout=0.5).status)
        except grpc.RpcError as error:
            seen.add(error.code())
    assert server.wait(1) == REFUSED
    assert SERVING not in seen
    last = server.log.splitlines()[-1]
    assert last.startswith("refused: "), server.log[-2000:]
    for word in words:
        assert word in last


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_warm_up_that_fails_keeps_the_server_from_being_ready(serve, model, backend):
    not_finite(model)

    assert_never_ready(
        serve(model=model, backend=backend), "the warm-up failed", "not finite", backend
    )


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lying, ["model.safetensors", "lying safetensors header"]),
        (without_tokenizer, ["no tokenizer.json"]),
        (of_another_size, ["config and weights are of two models"]),
    ],
)
def test_a_damaged_model_is_refused(serve, model, damage, words):
    damage(model)

    assert_never_ready(serve(model=model), *words)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"dimensions": 33}, ["dimensions", "gives 1 to 32"]),
        ({"query_prompt": "query"}, ["query_prompt", "the model has no prompts"]),
        ({"max_tokens": 65}, ["max_tokens", "reads 8 to 64 tokens"]),
    ],
)
def test_a_setting_that_the_model_does_not_have_is_refused(serve, model, flags, words):
    assert_never_ready(serve(model=model, **flags), *words)


def test_an_adapter_for_another_model_is_refused(serve, model, tmp_path):
    if importlib.util.find_spec("peft") is None:
        pytest.skip("LoRA adapters: pip install 'rankstream[lora]'")
    adapter = adapters.write_adapter(tmp_path / "adapter", ("layers.0.self_attn.o_proj",))

    assert_never_ready(serve(model=model, adapter=adapter), "not an adapter for this model")


def test_a_folder_that_is_no_model_is_refused(serve, tmp_path):
    (tmp_path / "empty").mkdir()

    assert_never_ready(serve(model=tmp_path / "empty"), "config.json: not a readable JSON file")
    assert_never_ready(serve(model=tmp_path / "missing"), "no such folder")


def test_a_state_of_another_size_of_vectors_is_refused(serve, model):
    server = serve(model=model, backend="torch")
    server.start()
    assert server.stop() == 0

    server.flags["dimensions"] = 16
    server.launch()

    assert server.wait(120) == REFUSED
    assert server.log.splitlines()[-1].startswith("refused: ")
