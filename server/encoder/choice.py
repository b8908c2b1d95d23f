"""Which precision and which backend, where the settings leave it open."""

from __future__ import annotations

import importlib.util

from rankstream.server.encoder.base import EncoderSettings, EncoderUnavailable, ModelRefused
from rankstream.server.encoder.instruction_set import has_bf16
from rankstream.server.encoder.model_folder import ModelFolder
from rankstream.server.errors import InvalidArgument

BACKENDS = ("auto", "openvino", "torch")
PRECISIONS = ("auto", "int8", "bf16", "f32")


def openvino_installed() -> bool:
    """Whether the library is there; it is not imported."""
    return importlib.util.find_spec("openvino") is not None


def choose_precision(
    settings: EncoderSettings, folder: ModelFolder, flags: frozenset[str], installed: bool
) -> str:
    """``int8``, ``bf16`` or ``f32``.

    What was asked for; else int8 where the folder has such a graph (its quality was checked when it
    was made), OpenVINO may read it and no adapter is to be merged into other weights; else what
    this CPU computes in, on any backend.

    Raises:
        ModelRefused: int8 was asked for by name, and the folder has no such graph.
        InvalidArgument: int8 on torch, or with an adapter.
    """
    if settings.precision == "auto":
        may = settings.backend != "torch" and installed and not settings.adapter
        if folder.quantised is not None and may:
            return "int8"
        return "bf16" if has_bf16(flags) else "f32"
    if settings.precision == "int8":
        if folder.quantised is None:
            message = (
                f"{folder.root}: has no int8 graph; make a folder that has one: "
                f"rankstream model optimize --model {folder.root} --texts FILE --out FOLDER"
            )
            raise ModelRefused(message)
        if settings.backend == "torch":
            field, problem = "backend", "torch; int8 graphs are read by openvino alone"
            raise InvalidArgument(field, problem)
        if settings.adapter:
            field, problem = "adapter", "an int8 graph takes none; use precision bf16 or f32"
            raise InvalidArgument(field, problem)
    return settings.precision


def choose_backend(wanted: str, precision: str, onnx: bool, installed: bool) -> tuple[str, str]:
    """The backend and the reason for it; ``auto`` where measuring decides.

    Args:
        wanted: what the settings say.
        precision: that the vectors are computed in.
        onnx: whether the model's weights are in an ONNX file.
        installed: whether OpenVINO is.

    Raises:
        EncoderUnavailable: OpenVINO is needed and not installed.
    """
    if installed:
        if wanted != "auto":
            return wanted, "asked for"
        alone = "int8" if precision == "int8" else "ONNX" if onnx else ""
        return ("openvino", f"which alone reads {alone}") if alone else ("auto", "")
    if wanted == "openvino" or precision == "int8" or (wanted == "auto" and onnx):
        message = "backend openvino: pip install 'rankstream[openvino]', or use backend torch"
        raise EncoderUnavailable(message)
    if wanted == "torch":
        return wanted, "asked for"
    return "torch", "openvino is not installed: pip install 'rankstream[openvino]' is faster"
