"""The load tool: against a service that does what a test wants, and against a real server."""

import json
import random
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import load
import pytest
from companion import CompanionFailed
from fake_ranking import FakeRanking, FakeStreaming
from google.rpc import code_pb2, status_pb2
from load_calls import KINDS, Population, Requests
from load_plan import Plan
from load_plot import write_plot
from requests_to import catalogue, event, profile, rank, record, upsert
from score_oracle import TOLERANCE, ScoreOracle, read_rules

from rankstream.proto.v1 import catalog_pb2, ranking_pb2

TOOL = Path(load.__file__)
ITEMS = [f"item-{number}" for number in range(40)]
FULL = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="full")


def wish(target, mix, **changed):
    plan = {
        "target": target,
        "mix": mix,
        "rate": 40.0,
        "seconds": 1.0,
        "warm_up_s": 0.0,
        "poisson": False,
        "connections": 1,
        "timeout_s": 30.0,
        "max_in_flight": 1_000,
        "samples_per_s": 20.0,
        "intervals": 4,
        "seed": 1,
        "process": 0,
        "processes": 1,
        "folder": "",
    }
    population = Population(["u", "v"], ITEMS, 20, None, 4, 3)
    return load.Wish(Plan(**plan | changed), population, "")


def run_tool(target, *flags):
    """The command: its exit status and what it printed."""
    command = [sys.executable, str(TOOL), "--target", target, *flags]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return ended.returncode, ended.stdout + ended.stderr


def test_an_open_loop_waits_for_no_answer(fake_server):
    # The first two are the tool's own questions whether the kind is answered.
    all_sent = threading.Barrier(40)

    def hold(number, response):
        if number >= 2:
            all_sent.wait(60)
        return response

    found = load.run(wish(fake_server(FakeRanking(hold)), {"rank": 1.0}))

    one = found.summaries()["rank"]
    assert (one["calls"], one["failed"]) == (40, 0)
    # Nothing was answered before the last was sent: the first waited for all of the second.
    assert one["max_ms"] >= 1e3 * 39 / 40
    assert found.tallies["rank"].intervals[0].percentile_ms(1) >= 1e3 * 29 / 40


def test_what_is_due_in_the_warm_up_does_not_count(fake_server):
    service = FakeRanking()

    found = load.run(wish(fake_server(service), {"rank": 1.0}, warm_up_s=0.5, processes=2))

    assert found.summaries()["all"]["calls"] == 40
    assert service.asked == 1 + 2 + 60
    assert [one.total for one in found.together.intervals] == [10, 10, 10, 10]


def test_failures_are_counted_by_code(fake_server):
    address = fake_server(FakeStreaming(lambda n, right: FULL if n >= 4 else right))

    found = load.run(wish(address, {"rank": 1.0, "batch": 1.0, "stream": 1.0})).summaries()

    for kind in ("rank", "stream"):
        assert found[kind]["errors"] == {"RESOURCE_EXHAUSTED": found[kind]["calls"]}
        assert found[kind]["p50_ms"] == float("inf")
    assert found["batch"]["errors"] == {}
    assert found["batch"]["entry_errors"] == {"RESOURCE_EXHAUSTED": 4 * found["batch"]["calls"]}
    assert found["all"]["calls"] == sum(found[kind]["calls"] for kind in KINDS if kind in found)


def test_no_more_is_under_way_than_may_be(fake_server):
    released = threading.Event()

    def hold(number, response):
        if number >= 2:
            released.wait(60)
        return response

    address = fake_server(FakeRanking(hold))
    found = load.run(wish(address, {"rank": 1.0}, max_in_flight=1, timeout_s=2.0))
    released.set()

    assert found.summaries()["rank"]["errors"] == {"DEADLINE_EXCEEDED": 1, "NOT_SENT": 39}


def test_answers_are_checked_while_loading(fake_server):
    def spoil(number, response):
        if number > 10:
            response.items[0].score += 1
        return response

    right = load.run(wish(fake_server(FakeStreaming()), {"rank": 1.0, "stream": 1.0}))
    wrong = load.run(wish(fake_server(FakeStreaming(spoil)), {"rank": 1.0, "batch": 1.0}))

    assert right.verdict.problems == []
    assert set(right.verdict.checked) == {"rank", "stream"}
    assert wrong.verdict.problems
    assert all("has score" in problem for problem in wrong.verdict.problems)


def test_a_sender_that_dies_is_an_error(fake_server):
    with pytest.raises(CompanionFailed):
        load.run(wish(fake_server(FakeRanking()), {"rank": 1.0}, connections="none"))


def test_one_ranking_in_four_asks_for_what_does_not_exist():
    drawn = Requests(Population(["u"], ITEMS, 1_000, 5, 4, 3), 1)

    made = [drawn.rank() for _ in range(8)]

    assert [len(one.item_ids.item_ids) - len(ITEMS) for one in made] == [0, 0, 0, 1] * 2


def test_the_plot_is_drawn(fake_server, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is in rankstream[bench]")
    found = load.run(wish(fake_server(FakeRanking()), {"rank": 1.0, "batch": 1.0}))

    write_plot(found, tmp_path / "load.png")

    assert (tmp_path / "load.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def ids_file(tmp_path):
    (tmp_path / "items").write_text("\n".join(ITEMS))
    return str(tmp_path / "items")


def test_stream_rank_is_left_out_where_it_is_not_implemented(fake_server, ids_file, tmp_path):
    out = tmp_path / "found" / "load.json"
    flags = ("--items", ids_file, "--seconds", "1", "--warm-up", "0", "--out", str(out))

    status, said = run_tool(fake_server(FakeRanking()), *flags)
    without = json.loads(out.read_text())
    again, _ = run_tool(fake_server(FakeStreaming()), *flags)
    with_it = json.loads(out.read_text())

    assert (status, again) == (0, 0)
    assert "StreamRank is not implemented by this server" in " ".join(said.split())
    assert [one["case"] for one in without["results"]] == ["rank", "batch", "all"]
    assert [one["case"] for one in with_it["results"]] == ["rank", "batch", "stream", "all"]
    assert with_it["notes"] == []


def test_a_wrong_answer_is_exit_status_1(fake_server, ids_file):
    def spoil(number, response):
        response.items[0].rank = 7
        return response

    status, said = run_tool(
        fake_server(FakeRanking(spoil)), "--items", ids_file, "--seconds", "1", "--mix", "rank=1"
    )

    assert status == 1
    assert "ranks are [7, 2" in said


@pytest.mark.parametrize(
    ("mix", "words"),
    [
        ("stream=1", "StreamRank): UNIMPLEMENTED"),
        ("rank=0", "expected KIND=SHARE"),
        ("rank", "expected KIND=SHARE"),
        ("wish=1", "expected KIND=SHARE"),
    ],
)
def test_what_cannot_be_sent_is_exit_status_2(fake_server, ids_file, mix, words):
    status, said = run_tool(fake_server(FakeRanking()), "--items", ids_file, "--mix", mix)

    assert status == 2
    assert words in said
    assert "Traceback" not in said


def test_an_admin_that_does_not_answer_is_exit_status_2(fake_server, ids_file):
    flags = ("--items", ids_file, "--mix", "rank=1", "--admin")

    target = fake_server(FakeRanking())
    status, said = run_tool(target, *flags, target)

    assert status == 2
    assert "GetServerInfo of --admin" in said
    assert "UNIMPLEMENTED" in said


@pytest.fixture(scope="module")
def server(serve_shared):
    made = serve_shared(half_life_s=86_400.0, vectors="image:3:0.5").start()
    draw = random.Random(5)
    items = catalogue()
    for number in range(60):
        words = draw.sample(["red", "lamp", "small", "chair", "war", "love", "robot"], 3)
        item = catalog_pb2.Item(item_id=f"i{number}", title=" ".join(words), price=1.0 + number)
        item.tags.append(draw.choice(["new", "old"]))
        items.append(item)
    upsert(made, items)
    now, hour = 1_700_000_000_000, 3_600_000
    token = record(
        made,
        *(
            event(
                f"load-user-{n % 20:06d}", f"i{draw.randrange(70)}", draw.choice(["view", "cart"])
            )
            for n in range(200)
        ),
        event("aged", "toy", event_time_ms=now),
        event("aged", "alien", "view", event_time_ms=now - 30 * hour),
        event("aged", "titanic", "rate", value=1.0, event_time_ms=now - hour),
    )
    profile(made, "aged", token)
    return made


def test_a_short_run_against_a_real_server(server, tmp_path):
    out = tmp_path / "load.json"
    admin = f"127.0.0.1:{server.admin_port}"
    mix = "rank=4,whole=2,batch=2,events=1,stream=2"
    flags = ("--rate", "60", "--seconds", "2", "--warm-up", "0.5", "--processes", "2")
    flags += ("--made-up-users", "30", "--admin", admin, "--mix", mix)

    status, said = run_tool(server.target, *flags, "--check", "30", "--out", str(out))

    assert status == 0, said
    found = json.loads(out.read_text())
    by_kind = {one["case"]: one for one in found["results"]}
    assert set(by_kind) == {"rank", "whole", "batch", "events", "stream", "all"}
    assert all(one["errors"] == one["entry_errors"] == {} for one in by_kind.values())
    assert by_kind["all"]["p50_ms"] <= by_kind["all"]["p99.9_ms"] <= by_kind["all"]["max_ms"]
    assert found["checks"]["problems"] == []
    assert set(found["checks"]["checked"]) >= {"rank", "whole", "batch"}
    assert found["checks"]["scores_compared"] > 0


def test_scores_are_made_again_and_a_wrong_part_is_caught(server):
    oracle = ScoreOracle(server.channel(), read_rules(f"127.0.0.1:{server.admin_port}"))
    request = ranking_pb2.RankRequest(user_id="aged")
    answer = rank(server, "aged")
    parts = answer.items[0].parts.blocks

    assert oracle.problems(request, answer) == []
    assert oracle.compared == 1
    parts[0] += 2 * TOLERANCE
    (found,) = oracle.problems(request, answer)
    assert f"aged: the text part of {answer.items[0].item_id}" in found


def test_another_half_life_gives_other_scores(server):
    rules = read_rules(f"127.0.0.1:{server.admin_port}")
    others = dict.fromkeys(rules.half_lives_ms, 1e12)
    oracle = ScoreOracle(server.channel(), replace(rules, half_lives_ms=others))

    assert oracle.problems(ranking_pb2.RankRequest(user_id="aged"), rank(server, "aged"))


def test_an_answer_from_before_an_event_is_not_compared(server):
    oracle = ScoreOracle(server.channel(), read_rules(f"127.0.0.1:{server.admin_port}"))
    old = rank(server, "mover")
    profile(server, "mover", record(server, event("mover", "toy")))

    assert oracle.problems(ranking_pb2.RankRequest(user_id="mover"), old) == []
    assert (oracle.compared, oracle.skipped) == (0, 1)
