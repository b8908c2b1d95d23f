"""Reads a model folder: sentence-transformers, or a plain Hugging Face encoder.

Everything that can be refused is refused here, from small files of bounded size and the headers of
the weights, before a model of the claimed size is allocated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankstream.server.encoder.adapter_folder import AdapterFolder
from rankstream.server.encoder.base import ModelRefused
from rankstream.server.encoder.folder_json import inside, read_json
from rankstream.server.encoder.onnx_header import read_onnx_header
from rankstream.server.encoder.quantised import Quantised, read_quantised
from rankstream.server.encoder.safetensors_header import Tensor, read_header
from rankstream.server.encoder.sentence_modules import Modules, read_modules

MAX_TOKENIZER_BYTES = 256 << 20
DEFAULT_MAX_TOKENS = 512
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
ONNX = ("model.onnx", "onnx/model.onnx")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "*.h5", "*.msgpack")
# These count positions from padding id + 1, so their table holds fewer tokens than rows.
OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet"})


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What a model folder says, checked.

    Attributes:
        name: the folder's name, for people.
        root: the folder.
        transformer: where config, tokeniser and weights lie.
        config_file: the architecture.
        tokenizer_file: ``tokenizer.json``.
        weights: safetensors files, or an ONNX file and those beside it, in a fixed order.
        dimension: D.
        vocab_size: rows of the token table.
        pad_id: the id that fills a batch; masked, so its value does not matter.
        max_tokens: what the model was made to read.
        max_positions: what it can read at all.
        modules: pooling, normalisation, prompts and letter case.
        adapter: what is merged into the weights, if anything.
        onnx: the graph where the weights are in an ONNX file; else None.
        quantised: its int8 graph; None where it has none.
    """

    name: str
    root: Path
    transformer: Path
    config_file: Path
    tokenizer_file: Path
    weights: tuple[Path, ...]
    dimension: int
    vocab_size: int
    pad_id: int
    max_tokens: int
    max_positions: int
    modules: Modules
    adapter: AdapterFolder | None = None
    onnx: Path | None = None
    quantised: Quantised | None = None


def read_model_folder(root: Path, name: str = "") -> ModelFolder:
    """Reads and checks a folder without loading its weights.

    Raises:
        ModelRefused: something is missing, malformed, contradictory or of a kind never read.
    """
    if not root.is_dir():
        message = f"{root}: no such folder; expected one with config.json and model.safetensors"
        raise ModelRefused(message)
    modules, quantised = read_modules(root), read_quantised(root)
    if quantised is not None:
        # Who made its int8 graph chose the pooling, and its other precisions are to agree.
        modules = dataclasses.replace(modules, pooling=quantised.pooling)
    transformer = root / modules.transformer
    config = read_json(transformer / "config.json", dict)
    tokenizer = _tokenizer_file(transformer)
    onnx = _onnx(transformer)
    if onnx is None:
        _check_alone(transformer, config)
    weights, tensors = _weights(transformer) if onnx is None else _onnx_weights(onnx)
    dimension, vocab_size = _check_shape(transformer, config, tensors)
    if modules.dimension not in (0, dimension):
        message = f"{root}: pooling expects {modules.dimension} dimensions, the model {dimension}"
        raise ModelRefused(message)
    if modules.truncate_dim > dimension:
        message = f"{root}: truncate_dim {modules.truncate_dim}, but the model gives {dimension}"
        raise ModelRefused(message)
    positions = _max_positions(transformer, config)
    return ModelFolder(
        name=name or root.resolve().name,
        root=root,
        transformer=transformer,
        config_file=transformer / "config.json",
        tokenizer_file=tokenizer,
        weights=weights,
        dimension=dimension,
        vocab_size=vocab_size,
        pad_id=min(_pad_id(config), vocab_size - 1),
        max_tokens=min(positions, modules.max_tokens or _tokenizer_limit(transformer)),
        max_positions=positions,
        modules=modules,
        onnx=onnx,
        quantised=quantised,
    )


def two_part(config_file: Path) -> str:
    """Why a model of two parts is refused; of an ONNX file the graph may be the encoder alone."""
    return (
        f"{config_file}: an encoder with a decoder (is_encoder_decoder), which answers with texts; "
        "expected an encoder, or a decoder, alone: take an embedding model, or export the encoder "
        "to ONNX"
    )


def _check_alone(folder: Path, config: Mapping[str, Any]) -> None:
    if config.get("is_encoder_decoder"):
        raise ModelRefused(two_part(folder / "config.json"))
    file = folder / "adapter_config.json"
    if file.exists():
        message = (
            f"{file}: an adapter among the model's files, where it is not read: move it and its "
            "weights into a folder of their own, and give that as --adapter"
        )
        raise ModelRefused(message)


def _tokenizer_file(folder: Path) -> Path:
    file = folder / "tokenizer.json"
    if not file.is_file():
        message = (
            f"{folder}: no tokenizer.json; save the tokeniser in its fast form: "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
        raise ModelRefused(message)
    if file.stat().st_size > MAX_TOKENIZER_BYTES:
        message = f"{file}: over {MAX_TOKENIZER_BYTES} bytes"
        raise ModelRefused(message)
    return file


def _weights(folder: Path) -> tuple[tuple[Path, ...], list[Tensor]]:
    files = _safetensors(folder)
    return files, [tensor for file in files for tensor in read_header(file)]


def _onnx(folder: Path) -> Path | None:
    """The ONNX file of a folder that has nothing better."""
    if any((folder / name).is_file() for name in SAFETENSORS):
        return None
    return next((folder / name for name in ONNX if (folder / name).is_file()), None)


def _onnx_weights(file: Path) -> tuple[tuple[Path, ...], list[Tensor]]:
    header = read_onnx_header(file)
    return (file, *header.external), list(header.tensors)


def _safetensors(folder: Path) -> tuple[Path, ...]:
    single, index = (folder / name for name in SAFETENSORS)
    if single.is_file():
        return (single,)
    if index.is_file():
        shards = read_json(index, dict).get("weight_map")
        names = set(shards.values()) if isinstance(shards, dict) else set()
        files = tuple(folder / inside(folder, name) for name in sorted(names, key=str))
        missing = [file.name for file in files if not file.is_file()]
        if missing or not files:
            message = f"{index}: names files that are not there: {', '.join(missing) or 'none'}"
            raise ModelRefused(message)
        return files
    raise ModelRefused(_no_weights(folder))


def _no_weights(folder: Path) -> str:
    pickles = sorted(file.name for kind in PICKLES for file in folder.glob(kind))
    if pickles:
        return (
            f"{folder}: only {', '.join(pickles)}; pickles are never read, they can run code: "
            "save the model again with save_pretrained(..., safe_serialization=True)"
        )
    if any(folder.glob("**/*.onnx")):
        return f"{folder}: ONNX weights under another name; expected {' or '.join(ONNX)}"
    return f"{folder}: no model.safetensors; expected the weights of the model"


def _check_shape(folder: Path, config: Mapping[str, Any], tensors: list[Tensor]) -> tuple[int, int]:
    """D and the vocabulary, where config and weights agree on them."""
    file = folder / "config.json"
    dimension = _count(file, config, "hidden_size", "dim", "d_model")
    embedding = config.get("embedding_size") or dimension
    vocab_size = _count(file, config, "vocab_size")
    layers = _count(file, config, "num_hidden_layers", "n_layers", "num_layers")
    if not any(tensor.shape == (vocab_size, embedding) for tensor in tensors):
        message = (
            f"{file}: says {vocab_size} tokens of {embedding} dimensions, but the weights hold "
            "no such table; config and weights are of two models"
        )
        raise ModelRefused(message)
    filled = sum(0 not in tensor.shape for tensor in tensors)
    if layers > filled:
        message = f"{file}: says {layers} layers, but the weights hold {filled} tensors"
        raise ModelRefused(message)
    return dimension, vocab_size


def _count(file: Path, config: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = config.get(name)
        if type(value) is int and 0 < value < 1 << 31:
            return value
    message = f"{file}: expected a positive {' or '.join(names)}"
    raise ModelRefused(message)


def _max_positions(folder: Path, config: Mapping[str, Any]) -> int:
    if "max_position_embeddings" not in config:
        return DEFAULT_MAX_TOKENS
    rows = _count(folder / "config.json", config, "max_position_embeddings")
    reserved = _pad_id(config) + 1 if config.get("model_type") in OFFSET_POSITIONS else 0
    return rows - reserved


def _pad_id(config: Mapping[str, Any]) -> int:
    found = config.get("pad_token_id")
    return found if type(found) is int and found >= 0 else 0


def _tokenizer_limit(folder: Path) -> int:
    file = folder / "tokenizer_config.json"
    limit = read_json(file, dict).get("model_max_length") if file.is_file() else None
    # "No limit" is written as 1e30.
    return limit if type(limit) is int and 0 < limit < 1 << 31 else DEFAULT_MAX_TOKENS
