"""info and lag: what a server says of itself."""

from __future__ import annotations

import json


def test_info(run):
    shown = run("info").stdout
    assert "max_k" in shown
    assert "1,682" in shown
    assert "items (none), queries query of document, query" in shown
    assert "3 served" in shown
    assert json.loads(run("info", "--json").stdout)["limits"]["max_k"]["value"] == 1000


def test_lag(run, fake):
    shown = run("lag").stdout
    assert "healthy, broker heard 4 ms ago, 1 dead letters" in shown
    assert "rankstream.events" in shown
    lines = run("lag", "--watch", "--count", "2", "--interval", "0", "--json").stdout.splitlines()
    assert [json.loads(line)["partitions"][0]["lag"] for line in lines] == [2, 2]
    assert run("lag", "--watch", "--count", "2", "--interval", "0").exit_code == 0
