"""Recipes of quantisation, tried one after the other until one keeps enough."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rankstream.server.encoder.base import Backend, Encoder, EncoderError, TokenBatch
from rankstream.server.encoder.golden import golden_vectors
from rankstream.server.encoder.graph_cache import Graph
from rankstream.server.encoder.load import Loading
from rankstream.server.encoder.openvino_encoder import OpenVinoBackend
from rankstream.server.encoder.openvino_load import on_graph
from rankstream.server.encoder.quality import Gate, Quality, compare
from rankstream.server.encoder.quantize import Recipe, narrowing_layers, quantize
from rankstream.server.encoder.speed import tokens_per_s

ALPHA = 0.7

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """What one encoder makes of the texts that judge.

    Attributes:
        judging: [N, D] float32, of real texts, read as items.
        golden: [G, D] float32, of ``golden_texts``.
    """

    judging: NDArray[np.float32]
    golden: NDArray[np.float32]

    @classmethod
    def of(cls, encoder: Encoder, judging: list[str]) -> Vectors:
        """Encodes them."""
        return cls(encoder.encode(judging, encoder.prompts.item), golden_vectors(encoder))


@dataclass(frozen=True, slots=True)
class Judged:
    """What an int8 graph kept.

    Attributes:
        quality: of real texts.
        golden: of the golden texts.
        tokens_per_s: on this machine, of ``f32`` and of ``int8``.
    """

    quality: Quality
    golden: Quality
    tokens_per_s: dict[str, float]

    def problem(self, gate: Gate) -> str:
        """What is below the gate, in words; "" where nothing is."""
        golden = gate.problem(self.golden)
        return gate.problem(self.quality) or (f"golden texts: {golden}" if golden else "")


@dataclass(frozen=True, slots=True)
class Good:
    """A recipe that passed, and the attention implementation of its graph."""

    recipe: Recipe
    judged: Judged
    attention: str


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A model and the texts that decide.

    Attributes:
        loading: the model.
        folder: for the int8 graph; what is there is replaced.
        batches: what calibrates.
        judging: texts that judge.
        expected: their vectors in float32.
        reference: what made them.
    """

    loading: Loading
    folder: Path
    batches: list[TokenBatch]
    judging: list[str]
    expected: Vectors
    reference: Backend

    def first_good(self, gate: Gate, say: Say) -> Good:
        """Leaves the graph of the first recipe that passes in the folder.

        Raises:
            EncoderError: none does.
        """
        loading, problem = self.loading, ""
        graph = on_graph(loading.settings, loading.folder, loading.space, lambda graph: graph)
        for recipe in _recipes(narrowing_layers(graph.folder / "model.xml")):
            say(f"quantising: {recipe.name}")
            self._quantize(graph, recipe)
            say(f"encoding {len(self.judging)} texts in int8")
            judged = self._judge(graph)
            problem = judged.problem(gate)
            if not problem:
                return Good(recipe, judged, graph.attention)
            say(f"not good enough: {problem}")
        message = (
            f"{loading.folder.name}: int8 does not keep the quality asked for: {problem}; "
            "give other texts, lower the gate, or serve it in bf16 or f32"
        )
        raise EncoderError(message)

    def _quantize(self, graph: Graph, recipe: Recipe) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        quantize(graph.folder / "model.xml", self.batches, recipe, self.folder / "model.xml")

    def _judge(self, graph: Graph) -> Judged:
        with tempfile.TemporaryDirectory() as compiled:
            made = Graph(self.folder, graph.attention, Path(compiled))
            threads = self.loading.settings.threads
            backend = OpenVinoBackend(made, precision="int8", threads=threads)
            found = Vectors.of(self.loading.encoder(backend), self.judging)
            return Judged(
                compare(self.expected.judging, found.judging),
                compare(self.expected.golden, found.golden),
                tokens_per_s({"f32": self.reference.embed, "int8": backend.embed}),
            )


def _recipes(narrowing: int) -> Iterator[Recipe]:
    for kept in sorted({0, -(-narrowing // 6), -(-narrowing // 3), narrowing}):
        yield Recipe(ALPHA, kept)
