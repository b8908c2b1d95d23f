"""The page on kernels shows what runs, and names what there is."""

import re
from pathlib import Path

from rankstream.kernels import scan
from rankstream.kernels.code_ways import NAMES

PAGE = (Path(__file__).parents[2] / "docs" / "kernels.md").read_text()


def test_the_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

    exec(compile(example, "kernels.md", "exec"), {})  # noqa: S102 - the page's own

    assert capsys.readouterr().out == "(8, 100) float32 0\n"


def test_the_ways_and_the_room_are_those_of_the_code():
    assert set(re.findall(r"`(vnni-512|vnni-256|avx2|plain)`", PAGE)) == set(NAMES.values())
    assert f"4 k + {scan.ROOM}" in PAGE
    assert scan.room_for(10) == 40 + scan.ROOM
