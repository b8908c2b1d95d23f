"""Converted graphs on disk: made once, whole or not at all."""

import json
import os
import sys
import threading

import pytest

from rankstream.server.encoder import graph_cache
from rankstream.server.encoder.atomic_file import write_atomically
from rankstream.server.encoder.base import EncoderError, EncoderUnavailable, ModelRefused
from rankstream.server.encoder.graph_cache import NOTE, Conversion, forget_graphs, with_graph


@pytest.fixture
def children(monkeypatch):
    """Stands in for the child process; the list grows by one with each conversion."""
    started = []

    def convert(conversion, part):
        started.append(conversion)
        (part / "model.xml").write_text("graph")
        note = {"attention": "sdpa", "bytes": {"model.xml": 5}, "tokens_per_s": {}}
        (part / NOTE).write_text(json.dumps(note))

    monkeypatch.setattr(graph_cache, "_run_child", convert)
    return started


@pytest.fixture
def conversion(tmp_path):
    return Conversion(tmp_path / "cache" / "key", tmp_path / "model", "mean", 1)


def read_graph(graph):
    return (graph.folder / "model.xml").read_text(), graph.attention


def test_a_graph_is_converted_once(children, conversion):
    assert [with_graph(conversion, read_graph) for _ in range(3)] == [("graph", "sdpa")] * 3
    assert len(children) == 1


def test_concurrent_starts_convert_once(children, conversion):
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(with_graph(conversion, read_graph)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [("graph", "sdpa")] * 6
    assert len(children) == 1


@pytest.mark.parametrize("damage", [b"", b"grap", None])
def test_files_that_are_not_whole_are_made_again(children, conversion, damage):
    with_graph(conversion, read_graph)
    file = conversion.folder / "model.xml"
    file.unlink() if damage is None else file.write_bytes(damage)

    assert with_graph(conversion, read_graph) == ("graph", "sdpa")
    assert len(children) == 2


@pytest.mark.parametrize(
    ("speeds", "read"),
    [
        ({"f32": {"openvino": 9.0, "torch": 3}}, {"f32": {"openvino": 9.0, "torch": 3}}),
        ({"f32": {"openvino": 9.0, "torch": 3}, "bf16": {"openvino": 9.0}}, ["f32"]),
        ({"f32": {"openvino": "fast", "torch": 3}}, []),
        ({"f32": {"openvino": True, "torch": 3}}, []),
        ({"f32": {"openvino": float("nan"), "torch": 0}}, []),
        ({"f32": 9.0}, []),
        ([9.0], []),
        (None, []),
    ],
)
def test_speeds_that_do_not_read_back_were_not_measured(children, conversion, speeds, read):
    with_graph(conversion, read_graph)
    file = conversion.folder / NOTE
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokens_per_s": speeds}))

    found = with_graph(conversion, lambda graph: graph.tokens_per_s)

    assert found == read if isinstance(read, dict) else list(found) == read
    assert len(children) == 1


def test_a_note_without_speeds_is_of_a_graph_that_was_not_measured(children, conversion):
    with_graph(conversion, read_graph)
    file = conversion.folder / NOTE
    note = json.loads(file.read_text())
    del note["tokens_per_s"]
    file.write_text(json.dumps(note))

    assert with_graph(conversion, lambda graph: graph.tokens_per_s) == {}
    assert len(children) == 1


def test_what_a_dead_process_left_is_cleared(children, conversion):
    part = conversion.folder.with_suffix(".part-dead")
    part.mkdir(parents=True)
    (part / "model.bin").write_bytes(b"half")

    assert with_graph(conversion, read_graph) == ("graph", "sdpa")
    assert not (conversion.folder / "model.bin").exists()
    assert not part.exists()


def test_a_graph_that_does_not_compile_is_made_once_more(children, conversion):
    with_graph(conversion, read_graph)
    tries = []

    def compile_graph(graph):
        tries.append(graph)
        message = "bad graph"
        raise EncoderError(message)

    with pytest.raises(EncoderError, match="bad graph"):
        with_graph(conversion, compile_graph)
    assert (len(tries), len(children)) == (2, 2)


def test_a_missing_library_converts_nothing_again(children, conversion):
    with_graph(conversion, read_graph)

    def compile_graph(graph):
        message = "no openvino"
        raise EncoderUnavailable(message)

    with pytest.raises(EncoderUnavailable):
        with_graph(conversion, compile_graph)
    assert len(children) == 1


def test_what_the_child_refuses_is_refused_here(conversion, tmp_path):
    (tmp_path / "model").mkdir()

    with pytest.raises(ModelRefused, match="config.json: not a readable JSON file"):
        with_graph(conversion, read_graph)
    assert not conversion.folder.exists()


def test_a_child_that_dies_says_how_it_ended(conversion, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No space left on device' >&2\nexit 9\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))

    with pytest.raises(EncoderError, match="ended with 9: No space left"):
        with_graph(conversion, read_graph)
    assert not conversion.folder.exists()


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    file = tmp_path / "note"
    write_atomically(file, b"old")

    def full(handle):
        raise OSError(28, "no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(file, b"new")

    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_the_graph_of_what_is_served_is_kept_however_many_were_tried_since(children, tmp_path):
    graphs = tmp_path / "openvino"
    served = Conversion(graphs / "served", tmp_path / "served", "mean", 1, "adapter")
    with_graph(served, read_graph)
    os.utime(served.folder, (1_000, 1_000))
    for n in range(6):
        with_graph(Conversion(graphs / str(n), tmp_path / "served", "mean", 1), read_graph)
        os.utime(graphs / str(n), (2_000 + n, 2_000 + n))

    forget_graphs(tmp_path, kept=[(tmp_path / "served", "adapter")])

    assert sorted(p.name for p in graphs.glob("*/")) == ["3", "4", "5", "served"]


def test_only_the_graphs_that_were_used_last_are_kept(children, tmp_path):
    graphs = tmp_path / "openvino"
    conversions = [Conversion(graphs / str(n), tmp_path / "model", "mean", 1) for n in range(6)]
    for age, conversion in enumerate(conversions):
        with_graph(conversion, read_graph)
        os.utime(conversion.folder, (1_000 + age, 1_000 + age))
    with_graph(conversions[0], read_graph)
    (graphs / "9.part-x").mkdir()

    forget_graphs(tmp_path)

    kept = sorted(p.name for p in graphs.iterdir() if p.is_dir())
    assert kept == ["0", "3", "4", "5", "9.part-x"]
    assert with_graph(conversions[1], read_graph) == ("graph", "sdpa")
    assert len(children) == 7
    forget_graphs(tmp_path / "nothing")
