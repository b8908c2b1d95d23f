"""``encoder.py --prepare``: an environment for each family of peers, and the models they read.

pip is asked for what ``bench/peers/FAMILY.txt`` pins. On a machine without NVIDIA's libraries
torch is smaller by gigabytes where PIP_FIND_LINKS or PIP_INDEX_URL lead to its CPU build.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from encoder_contender import OFFLINE, without_folders
from encoder_roster import ROSTER, Entry, Places

_PEERS = Path(__file__).with_name("peers")
_EXPORT = Path(__file__).with_name("encoder_export.py")
_EXPORTED_BY = {
    "onnx": "sentence_transformers_onnx",
    "openvino": "sentence_transformers_openvino",
}
# optimum-intel asks for it. PyPI's does not import beside torch's CPU build, and then transformers
# does not either; texts need no pictures.
_UNWANTED = {"sentence_transformers_openvino": "torchvision"}
_TRIES = 3
_FAILED = "FAILED"


def prepare(places: Places, texts: Path) -> dict[str, str]:
    """Makes what is not there yet.

    Args:
        places: of everything.
        texts: a JSON list to calibrate int8 with.

    Returns:
        Why something could not be made, by its name.
    """
    problems = {}
    for family in sorted({entry.family for entry in ROSTER if entry.family}):
        print(f"environment {family}", flush=True)
        if problem := make_environment(family, places):
            problems[family] = problem
    for name, family in _EXPORTED_BY.items():
        print(f"export {name}", flush=True)
        command = [str(places.python(family)), str(_EXPORT), name]
        command += [str(places.source), str(places.export(name)), str(texts)]
        if problem := _made(places.export(name), command):
            problems[name] = problem
    _split_for_infinity(places)
    print("int8 of ours", flush=True)
    if problem := _optimise(places, texts):
        problems["optimised"] = problem
    return problems


def make_environment(family: str, places: Places) -> str:
    """Installs one, unless what its file pins is there; returns why it cannot be."""
    wanted = (_PEERS / f"{family}.txt").read_text()
    folder, python = places.environment(family), places.python(family)
    note = folder / "requirements.txt"
    if note.exists() and note.read_text() == wanted:
        return ""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--progress-bar", "off"]
    problem = ""
    for _ in range(_TRIES):
        problem = _run([*pip, "-r", str(_PEERS / f"{family}.txt")], os.environ)
        if not problem:
            break
    if not problem and family in _UNWANTED:
        remove = [str(python), "-m", "pip", "uninstall", "--quiet", "--yes", _UNWANTED[family]]
        problem = _run(remove, os.environ)
    (folder / _FAILED if problem else note).write_text(problem or wanted)
    return problem


def absence(entry: Entry, places: Places) -> str:
    """Why an entry cannot be started; empty: it can."""
    if entry.family and not (places.environment(entry.family) / "requirements.txt").exists():
        failed = places.environment(entry.family) / _FAILED
        reason = failed.read_text() if failed.exists() else "run --prepare"
        return f"the environment {entry.family} is not installed: {reason}"
    folder = places.export(entry.model)
    if not folder.is_dir() or (entry.file and not (folder / entry.file).exists()):
        failed = _failed_beside(folder)
        reason = failed.read_text() if failed.exists() else "run --prepare"
        return f"{entry.model}/{entry.file} is not made: {reason}"
    return ""


def _made(folder: Path, command: Sequence[str]) -> str:
    """Makes a folder by a command, unless it is there; returns why it was not made."""
    if folder.is_dir():
        return ""
    folder.parent.mkdir(parents=True, exist_ok=True)
    problem = _run(command, os.environ | OFFLINE | {"PYTHONPATH": ""})
    if problem:
        _failed_beside(folder).write_text(problem)
    return problem


def _split_for_infinity(places: Places) -> None:
    """It takes any graph that it finds in a folder, so each has a folder of its own."""
    both = places.export("onnx")
    for name, graph in (("infinity_f32", "model.onnx"), ("infinity_int8", "model_quantized.onnx")):
        target = places.export(name)
        if both.is_dir() and not target.is_dir():
            ignored = shutil.ignore_patterns("*.onnx")
            shutil.copytree(both, target, ignore=ignored)
            shutil.copyfile(both / "onnx" / graph, target / "onnx" / graph)


@dataclass(frozen=True, slots=True)
class Optimise:
    """``rankstream model optimize``, as a command.

    Attributes:
        source: the model's folder.
        target: where the int8 one goes.
        texts: a file with a text a line.
        data_dir: where it keeps what it converts.
    """

    source: Path
    target: Path
    texts: Path
    data_dir: Path

    def command(self) -> list[str]:
        """Its words."""
        rankstream = str(Path(sys.executable).with_name("rankstream"))
        words = [rankstream, "model", "optimize", "--model", str(self.source)]
        words += ["--texts", str(self.texts), "--out", str(self.target)]
        return [*words, "--data-dir", str(self.data_dir)]


def _optimise(places: Places, texts: Path) -> str:
    target = places.export("optimised")
    if target.is_dir():
        return ""
    lines = places.root / "calibration.txt"
    lines.write_text("\n".join(json.loads(texts.read_text())) + "\n")
    optimise = Optimise(places.source, target, lines, places.root / "optimise")
    problem = _run(optimise.command(), os.environ | OFFLINE)
    if problem:
        _failed_beside(target).write_text(problem)
    return problem


def _failed_beside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.failed")


def _run(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Runs it to its end; returns its last words where it failed."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=dict(environment),
    )
    if done.returncode == 0:
        return ""
    words = (done.stderr or done.stdout).strip().splitlines()
    return without_folders(" ".join(words[-3:])) or f"it ended with status {done.returncode}"
