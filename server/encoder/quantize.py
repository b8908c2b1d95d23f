"""Post-training quantisation of a converted graph to int8, by NNCF.

Every linear layer's weights and inputs become int8; what lies between (attention, normalisation,
GELU) stays float32, so that CPUs with and without bf16 give the same vectors.

Weights keep seven of the eight bits (``OverflowFix.ENABLE``): CPUs without VNNI add pairs of
products in sixteen bits, which saturate where both have eight, and their vectors would be others
than those of CPUs with it. Ranges of activations span all that the texts brought, not the mean
over batches (NNCF's default), which rare texts leave: the worst of 4,000 titles then kept a cosine
of 0.951, and so 0.979.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankstream.server.encoder.base import EncoderUnavailable, TokenBatch
from rankstream.server.encoder.openvino_encoder import import_openvino


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a graph is quantised.

    Attributes:
        alpha: of SmoothQuant, how much of the activations' outliers the weights take over, 0 to 1.
        kept: so many of the layers that narrow (feed-forward's second) stay float32, the first
            ones first. Their inputs, behind the GELU, have the largest outliers.
    """

    alpha: float
    kept: int

    @property
    def name(self) -> str:
        """For people."""
        return f"SmoothQuant {self.alpha}, {self.kept} layers kept in float32"


def quantize(graph: Path, batches: Sequence[TokenBatch], recipe: Recipe, target: Path) -> None:
    """Writes the int8 form of ``graph`` to ``target``, both ``.xml``.

    Args:
        graph: a converted graph.
        batches: what the ranges of activations are measured on.
        recipe: how.
        target: file to write; its ``.bin`` goes beside it.

    Raises:
        EncoderUnavailable: NNCF is not installed.
    """
    nncf = _import_nncf()
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        AdvancedSmoothQuantParameters,
        OverflowFix,
    )
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    ov = import_openvino()
    model = ov.Core().read_model(graph)
    names = _narrowing(model)[: recipe.kept]
    with _on_stderr():
        made = nncf.quantize(
            model,
            nncf.Dataset(batches, _inputs),
            subset_size=len(batches),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(names=names) if names else None,
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.ENABLE,
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=recipe.alpha),
            ),
        )
    ov.save_model(made, target, compress_to_fp16=False)


def narrowing_layers(graph: Path) -> int:
    """How many layers ``Recipe.kept`` can keep."""
    return len(_narrowing(import_openvino().Core().read_model(graph)))


def version() -> str:
    """NNCF's version."""
    return str(_import_nncf().__version__)


def _inputs(batch: TokenBatch) -> dict[str, Any]:
    return {"input_ids": batch.ids, "attention_mask": batch.mask}


def _narrowing(model: Any) -> list[str]:
    """Names of the layers whose outputs are fewer than their inputs, in the graph's order."""
    products = [op for op in model.get_ordered_ops() if op.get_type_name() == "MatMul"]
    layers = [op for op in products if _is_constant(op.input_value(1).get_node())]
    return [op.get_friendly_name() for op in layers if _width(op.input(0)) > _width(op.output(0))]


def _is_constant(node: Any) -> bool:
    """Whether it is weights; attention's products are of two things that were computed."""
    while node.get_type_name() in ("Convert", "Transpose"):
        node = node.input_value(0).get_node()
    return str(node.get_type_name()) == "Constant"


def _width(port: Any) -> int:
    """Size of the last dimension; 0 where it is free."""
    last = port.get_partial_shape()[-1]
    return int(last.get_length()) if last.is_static else 0


def _import_nncf() -> Any:
    # It reports each run over the network through this package; hidden, it does without.
    hidden = "openvino_telemetry" not in sys.modules
    if hidden:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import nncf
    except ImportError as error:
        message = "quantisation needs NNCF: pip install 'rankstream[optimize]'"
        raise EncoderUnavailable(message) from error
    finally:
        if hidden:
            sys.modules.pop("openvino_telemetry", None)
    return nncf


@contextlib.contextmanager
def _on_stderr() -> Iterator[None]:
    """NNCF draws its progress bars on stdout, where a program may read our JSON."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
