"""The same texts through every backend and precision that is here, against float32.

The reference is torch; of a model in ONNX, which torch does not read, it is OpenVINO.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.server.encoder.base import Encoder, EncoderSettings
from rankstream.server.encoder.choice import openvino_installed
from rankstream.server.encoder.find import find_folder
from rankstream.server.encoder.golden import golden_texts, golden_vectors
from rankstream.server.encoder.instruction_set import cpu_flags, has_bf16
from rankstream.server.encoder.load import load_encoder
from rankstream.server.encoder.quality import GATES, Quality, compare
from rankstream.server.encoder.text_encoder import SAME_COSINE
from rankstream.server.errors import RankstreamError

# Texts of the catalogue that are encoded once more, each alone.
ALONE = 64
# Texts of the catalogue that are looked at.
MOST_TEXTS = 20_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one backend and precision came to.

    Attributes:
        backend: ``torch`` or ``openvino``.
        precision: ``f32``, ``bf16`` or ``int8``.
        numerics: what computed.
        golden: of the golden texts; None where it did not run.
        catalogue: of the catalogue's texts; None without any.
        alone_cosine: least cosine between a text encoded alone and among others.
        problem: what is wrong; "": nothing.
    """

    backend: str
    precision: str
    numerics: str = ""
    golden: Quality | None = None
    catalogue: Quality | None = None
    alone_cosine: float | None = None
    problem: str = ""


def verify(
    settings: EncoderSettings, catalogue: Sequence[str], say: Callable[[str], None]
) -> Iterator[Verdict]:
    """A verdict for each backend and precision, the reference first.

    Of that the verdict says whether a text alone has the vector that it has in a batch.

    Args:
        settings: names the model; its backend and precision do not matter.
        catalogue: real texts, read as items are; may be empty.
        say: told of each step.

    Raises:
        RankstreamError: the model, or the reference, does not load.
    """
    distinct = list(dict.fromkeys(catalogue))
    # Evenly spaced: more would tell no more, and take memory for nothing.
    distinct = distinct[:: -(-len(distinct) // MOST_TEXTS) or 1]
    available = _available(settings)
    reference = _load(settings, *available[0])
    say(f"{reference.backend} f32, the reference")
    expected = _Vectors.of(reference, distinct)
    yield _verdict(reference, distinct, expected, expected)
    for backend, precision in available[1:]:
        say(f"{backend} {precision}")
        try:
            encoder = _load(settings, backend, precision)
            yield _verdict(encoder, distinct, _Vectors.of(encoder, distinct), expected)
        except RankstreamError as error:
            yield Verdict(backend, precision, problem=str(error))


@dataclass(frozen=True, slots=True, eq=False)
class _Vectors:
    golden: NDArray[np.float32]
    catalogue: NDArray[np.float32]

    @classmethod
    def of(cls, encoder: Encoder, catalogue: list[str]) -> _Vectors:
        return cls(golden_vectors(encoder), encoder.encode(catalogue, encoder.prompts.item))


def _available(settings: EncoderSettings) -> list[tuple[str, str]]:
    """Backends and precisions that this machine and this model have, the reference first."""
    folder = find_folder(settings)
    bf16 = ["bf16"] if has_bf16(cpu_flags()) else []
    found = [("torch", precision) for precision in ["f32", *bf16] if folder.onnx is None]
    if folder.onnx is not None or openvino_installed():
        # An int8 graph takes no adapter: served with one, the model is computed without it.
        has_int8 = folder.quantised is not None and folder.adapter is None
        int8 = ["int8"] if has_int8 else []
        found += [("openvino", precision) for precision in ["f32", *bf16, *int8]]
    return found


def _load(settings: EncoderSettings, backend: str, precision: str) -> Encoder:
    return load_encoder(dataclasses.replace(settings, backend=backend, precision=precision))


def _verdict(
    encoder: Encoder, catalogue: list[str], found: _Vectors, expected: _Vectors
) -> Verdict:
    golden = compare(expected.golden, found.golden)
    whole = compare(expected.catalogue, found.catalogue) if catalogue else None
    alone = _alone_cosine(encoder, catalogue, found)
    verdict = Verdict(encoder.backend, encoder.precision, encoder.numerics, golden, whole, alone)
    encoder.close()
    return dataclasses.replace(verdict, problem=_problem(verdict, golden, alone))


def _alone_cosine(encoder: Encoder, catalogue: list[str], found: _Vectors) -> float:
    item = encoder.prompts.item
    asked = [*golden_texts(encoder), *((text, item) for text in catalogue[:ALONE])]
    alone = np.concatenate([encoder.encode([text], prompt) for text, prompt in asked])
    together = np.concatenate([found.golden, found.catalogue[:ALONE]])
    return compare(together, alone).min_cosine


def _problem(verdict: Verdict, golden: Quality, alone: float) -> str:
    gate, least = GATES[verdict.precision], SAME_COSINE[verdict.precision]
    problems = [
        f"{name}: {problem}"
        for name, found in (("golden texts", golden), ("catalogue", verdict.catalogue))
        if found is not None and (problem := gate.problem(found))
    ]
    # Written so that a NaN is a problem.
    if not alone >= least:
        problems.append(f"alone and in a batch: minimum cosine {alone:.5f} < {least}")
    return "; ".join(problems)
