"""reindex: another model for a server, and back."""

from __future__ import annotations

import json


def test_a_change_that_is_done(run, fake):
    result = run("reindex", "--model", "/models/e5", "--set", "precision=f32", "--set", "backend=")

    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "reindex to generation 4: done after 1.5 s, 5 of 6 items, 7 of 8 texts\n"
    )
    (request,) = fake.requests["Reindex"]
    assert request.model == "/models/e5"
    assert dict(request.settings) == {"precision": "f32", "backend": ""}


def test_each_step_as_json(run, fake):
    lines = run("reindex", "--json").stdout.splitlines()

    steps = [json.loads(line) for line in lines]
    assert [step["phase"] for step in steps] == [
        "loading", "encoding", "starting", "draining", "done",
    ]  # fmt: skip
    assert steps[1]["rate"] == 2.0
    assert fake.requests["Reindex"][0].model == ""


def test_a_change_that_fails_says_why_and_exits_with_an_error(run, fake):
    fake.phases[:] = ["loading", "failed"]

    result = run("reindex", "--model", "/models/e5")

    assert result.exit_code == 1
    assert "Error: reindex failed: too little memory" in result.stderr
    fake.phases[:] = ["cancelled"]
    assert run("reindex", "--model", "/models/e5").exit_code == 1


def test_back_given_up_watched_and_dropped(run, fake):
    assert run("reindex", "--rollback").stdout.startswith("rollback to generation 4: done")
    assert run("reindex", "--cancel").stdout.startswith("reindex to generation 0: cancelled")
    fake.phases[:] = ["encoding", "done"]
    assert run("reindex", "--status").stdout.endswith("8 texts: the disk is full\n")
    assert run("reindex", "--drop").stdout == "generation 2 is gone\n"
    assert json.loads(run("reindex", "--drop", "--json").stdout) == {"dropped": 2}
    assert run("reindex", "--drop", "2").exit_code == 0
    assert [request.generation for request in fake.requests["DropGeneration"]] == [0, 0, 2]
    assert not fake.requests["Reindex"]


def test_wrong_usage(run, fake):
    for arguments in (["--rollback", "--model", "/m"], ["--cancel", "--drop"], ["--drop", "two"]):
        assert run("reindex", *arguments).exit_code == 2
    result = run("reindex", "--set", "precision")
    assert result.exit_code == 2
    assert "expected NAME=VALUE" in result.stderr
    assert not fake.requests["Reindex"]
