"""Converts a model folder to an OpenVINO graph, and times it beside torch.

Runs as a process of its own, ``python -m rankstream.server.encoder.convert MODEL EMPTY_FOLDER
POOLING THREADS [ADAPTER]`` (see ``graph_cache``), and imports torch, transformers and OpenVINO.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from rankstream.server.encoder.adapter_folder import read_adapter
from rankstream.server.encoder.base import ModelRefused
from rankstream.server.encoder.folder_json import read_json
from rankstream.server.encoder.graph_cache import NOTE, REFUSED, Graph
from rankstream.server.encoder.instruction_set import cpu_flags, has_bf16
from rankstream.server.encoder.model_folder import ModelFolder, read_model_folder
from rankstream.server.encoder.onnx_graph import onnx_graph
from rankstream.server.encoder.openvino_encoder import OpenVinoBackend, import_openvino
from rankstream.server.encoder.speed import tokens_per_s
from rankstream.server.encoder.torch_encoder import ATTENTION, PooledModel, embed, load_graph

EXAMPLE_SHAPE = (2, 8)
# How configs name an attention that reads no further than so many tokens.
WINDOWS = ("sliding_window", "local_attention")


def convert(
    model_folder: Path, target: Path, pooling: str, threads: int, adapter: str = ""
) -> None:
    """Writes ``model.xml``, ``model.bin`` and a note of their sizes into an empty folder.

    The graph takes ``input_ids`` and ``attention_mask`` [B, T] int64 and gives [B, D] float32,
    pooled; its weights stay float32, precision is chosen when it is compiled.

    Raises:
        ModelRefused: a folder is not read.
    """
    folder = read_model_folder(model_folder)
    if adapter:
        folder = dataclasses.replace(folder, adapter=read_adapter(Path(adapter)))
    ov = import_openvino(converter=True)
    if folder.onnx is None:
        model, attention = load_graph(folder, pooling, _attentions(folder))
        graph = _traced(ov, model)
    else:
        model, attention = None, "onnx"
        graph = onnx_graph(folder, pooling)
    ov.save_model(graph, target / "model.xml", compress_to_fp16=False)
    sizes = {name: (target / name).stat().st_size for name in ("model.xml", "model.bin")}
    made = Graph(target, attention, target / "compiled")
    speeds = {} if model is None else _speeds(made, model, threads)
    note = {"attention": attention, "bytes": sizes, "tokens_per_s": speeds}
    (target / NOTE).write_text(json.dumps(note), encoding="utf-8")


def _traced(ov: Any, model: PooledModel) -> Any:
    """OpenVINO's graph of the torch model."""
    example = torch.ones(EXAMPLE_SHAPE, dtype=torch.int64)
    # One padded position, so that tracing does not take the path of a batch without padding.
    mask = example.clone()
    mask[0, -1] = 0
    free = ov.PartialShape([-1, -1])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return ov.convert_model(
            model,
            example_input={"input_ids": example, "attention_mask": mask},
            input=[(name, free, ov.Type.i64) for name in ("input_ids", "attention_mask")],
        )


def _attentions(folder: ModelFolder) -> tuple[str, ...]:
    # In padding that is longer than a window, a token sees nothing at all. Of that OpenVINO's fused
    # attention makes NaN, which spreads; the plain one makes something finite that nobody reads.
    config = read_json(folder.config_file, dict)
    return ("eager",) if any(config.get(name) for name in WINDOWS) else ATTENTION


def _speeds(made: Graph, model: PooledModel, threads: int) -> dict[str, dict[str, float]]:
    """Tokens a second by precision and backend; bf16 only where the CPU computes in it."""
    torch.set_num_threads(threads)
    precisions = ["f32", "bf16"] if has_bf16(cpu_flags()) else ["f32"]
    return {
        name: tokens_per_s(
            {
                "openvino": OpenVinoBackend(made, precision=name, threads=threads).embed,
                "torch": functools.partial(embed, model, name),
            }
        )
        for name in precisions
    }


def main() -> int:
    """Returns the exit status: REFUSED with the reason on stdout where the model is at fault."""
    model_folder, target, pooling, threads, *more = sys.argv[1:]
    try:
        convert(Path(model_folder), Path(target), pooling, int(threads), *more)
    except ModelRefused as error:
        sys.stdout.write(f"{error}\n")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
