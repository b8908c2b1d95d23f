"""The CPU default: a graph converted once, compiled by OpenVINO. Needs no torch to serve."""

from __future__ import annotations

import queue
import sys
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankstream.server.encoder.base import EncoderError, EncoderUnavailable, TokenBatch
from rankstream.server.encoder.graph_cache import Graph
from rankstream.server.encoder.instruction_set import cpu_flags, instruction_set


def import_openvino(*, converter: bool = False) -> ModuleType:
    """Imports OpenVINO without its telemetry, which would report each import over the network.

    Args:
        converter: also its model converter, which serving does not need and which doubles the time.

    Raises:
        EncoderUnavailable: it is not installed.
    """
    hidden = ["openvino_telemetry"] if converter else ["openvino_telemetry", "openvino.tools.ovc"]
    hidden = [name for name in hidden if name not in sys.modules]
    # None makes an import fail; OpenVINO is written to go on without either.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        message = "backend openvino: pip install 'rankstream[openvino]', or use backend torch"
        raise EncoderUnavailable(message) from error
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
    found: ModuleType = openvino
    return found


class OpenVinoBackend:
    """Computes batches with a compiled graph; each thread that calls borrows a request."""

    name = "openvino"

    def __init__(self, graph: Graph, precision: str, threads: int) -> None:
        """Compiles the graph, or loads what was compiled before; ``int8`` needs an int8 graph.

        Raises:
            EncoderUnavailable: OpenVINO is missing, or computes in another precision here.
            EncoderError: it refuses the graph.
        """
        ov = import_openvino()
        self._compiled: Any = _compile(ov, graph, precision, threads)
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        isa = instruction_set(cpu_flags())
        self.numerics = f"openvino-{ov.__version__.split('-')[0]}/{graph.attention}/{isa}"

    def embed(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Pooled vectors [B, D] float32. The GIL is free while it computes."""
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        inputs = {"input_ids": batch.ids, "attention_mask": batch.mask}
        found = request.infer(inputs, share_inputs=True, share_outputs=True)
        # The request's memory is another thread's as soon as it is given back.
        pooled = np.array(found[0], np.float32)
        self._idle.put(request)
        return pooled


def _compile(ov: ModuleType, graph: Graph, precision: str, threads: int) -> Any:
    # An int8 graph says itself what is int8; all else is float32 on every CPU, so that all agree.
    hint = "f32" if precision == "int8" else precision
    options = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        # Pinned processes would share one core and leave the others idle.
        "ENABLE_CPU_PINNING": False,
        "CACHE_DIR": str(graph.compiled),
    }
    try:
        core = ov.Core()
        compiled = core.compile_model(core.read_model(graph.folder / "model.xml"), "CPU", options)
        used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    except RuntimeError as error:
        message = f"{graph.folder}: OpenVINO does not compile the graph: {error}"
        raise EncoderError(message) from error
    if used != hint:
        message = f"precision {precision}: OpenVINO computes in {used} on this CPU; use that"
        raise EncoderUnavailable(message)
    return compiled
