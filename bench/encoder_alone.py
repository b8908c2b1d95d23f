"""The libraries below the encoders, alone: given tokens, sorted by length; the graph is timed.

What could be reached, not peers: somebody has to tokenise. OpenVINO gets our own graph; what it
needs of ours is imported when it is made, since onnxruntime runs in a peer's environment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from encoder_peers import BATCH, DIMENSION, Plain, Spec, Vectors
from numpy.typing import NDArray

_MAX_TOKENS = 256
_SIZES = (16, 32, 64)


@dataclass(frozen=True, slots=True)
class Batches:
    """Tokenised texts as rectangles, the longest first.

    Attributes:
        rows: where the texts of each stand.
        ids: ``int64 [b, T]`` each.
        masks: likewise.
    """

    rows: list[NDArray[np.intp]]
    ids: list[NDArray[np.int64]]
    masks: list[NDArray[np.int64]]

    @classmethod
    def of(cls, tokenizer: Any, texts: list[str], size: int = BATCH) -> Batches:
        """Of a ``tokenizers.Tokenizer`` that does not pad."""
        ids = [found.ids for found in tokenizer.encode_batch(texts)]
        order = np.argsort([-len(one) for one in ids], kind="stable")
        rows = [order[at : at + size] for at in range(0, len(order), size)]
        padded = [_padded([ids[row] for row in some]) for some in rows]
        return cls(rows, padded, [(one != 0).astype(np.int64) for one in padded])


def _padded(ids: list[list[int]]) -> NDArray[np.int64]:
    """BERT's padding is token 0, which no text has."""
    rectangle = np.zeros((len(ids), max(map(len, ids))), np.int64)
    for row, one in enumerate(ids):
        rectangle[row, : len(one)] = one
    return rectangle


def plain_tokenizer(model: str) -> Any:
    """The folder's tokeniser, cut at what the model reads, without padding."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_MAX_TOKENS)
    return tokenizer


class OnnxRuntime(Plain):
    """The graph that sentence-transformers exports, in batches of 32."""

    def __init__(self, spec: Spec) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = spec.threads
        path = str(Path(spec.model) / spec.file)
        self._session: Any = onnxruntime.InferenceSession(path, options)
        self._names = {one.name for one in self._session.get_inputs()}
        self._tokenizer = plain_tokenizer(spec.model)
        self.settings = {"batch_size": BATCH, "sorted": "before", "tokenised": "before"}
        self.libraries = ("onnxruntime", "tokenizers")

    def prepare(self, texts: list[str]) -> Batches:
        """Tokenises and sorts."""
        return Batches.of(self._tokenizer, texts)

    def encode(self, prepared: Batches) -> Vectors:
        """Unit vectors ``[B, D]``."""
        vectors = np.empty((sum(map(len, prepared.rows)), DIMENSION), np.float32)
        for rows, ids, mask in zip(prepared.rows, prepared.ids, prepared.masks, strict=True):
            fed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            told = {name: fed[name] for name in self._names}
            hidden = self._session.run(None, told)[0]
            vectors[rows] = (hidden * mask[:, :, None]).sum(axis=1)
        return _unit(vectors)


@dataclass(frozen=True, slots=True)
class Choice:
    """How the graph alone is fastest.

    Attributes:
        streams: batches computed side by side, each with its share of the threads.
        batch_size: texts of one batch.
    """

    streams: int
    batch_size: int


class RawOpenVino(Plain):
    """Our graph, with as many streams and texts a batch as are fastest."""

    def __init__(self, spec: Spec) -> None:
        from rankstream.server.encoder.openvino_encoder import import_openvino

        self._spec = spec
        self._ov: Any = import_openvino()
        self._graph = _graph(spec)
        self._tokenizer = plain_tokenizer(spec.model)
        self._choice = self._known() or self._choose()
        self._queue = self._compile(self._choice.streams)
        self.settings = asdict(self._choice) | {"sorted": "before", "tokenised": "before"}
        self.libraries = ("openvino", "tokenizers")

    def prepare(self, texts: list[str]) -> Batches:
        """Tokenises and sorts."""
        return Batches.of(self._tokenizer, texts, self._choice.batch_size)

    def encode(self, prepared: Batches) -> Vectors:
        """Unit vectors ``[B, D]``."""
        return _infer(self._queue, prepared)

    def _known(self) -> Choice | None:
        note = self._note()
        return Choice(**json.loads(note.read_text())) if note.exists() else None

    def _choose(self) -> Choice:
        """The fastest with a quarter of the texts, remembered for later runs."""
        texts = json.loads(Path(self._spec.texts).read_text())[::4]
        spent = {}
        for streams in sorted({1, self._spec.threads}):
            queue = self._compile(streams)
            for size in _SIZES:
                batches = Batches.of(self._tokenizer, texts, size)
                _infer(queue, batches)
                started = time.perf_counter()
                _infer(queue, batches)
                spent[Choice(streams, size)] = time.perf_counter() - started
        best = min(spent, key=lambda choice: spent[choice])
        self._note().write_text(json.dumps(asdict(best)))
        return best

    def _note(self) -> Path:
        return Path(self._spec.cache) / f"raw-{self._spec.precision}.json"

    def _compile(self, streams: int) -> Any:
        hint = "bf16" if self._spec.precision == "bf16" else "f32"
        told = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": self._spec.threads,
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,
        }
        core = self._ov.Core()
        compiled = core.compile_model(core.read_model(self._graph), "CPU", told)
        return self._ov.AsyncInferQueue(compiled, streams)


def _graph(spec: Spec) -> Path:
    """``model.xml``: what the folder has where it is quantised, or converted as ours is."""
    stored = sorted(Path(spec.model).rglob("*.xml"))
    if stored:
        return stored[0]
    from rankstream.server.encoder.base import EncoderSettings
    from rankstream.server.encoder.load import load_encoder

    # A cache of its own: what lies there is the graph that ours has of this model.
    own = Path(spec.cache) / f"raw-{spec.precision}"
    told = EncoderSettings(
        cache_dir=own, model=spec.model, backend="openvino", precision=spec.precision
    )
    load_encoder(told).close()
    return max(own.rglob("model.xml"), key=lambda path: path.stat().st_mtime)


def _infer(queue: Any, batches: Batches) -> Vectors:
    parts: list[Any] = [None] * len(batches.rows)

    def keep(request: Any, place: int) -> None:
        parts[place] = np.array(request.get_output_tensor(0).data)

    queue.set_callback(keep)
    for place, (ids, mask) in enumerate(zip(batches.ids, batches.masks, strict=True)):
        queue.start_async({"input_ids": ids, "attention_mask": mask}, place, share_inputs=True)
    queue.wait_all()
    pooled = np.concatenate(parts)
    vectors = np.empty_like(pooled)
    vectors[np.concatenate(batches.rows)] = pooled
    return _unit(vectors)


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


KINDS: Mapping[str, type[Any]] = {"onnxruntime": OnnxRuntime, "raw-openvino": RawOpenVino}
