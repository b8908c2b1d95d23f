"""Converts a model folder to an OpenVINO graph, and times it beside torch.

Runs as a process of its own, ``python -m rankstream.server.encoder.convert MODEL EMPTY_FOLDER
POOLING THREADS`` (see ``graph_cache``), and imports torch, transformers and OpenVINO.
"""

from __future__ import annotations

import functools
import json
import sys
import warnings
from pathlib import Path

import torch

from rankstream.server.encoder.base import ModelRefused
from rankstream.server.encoder.graph_cache import NOTE, REFUSED, Graph
from rankstream.server.encoder.instruction_set import cpu_flags, has_bf16
from rankstream.server.encoder.model_folder import read_model_folder
from rankstream.server.encoder.openvino_encoder import OpenVinoBackend, import_openvino
from rankstream.server.encoder.speed import tokens_per_s
from rankstream.server.encoder.torch_encoder import PooledModel, embed, load_graph

EXAMPLE_SHAPE = (2, 8)


def convert(model_folder: Path, target: Path, pooling: str, threads: int) -> None:
    """Writes ``model.xml``, ``model.bin`` and a note of their sizes into an empty folder.

    The graph takes ``input_ids`` and ``attention_mask`` [B, T] int64 and gives [B, D] float32,
    pooled; its weights stay float32, precision is chosen when it is compiled.

    Raises:
        ModelRefused: the folder is not read.
    """
    ov = import_openvino(converter=True)
    graph, attention = load_graph(read_model_folder(model_folder), pooling)
    example = torch.ones(EXAMPLE_SHAPE, dtype=torch.int64)
    # One padded position, so that tracing does not take the path of a batch without padding.
    mask = example.clone()
    mask[0, -1] = 0
    free = ov.PartialShape([-1, -1])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        converted = ov.convert_model(
            graph,
            example_input={"input_ids": example, "attention_mask": mask},
            input=[(name, free, ov.Type.i64) for name in ("input_ids", "attention_mask")],
        )
    ov.save_model(converted, target / "model.xml", compress_to_fp16=False)
    sizes = {name: (target / name).stat().st_size for name in ("model.xml", "model.bin")}
    made = Graph(target, attention, target / "compiled")
    note = {"attention": attention, "bytes": sizes, "tokens_per_s": _speeds(made, graph, threads)}
    (target / NOTE).write_text(json.dumps(note), encoding="utf-8")


def _speeds(made: Graph, graph: PooledModel, threads: int) -> dict[str, dict[str, float]]:
    """Tokens a second by precision and backend; bf16 only where the CPU computes in it."""
    torch.set_num_threads(threads)
    precisions = ["f32", "bf16"] if has_bf16(cpu_flags()) else ["f32"]
    return {
        name: tokens_per_s(
            {
                "openvino": OpenVinoBackend(made, precision=name, threads=threads).embed,
                "torch": functools.partial(embed, graph, name),
            }
        )
        for name in precisions
    }


def main() -> int:
    """Returns the exit status: REFUSED with the reason on stdout where the model is at fault."""
    model_folder, target, pooling, threads = sys.argv[1:]
    try:
        convert(Path(model_folder), Path(target), pooling, int(threads))
    except ModelRefused as error:
        sys.stdout.write(f"{error}\n")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
