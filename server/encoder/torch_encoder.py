"""The reference backend, and the graph that other backends are converted from.

Imports torch and transformers: import this module only where they are meant to be loaded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rankstream.server.encoder.adapter_folder import AdapterFolder
from rankstream.server.encoder.base import ModelRefused, TokenBatch
from rankstream.server.encoder.instruction_set import cpu_flags, instruction_set
from rankstream.server.encoder.model_folder import ModelFolder
from rankstream.server.encoder.torch_model import load_model, quiet
from rankstream.server.encoder.torch_pooling import pool

# The fused implementation first; some architectures (MPNet) have only the plain one.
ATTENTION = ("sdpa", "eager")


class PooledModel(torch.nn.Module):
    """A transformer with its pooling: ids and mask [B, T] int64 to [B, D] float32."""

    def __init__(self, model: torch.nn.Module, pooling: str) -> None:
        """Joins them; ``pooling`` is one of ``sentence_modules.POOLINGS``."""
        super().__init__()
        self.model = model
        self.pooling = pooling

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Pools over the tokens whose mask is 1."""
        found = self.model(input_ids=input_ids, attention_mask=attention_mask)
        return pool(found[0].float(), attention_mask, self.pooling)


class TorchBackend:
    """Computes batches with torch on the CPU."""

    name = "torch"

    def __init__(self, folder: ModelFolder, pooling: str, precision: str, threads: int) -> None:
        """Loads the weights. ``threads`` holds for torch in the whole process."""
        torch.set_num_threads(threads)
        self._model, attention = load_graph(folder, pooling)
        self._precision = precision
        isa = instruction_set(cpu_flags())
        self.numerics = f"torch-{torch.__version__}/{attention}/{isa}"

    def embed(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Pooled vectors [B, D] float32."""
        return embed(self._model, self._precision, batch)


def embed(model: PooledModel, precision: str, batch: TokenBatch) -> NDArray[np.float32]:
    """Pooled vectors [B, D] float32."""
    ids, mask = torch.from_numpy(batch.ids), torch.from_numpy(batch.mask)
    with (
        torch.inference_mode(),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
    ):
        pooled = model(ids, mask)
    return np.ascontiguousarray(pooled.float().numpy())


def load_graph(
    folder: ModelFolder, pooling: str, attentions: Sequence[str] = ATTENTION
) -> tuple[PooledModel, str]:
    """The model of a folder with its pooling, in float32, and the attention that it uses.

    Args:
        folder: read and checked.
        pooling: one of ``sentence_modules.POOLINGS``.
        attentions: the implementations to try, in this order.

    Raises:
        ModelRefused: transformers does not read it, it is larger than its weights, or some of them
            are missing.
    """
    problem: Exception = RuntimeError("no attention implementation")
    for attention in attentions:
        try:
            return PooledModel(_load(folder, attention), pooling).eval(), attention
        except ModelRefused:
            raise
        except Exception as error:  # transformers raises whatever its parts raise
            problem = error
    message = f"{folder.transformer}: transformers does not load it: {problem}"
    raise ModelRefused(message) from problem


def save_weights(folder: ModelFolder, target: Path) -> None:
    """Writes the weights, adapter included, as safetensors in float32 into a folder.

    Raises:
        ModelRefused: transformers does not read it, or the adapter is not for it.
    """
    model = load_graph(folder, folder.modules.pooling)[0].model
    # The pooler is not used; where the folder has none, it was filled with random numbers.
    named = model.state_dict().items()
    weights = {name: tensor for name, tensor in named if not name.startswith("pooler.")}
    with tempfile.TemporaryDirectory(dir=target) as part, quiet():
        model.save_pretrained(part, state_dict=weights)  # type: ignore[operator]
        for file in Path(part).glob("*.safetensors*"):
            file.rename(target / file.name)


def _load(folder: ModelFolder, attention: str) -> torch.nn.Module:
    model = load_model(folder, attention)
    return model if folder.adapter is None else _adapted(model, folder.adapter)


def _adapted(model: torch.nn.Module, adapter: AdapterFolder) -> torch.nn.Module:
    # Here, not above: few models have one, and its library takes a second to import.
    from rankstream.server.encoder.torch_adapter import merge_adapter

    with quiet():
        return merge_adapter(model, adapter)
