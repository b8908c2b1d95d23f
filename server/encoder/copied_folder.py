"""A model folder's copy: what is read of it, and an adapter merged into its weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from rankstream.server.encoder.model_folder import PICKLES, ModelFolder
from rankstream.server.encoder.quantised import FOLDER

# Never read, or not ours.
LEFT_OUT = (*PICKLES, "*.onnx", "*.onnx_data", "openvino_*", ".git", ".cache", FOLDER)
SAFETENSORS = ("*.safetensors", "*.safetensors.index.json")


def copy_folder(folder: ModelFolder, target: Path) -> None:
    """Copies what a model is, its weights included, into ``target``, which is not there yet.

    Where the folder has an adapter, the weights written are those with it, in float32: the copy is
    read without it.

    Raises:
        ModelRefused: the adapter is not for this model.
        OSError: the copy cannot be made.
    """
    merging = folder.adapter is not None
    patterns = (*LEFT_OUT, *SAFETENSORS) if merging else LEFT_OUT
    kept = () if merging else folder.weights
    left_out = shutil.ignore_patterns(*patterns)

    def ignored(where: str, names: list[str]) -> Iterable[str]:
        # Weights of ONNX may have the name of what is left out.
        return {name for name in left_out(where, names) if Path(where, name) not in kept}

    shutil.copytree(folder.root, target, ignore=ignored)
    if merging:
        # Here, not above: a copy without an adapter has no use for torch.
        from rankstream.server.encoder.torch_encoder import save_weights

        save_weights(folder, target / folder.modules.transformer)
