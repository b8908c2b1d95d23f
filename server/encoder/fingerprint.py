"""The identity of a vector space, and the hash of weights that it rests on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from rankstream.server.encoder.atomic_file import write_atomically
from rankstream.server.encoder.base import ModelRefused
from rankstream.server.encoder.prompts import Prompts


@dataclass(frozen=True, slots=True)
class Space:
    """Everything that decides which vector a text gets, beyond rounding.

    Attributes:
        weights: SHA-256 of the weights, hex; of the int8 graph, where that computes.
        adapter: SHA-256 of what is merged into them, its config included, hex; "": nothing.
        config: SHA-256 of the architecture file, hex.
        tokenizer: SHA-256 of the tokeniser file, hex.
        template: version of the item template.
        pooling: one of ``sentence_modules.POOLINGS``.
        prompts: what may be put before a text, and before which.
        lower_case: whether the text is lower-cased.
        max_tokens: tokens read of a text.
        chars_per_token: characters read of a text, per token of the limit.
        dimension: D, after vectors were cut.
        normalise: whether vectors are L2-normalised.
        precision: ``int8``, ``bf16`` or ``f32``.
    """

    weights: str
    adapter: str
    config: str
    tokenizer: str
    template: str
    pooling: str
    prompts: Prompts
    lower_case: bool
    max_tokens: int
    chars_per_token: int
    dimension: int
    normalise: bool
    precision: str

    @property
    def fingerprint(self) -> str:
        """32 hex digits; equal exactly where every field is equal."""
        return digest_of(dataclasses.asdict(self))


def digest_of(fields: dict[str, object]) -> str:
    """BLAKE2b-128 of the fields as canonical JSON, hex."""
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        message = f"{file}: cannot be read: {error}"
        raise ModelRefused(message) from error


def weights_sha256(files: tuple[Path, ...], cache_dir: Path) -> str:
    """SHA-256 over the files' own, hex; remembered so that a start does not read them again.

    What is remembered is believed while path, size and modification time are the same.
    """
    stats = [(str(file.resolve()), file.stat()) for file in files]
    identity = digest_of({path: [s.st_size, s.st_mtime_ns, s.st_ino] for path, s in stats})
    note = cache_dir / "weights" / f"{identity}.sha256"
    try:
        known = note.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        known = ""
    if len(known) == 64:
        return known
    whole = hashlib.sha256()
    for file in files:
        whole.update(bytes.fromhex(file_sha256(file)))
    write_atomically(note, whole.hexdigest().encode())
    return whole.hexdigest()
