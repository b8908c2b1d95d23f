"""Loads an encoder: checks what is asked of a model, and puts the parts together."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

from rankstream.server.encoder.base import (
    Backend,
    Encoder,
    EncoderError,
    EncoderSettings,
    EncoderUnavailable,
    ModelRefused,
    UnreadableText,
)
from rankstream.server.encoder.choice import (
    BACKENDS,
    PRECISIONS,
    choose_backend,
    choose_precision,
    openvino_installed,
)
from rankstream.server.encoder.find import find_folder
from rankstream.server.encoder.fingerprint import Space
from rankstream.server.encoder.instruction_set import cpu_flags, has_vnni
from rankstream.server.encoder.model_folder import ModelFolder
from rankstream.server.encoder.prompts import Prompts
from rankstream.server.encoder.sentence_modules import POOLINGS
from rankstream.server.encoder.space import space_of
from rankstream.server.encoder.text_encoder import Shape, TextEncoder
from rankstream.server.encoder.tokenizer import Tokenizer
from rankstream.server.errors import InvalidArgument

log = logging.getLogger(__name__)


def load_encoder(settings: EncoderSettings) -> Encoder:
    """Loads what the settings name. Does not warm it up.

    Raises:
        InvalidArgument: a setting out of range.
        ModelRefused: a folder is missing, malformed or of a kind never read.
        EncoderUnavailable: a library that the wanted backend needs is missing.
        EncoderError: the model does not convert or compile.
    """
    return Loading.of(settings).encoder()


def check_encoder(settings: EncoderSettings) -> None:
    """Refuses what ``load_encoder`` would refuse before it loads the weights.

    Raises:
        InvalidArgument: a setting out of range.
        ModelRefused: a folder is missing, malformed or of a kind never read.
        EncoderUnavailable: a library that the wanted backend needs is missing.
    """
    loading = Loading.of(settings)
    loading.tokenizer()
    onnx = loading.folder.onnx is not None
    choose_backend(settings.backend, loading.space.precision, onnx, openvino_installed())


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
            ModelRefused: a folder is missing, malformed or of a kind never read.
            EncoderUnavailable: an adapter needs a library that is missing.
        """
        _check_choices(settings)
        folder = find_folder(settings)
        settings.cache_dir.mkdir(parents=True, exist_ok=True)
        precision = choose_precision(settings, folder, cpu_flags(), openvino_installed())
        return cls(settings, folder, space_of(settings, folder, precision))

    def tokenizer(self) -> Tokenizer:
        """The model's tokeniser.

        Raises:
            InvalidArgument: a prompt alone is longer than what is read of a text.
            ModelRefused: the file does not load.
        """
        folder, space = self.folder, self.space
        made = Tokenizer(
            folder.tokenizer_file, space.max_tokens, folder.vocab_size, space.lower_case
        )
        _check_prompts(space.prompts, made, space.max_tokens)
        return made

    def backend(self) -> Backend:
        """Loads what computes.

        Raises:
            ModelRefused: the backend does not read such a model.
            EncoderUnavailable: a library that it needs is missing.
            EncoderError: the model does not convert or compile.
        """
        folder, precision = self.folder, self.space.precision
        wanted, installed = self.settings.backend, openvino_installed()
        name, reason = choose_backend(wanted, precision, folder.onnx is not None, installed)
        if name == "auto":
            backend, reason = self._measured()
        else:
            backend = self._openvino() if name == "openvino" else self._torch()
        log.info("encoder %s: backend %s (%s), %s", folder.name, backend.name, reason, precision)
        if precision == "int8" and not has_vnni(cpu_flags()):
            log.warning("this CPU adds no int8 products (VNNI): --precision f32 may be faster here")
        return backend

    def encoder(self, backend: Backend | None = None) -> TextEncoder:
        """The encoder over a backend of this model; None loads one."""
        folder = self.folder
        # First: it is refused in a moment, and a backend takes long to load.
        tokenizer = self.tokenizer()
        budget = self.settings.max_batch_tokens
        shape = Shape(folder.name, folder.pad_id, budget, folder.dimension)
        return TextEncoder(backend or self.backend(), tokenizer, self.space, shape)

    def _measured(self) -> tuple[Backend, str]:
        from rankstream.server.encoder.openvino_load import load_if_faster

        try:
            backend, reason = load_if_faster(self.settings, self.folder, self.space)
        except ModelRefused:
            raise
        except EncoderError as error:
            # Not remembered: the next start may find more memory, or a disk that is not full.
            backend, reason = None, f"OpenVINO cannot convert or compile it: {error}"
            log.warning("encoder %s: picked torch: %s", self.folder.name, reason)
        return backend or self._torch(), reason

    def _openvino(self) -> Backend:
        # Here, not above: a process that serves with torch has no use for OpenVINO's libraries.
        from rankstream.server.encoder.openvino_load import load_openvino

        return load_openvino(self.settings, self.folder, self.space)

    def _torch(self) -> Backend:
        if self.folder.onnx is not None:
            message = (
                f"{self.folder.onnx}: backend torch reads no ONNX; use openvino, or add safetensors"
            )
            raise ModelRefused(message)
        # The library reads it when imported; nothing here may touch the network.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        try:
            from rankstream.server.encoder.torch_encoder import TorchBackend
        except ImportError as error:
            message = f"backend torch: pip install torch transformers ({error})"
            raise EncoderUnavailable(message) from error
        space = self.space
        return TorchBackend(self.folder, space.pooling, space.precision, self.settings.threads)


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


def _check_prompts(prompts: Prompts, tokenizer: Tokenizer, max_tokens: int) -> None:
    """Refuses a prompt that is not read, or leaves no room: all texts would have one vector."""
    names = list(prompts.texts)
    try:
        read = tokenizer.tokenize([prompts.texts[name] for name in names])
    except UnreadableText as error:
        message = f"the model's prompts: {error}; save the model's folder again"
        raise ModelRefused(message) from error
    full = read.truncated | (read.lengths >= max_tokens)
    for name in (name for name, alone in zip(names, full, strict=True) if alone):
        field, problem = "max_tokens", f"the prompt {name!r} alone is as long; raise it"
        raise InvalidArgument(field, problem)
