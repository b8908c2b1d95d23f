"""Makes a model folder with an int8 graph, where that keeps enough of the model's quality.

The texts are split: some calibrate, the others judge. Recipes are tried from the quickest graph to
the most careful one; the first that passes the gate is kept, and no folder is written otherwise.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rankstream.server.encoder.base import (
    Backend,
    EncoderError,
    EncoderSettings,
    ModelRefused,
    TokenBatch,
)
from rankstream.server.encoder.batching import pad_batch, plan_batches
from rankstream.server.encoder.fingerprint import weights_sha256
from rankstream.server.encoder.graph_cache import Graph
from rankstream.server.encoder.load import Loading
from rankstream.server.encoder.model_folder import PICKLES, ModelFolder
from rankstream.server.encoder.openvino_encoder import OpenVinoBackend
from rankstream.server.encoder.openvino_load import on_graph
from rankstream.server.encoder.quality import GATES, Gate, Quality, compare
from rankstream.server.encoder.quantised import FILES, FOLDER, write_note
from rankstream.server.encoder.quantize import Recipe, narrowing_layers, quantize, version
from rankstream.server.encoder.speed import tokens_per_s
from rankstream.server.errors import InvalidArgument

# The worst text's cosine was 0.969 with 600 texts and 0.979 with 3,300: rare words widen ranges.
CALIBRATION_TEXTS = 3000
# So few padded tokens a batch: a range is measured a batch, and many small ones are steadier.
CALIBRATION_TOKENS = 512
JUDGING_TEXTS = 4000
FEWEST_TEXTS = 300
ALPHA = 0.7
# Not copied: never read, or not ours.
LEFT_OUT = (*PICKLES, "*.onnx", "*.onnx_data", "openvino_*", ".git", ".cache", FOLDER)


@dataclass(frozen=True, slots=True)
class Optimized:
    """What was made.

    Attributes:
        folder: the new model folder.
        recipe: how it was quantised, for people.
        quality: of its vectors against float32's.
        bytes_before: of the float32 weights.
        bytes_after: of the int8 ones.
        tokens_per_s: on this machine, of ``f32`` and of ``int8``.
    """

    folder: Path
    recipe: str
    quality: Quality
    bytes_before: int
    bytes_after: int
    tokens_per_s: dict[str, float]


Say = Callable[[str], None]


def optimize(
    settings: EncoderSettings, texts: Sequence[str], out: Path, say: Say, gate: Gate = GATES["int8"]
) -> Optimized:
    """Quantises the model of ``settings`` into the folder ``out``.

    Args:
        settings: names the model; its precision and backend do not matter.
        texts: real ones, at least ``FEWEST_TEXTS`` different: item titles, descriptions.
        out: a folder that is not there yet.
        say: told of each step.
        gate: what must be kept.

    Raises:
        InvalidArgument: too few texts, or ``out`` cannot be made.
        ModelRefused: the model is not read, or has no ``model.safetensors``.
        EncoderError: no recipe passes the gate; says how near the best came.
        EncoderUnavailable: NNCF or OpenVINO is missing.
    """
    calibrating, judging = _split(texts)
    wanted = dataclasses.replace(settings, backend="openvino", precision="f32")
    loading = Loading.of(wanted)
    _check_out(out, loading.folder)
    version()
    say("converting the model")
    reference = loading.backend()
    say(f"encoding {len(judging)} texts in float32")
    prompt = loading.space.prompts.item
    expected = loading.encoder(reference).encode(judging, prompt)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as part:
        made = Path(part) / "model"
        shutil.copytree(loading.folder.root, made, ignore=shutil.ignore_patterns(*LEFT_OUT))
        batches = _batches(loading, calibrating)
        trial = _Trial(loading, made / FOLDER, batches, judging, expected, reference)
        done = trial.first_good(gate, say)
        made.rename(out)
    return dataclasses.replace(done, folder=out)


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    loading: Loading
    folder: Path
    batches: list[TokenBatch]
    judging: list[str]
    expected: NDArray[np.float32]
    reference: Backend

    def first_good(self, gate: Gate, say: Say) -> Optimized:
        loading, problem = self.loading, ""
        graph = on_graph(loading.settings, loading.folder, loading.space, lambda graph: graph)
        for recipe in _recipes(narrowing_layers(graph.folder / "model.xml")):
            say(f"quantising: {recipe.name}")
            self._quantize(graph, recipe)
            say(f"encoding {len(self.judging)} texts in int8")
            quality, speeds = self._judge(graph)
            problem = gate.problem(quality)
            if not problem:
                return self._note(graph, recipe, quality, speeds)
            say(f"not good enough: {problem}")
        message = (
            f"{self.loading.folder.name}: int8 does not keep the quality asked for: {problem}; "
            "give other texts, lower the gate, or serve it in bf16 or f32"
        )
        raise EncoderError(message)

    def _quantize(self, graph: Graph, recipe: Recipe) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        quantize(graph.folder / "model.xml", self.batches, recipe, self.folder / "model.xml")

    def _judge(self, graph: Graph) -> tuple[Quality, dict[str, float]]:
        with tempfile.TemporaryDirectory() as compiled:
            made = Graph(self.folder, graph.attention, Path(compiled))
            threads = self.loading.settings.threads
            backend = OpenVinoBackend(made, precision="int8", threads=threads)
            prompt = self.loading.space.prompts.item
            found = self.loading.encoder(backend).encode(self.judging, prompt)
            speeds = tokens_per_s({"f32": self.reference.embed, "int8": backend.embed})
            return compare(self.expected, found), speeds

    def _note(
        self, graph: Graph, recipe: Recipe, quality: Quality, speeds: dict[str, float]
    ) -> Optimized:
        files = tuple(self.folder / name for name in FILES)
        about = {
            "source": self.loading.space.weights,
            "pooling": self.loading.space.pooling,
            "attention": graph.attention,
            "recipe": dataclasses.asdict(recipe),
            "nncf": version(),
            "calibration_texts": sum(len(batch.rows) for batch in self.batches),
            "quality": dataclasses.asdict(quality),
            "tokens_per_s": speeds,
        }
        write_note(self.folder, weights_sha256(files, self.loading.settings.cache_dir), about)
        before = sum(file.stat().st_size for file in self.loading.folder.weights)
        after = files[1].stat().st_size
        return Optimized(self.folder, recipe.name, quality, before, after, speeds)


def _recipes(narrowing: int) -> Iterator[Recipe]:
    for kept in sorted({0, -(-narrowing // 6), -(-narrowing // 3), narrowing}):
        yield Recipe(ALPHA, kept)


def _check_out(out: Path, folder: ModelFolder) -> None:
    if folder.onnx is not None:
        message = f"{folder.onnx}: only models with model.safetensors are quantised"
        raise ModelRefused(message)
    field, problem = "out", ""
    if out.exists():
        problem = f"{out} is there already; name a folder that is not"
    elif out.resolve().is_relative_to(folder.root.resolve()):
        problem = f"{out} is inside the model's folder; name one outside"
    else:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"{out} cannot be made: {error}"
    if problem:
        raise InvalidArgument(field, problem)


def _split(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Texts to calibrate with and texts to judge by; none is in both."""
    distinct = list(dict.fromkeys(text for text in texts if text.strip()))
    if len(distinct) < FEWEST_TEXTS:
        field = "texts"
        problem = f"{len(distinct)} different texts, expected at least {FEWEST_TEXTS}"
        raise InvalidArgument(field, problem)
    # Shuffled, always alike: a file may be sorted by category or by length.
    order = np.random.default_rng(0).permutation(len(distinct))
    calibrating = order[: min(CALIBRATION_TEXTS, len(distinct) // 2)]
    judging = order[len(calibrating) : len(calibrating) + JUDGING_TEXTS]
    return [distinct[i] for i in calibrating], [distinct[i] for i in judging]


def _batches(loading: Loading, texts: list[str]) -> list[TokenBatch]:
    # As items are read: they are what most of the encoder's work is for.
    prompts = loading.space.prompts
    before = prompts.before(prompts.item)
    tokens = loading.tokenizer().tokenize([before + text for text in texts])
    budget = max(CALIBRATION_TOKENS, loading.space.max_tokens)
    pad = loading.folder.pad_id
    return [pad_batch(rows, tokens.ids, pad) for rows in plan_batches(tokens.lengths, budget)]
