"""The ways to encode texts that ``encoder.py`` compares with ours, each in its own process.

A peer's process runs in the peer's own virtual environment, so this imports NumPy alone; what a
peer needs is imported when it is made. Each is given two threads, and otherwise used as its own
documentation says; ``settings`` tells what was chosen.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

BATCH = 32
"""Texts that are computed together: the default of sentence-transformers and Infinity."""

DIMENSION = 384


@dataclass(frozen=True, slots=True)
class Spec:
    """What a process is told to make.

    Attributes:
        kind: of ``KINDS`` here, in ``encoder_alone.py`` or in ``encoder_ours.py``.
        precision: ``f32``, ``bf16`` or ``int8``.
        model: the model's folder.
        threads: that compute.
        cache: a folder for what takes long to make.
        file: within the folder, the graph; "": the kind knows.
        texts: a JSON list to choose settings by, where some are to be chosen; "": none.
    """

    kind: str
    precision: str
    model: str
    threads: int
    cache: str
    file: str = ""
    texts: str = ""


class Method(Protocol):
    """One way.

    Attributes:
        settings: what was chosen where there was a choice.
        libraries: distributions whose versions matter.
    """

    settings: dict[str, Any]
    libraries: Sequence[str]

    def prepare(self, texts: list[str]) -> Any:
        """What is not timed: the texts as they are, unless the way is a limit."""

    def encode(self, prepared: Any) -> Vectors:
        """Unit vectors ``[B, D]``, in the order of the texts."""

    def close(self) -> None:
        """Ends what it started."""


@dataclass
class Plain:
    """What most have in common: they take texts, and end by themselves."""

    settings: dict[str, Any] = field(default_factory=dict)
    libraries: Sequence[str] = ()

    def prepare(self, texts: list[str]) -> Any:
        """The texts."""
        return texts

    def close(self) -> None:
        """Nothing was started."""


class SentenceTransformers(Plain):
    """Its ``encode`` with one of its backends; it sorts by length itself."""

    def __init__(self, spec: Spec) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(spec.threads)
        backend = spec.kind.rpartition("-")[2]
        self._model: Any = SentenceTransformer(
            spec.model, backend=backend, device="cpu", model_kwargs=_model_kwargs(backend, spec)
        )
        self.settings = {"batch_size": BATCH, "sorted": "by itself"}
        more = {"onnx": ("optimum-onnx", "onnxruntime"), "openvino": ("optimum-intel", "openvino")}
        self.libraries = ("sentence-transformers", "transformers", "torch", *more.get(backend, ()))

    def encode(self, prepared: list[str]) -> Vectors:
        """Unit vectors ``[B, D]``."""
        vectors: Vectors = self._model.encode(
            prepared, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors


def _model_kwargs(backend: str, spec: Spec) -> dict[str, Any]:
    if backend == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = spec.threads
        provider = "CPUExecutionProvider"
        return {"provider": provider, "file_name": spec.file, "session_options": options}
    if backend == "openvino":
        # Where the file is int8, what is left is computed in f32 on every processor.
        hint = "bf16" if spec.precision == "bf16" else "f32"
        config = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": spec.threads}
        return {"file_name": spec.file, "ov_config": config}
    return {"dtype": "bfloat16" if spec.precision == "bf16" else "float32"}


class FastEmbed(Plain):
    """A custom model on a folder. It does not sort; smaller batches waste less on padding."""

    def __init__(self, spec: Spec) -> None:
        from fastembed import TextEmbedding
        from fastembed.common.model_description import ModelSource, PoolingType

        TextEmbedding.add_custom_model(
            model="local",
            pooling=PoolingType.MEAN,
            normalization=True,
            sources=ModelSource(hf="local"),
            dim=DIMENSION,
            model_file=spec.file,
        )
        self._model = TextEmbedding(
            "local", threads=spec.threads, specific_model_path=spec.model, cache_dir=spec.cache
        )
        self.settings = {"batch_size": BATCH, "sorted": "no"}
        self.libraries = ("fastembed", "onnxruntime", "tokenizers")

    def encode(self, prepared: list[str]) -> Vectors:
        """Unit vectors ``[B, D]``."""
        return np.stack(list(self._model.embed(prepared, batch_size=BATCH)))


class Infinity(Plain):
    """Its engine in this process, without its server; it sorts by length itself."""

    def __init__(self, spec: Spec) -> None:
        from infinity_emb import AsyncEmbeddingEngine, EngineArgs

        engine = spec.kind.rpartition("-")[2]
        if engine == "torch":
            import torch

            torch.set_num_threads(spec.threads)
        told = EngineArgs(
            model_name_or_path=spec.model,
            engine=engine,
            device="cpu",
            dtype="float32",
            batch_size=BATCH,
            pooling_method="mean",
            # Of a torch that is no more; and warmed up is by whoever asks.
            bettertransformer=False,
            model_warmup=False,
            onnx_do_not_prefer_quantized=spec.precision != "int8",
        )
        self._loop = asyncio.new_event_loop()
        self._engine: Any = AsyncEmbeddingEngine.from_args(told)
        self._loop.run_until_complete(self._engine.astart())
        self.settings = {"batch_size": BATCH, "sorted": "by itself"}
        used = {"torch": ("torch",), "optimum": ("optimum", "onnxruntime")}
        self.libraries = ("infinity-emb", "transformers", *used[engine])

    def encode(self, prepared: list[str]) -> Vectors:
        """Unit vectors ``[B, D]``."""
        found, _ = self._loop.run_until_complete(self._engine.embed(sentences=prepared))
        return np.stack(found)

    def close(self) -> None:
        """Ends its threads."""
        self._loop.run_until_complete(self._engine.astop())


KINDS: dict[str, type[Any]] = {
    "st-torch": SentenceTransformers,
    "st-onnx": SentenceTransformers,
    "st-openvino": SentenceTransformers,
    "fastembed": FastEmbed,
    "infinity-torch": Infinity,
    "infinity-optimum": Infinity,
}


def versions(libraries: Sequence[str]) -> dict[str, str]:
    """As they are installed in this environment."""
    return {name: importlib.metadata.version(name) for name in libraries}
