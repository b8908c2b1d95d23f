"""Reads a PEFT folder: a LoRA adapter, merged into the model's weights when they are loaded.

What the library that merges it would allocate, search by a regular expression or import because the
folder says so is refused here, from a small JSON file and the header of the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from rankstream.server.encoder.base import ModelRefused
from rankstream.server.encoder.folder_json import read_json
from rankstream.server.encoder.safetensors_header import Tensor, read_header

# Handed to the library; they decide what is added to the weights.
MERGED = (
    *("r", "lora_alpha", "use_rslora", "use_dora", "fan_in_fan_out"),
    *("target_modules", "exclude_modules", "rank_pattern", "alpha_pattern"),
)
# Of who trained it and how; they change nothing of what is merged.
IGNORED = (
    *("peft_type", "task_type", "peft_version", "base_model_name_or_path", "revision"),
    *("auto_mapping", "inference_mode", "lora_dropout", "megatron_core", "qalora_group_size"),
)
# With any other beginning the weights of the model itself would be changed, too.
PLAIN = {"bias": ("none",), "init_lora_weights": (True, "gaussian")}
NAME = re.compile(r"[\w.-]+")
# Matrix -> the dimension that is its rank.
RANKED = {"lora_A": 0, "lora_embedding_A": 0, "lora_B": 1, "lora_embedding_B": 1}
MAX_RANK = 4096


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """What an adapter says, checked.

    Attributes:
        config_file: ``adapter_config.json``.
        weights: ``adapter_model.safetensors``.
        merged: the fields of ``MERGED`` that it gives.
    """

    config_file: Path
    weights: Path
    merged: Mapping[str, Any]


def read_adapter(root: Path) -> AdapterFolder:
    """Reads and checks a folder without loading its weights.

    Raises:
        ModelRefused: something is missing, malformed, contradictory or of a kind never read.
    """
    if not root.is_dir():
        message = f"{root}: no such folder; expected one with adapter_config.json"
        raise ModelRefused(message)
    file = root / "adapter_config.json"
    config = read_json(file, dict)
    if config.get("peft_type") != "LORA":
        message = f"{file}: an adapter of type {config.get('peft_type')!r}; supported is LORA"
        raise ModelRefused(message)
    weights = _weights(root)
    tensors = read_header(weights)
    _check_known(file, config)
    _check_names(file, config)
    _check_ranks(file, config, tensors)
    return AdapterFolder(file, weights, {name: config[name] for name in MERGED if name in config})


def _weights(root: Path) -> Path:
    file = root / "adapter_model.safetensors"
    if file.is_file():
        return file
    if (root / "adapter_model.bin").exists():
        message = (
            f"{root}: only adapter_model.bin; pickles are never read, they can run code: save the "
            "adapter again with save_pretrained(..., safe_serialization=True)"
        )
        raise ModelRefused(message)
    message = f"{root}: no adapter_model.safetensors; expected the weights of the adapter"
    raise ModelRefused(message)


def _check_known(file: Path, config: Mapping[str, Any]) -> None:
    for name, value in config.items():
        # What is off, whichever way that is written, changes nothing.
        plain = value in PLAIN[name] if name in PLAIN else not value
        if not (plain or name in MERGED or name in IGNORED):
            message = f"{file}: {name} {value!r} is not supported; expected plain LoRA, or DoRA"
            raise ModelRefused(message)


def _check_names(file: Path, config: Mapping[str, Any]) -> None:
    """The library takes a string, and the keys of a pattern, for regular expressions."""
    targets: Any = config.get("target_modules")
    excluded: Any = config.get("exclude_modules") or []
    patterns: list[Any] = [config.get(name) or {} for name in ("rank_pattern", "alpha_pattern")]
    shaped = isinstance(targets, list) and isinstance(excluded, list)
    if not shaped or not all(isinstance(pattern, dict) for pattern in patterns):
        message = f"{file}: expected target_modules and exclude_modules to be lists of names"
        raise ModelRefused(message)
    for name in chain(targets, excluded, *patterns):
        if not isinstance(name, str) or not NAME.fullmatch(name):
            message = f"{file}: {name!r}; expected the name of a module, not an expression"
            raise ModelRefused(message)


def _check_ranks(file: Path, config: Mapping[str, Any], tensors: tuple[Tensor, ...]) -> None:
    """Matrices of the ranks are made before the weights are read: each must be in the weights."""
    there = _ranks(tensors)
    for rank in (config.get("r"), *(config.get("rank_pattern") or {}).values()):
        if type(rank) is not int or rank not in there:
            message = f"{file}: rank {rank!r}, but no LoRA matrix of the weights has it"
            raise ModelRefused(message)
        if rank > MAX_RANK:
            message = f"{file}: rank {rank}; expected at most {MAX_RANK}: train it with a lower one"
            raise ModelRefused(message)
    for alpha in (config.get("lora_alpha"), *(config.get("alpha_pattern") or {}).values()):
        if type(alpha) not in (int, float):
            message = f"{file}: lora_alpha {alpha!r}; expected a number"
            raise ModelRefused(message)


def _ranks(tensors: tuple[Tensor, ...]) -> set[int]:
    """Of an empty matrix the header may claim any rank."""
    filled = [tensor for tensor in tensors if len(tensor.shape) > 1 and 0 not in tensor.shape]
    return {
        tensor.shape[RANKED[part]]
        for tensor in filled
        for part in tensor.name.split(".")
        if part in RANKED
    }
