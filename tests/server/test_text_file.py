import gzip

import pytest

from rankstream.server import text_file
from rankstream.server.errors import InvalidArgument
from rankstream.server.text_file import read_texts


def test_a_line_is_a_text_and_empty_ones_are_left_out(tmp_path):
    plain, packed = tmp_path / "texts.txt", tmp_path / "texts.txt.gz"
    content = "\ufeffred train\r\n\n  \nblue train"
    plain.write_text(content, encoding="utf-8", newline="")
    packed.write_bytes(gzip.compress(content.encode()))

    assert read_texts("texts", plain) == ["red train", "blue train"]
    assert read_texts("texts", packed) == ["red train", "blue train"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.txt", b"\xff\xfe\x00"), ("a.gz", b"not gzip"), ("b.gz", gzip.compress(b"a" * 99)[:20])],
)
def test_what_cannot_be_read_names_the_field(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InvalidArgument, match=f"^catalogue: .*{name} cannot be read"):
        read_texts("catalogue", tmp_path / name)
    with pytest.raises(InvalidArgument, match="^texts: .*cannot be read"):
        read_texts("texts", tmp_path / "missing")


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text_file, "MAX_BYTES", 1000)
    monkeypatch.setattr(text_file, "MAX_TEXTS", 3)
    bomb, long = tmp_path / "bomb.gz", tmp_path / "long.txt"
    bomb.write_bytes(gzip.compress(b"\n" * 100_000))
    long.write_text("a\nb\nc\nd\n")

    with pytest.raises(InvalidArgument, match="over 1000 bytes"):
        read_texts("texts", bomb)
    with pytest.raises(InvalidArgument, match="4 texts, expected at most 3"):
        read_texts("texts", long)
