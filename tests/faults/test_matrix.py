"""The table of bad input says what is there: every row has its tests, and they exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TABLE = (Path(__file__).parent / "README.md").read_text()
ROWS = {
    int(number): cell for number, cell in re.findall(r"^\| (\d+) \|.*?\| (.+) \|$", TABLE, re.M)
}
NAMED = re.compile(r"`(\S+)::(\w+)`")


def names_in(path):
    """Names of the tests in a file, those of its classes included."""
    tree = ast.parse((TESTS / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_no_row_is_missing():
    assert sorted(ROWS) == list(range(1, 35))


@pytest.mark.parametrize("row", ROWS)
def test_a_row_names_tests_that_exist_or_says_why_not(row):
    named = NAMED.findall(ROWS[row])

    assert named or ROWS[row].startswith("not yet: ")
    assert [f"{path}::{name}" for path, name in named if name not in names_in(path)] == []
