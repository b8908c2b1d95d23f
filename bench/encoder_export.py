"""Exports a model for a peer, with the peer's own tools; runs in the peer's environment.

``python encoder_export.py WHAT SOURCE TARGET TEXTS``: WHAT is of ``EXPORTS``, SOURCE the model's
folder, TARGET one that does not exist yet, TEXTS a JSON list to calibrate int8 with.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

_CALIBRATED_WITH = 300


def export_onnx(source: Path, target: Path, texts: Path) -> None:
    """f32, and dynamic int8 for this processor, by sentence-transformers."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.backend import export_dynamic_quantized_onnx_model

    told = {"export": True, "provider": "CPUExecutionProvider"}
    model: Any = SentenceTransformer(str(source), backend="onnx", device="cpu", model_kwargs=told)
    model.save_pretrained(str(target))
    vnni = "avx512_vnni" in Path("/proc/cpuinfo").read_text().split()
    kind = "avx512_vnni" if vnni else "avx2"
    export_dynamic_quantized_onnx_model(model, kind, str(target), file_suffix="quantized")
    # What FastEmbed needs and newer libraries no longer save.
    for name in ("special_tokens_map.json", "tokenizer_config.json", "config.json"):
        shutil.copyfile(source / name, target / name)
    (target / "int8.json").write_text(json.dumps({"configuration": kind, "is_static": False}))


def export_openvino(source: Path, target: Path, texts: Path) -> None:
    """f32, and static int8 calibrated with our texts, by sentence-transformers."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.backend import export_static_quantized_openvino_model

    told = {"export": True}
    model: Any = SentenceTransformer(
        str(source), backend="openvino", device="cpu", model_kwargs=told
    )
    model.save_pretrained(str(target))
    calibration = target / "calibration"
    calibration.mkdir()
    rows = [json.dumps({"sentence": text}) for text in json.loads(texts.read_text())]
    (calibration / "train.jsonl").write_text("\n".join(rows[:_CALIBRATED_WITH]) + "\n")
    export_static_quantized_openvino_model(
        model,
        quantization_config=None,
        model_name_or_path=str(target),
        dataset_name=str(calibration),
        dataset_config_name="default",
        dataset_split="train",
        column_name="sentence",
    )


EXPORTS = {"onnx": export_onnx, "openvino": export_openvino}


def main() -> int:
    """The folder appears whole, or not at all."""
    what, source, target, texts = sys.argv[1], *map(Path, sys.argv[2:])
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    EXPORTS[what](source, partial, texts)
    partial.rename(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
