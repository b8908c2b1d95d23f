"""Maps the top-level folders into the namespace ``rankstream``; the rest is in pyproject.toml."""

from pathlib import Path

from setuptools import setup

FOLDERS = ("proto", "server", "client", "kernels", "training")
ROOT = Path(__file__).parent


def subpackages(folder: str) -> list[str]:
    """Dotted names of every package at or below ``folder``."""
    found = (p.parent for p in (ROOT / folder).rglob("__init__.py"))
    return [".".join(p.relative_to(ROOT).parts) for p in sorted(found)]


names = [name for folder in FOLDERS for name in subpackages(folder)]
setup(
    packages=[f"rankstream.{name}" for name in names],
    package_dir={f"rankstream.{name}": name.replace(".", "/") for name in names},
)
