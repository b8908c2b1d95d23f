"""embed and tokenize."""

from __future__ import annotations

import json


def test_embed(run, fake, tmp_path):
    shown = run("embed", "red shoes", "").stdout
    assert "red shoes" in shown
    assert "texts: is empty" in shown
    lines = run("embed", "red shoes", "x", "--json").stdout.splitlines()
    assert json.loads(lines[0])["vector"] == [9.0] * 3
    path = tmp_path / "texts"
    path.write_text("\n".join(f"text {n}" for n in range(130)))
    lines = run("embed", "--file", str(path), "--json").stdout.splitlines()
    assert [json.loads(line)["text"] for line in lines] == [f"text {n}" for n in range(130)]
    assert [len(m.texts) for m in fake.requests["EmbedStream"][0]] == [64, 64, 2]


def test_a_prompt_is_put_before_texts(run, tmp_path):
    path = tmp_path / "texts"
    path.write_text("shoes")
    for words in (["red"], ["--file", str(path)]):
        plain, asked = (
            json.loads(run("embed", *words, *more, "--json").stdout)["vector"][0]
            for more in ((), ("--prompt", "query"))
        )
        assert asked == plain + len("find ")
    assert "find red shoes" in run("tokenize", "red shoes", "--prompt", "query").stdout


def test_tokenize(run):
    assert "red shoes" in run("tokenize", "red shoes").stdout
    line = run("tokenize", "red shoes", "--json").stdout
    assert json.loads(line)["found"]["tokens"] == ["red", "shoes"]
