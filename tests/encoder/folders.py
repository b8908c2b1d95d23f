"""Small model folders, made in the test."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import normalizers, pre_tokenizers, processors

from rankstream.server.encoder.quantised import write_note

TOYS = ["toy", "story", "alien", "wood", "train", "chess", "board", "red", "blue", "1995"]
WORDS = [*TOYS, "a", "the", "for", "kids", "and", "of", ".", ",", "!"]
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = SPECIAL + WORDS + [w for w in LETTERS if w not in WORDS] + [f"##{c}" for c in LETTERS]
HIDDEN = 32
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


def drawn_texts(count: int, seed: int) -> list[str]:
    """Texts of a few known words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 12))) for _ in range(count)]


def write_tokenizer(
    file: Path,
    special: bool = True,
    template: str = "[CLS] $A [SEP]",
    unknown: str = "[UNK]",
) -> None:
    ids = {token: i for i, token in enumerate(VOCABULARY)}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(ids, unk_token=unknown))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if special:
        pairs = [("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
        made.post_processor = processors.TemplateProcessing(template, special_tokens=pairs)
    made.save(str(file))


def write_random_model(folder: Path, architecture: str = "bert", **changes: Any) -> Path:
    """A plain Hugging Face encoder folder with random weights, always the same ones."""
    import torch
    import transformers

    classes = {
        "bert": (transformers.BertConfig, transformers.BertModel),
        "mpnet": (transformers.MPNetConfig, transformers.MPNetModel),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3Model),
    }
    make_config, make_model = classes[architecture]
    sizes = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    torch.manual_seed(7)
    model = make_model(make_config(**(sizes | changes)))
    model.save_pretrained(folder)
    write_tokenizer(folder / "tokenizer.json")
    return folder


def write_random_decoder(folder: Path, **changes: Any) -> Path:
    """An embedding model in the manner of Qwen3: causal, an end token, its vector and no other."""
    sizes = {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 32768}
    write_random_model(folder, "qwen3", **(sizes | changes))
    write_tokenizer(folder / "tokenizer.json", template="$A [SEP]")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 131072}))
    normalize = {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
    modules = [*MODULES, normalize]
    return write_sentence_folder(folder, {"pooling_mode_lasttoken": True}, modules)


def write_fake_model(
    folder: Path, tensors: dict[str, Any] | None = None, hidden_size: int = 4
) -> Path:
    """The files of a model folder without a model behind them: enough to be read and refused."""
    folder.mkdir(parents=True)
    config = {
        "model_type": "bert",
        "hidden_size": hidden_size,
        "vocab_size": len(VOCABULARY),
        "num_hidden_layers": 1,
        "max_position_embeddings": 64,
    }
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder / "tokenizer.json")
    rows = len(VOCABULARY)
    whole = {"embeddings": {"dtype": "F32", "shape": [rows, 4], "data_offsets": [0, rows * 16]}}
    write_safetensors(folder / "model.safetensors", whole if tensors is None else tensors)
    return folder


def write_safetensors(file: Path, header: Any, data_bytes: int | None = None) -> None:
    encoded = json.dumps(header).encode()
    size = 16 * len(VOCABULARY) if data_bytes is None else data_bytes
    file.write_bytes(len(encoded).to_bytes(8, "little") + encoded + bytes(size))


def write_sentence_folder(folder: Path, pooling: dict[str, Any], modules: Any = None) -> Path:
    """Adds the files of sentence-transformers to a folder."""
    (folder / "modules.json").write_text(json.dumps(MODULES if modules is None else modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def write_sentence_config(folder: Path, **config: Any) -> Path:
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    return folder


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return (left.astype(np.float64) * right).sum(axis=1) / norms


def write_fake_int8(root: Path) -> Path:
    """An int8 graph's files without a graph in them, and a true note of them."""
    folder = root / "int8"
    folder.mkdir()
    whole = hashlib.sha256()
    for name, content in (("model.xml", b"<net/>"), ("model.bin", b"weights")):
        (folder / name).write_bytes(content)
        whole.update(hashlib.sha256(content).digest())
    weights = hashlib.sha256((root / "model.safetensors").read_bytes()).digest()
    about = {"source": hashlib.sha256(weights).hexdigest(), "pooling": "mean", "attention": "sdpa"}
    write_note(folder, whole.hexdigest(), about)
    return folder
