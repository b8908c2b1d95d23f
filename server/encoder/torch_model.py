"""A folder's model in transformers: of the files that were checked, and of no others.

Given a folder the library would look around in it: for an adapter, for weights that ``config.json``
names, for shards by their names. So it is given the tensors instead. And before it allocates any,
the model is built without memory, and what that asks for is compared with the weights.

Imports torch and transformers: import this module only where they are meant to be loaded.
"""

from __future__ import annotations

import contextlib
import math
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch.nn.modules import module as registration

from rankstream.server.encoder.base import ModelRefused
from rankstream.server.encoder.folder_json import read_json
from rankstream.server.encoder.model_folder import ModelFolder, two_part

# What a model may hold besides its weights: a pooler, tables and masks of positions.
MAX_BESIDE_BYTES = 256 << 20
# An encoder of 80 layers has about 1,000; each takes a few KB of Python's.
MAX_PARTS = 100_000
# The library's configs hold lists as long as what is named like these says, before any tensor.
LISTED = ("layer", "label")
F32_BYTES = 4


def load_model(folder: ModelFolder, attention: str) -> torch.nn.Module:
    """The transformer with the weights of ``folder.weights``, in float32, without an adapter.

    Args:
        folder: read and checked.
        attention: the implementation, by its name in transformers.

    Raises:
        ModelRefused: config and weights are of two models, or some weights are missing.
        Exception: whatever transformers raises.
    """
    with quiet(), contextlib.ExitStack() as files:
        weights = _weights(folder.weights, files)
        empty = _empty(folder.config_file, attention, weights)
        model, report = type(empty).from_pretrained(
            None,
            config=empty.config,
            state_dict=weights,
            attn_implementation=attention,
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
        )
    # A missing weight would be filled with random numbers; the pooler's are not used.
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing:
        message = f"{folder.transformer}: no weights for {', '.join(missing[:5])}"
        raise ModelRefused(message)
    # A decoder would otherwise answer, and a converted graph return, the keys and values it read.
    model.config.use_cache = False
    found: torch.nn.Module = model
    return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, notices or deprecations of the library's own code on our stderr."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _weights(files: tuple[Path, ...], opened: contextlib.ExitStack) -> dict[str, Any]:
    """Tensors by name, not read yet: the library reads each where it puts it."""
    found: dict[str, Any] = {}
    for file in files:
        part = opened.enter_context(safe_open(str(file), framework="pt", device="cpu"))
        names: list[str] = part.keys()
        found.update((name, part.get_slice(name)) for name in names)
    return found


def _empty(file: Path, attention: str, weights: dict[str, Any]) -> Any:
    """The model without memory for its numbers, if it is not larger than its weights."""
    _check_lists(file)
    # The file, not its folder: in a folder the library may take another config.
    config = transformers.AutoConfig.from_pretrained(
        str(file), local_files_only=True, trust_remote_code=False
    )
    held = F32_BYTES * sum(math.prod(part.get_shape()) for part in weights.values())
    with torch.device("meta"), _counted(_Counted(file, held)):
        model = transformers.AutoModel.from_config(
            config, trust_remote_code=False, attn_implementation=attention, dtype=torch.float32
        )
    if model.config.is_encoder_decoder:
        raise ModelRefused(two_part(file))
    return model


def _check_lists(file: Path) -> None:
    configs = [read_json(file, dict)]
    while configs:
        for name, value in configs.pop().items():
            if isinstance(value, dict):
                configs.append(value)
            elif type(value) is int and value > MAX_PARTS and any(word in name for word in LISTED):
                message = f"{file}: {name} {value}; expected at most {MAX_PARTS}"
                raise ModelRefused(message)


@dataclass(slots=True)
class _Counted:
    """Counts what is registered while a model is built; ``held`` is bytes of weights in float32."""

    file: Path
    held: int
    parts: int = 0
    asked: int = 0

    def add(self, owner: torch.nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        if tensor is None:
            return
        self.parts += 1
        self.asked += tensor.numel() * tensor.element_size()
        if self.asked <= self.held + MAX_BESIDE_BYTES and self.parts <= MAX_PARTS:
            return
        part = f"{type(owner).__name__}.{name} {list(tensor.shape)}"
        message = (
            f"{self.file}: asks for {self.asked >> 20} MB and {self.parts} tensors up to {part}, "
            f"but the weights hold {self.held >> 20} MB; expected at most "
            f"{MAX_BESIDE_BYTES >> 20} MB more, and {MAX_PARTS} tensors: config and weights are of "
            "two models"
        )
        raise ModelRefused(message)


@contextlib.contextmanager
def _counted(counted: _Counted) -> Iterator[None]:
    """Has torch tell of each parameter and buffer of the modules that this thread makes."""
    thread = threading.get_ident()

    def add(owner: torch.nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        if threading.get_ident() == thread:
            counted.add(owner, name, tensor)

    with (
        registration.register_module_parameter_registration_hook(add),
        registration.register_module_buffer_registration_hook(add),
    ):
        yield
