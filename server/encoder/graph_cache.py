"""Converted graphs: made once by a child process, kept as files, shared by every process."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rankstream.server.encoder.atomic_file import exclusive, sync_folder
from rankstream.server.encoder.base import EncoderError, ModelRefused

log = logging.getLogger(__name__)

CONVERT_TIMEOUT_S = 900.0
REFUSED = 3
MOST_KEPT = 4
"""Graphs: of the generation that is served, the kept one, the one that is made, and one to try."""
NOTE = "graph.json"
T = TypeVar("T")
# By the model's folder and the adapter's, the graphs that this process has loaded.
_loaded: dict[tuple[Path, str], set[Path]] = {}


@dataclass(frozen=True, slots=True)
class Graph:
    """A converted graph.

    Attributes:
        folder: holds ``model.xml`` and ``model.bin``.
        attention: the attention implementation it was traced with.
        compiled: folder for what OpenVINO compiles of it.
        tokens_per_s: by precision and backend, on this machine, when it was converted.
    """

    folder: Path
    attention: str
    compiled: Path
    tokens_per_s: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conversion:
    """What to convert, and the folder that will hold it.

    Attributes:
        folder: named by everything that decides the graph.
        root: the model folder.
        pooling: one of ``sentence_modules.POOLINGS``.
        adapter: the folder of what is merged into the weights; "": nothing.
        threads: that backends are timed with.
    """

    folder: Path
    root: Path
    pooling: str
    threads: int
    adapter: str = ""


def graphs_in(cache_dir: Path) -> Path:
    """Where the graphs are, in the folder of what can be made again."""
    return cache_dir / "openvino"


def with_graph(conversion: Conversion, compile_graph: Callable[[Graph], T]) -> T:
    """Converts where that was not done yet, then compiles.

    Processes that start together wait for the first, also while it compiles: the compiled
    model is a file too. A graph that does not compile is made once more, since its files may be
    damaged.

    Raises:
        ModelRefused: the model cannot be converted.
        EncoderError: the conversion failed, or its result does not compile.
    """
    _loaded.setdefault((conversion.root, conversion.adapter), set()).add(conversion.folder)
    with exclusive(conversion.folder.with_suffix(".lock")):
        known = _read(conversion.folder)
        if known is not None:
            os.utime(conversion.folder)
            try:
                return compile_graph(known)
            except EncoderError as error:
                if error.status != EncoderError.status:
                    raise
                log.warning("converting %s again: %s", conversion.root, error)
        return compile_graph(_convert(conversion))


def forget_graphs(cache_dir: Path, kept: Iterable[tuple[Path, str]] = ()) -> None:
    """Removes the folders of all graphs but those that were used last.

    Who has files of them mapped keeps these; who asks for such a graph again converts it again.

    Args:
        cache_dir: the folder of what can be made again.
        kept: the folders of models and adapters that this process has loaded and still uses.
    """
    for graph in {graph for used in kept for graph in _loaded.get(used, ())}:
        with contextlib.suppress(OSError):
            os.utime(graph)
    graphs = [graph for graph in graphs_in(cache_dir).glob("*/") if not graph.suffix]
    for graph in sorted(graphs, key=_used_at, reverse=True)[MOST_KEPT:]:
        with exclusive(graph.with_suffix(".lock")):
            log.info("removing the converted graph %s, which was not used of late", graph.name)
            shutil.rmtree(graph, ignore_errors=True)


def _used_at(folder: Path) -> float:
    """When a graph was used last; of one that is being converted again, now."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def _read(folder: Path) -> Graph | None:
    """The graph of a folder; None where it is missing or its files are not whole."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in note["bytes"]}
        if sizes != note["bytes"]:
            return None
        speeds = _speeds(note.get("tokens_per_s"))
        return Graph(folder, str(note["attention"]), folder / "compiled", speeds)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _speeds(found: Any) -> dict[str, dict[str, float]]:
    """What the note says of speed; what is not two backends' is as good as not measured."""
    if not isinstance(found, dict):
        return {}
    return {name: speeds for name, speeds in found.items() if _were_measured(speeds)}


def _were_measured(speeds: Any) -> bool:
    if not isinstance(speeds, dict):
        return False
    pair: list[Any] = [speeds.get("openvino"), speeds.get("torch")]
    return all(type(speed) in (int, float) and 0 < speed < math.inf for speed in pair)


def _convert(conversion: Conversion) -> Graph:
    folder = conversion.folder
    # The lock is ours: whatever lies there was left by a process that died. Its child may still
    # run, so this conversion gets a folder of a name never used before.
    for old in (folder, *folder.parent.glob(f"{folder.name}.part-*")):
        shutil.rmtree(old, ignore_errors=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}.part-"))
    log.info("converting %s for OpenVINO; this happens once", conversion.root)
    started = time.monotonic()
    _run_child(conversion, part)
    sync_folder(part)
    part.rename(folder)
    sync_folder(folder)
    log.info("converted %s in %.1f s", conversion.root, time.monotonic() - started)
    graph = _read(folder)
    if graph is None:
        message = f"{folder}: the conversion left no graph; is the disk full?"
        raise EncoderError(message)
    return graph


def _run_child(conversion: Conversion, part: Path) -> None:
    """Converts in a process of its own, so that this one never holds torch."""
    command = [sys.executable, "-P", "-m", "rankstream.server.encoder.convert"]
    command += [str(conversion.root.resolve()), str(part.resolve()), conversion.pooling]
    command += [str(conversion.threads)]
    if conversion.adapter:
        command.append(str(Path(conversion.adapter).resolve()))
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **offline},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CONVERT_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{conversion.root}: not converted within {CONVERT_TIMEOUT_S:.0f} s"
        raise EncoderError(message) from error
    if done.returncode == REFUSED:
        raise ModelRefused(done.stdout.strip())
    if done.returncode != 0:
        tail = " | ".join(done.stderr.strip().splitlines()[-4:])
        message = f"{conversion.root}: conversion ended with {done.returncode}: {tail}"
        raise EncoderError(message)
