"""Merges a LoRA adapter into a model's weights, with the library ``peft``.

Imports it: import this module only where there is an adapter.
"""

from __future__ import annotations

import peft
import torch
from safetensors.torch import load_file

from rankstream.server.encoder.adapter_folder import AdapterFolder
from rankstream.server.encoder.base import ModelRefused


def merge_adapter(model: torch.nn.Module, adapter: AdapterFolder) -> torch.nn.Module:
    """The model with the adapter's products added to its weights; nothing else of it remains.

    Raises:
        ModelRefused: the adapter is not for this model.
    """
    try:
        adapted = peft.get_peft_model(model, peft.LoraConfig(**adapter.merged))
        report = peft.set_peft_model_state_dict(adapted, load_file(adapter.weights))
        _require_same(report.unexpected_keys, report.missing_keys)
        merged: torch.nn.Module = adapted.merge_and_unload(safe_merge=True)
    except Exception as error:  # the library raises whatever its parts raise
        message = f"{adapter.weights}: not an adapter for this model: {error}"
        raise ModelRefused(message) from error
    return merged


def _require_same(unused: list[str], missing: list[str]) -> None:
    """What has no place would be left out, and what has no weights be random, in silence."""
    without = [name for name in missing if "lora_" in name]
    for names, problem in ((unused, "has no place in it"), (without, "has no weights")):
        if names:
            message = f"{min(names)} {problem}"
            raise ValueError(message)
