"""Loads the OpenVINO backend: which graph, where its files are kept, how fast it is here."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TypeVar

from rankstream.server.encoder.atomic_file import exclusive
from rankstream.server.encoder.base import Backend, EncoderSettings
from rankstream.server.encoder.fingerprint import Space, digest_of, weights_sha256
from rankstream.server.encoder.graph_cache import Conversion, Graph, graphs_in, with_graph
from rankstream.server.encoder.model_folder import ModelFolder
from rankstream.server.encoder.openvino_encoder import OpenVinoBackend, import_openvino
from rankstream.server.encoder.quantised import Quantised
from rankstream.server.encoder.speed import faster

# Grows when the same folder is to be converted to another graph.
GRAPH_RULES = 3
T = TypeVar("T")


def load_openvino(settings: EncoderSettings, folder: ModelFolder, space: Space) -> Backend:
    """The model's graph, compiled; converted first where that was not done yet."""
    if space.precision == "int8" and folder.quantised is not None:
        return _load_quantised(settings, folder.quantised)
    return on_graph(settings, folder, space, _compiling(settings, space))


def load_if_faster(
    settings: EncoderSettings, folder: ModelFolder, space: Space
) -> tuple[Backend | None, str]:
    """As ``load_openvino``, or None where torch is faster on this machine; and why."""
    compiled = _compiling(settings, space)

    def choose(graph: Graph) -> tuple[Backend | None, str]:
        speeds = graph.tokens_per_s.get(space.precision)
        if speeds is None:
            return compiled(graph), f"installed; {space.precision} was not measured here"
        name, reason = faster(speeds)
        return (compiled(graph) if name == "openvino" else None), reason

    return on_graph(settings, folder, space, choose)


def on_graph(
    settings: EncoderSettings, folder: ModelFolder, space: Space, use: Callable[[Graph], T]
) -> T:
    """What ``use`` makes of the model's float32 graph; see ``graph_cache.with_graph``."""
    version = import_openvino().__version__
    key = digest_of(
        {
            "weights": weights_sha256(folder.weights, settings.cache_dir),
            "adapter": space.adapter,
            "config": space.config,
            "pooling": space.pooling,
            "openvino": version,
            "rules": GRAPH_RULES,
        }
    )
    where = graphs_in(settings.cache_dir) / key
    conversion = Conversion(where, folder.root, space.pooling, settings.threads, settings.adapter)
    return with_graph(conversion, use)


def _compiling(settings: EncoderSettings, space: Space) -> Callable[[Graph], OpenVinoBackend]:
    return functools.partial(OpenVinoBackend, precision=space.precision, threads=settings.threads)


def _load_quantised(settings: EncoderSettings, quantised: Quantised) -> Backend:
    compiled = graphs_in(settings.cache_dir) / quantised.sha256[:32]
    graph = Graph(quantised.folder, quantised.attention, compiled)
    # As with converted graphs: processes that start together compile once.
    with exclusive(compiled.with_suffix(".lock")):
        if compiled.exists():
            os.utime(compiled)
        return OpenVinoBackend(graph, precision="int8", threads=settings.threads)
