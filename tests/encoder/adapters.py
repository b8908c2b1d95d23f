"""Small LoRA adapters, made in the test, without the library that merges them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folders
import numpy as np

RANK, ALPHA = 3, 6.0


def write_adapter(folder: Path, targets: tuple[str, ...], **changes: Any) -> Path:
    """An adapter of random products for linear layers [HIDDEN, HIDDEN], named in full."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    tensors = {}
    for target in targets:
        name = f"base_model.model.{target}"
        for matrix, shape in (("A", (RANK, folders.HIDDEN)), ("B", (folders.HIDDEN, RANK))):
            tensors[f"{name}.lora_{matrix}.weight"] = rng.normal(size=shape).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": "somebody/model",
        "bias": "none",
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.1,
        "megatron_core": "megatron.core",
        "loftq_config": {},
        "modules_to_save": None,
        "r": RANK,
        "target_modules": sorted({target.rpartition(".")[2] for target in targets}),
        "use_rslora": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    return folder


def write_merged(model: Path, adapter: Path, target: Path, scale: float) -> Path:
    """The model with scale * B @ A added to its weights, by hand."""
    import shutil

    from safetensors.numpy import load_file, save_file

    shutil.copytree(model, target)
    weights = load_file(model / "model.safetensors")
    added = load_file(adapter / "adapter_model.safetensors")
    for name in [name for name in added if name.endswith(".lora_A.weight")]:
        place = name.removeprefix("base_model.model.").replace(".lora_A.", ".")
        weights[place] = weights[place] + scale * added[name.replace("_A.", "_B.")] @ added[name]
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target
