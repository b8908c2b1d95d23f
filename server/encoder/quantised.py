"""The int8 graph that ``rankstream model optimize`` puts into a model folder, and its note.

::

    FOLDER/int8/model.xml    OpenVINO's graph, pooling included
                model.bin    its weights
                note.json    digests of both, how it was made, what quality it kept

They are read only where they are the bytes that the note names, so that a file that is damaged, or
of another model, is refused before its size is allocated. The note lies beside them and proves no
more: such a folder is to be trusted as the program that made it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankstream.server.encoder.base import ModelRefused
from rankstream.server.encoder.fingerprint import weights_sha256
from rankstream.server.encoder.folder_json import read_json
from rankstream.server.encoder.sentence_modules import POOLINGS

FOLDER = "int8"
NOTE = "note.json"
FILES = ("model.xml", "model.bin")
WORDS = ("sha256", "source", "pooling", "attention", "adapter")
AGAIN = "make it again: rankstream model optimize"


@dataclass(frozen=True, slots=True)
class Quantised:
    """A graph in int8.

    Attributes:
        folder: holds ``model.xml`` and ``model.bin``.
        sha256: over both files' own digests, hex; part of the fingerprint.
        source: SHA-256 of the float32 weights that it was made of, hex.
        pooling: what the graph pools with.
        attention: the attention implementation it was traced with.
        adapter: digest of the adapter that was merged into the folder's weights; "": none.
    """

    folder: Path
    sha256: str
    source: str
    pooling: str
    attention: str
    adapter: str = ""


def read_quantised(root: Path) -> Quantised | None:
    """What the note of a model folder says; None where there is none.

    Raises:
        ModelRefused: the note is malformed, or its files are missing or of another size.
    """
    folder = root / FOLDER
    if not (folder / NOTE).is_file():
        return None
    note = read_json(folder / NOTE, dict)
    # Notes were once written without an adapter.
    sizes, words = note.get("bytes"), [({"adapter": ""} | note).get(name) for name in WORDS]
    known = all(isinstance(word, str) for word in words) and note["pooling"] in POOLINGS
    if not isinstance(sizes, dict) or not known:
        message = f"{folder / NOTE}: malformed; {AGAIN}"
        raise ModelRefused(message)
    for name in FILES:
        file = folder / name
        size = file.stat().st_size if file.is_file() else -1
        if size != sizes.get(name):
            message = f"{file}: {size} bytes, the note says {sizes.get(name)}; {AGAIN}"
            raise ModelRefused(message)
    return Quantised(folder, *(str(word) for word in words))


def check_digests(quantised: Quantised, weights: tuple[Path, ...], cache_dir: Path) -> None:
    """Refuses a graph whose files are not those of the note, or that was made of other weights.

    Raises:
        ModelRefused: a digest is another.
    """
    files = tuple(quantised.folder / name for name in FILES)
    where, instead = quantised.folder, "; or use precision f32"
    if weights_sha256(files, cache_dir) != quantised.sha256:
        message = f"{where}: its files are not those that its note names; {AGAIN}{instead}"
        raise ModelRefused(message)
    if weights_sha256(weights, cache_dir) != quantised.source:
        message = f"{where}: made of other weights than the folder has now; {AGAIN}{instead}"
        raise ModelRefused(message)


def write_note(folder: Path, sha256: str, about: dict[str, Any]) -> None:
    """Writes the note beside the files of ``folder``."""
    sizes = {name: (folder / name).stat().st_size for name in FILES}
    note = {"bytes": sizes, "sha256": sha256, **about}
    (folder / NOTE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
