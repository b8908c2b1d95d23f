"""The wheel that users install: one top-level name, the command, nothing bare."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # A copy of what git tracks: building must not write into the checkout, nor see what is in it.
    subprocess.run(["git", "clone", "-q", str(ROOT), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(command, check=True)
    (built,) = folder.glob("rankstream-*.whl")
    return built


def test_the_only_top_level_name_is_rankstream(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (top,) = [n for n in names if n.endswith("top_level.txt")]
        assert archive.read(top).decode().split() == ["rankstream"]
    assert {n.split("/")[0] for n in names if ".dist-info" not in n} == {"rankstream"}


def test_typing_protos_and_generated_code_are_inside(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for wanted in ("server/py.typed", "proto/v1/ranking.proto", "proto/v1/ranking_pb2.py"):
        assert f"rankstream/{wanted}" in names
    assert not [n for n in names if "/tests/" in n or n.startswith("tests")]


def test_an_installed_wheel_gives_the_command_and_no_bare_modules(
    wheel: Path, tmp_path: Path
) -> None:
    home = tmp_path / "environment"
    venv.create(home, with_pip=False)
    (site,) = home.glob("lib/python*/site-packages")
    # The dependencies of this environment, without its own editable rankstream.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "--python", str(home / "bin/python"), "install"]
    subprocess.run([*install, "--quiet", "--no-deps", str(wheel)], check=True)

    shown = subprocess.run(
        [home / "bin/rankstream", "--help"], check=True, capture_output=True, text=True
    )
    code = "import importlib.util as u, rankstream.server as s\n"
    code += "print(u.find_spec('server'), s.__file__)"
    found = subprocess.run(
        [home / "bin/python", "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert "serve" in shown.stdout
    assert found.stdout.split()[0] == "None"
    assert str(home) in found.stdout
