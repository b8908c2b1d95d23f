"""The vector space that settings and a model folder come to, checked against each other."""

from __future__ import annotations

from pathlib import Path

from rankstream.server.encoder.base import EncoderSettings
from rankstream.server.encoder.fingerprint import Space, file_sha256, weights_sha256
from rankstream.server.encoder.model_folder import ModelFolder
from rankstream.server.encoder.quantised import check_digests
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.encoder.tokenizer import CHARS_PER_TOKEN
from rankstream.server.errors import InvalidArgument

MIN_TOKENS = 8
# Read of a text where nothing is asked for: decoders say 32,768 and more, which no item needs.
DEFAULT_MOST_TOKENS = 512


def space_of(settings: EncoderSettings, folder: ModelFolder, precision: str) -> Space:
    """The space of vectors in ``precision``.

    Raises:
        InvalidArgument: a setting is out of the model's range.
        ModelRefused: a file is not readable, or not what its note says.
    """
    modules = folder.modules
    return Space(
        weights=_weights(settings, folder, precision),
        adapter=_adapter(folder, settings.cache_dir),
        config=file_sha256(folder.config_file),
        tokenizer=file_sha256(folder.tokenizer_file),
        template=ItemTemplate.parse(settings.template).version,
        pooling=_pooling(settings, folder, precision),
        prompts=modules.prompts.in_use(settings.item_prompt, settings.query_prompt),
        lower_case=modules.lower_case,
        max_tokens=_max_tokens(settings, folder),
        chars_per_token=CHARS_PER_TOKEN,
        dimension=_dimension(settings, folder),
        normalise=modules.normalise,
        precision=precision,
    )


def _weights(settings: EncoderSettings, folder: ModelFolder, precision: str) -> str:
    if precision != "int8" or folder.quantised is None:
        return weights_sha256(folder.weights, settings.cache_dir)
    check_digests(folder.quantised, folder.weights, settings.cache_dir)
    return folder.quantised.sha256


def _adapter(folder: ModelFolder, cache_dir: Path) -> str:
    if folder.adapter is None:
        return ""
    found = weights_sha256((folder.adapter.weights, folder.adapter.config_file), cache_dir)
    if folder.quantised is not None and folder.quantised.adapter == found:
        field, problem = "adapter", f"it is part of {folder.name}'s weights already; leave it out"
        raise InvalidArgument(field, problem)
    return found


def _pooling(settings: EncoderSettings, folder: ModelFolder, precision: str) -> str:
    wanted = settings.pooling or folder.modules.pooling
    if precision == "int8" and folder.quantised is not None and folder.quantised.pooling != wanted:
        field, has = "pooling", folder.quantised.pooling
        raise InvalidArgument(field, f"{wanted!r}; the int8 graph of {folder.name} has {has!r}")
    return wanted


def _dimension(settings: EncoderSettings, folder: ModelFolder) -> int:
    wanted = settings.dimensions or folder.modules.truncate_dim or folder.dimension
    if not 1 <= wanted <= folder.dimension:
        field, problem = "dimensions", f"{wanted}; {folder.name} gives 1 to {folder.dimension}"
        raise InvalidArgument(field, problem)
    return wanted


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
