"""The page on models shows what runs, and names the settings and poolings there are."""

import importlib.util
import re
from pathlib import Path

import pytest

from rankstream.server.config import options
from rankstream.server.encoder.find import DEFAULT_PACKAGE
from rankstream.server.encoder.sentence_modules import POOLINGS
from rankstream.server.encoder.space import DEFAULT_MOST_TOKENS
from rankstream.server.model_command import optimize
from rankstream.server.verify_command import verify

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()


def test_the_example_runs(capsys, tmp_path, monkeypatch):
    if importlib.util.find_spec(DEFAULT_PACKAGE) is None:
        pytest.skip("the default model is not installed")
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)

    exec(compile(example, "models.md", "exec"), {})  # noqa: S102 - the page's own

    assert capsys.readouterr().out.startswith("(2, 128) all-MiniLM-L6-v2 ")


def test_every_setting_that_is_named_exists():
    flags = {"--" + option.name.replace("_", "-") for option in options()} | {"--embedded"}
    flags |= {flag for command in (optimize, verify) for o in command.params for flag in o.opts}
    # Of embed and tokenize.
    assert set(re.findall(r"--[a-z-]+[a-z]", PAGE)) <= flags | {"--prompt"}


def test_poolings_and_the_default_limit_are_those_of_the_code():
    (listed,) = re.findall(r"## Pooling\n\n(.*?), by the names", PAGE, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", listed)) == set(POOLINGS)
    assert f"at most {DEFAULT_MOST_TOKENS}:" in PAGE
