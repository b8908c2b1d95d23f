"""Which layers may stay in float32: found in a small graph, built by hand."""

import importlib.util

import numpy as np
import pytest

if importlib.util.find_spec("openvino") is None:
    pytest.skip("OpenVINO: pip install 'rankstream[openvino]'", allow_module_level=True)

from rankstream.server.encoder.openvino_encoder import import_openvino
from rankstream.server.encoder.quantize import narrowing_layers


@pytest.fixture
def graph(tmp_path):
    """A layer that widens, attention's product of the states, and layers that narrow."""
    ov = import_openvino()
    from openvino import opset13 as ops

    states = ops.parameter(ov.PartialShape([-1, -1, 4]), np.float32, name="states")
    wide = ops.matmul(states, np.ones((4, 16), np.float32), False, False)
    scores = ops.matmul(wide, wide, False, True)
    mixed = ops.matmul(scores, wide, False, False)
    plain = ops.matmul(mixed, np.ones((16, 8), np.float32), False, False)
    half = ops.convert(ops.constant(np.ones((2, 8), np.float16)), "f32")
    turned = ops.transpose(half, np.array([1, 0], np.int64))
    last = ops.matmul(plain, turned, False, False)
    model = ov.Model([ops.result(last)], [states], "layers")
    ov.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    return tmp_path / "model.xml"


def test_products_of_attention_are_no_layers(graph):
    assert narrowing_layers(graph) == 2
