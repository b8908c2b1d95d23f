"""What a sentence-transformers folder adds to a model: pooling, normalisation, prompts, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rankstream.server.encoder.base import ModelRefused
from rankstream.server.encoder.folder_json import inside, read_json
from rankstream.server.encoder.prompts import Prompts

POOLINGS = ("mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens")
# Older folders say it with one flag per pooling.
POOLING_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True)
class Modules:
    """How token vectors become a text's vector.

    Attributes:
        transformer: folder of the model inside the root; "": the root itself.
        pooling: one of ``POOLINGS``.
        normalise: L2-normalise the pooled vector.
        dimension: what the pooling expects; 0: it does not say.
        max_tokens: tokens read of a text; 0: it does not say.
        lower_case: lower-case the text first.
        prompts: what may be put before a text.
        truncate_dim: numbers of a vector that are kept; 0: it does not say.
    """

    transformer: str = ""
    pooling: str = "mean"
    normalise: bool = True
    dimension: int = 0
    max_tokens: int = 0
    lower_case: bool = False
    prompts: Prompts = field(default_factory=Prompts)
    truncate_dim: int = 0


def read_modules(root: Path) -> Modules:
    """Reads ``modules.json`` and the files it names.

    A folder without one is a plain encoder: mean pooling, normalised.

    Raises:
        ModelRefused: malformed, a module or pooling that is not supported, or a path outside.
    """
    if not (root / "modules.json").is_file():
        return Modules()
    kinds = _kinds(root)
    if list(kinds) not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        message = (
            f"{root / 'modules.json'}: modules {', '.join(kinds)}; supported are Transformer, "
            "Pooling and then, if wanted, Normalize"
        )
        raise ModelRefused(message)
    transformer = kinds["Transformer"]
    pooling_file = root / kinds["Pooling"] / "config.json"
    pooling = read_json(pooling_file, dict)
    limits = _limits(root / transformer)
    file = root / "config_sentence_transformers.json"
    config = read_json(file, dict) if file.is_file() else {}
    prompts = _prompts(file, config)
    if any(prompts.texts.values()) and pooling.get("include_prompt") is False:
        message = f"{pooling_file}: pooling without the prompt's tokens is not supported"
        raise ModelRefused(message)
    return Modules(
        transformer=transformer,
        pooling=_pooling(pooling_file, pooling),
        normalise="Normalize" in kinds,
        dimension=_whole(pooling, "word_embedding_dimension", "embedding_dimension"),
        max_tokens=_whole(limits, "max_seq_length"),
        lower_case=limits.get("do_lower_case") is True,
        prompts=prompts,
        truncate_dim=_whole(config, "truncate_dim"),
    )


def _kinds(root: Path) -> dict[str, str]:
    """Last word of each module's type -> its folder, in order."""
    file = root / "modules.json"
    found: dict[str, str] = {}
    for entry in read_json(file, list):
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
            message = f"{file}: expected objects with a type and a path"
            raise ModelRefused(message)
        kind = entry["type"].rpartition(".")[2]
        found[kind + " again" if kind in found else kind] = inside(root, entry.get("path", ""))
    return found


def _pooling(file: Path, config: Mapping[str, Any]) -> str:
    named = config.get("pooling_mode")
    flags = [POOLING_FLAGS[flag] for flag in POOLING_FLAGS if config.get(flag)]
    chosen = (named if isinstance(named, list) else [named]) if named else flags
    if len(chosen) != 1 or chosen[0] not in POOLINGS:
        many = f"{len(chosen)} poolings side by side are not supported: " if chosen[1:] else ""
        wanted = f"expected one of {', '.join(POOLINGS)}"
        message = f"{file}: {many}pooling {chosen or 'unset'}; {wanted}"
        raise ModelRefused(message)
    return str(chosen[0])


def _limits(folder: Path) -> dict[str, Any]:
    # The name carries the architecture: sentence_bert_config.json, sentence_roberta_config.json ...
    files = sorted(folder.glob("sentence_*_config.json"))
    return read_json(files[0], dict) if files else {}


def _prompts(file: Path, config: Mapping[str, Any]) -> Prompts:
    default, texts = config.get("default_prompt_name") or None, config.get("prompts") or {}
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        message = f"{file}: expected prompts to be an object of texts by name"
        raise ModelRefused(message)
    # A prompt without a name could not be asked for.
    named = {name: text for name, text in texts.items() if name}
    if default is not None and not (isinstance(default, str) and default in named):
        message = f"{file}: default prompt {default!r} is not among its prompts"
        raise ModelRefused(message)
    return Prompts(named, default)


def _whole(config: Mapping[str, Any], *names: str) -> int:
    found = (config.get(name) for name in names)
    return next((n for n in found if type(n) is int and n > 0), 0)
