"""An ONNX file as the graph that serving needs, with its pooling, in OpenVINO's operations."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from rankstream.server.encoder.base import ModelRefused
from rankstream.server.encoder.folder_json import read_json
from rankstream.server.encoder.model_folder import OFFSET_POSITIONS, ModelFolder
from rankstream.server.encoder.openvino_encoder import import_openvino

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
# Where exporters put the vectors of tokens, if they name it.
OUTPUTS = ("last_hidden_state", "token_embeddings")
MASKED = np.float32(np.finfo(np.float32).min)


def onnx_graph(folder: ModelFolder, pooling: str) -> Any:
    """An OpenVINO model: ``input_ids`` and ``attention_mask`` [B, T] int64 to [B, D] float32.

    Raises:
        ModelRefused: OpenVINO does not read the file, or it is not an encoder of tokens.
    """
    ov, ops = import_openvino(), _operations()
    try:
        model = ov.Core().read_model(folder.onnx)
        hidden = _token_vectors(folder, model)
        free = ov.PartialShape([-1, -1])
        ids, mask = (ops.parameter(free, np.int64, name=name) for name in INPUTS[:2])
        _replace_inputs(folder, model, ops, ids, mask)
        pooled = _pool(ops, ops.convert(hidden, "f32"), mask, pooling)
        for parameter, name in ((ids, "input_ids"), (mask, "attention_mask")):
            parameter.output(0).set_names({name})
        graph = ov.Model([ops.result(pooled)], [ids, mask], "pooled")
        graph.validate_nodes_and_infer_types()
    except RuntimeError as error:
        message = f"{folder.onnx}: OpenVINO does not read it: {error}"
        raise ModelRefused(message) from error
    found = graph.output(0).get_partial_shape()
    if found.rank.get_length() != 2 or str(found[1]) != str(folder.dimension):
        message = (
            f"{folder.onnx}: gives {found}, but config.json says {folder.dimension} dimensions"
        )
        raise ModelRefused(message)
    return graph


def _operations() -> ModuleType:
    from openvino import opset13

    found: ModuleType = opset13
    return found


def _token_vectors(folder: ModelFolder, model: Any) -> Any:
    """What goes into the output that is [B, T, D]."""
    named = {name: port for port in model.outputs for name in port.get_names()}
    found = [named[name] for name in OUTPUTS if name in named]
    found += [port for port in model.outputs if port.get_partial_shape().rank.is_static]
    for port in found:
        shape = port.get_partial_shape()
        if len(shape) == 3 and str(shape[2]) in (str(folder.dimension), "?"):
            return port.get_node().input_value(0)
    message = (
        f"{folder.onnx}: outputs {sorted(named)}; expected one of token vectors "
        f"[texts, tokens, {folder.dimension}]: export the model without its pooling"
    )
    raise ModelRefused(message)


def _replace_inputs(folder: ModelFolder, model: Any, ops: ModuleType, ids: Any, mask: Any) -> None:
    zeros = ops.multiply(ids, np.int64(0))
    values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": zeros}
    # The others count from their padding's id, which an exporter may or may not have built in.
    if read_json(folder.config_file, dict).get("model_type") not in OFFSET_POSITIONS:
        ones = ops.add(zeros, np.int64(1))
        values["position_ids"] = ops.subtract(ops.cum_sum(ones, np.int64(1)), np.int64(1))
    names = {port.get_any_name() for port in model.inputs}
    if "input_ids" not in names or not names <= set(values):
        message = f"{folder.onnx}: inputs {sorted(names)}; supported are {', '.join(values)}"
        raise ModelRefused(message)
    for port in model.inputs:
        value = ops.convert(values[port.get_any_name()], port.get_element_type())
        port.get_node().output(0).replace(value.output(0))


def _pool(ops: ModuleType, hidden: Any, mask: Any, pooling: str) -> Any:
    """As ``torch_pooling``, which says more."""
    return _POOLS[pooling](ops, hidden, mask)


def _cls(ops: ModuleType, hidden: Any, mask: Any) -> Any:
    return ops.gather(hidden, np.int64(0), np.int64(1))


def _last(ops: ModuleType, hidden: Any, mask: Any) -> Any:
    last = ops.subtract(ops.reduce_sum(mask, np.int64(1)), np.int64(1))
    return ops.gather(hidden, last, np.int64(1), batch_dims=1)


def _max(ops: ModuleType, hidden: Any, mask: Any) -> Any:
    padding = ops.equal(ops.unsqueeze(mask, np.int64(2)), np.int64(0))
    return ops.reduce_max(ops.select(padding, MASKED, hidden), np.int64(1))


def _sums(ops: ModuleType, hidden: Any, weights: Any) -> tuple[Any, Any]:
    weights = ops.convert(ops.unsqueeze(weights, np.int64(2)), "f32")
    total = ops.reduce_sum(ops.multiply(hidden, weights), np.int64(1))
    return total, ops.reduce_sum(weights, np.int64(1))


def _mean(ops: ModuleType, hidden: Any, mask: Any) -> Any:
    return ops.divide(*_sums(ops, hidden, mask))


def _mean_sqrt(ops: ModuleType, hidden: Any, mask: Any) -> Any:
    total, count = _sums(ops, hidden, mask)
    return ops.divide(total, ops.sqrt(count))


def _weighted(ops: ModuleType, hidden: Any, mask: Any) -> Any:
    return _mean(ops, hidden, ops.multiply(ops.cum_sum(mask, np.int64(1)), mask))


_POOLS: dict[str, Callable[[ModuleType, Any, Any], Any]] = {
    "cls": _cls,
    "lasttoken": _last,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted,
}
