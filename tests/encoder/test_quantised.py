import json

import folders
import pytest

from rankstream.server.encoder.base import EncoderSettings, ModelRefused
from rankstream.server.encoder.load import load_encoder
from rankstream.server.encoder.quantised import check_digests, read_quantised
from rankstream.server.errors import InvalidArgument


@pytest.fixture
def root(tmp_path):
    return folders.write_fake_model(tmp_path / "model")


def test_a_folder_without_a_note_has_no_int8_graph(root):
    assert read_quantised(root) is None


def test_the_note_names_files_and_their_digest(root, tmp_path):
    folder = folders.write_fake_int8(root)

    found = read_quantised(root)

    assert found is not None
    assert (found.folder, found.pooling, found.attention) == (folder, "mean", "sdpa")
    check_digests(found, (root / "model.safetensors",), tmp_path)


def test_a_graph_of_other_weights_is_refused(root, tmp_path):
    folders.write_fake_int8(root)
    weights = root / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")

    with pytest.raises(ModelRefused, match="made of other weights.*or use precision f32"):
        load_encoder(EncoderSettings(tmp_path, str(root)))


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_a_missing_or_cut_file_is_refused(root, name):
    file = folders.write_fake_int8(root) / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelRefused, match=f"{name}.*bytes, the note says.*optimize"):
        read_quantised(root)

    file.unlink()
    with pytest.raises(ModelRefused, match=f"{name}: -1 bytes"):
        read_quantised(root)


def test_other_bytes_of_the_same_length_are_refused(root, tmp_path):
    (folders.write_fake_int8(root) / "model.bin").write_bytes(b"WEIGHTS")

    with pytest.raises(ModelRefused, match="not those that its note names"):
        load_encoder(EncoderSettings(tmp_path, str(root)))


UNKNOWN_POOLING = '{"bytes": {}, "sha256": "", "source": "", "pooling": "x", "attention": ""}'


@pytest.mark.parametrize(
    "note", ["[]", "{}", "not JSON", '{"bytes": {}, "sha256": 7}', UNKNOWN_POOLING]
)
def test_a_malformed_note_is_refused(root, note):
    (folders.write_fake_int8(root) / "note.json").write_text(note)

    with pytest.raises(ModelRefused, match=r"note\.json"):
        read_quantised(root)


def test_a_graph_pools_as_it_was_made(root, tmp_path):
    folders.write_fake_int8(root)

    with pytest.raises(InvalidArgument, match="the int8 graph of model has 'mean'"):
        load_encoder(EncoderSettings(tmp_path, str(root), pooling="cls"))


def test_files_of_another_note_are_refused(root, tmp_path):
    folder = folders.write_fake_int8(root)
    note = json.loads((folder / "note.json").read_text())
    (folder / "note.json").write_text(json.dumps(note | {"sha256": "0" * 64}))

    with pytest.raises(ModelRefused, match="make it again"):
        load_encoder(EncoderSettings(tmp_path, str(root)))
