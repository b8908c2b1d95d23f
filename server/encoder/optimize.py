"""Makes a model folder with an int8 graph, where that keeps enough of the model's quality.

The texts are split: some calibrate, the others judge, and the golden texts with them. Recipes are
tried from the quickest graph to the most careful one; the first that passes the gate is kept, and
no folder is written otherwise.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankstream.server.encoder.base import (
    EncoderError,
    EncoderSettings,
    TokenBatch,
)
from rankstream.server.encoder.batching import pad_batch, plan_batches
from rankstream.server.encoder.copied_folder import copy_folder
from rankstream.server.encoder.fingerprint import weights_sha256
from rankstream.server.encoder.load import Loading
from rankstream.server.encoder.model_folder import ModelFolder
from rankstream.server.encoder.quality import GATES, Gate, Quality
from rankstream.server.encoder.quantised import FILES, FOLDER, write_note
from rankstream.server.encoder.quantize import version
from rankstream.server.encoder.trial import Good, Say, Trial, Vectors
from rankstream.server.errors import InvalidArgument, RankstreamError

# The worst text's cosine was 0.969 with 600 texts and 0.979 with 3,300: rare words widen ranges.
CALIBRATION_TEXTS = 3000
# So few padded tokens a batch: a range is measured a batch, and many small ones are steadier.
CALIBRATION_TOKENS = 512
JUDGING_TEXTS = 4000
FEWEST_TEXTS = 300


@dataclass(frozen=True, slots=True)
class Optimized:
    """What was made.

    Attributes:
        folder: the new model folder.
        recipe: how it was quantised, for people.
        quality: of its vectors against float32's.
        golden: the same of the golden texts.
        bytes_before: of the float32 weights.
        bytes_after: of the int8 ones.
        tokens_per_s: on this machine, of ``f32`` and of ``int8``.
    """

    folder: Path
    recipe: str
    quality: Quality
    golden: Quality
    bytes_before: int
    bytes_after: int
    tokens_per_s: dict[str, float]


def optimize(
    settings: EncoderSettings, texts: Sequence[str], out: Path, say: Say, gate: Gate = GATES["int8"]
) -> Optimized:
    """Quantises the model of ``settings`` into the folder ``out``.

    Args:
        settings: name the model and how it is served; precision and backend do not matter. An
            adapter is merged into the new folder's weights.
        texts: real ones, at least ``FEWEST_TEXTS`` different: item titles, descriptions.
        out: a folder that is not there yet.
        say: told of each step.
        gate: what must be kept.

    Raises:
        InvalidArgument: too few texts, or ``out`` cannot be made.
        ModelRefused: the model, or its adapter, is not read.
        EncoderError: no recipe passes the gate (says how near the last came), or something fails:
            the disk is full, NNCF gives up. Nothing of ``out`` is there then.
        EncoderUnavailable: NNCF or OpenVINO is missing.
    """
    parts = _split(texts)
    try:
        return _optimize(settings, parts, out, say, gate)
    except RankstreamError:
        raise
    except OSError as error:
        message = f"{out} was not made: {error}; make room on the disk, or name another folder"
        raise EncoderError(message) from error
    except Exception as error:  # the libraries raise whatever their parts raise
        problem = f"{type(error).__name__}: {error}"
        message = f"{out} was not made: {problem}; serve the model in bf16 or f32, or report this"
        raise EncoderError(message) from error


def _optimize(
    settings: EncoderSettings, parts: _Parts, out: Path, say: Say, gate: Gate
) -> Optimized:
    wanted = dataclasses.replace(settings, backend="openvino", precision="f32")
    source = Loading.of(wanted)
    _check_out(out, source.folder)
    version()
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as part:
        made = Path(part) / out.name
        say("copying the model")
        copy_folder(source.folder, made)
        loading = source
        if settings.adapter:
            loading = Loading.of(dataclasses.replace(wanted, model=str(made), adapter=""))
        trial = _trial(loading, parts, made / FOLDER, say)
        done = _written(trial, trial.first_good(gate, say), _merged(source))
        made.rename(out)
    return dataclasses.replace(done, folder=out)


def _merged(source: Loading) -> str:
    """Digest of the adapter that the new folder's weights hold; "": none."""
    before = source.folder.quantised
    return source.space.adapter or ("" if before is None else before.adapter)


@dataclass(frozen=True, slots=True)
class _Parts:
    calibrating: list[str]
    judging: list[str]


def _trial(loading: Loading, parts: _Parts, folder: Path, say: Say) -> Trial:
    say("converting the model")
    reference = loading.backend()
    say(f"encoding {len(parts.judging)} texts in float32")
    expected = Vectors.of(loading.encoder(reference), parts.judging)
    batches = _batches(loading, parts.calibrating)
    return Trial(loading, folder, batches, parts.judging, expected, reference)


def _written(trial: Trial, good: Good, adapter: str) -> Optimized:
    """Writes the note beside the graph."""
    loading, folder, judged = trial.loading, trial.folder, good.judged
    files = tuple(folder / name for name in FILES)
    about = {
        "source": loading.space.weights,
        "pooling": loading.space.pooling,
        "attention": good.attention,
        "adapter": adapter,
        "recipe": dataclasses.asdict(good.recipe),
        "nncf": version(),
        "calibration_texts": sum(len(batch.rows) for batch in trial.batches),
        **dataclasses.asdict(judged),
    }
    write_note(folder, weights_sha256(files, loading.settings.cache_dir), about)
    return Optimized(
        folder=folder.parent,
        recipe=good.recipe.name,
        quality=judged.quality,
        golden=judged.golden,
        bytes_before=sum(file.stat().st_size for file in loading.folder.weights),
        bytes_after=files[1].stat().st_size,
        tokens_per_s=judged.tokens_per_s,
    )


def _check_out(out: Path, folder: ModelFolder) -> None:
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


def _split(texts: Sequence[str]) -> _Parts:
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
    return _Parts([distinct[i] for i in calibrating], [distinct[i] for i in judging])


def _batches(loading: Loading, texts: list[str]) -> list[TokenBatch]:
    # As items are read: they are what most of the encoder's work is for.
    prompts = loading.space.prompts
    before = prompts.before(prompts.item)
    tokens = loading.tokenizer().tokenize([before + text for text in texts])
    budget = max(CALIBRATION_TOKENS, loading.space.max_tokens)
    pad = loading.folder.pad_id
    return [pad_batch(rows, tokens.ids, pad) for rows in plan_batches(tokens.lengths, budget)]
