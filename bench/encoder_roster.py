"""Who takes part in ``encoder.py``: each peer in each precision that it has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

F32, BF16, INT8 = "f32", "bf16", "int8"
PRECISIONS = (F32, BF16, INT8)

OURS, GRPC, RAW = "rankstream", "rankstream over gRPC", "OpenVINO alone"
DEFAULT = "sentence-transformers"

NO_BF16 = "this CPU has no bf16"


@dataclass(frozen=True, slots=True)
class Entry:
    """One contender.

    Attributes:
        peer: the library, and the way it is used.
        precision: of ``PRECISIONS``.
        kind: see ``encoder_peers.Spec``.
        family: its virtual environment, by the name in ``bench/peers``; "": this one.
        model: what it reads: "source", "optimised" (ours in int8) or an export's name.
        file: the graph within that folder; "": the kind knows.
        is_peer: whether ours is compared with the best of such.
    """

    peer: str
    precision: str
    kind: str
    family: str = ""
    model: str = "source"
    file: str = ""
    is_peer: bool = True

    @property
    def name(self) -> str:
        """Peer and precision."""
        return f"{self.peer} {self.precision}"


_ST_ONNX, _ST_OPENVINO = "sentence_transformers_onnx", "sentence_transformers_openvino"
_ONNX, _ONNX_INT8 = "onnx/model.onnx", "onnx/model_quantized.onnx"
_IR, _IR_INT8 = "openvino/openvino_model.xml", "openvino/openvino_model_qint8_quantized.xml"


def _ours(precision: str) -> tuple[Entry, ...]:
    model = "optimised" if precision == INT8 else "source"
    return (
        Entry(OURS, precision, "ours", model=model, is_peer=False),
        Entry(GRPC, precision, "ours-grpc", model=model, is_peer=False),
        Entry(RAW, precision, "raw-openvino", model=model, is_peer=False),
    )


ROSTER: tuple[Entry, ...] = (
    *(entry for precision in PRECISIONS for entry in _ours(precision)),
    Entry(DEFAULT, F32, "st-torch", "sentence_transformers"),
    Entry(DEFAULT, BF16, "st-torch", "sentence_transformers"),
    Entry(f"{DEFAULT} onnx", F32, "st-onnx", _ST_ONNX, "onnx", _ONNX),
    Entry(f"{DEFAULT} onnx", INT8, "st-onnx", _ST_ONNX, "onnx", _ONNX_INT8),
    Entry(f"{DEFAULT} openvino", F32, "st-openvino", _ST_OPENVINO, "openvino", _IR),
    Entry(f"{DEFAULT} openvino", BF16, "st-openvino", _ST_OPENVINO, "openvino", _IR),
    Entry(f"{DEFAULT} openvino", INT8, "st-openvino", _ST_OPENVINO, "openvino", _IR_INT8),
    Entry("fastembed", F32, "fastembed", "fastembed", "onnx", _ONNX),
    Entry("fastembed", INT8, "fastembed", "fastembed", "onnx", _ONNX_INT8),
    Entry("infinity torch", F32, "infinity-torch", "infinity"),
    Entry("infinity optimum", F32, "infinity-optimum", "infinity", "infinity_f32"),
    Entry("infinity optimum", INT8, "infinity-optimum", "infinity", "infinity_int8"),
    Entry("onnxruntime alone", F32, "onnxruntime", "fastembed", "onnx", _ONNX, is_peer=False),
    Entry("onnxruntime alone", INT8, "onnxruntime", "fastembed", "onnx", _ONNX_INT8, is_peer=False),
)

REFERENCE = next(entry for entry in ROSTER if (entry.peer, entry.precision) == (DEFAULT, F32))
"""What everybody's vectors are compared with, and what most people use."""

QUICK = (OURS, RAW, DEFAULT)
"""Peers of ``--quick``."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are in the cache.

    Attributes:
        root: of all of this benchmark.
        source: the model's own folder.
    """

    root: Path
    source: Path

    def python(self, family: str) -> Path:
        """The interpreter of a virtual environment."""
        return self.environment(family) / "bin" / "python"

    def environment(self, family: str) -> Path:
        """A virtual environment."""
        return self.root / "environments" / family

    def export(self, name: str) -> Path:
        """A folder that ``--prepare`` made, or the source."""
        return self.source if name == "source" else self.root / "exports" / name

    @property
    def own(self) -> Path:
        """What our encoder and servers keep."""
        return self.root / "rankstream"

    @property
    def logs(self) -> Path:
        """What contenders said, one file each."""
        return self.root / "logs"
