import dataclasses
import os

import pytest

from rankstream.server.encoder.base import EncoderError, require_same_space
from rankstream.server.encoder.fingerprint import Space, file_sha256, weights_sha256
from rankstream.server.encoder.instruction_set import cpu_flags, has_bf16, instruction_set
from rankstream.server.encoder.prompts import Prompts
from rankstream.server.errors import SpaceMismatch

SPACE = Space(
    weights="a" * 64,
    adapter="",
    config="b" * 64,
    tokenizer="c" * 64,
    template="d",
    pooling="mean",
    prompts=Prompts(),
    lower_case=False,
    max_tokens=256,
    chars_per_token=64,
    dimension=384,
    normalise=True,
    precision="f32",
)
OTHER = {
    "weights": "e" * 64,
    "adapter": "e" * 64,
    "config": "e" * 64,
    "tokenizer": "e" * 64,
    "template": "e",
    "pooling": "cls",
    "prompts": Prompts({"query": "query: "}),
    "lower_case": True,
    "max_tokens": 128,
    "chars_per_token": 32,
    "dimension": 256,
    "normalise": False,
    "precision": "bf16",
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Space)])
def test_every_ingredient_changes_the_fingerprint(field):
    changed = dataclasses.replace(SPACE, **{field: OTHER[field]})

    assert changed.fingerprint != SPACE.fingerprint
    assert len(changed.fingerprint) == 32


@pytest.mark.parametrize(
    "other",
    [
        {"texts": {"query": "q: ", "document": "d:"}},
        {"texts": {"query": "q: ", "document": "d: ", "third": ""}},
        {"default": "query"},
        {"item": None},
        {"query": "document"},
    ],
)
def test_every_prompt_and_its_use_changes_the_fingerprint(other):
    prompts = Prompts({"document": "d: ", "query": "q: "}, None, "document", "query")
    space = dataclasses.replace(SPACE, prompts=prompts)

    changed = dataclasses.replace(SPACE, prompts=dataclasses.replace(prompts, **other))

    assert changed.fingerprint != space.fingerprint


def test_equal_spaces_have_equal_fingerprints():
    assert dataclasses.replace(SPACE).fingerprint == SPACE.fingerprint


def test_vectors_of_two_spaces_are_not_mixed():
    require_same_space(SPACE.fingerprint, SPACE.fingerprint)

    with pytest.raises(SpaceMismatch, match="space abc, expected def.*encode again"):
        require_same_space("def", "abc")


def test_the_hash_of_weights_is_remembered_until_the_file_changes(tmp_path):
    file, cache = tmp_path / "w", tmp_path / "cache"
    file.write_bytes(b"one")
    first = weights_sha256((file,), cache)
    (note,) = (cache / "weights").iterdir()
    note.write_text("f" * 64)

    assert weights_sha256((file,), cache) == "f" * 64

    file.write_bytes(b"two!")
    assert weights_sha256((file,), cache) not in (first, "f" * 64)


def test_a_damaged_note_is_made_again(tmp_path):
    file, cache = tmp_path / "w", tmp_path / "cache"
    file.write_bytes(b"one")
    first = weights_sha256((file,), cache)
    (note,) = (cache / "weights").iterdir()
    note.write_bytes(b"\xff")

    assert weights_sha256((file,), cache) == first


def test_weights_that_only_look_alike_differ(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(name.encode())
        os.utime(tmp_path / name, ns=(1, 1))

    one, two = (weights_sha256((tmp_path / name,), tmp_path / "c") for name in ("one", "two"))

    assert one != two


def test_a_file_that_is_not_there_is_a_typed_error(tmp_path):
    with pytest.raises(EncoderError, match="cannot be read"):
        file_sha256(tmp_path / "missing")


def test_cpu_flags_are_read_from_the_first_cpu(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nflags\t\t: avx2 amx_bf16\n\nflags\t\t: other\n")

    flags = cpu_flags(info)

    assert flags == {"avx2", "amx_bf16"}
    assert has_bf16(flags)
    assert instruction_set(flags).endswith("+amx_bf16+avx2")
    assert cpu_flags(tmp_path / "missing") == frozenset()
