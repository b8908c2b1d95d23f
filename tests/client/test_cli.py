"""The command line in its two forms, tables and JSON, and its exit statuses."""

from __future__ import annotations

import base64
import json

import pytest
from click.testing import CliRunner

from rankstream.client import Item
from rankstream.client.cli import main

TOKEN = base64.urlsafe_b64encode(b"\x00\xfftoken").decode()


@pytest.fixture
def run(running):
    def invoke(*arguments, **options):
        targets = ["--target", running.target, "--admin-target", running.target]
        environment = {"COLUMNS": "200", "TERM": "dumb"}
        return CliRunner().invoke(main, [*targets, *arguments], env=environment, **options)

    return invoke


def test_rank_as_a_table(run, fake):
    result = run("rank", "u1", "-k", "2", "--exclude-seen", "--exclude", "x", "--exclude", "y")

    assert result.exit_code == 0, result.output
    assert "2 items for u1: personal, 1.50 ms in w0" in result.stdout
    assert "because clicked Toy Story (+0.12)" in result.stdout
    assert "text +0.75, bias +0.25" in result.stdout
    request = fake.requests["Rank"][0]
    assert (request.k, request.exclude_seen) == (2, True)
    assert list(request.exclude_item_ids) == ["x", "y"]
    assert (request.explain.items, request.explain.reasons) == (10, 3)


def test_rank_as_json(run, fake):
    result = run("rank", "u1", "--candidates", "c,no such", "--json")

    document = json.loads(result.stdout)
    assert [item["item_id"] for item in document["items"]] == ["c"]
    assert document["missing_item_ids"] == ["no such"]
    assert document["items"][0]["reasons"][0]["contribution"] == 0.12
    assert document["freshness"]["applied"][0]["next_offset"] == 7
    assert not fake.requests["GetItem"]


def test_rank_says_when_it_is_not_personal_and_what_is_missing(run, fake):
    fake.fallback = "unknown_user"

    result = run("rank", "u1", "--candidates", "b,gone")

    assert "not personal (unknown user)" in result.stdout
    assert "not in the catalogue: gone" in result.stdout


def test_rank_of_a_file_of_candidates(run, fake, tmp_path):
    ids = tmp_path / "ids"
    ids.write_bytes("\ufefftoy\r\nwith,comma\n\n\U0001f600".encode())

    result = run("rank", "u1", "--candidates-file", str(ids), "--json")

    assert result.exit_code == 0, result.output
    asked = list(fake.requests["Rank"][0].item_ids.item_ids)
    assert asked == ["toy", "with,comma", "\U0001f600"]


def test_a_strangers_title_is_neither_markup_nor_control(run, fake):
    fake.catalogue["toy"] = Item("toy", "[red]\x1b[2J\u202eToy")

    result = run("rank", "u1", "-k", "1")

    assert "[red]\ufffd[2J\ufffdToy" in result.stdout
    assert "\x1b" not in result.stdout


def test_rank_after_a_write(run, fake):
    result = run("rank", "u1", "--min-token", TOKEN, "--max-wait-ms", "5", "--allow-stale")

    assert result.exit_code == 0, result.output
    read_after = fake.requests["Rank"][0].read_after
    assert (read_after.min_token, read_after.max_wait_ms) == (b"\x00\xfftoken", 5)


def test_events_send_prints_the_token_and_the_wait(run, fake):
    result = run("events", "send", "u1", "rate", "toy", "--value", "4.5", "--wait")

    token, visible = result.stdout.splitlines()
    assert token == TOKEN
    assert visible.startswith("visible after ")
    event = fake.requests["RecordEvents"][0].events[0]
    assert (event.user_id, event.type, event.item_id, event.value) == ("u1", "rate", "toy", 4.5)
    assert fake.requests["GetProfile"][0].read_after.min_token == b"\x00\xfftoken"


def test_events_send_as_json(run, fake):
    document = json.loads(run("events", "send", "u1", "click", "toy", "--json").stdout)

    assert document["token"] == TOKEN
    assert document["event_id"] == fake.requests["RecordEvents"][0].events[0].event_id
    assert document["visible_ms"] is None
    assert not fake.requests["GetProfile"]


def test_events_send_of_a_refused_event_is_an_error(run, fake):
    fake.refused_items.add("bad")

    result = run("events", "send", "u1", "click", "bad")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "Error: item_id: bad is bad\n"


@pytest.fixture
def events_file(tmp_path):
    path = tmp_path / "events.csv"
    rows = [f"u{n},click,i{n}" for n in range(7)]
    path.write_text("\n".join(["user_id,type,item_id", *rows]))
    return path


def test_events_import_over_grpc(run, fake, events_file):
    result = run("events", "import", str(events_file))

    assert result.exit_code == 0, result.output
    assert [len(message.events) for message in fake.requests["ImportEvents"][0]] == [7]
    assert result.stdout.startswith("7 events in ")
    assert result.stdout.endswith("/s), 0 refused, 0 lines skipped\n")
    assert result.stderr == ""


def test_events_import_as_json_with_progress(run, events_file):
    result = run("events", "import", str(events_file), "--progress", "--json")

    document = json.loads(result.stdout)
    assert (document["written"], document["refused"], document["skipped"]) == (7, 0, 0)
    assert document["token"] == TOKEN
    assert "events" in result.stderr


def test_events_import_over_kafka(run, fake, events_file, monkeypatch):
    from rankstream.client import events

    made = []

    class FakeProducer:
        def __init__(self, servers, **settings):
            made.append((servers, settings["topic"]))

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def send_many(self, records, report):
            return events.Sent(len(list(records)), 0.5)

    monkeypatch.setattr(events, "EventProducer", FakeProducer)

    result = run(
        "events", "import", str(events_file), "--bootstrap-servers", "k:9092", "--topic", "t"
    )

    assert result.stdout.startswith("7 events in ")
    assert made == [("k:9092", "t")]
    assert not fake.requests["ImportEvents"]


def test_an_import_ends_at_a_bad_line_and_sums_up(run, fake, tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": "a"}\n{"item_id": 5}\n{"item_id": "c"}\n')

    result = run("items", "import", str(path))

    assert result.exit_code == 1
    assert f"Error: {path}:2: item_id: 5 is of type int; expected a string" in result.stderr
    assert result.stdout.startswith("1 items in ")
    (message,) = fake.requests["ImportItems"][0]
    assert [item.item_id for item in message.items] == ["a"]


def test_an_import_that_breaks_off_sums_up_what_it_knows(run, fake, tmp_path):
    from rankstream.client.calls.streams import CHUNK_ENTRIES

    fake.breaks_after.append(1)
    fake.refused_items.add("7")
    path = tmp_path / "items.jsonl"
    path.write_text("".join(f'{{"item_id": "{n}"}}\n' for n in range(2 * CHUNK_ENTRIES)))

    result = run("items", "import", str(path), "--json")

    assert result.exit_code == 1
    assert f"(after {CHUNK_ENTRIES} answers)" in result.stderr
    assert "Warning: item '7' was refused" in result.stderr
    assert json.loads(result.stdout)["written"] == CHUNK_ENTRIES - 1


def test_an_import_skips_bad_lines_and_refused_items(run, fake, tmp_path):
    fake.refused_items.add("b")
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": "a"}\nnot json\n{"item_id": "b"}\n{"item_id": "c"}\n')

    result = run("items", "import", str(path), "--on-error", "skip", "--json")

    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["written"], document["refused"], document["skipped"]) == (2, 1, 1)
    assert f"Warning: {path}:2: is not JSON" in result.stderr
    assert "Warning: item 'b' was refused: item_id: bad" in result.stderr


def test_a_refused_event_fails_alone_and_is_named(run, fake, events_file):
    fake.refused_items |= {"i4", "i5"}

    result = run("events", "import", str(events_file))

    assert result.exit_code == 1
    assert "Error: 'click' of 'u4' with 'i4' was refused: item_id: i4 bad" in result.stderr
    assert "Warning: 'click' of 'u5' with 'i5' was refused" in result.stderr
    assert result.stderr.count("'i4' was") == 1
    assert result.stdout.startswith("5 events in ")
    assert "2 refused" in result.stdout


def test_an_import_of_standard_input(run, fake):
    line = '{"user_id": "u", "type": "click", "item_id": "\U0001f600"}\n'

    result = run("events", "import", "-", input=line)

    assert result.exit_code == 0, result.output
    (message,) = fake.requests["ImportEvents"][0]
    assert message.events[0].item_id == "\U0001f600"


def test_rank_with_all_of_a_query(run, fake):
    result = run(
        "rank", "--session", "view:m1", "--session", "search:red shoes", "--query", "warm",
        "--query-weight", "2", "--filter", "brand=Acme", "--filter", "price<=20",
        "--block-weight", "text=0.5", "--half-life-s", "60", "--type-weight", "view=0",
        "--context", "device=phone", "--context", "hour=9", "--as-of-ms", "5",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert '3 items for this session and "warm": personal' in result.stdout
    request = fake.requests["Rank"][0]
    assert [(e.type, e.item_id, e.text) for e in request.session.events] == [
        ("view", "m1", ""), ("search", "", "red shoes"),
    ]  # fmt: skip
    assert (request.query.text, request.query.weight) == ("warm", 2.0)
    assert [f.condition.column for f in request.filter.all.filters] == ["brand", "price"]
    assert request.block_weights == {"text": 0.5}
    assert (request.pooling.half_life_s, request.pooling.type_weights["view"]) == (60.0, 0.0)
    assert (request.context["device"].text, request.context["hour"].number) == ("phone", 9.0)
    assert request.as_of_ms == 5


def test_rank_by_a_filter_in_json(run, fake):
    asked = '{"condition": {"column": "brand", "equals": {"text": "Acme"}}}'

    assert run("rank", "u1", "--filter", asked).exit_code == 0

    assert fake.requests["Rank"][0].filter.condition.equals.text == "Acme"


def test_similar(run, fake):
    shown = run("similar", "toy", "-k", "2", "--filter", "price<=20", "--with-popularity").stdout
    assert "2 items like toy, 1.50 ms in w0" in shown
    request = fake.requests["SimilarItems"][0]
    assert (request.k, request.with_bias) == (2, True)
    assert request.filter.condition.range.max == 20
    document = json.loads(run("similar", "toy", "--json").stdout)
    assert [item["item_id"] for item in document["items"]] == ["toy", "b", "c"]
    assert run("similar", "gone").exit_code == 1


def test_explain(run, fake):
    shown = run("explain", "u1", "b", "gone").stdout
    assert "1 items for u1, 1.50 ms in w0" in shown
    assert "because clicked Toy Story" in shown
    assert 'despite searched "red shoes"' in shown
    assert "popularity" in shown
    assert "not in the catalogue: gone" in shown
    assert "1 more" in run("explain", "u1", "b", "-n", "1").stdout
    document = json.loads(run("explain", "", "b", "--query", "warm", "--json").stdout)
    assert document["items"][0]["contributions"][1]["blocks"]["text"] == -0.125
    assert fake.requests["Explain"][-1].request.query.text == "warm"


def test_embed(run, fake, tmp_path):
    shown = run("embed", "red shoes", "").stdout
    assert "red shoes" in shown
    assert "texts: is empty" in shown
    lines = run("embed", "red shoes", "x", "--json").stdout.splitlines()
    assert json.loads(lines[0])["vector"] == [9.0] * 3
    path = tmp_path / "texts"
    path.write_text("\n".join(f"text {n}" for n in range(130)))
    lines = run("embed", "--file", str(path), "--json").stdout.splitlines()
    assert [json.loads(line)["text"] for line in lines] == [f"text {n}" for n in range(130)]
    assert [len(m.texts) for m in fake.requests["EmbedStream"][0]] == [64, 64, 2]


def test_tokenize(run):
    assert "red shoes" in run("tokenize", "red shoes").stdout
    line = run("tokenize", "red shoes", "--json").stdout
    assert json.loads(line)["found"]["tokens"] == ["red", "shoes"]


def test_items_patch(run, fake):
    result = run(
        "items", "patch", "toy", "price=9.5", "attributes.stock=12", "title=42", "tags=new",
        "--clear", "brand", "--if-version", "99",
    )  # fmt: skip

    assert result.stdout == f"{TOKEN}\n", result.output
    request = fake.requests["PatchItem"][0]
    assert list(request.update_mask.paths) == [
        *("price", "attributes.stock", "title", "tags", "brand")
    ]
    assert (request.item.price, request.item.title, list(request.item.tags)) == (9.5, "42", ["new"])
    assert request.item.attributes["stock"].number == 12
    assert run("items", "patch", "toy").exit_code == 2
    assert "no such field" in run("items", "patch", "toy", "colour=red").stderr
    assert json.loads(run("items", "patch", "toy", "price=1", "--json").stdout)["token"] == TOKEN


def test_items_delete(run, fake):
    fake.refused_items.add("bad")

    assert run("items", "delete", "toy", "b").stdout == f"{TOKEN}\n"
    assert list(fake.requests["DeleteItems"][0].item_ids) == ["toy", "b"]
    assert run("items", "delete", "bad").exit_code == 1


def test_items_list(run, fake):
    assert "Toy Story" in run("items", "list").stdout
    lines = run("items", "list", "--limit", "2", "--json").stdout.splitlines()
    listed = [json.loads(line) for line in lines]
    assert [entry["item"]["item_id"] for entry in listed] == ["b", "c"]
    token = listed[-1]["resume_token"]
    rest = run("items", "list", "--resume-token", token, "--json").stdout
    assert json.loads(rest)["item"]["item_id"] == "toy"


def test_user_upsert_and_show(run, fake):
    result = run(
        "user", "upsert", "ann", "--attribute", "budget=20", "--attribute", 'sizes=["M"]',
        "--attribute", "city=Oslo", "--interest", "wool", "--identity", "app:7",
    )  # fmt: skip

    assert result.stdout == f"{TOKEN}\n", result.output
    user = fake.requests["UpsertUser"][0].user
    assert (user.attributes["budget"].number, user.attributes["city"].text) == (20, "Oslo")
    assert list(user.attributes["sizes"].texts.values) == ["M"]
    assert (list(user.interests), list(user.identities)) == (["wool"], ["app:7"])
    shown = run("user", "show", "ann").stdout
    assert "interests: wool" in shown
    assert "city Oslo" in shown
    assert json.loads(run("user", "show", "ann", "--json").stdout)["user"]["identities"] == [
        "app:7"
    ]


def test_user_merge_reset_and_purge(run, fake):
    merged = run("user", "merge", "guest", "ann")
    assert (merged.stdout, merged.stderr) == (
        f"{TOKEN}\n", "7 interactions of guest are now ann's\n",
    )  # fmt: skip
    assert json.loads(run("user", "reset", "ann", "--json").stdout)["watermark_ms"] == 500
    assert run("user", "purge", "ann", input="n\n").exit_code == 1
    assert not fake.requests["PurgeUser"]
    assert "until retention" in run("user", "purge", "ann", input="y\n").stdout
    receipt = json.loads(run("user", "purge", "ann", "--yes", "--json").stdout)
    assert receipt["remains"][0]["place"] == "log"


def test_user_export(run, fake):
    run("user", "upsert", "ann", "--interest", "wool")

    lines = [
        json.loads(line) for line in run("user", "export", "ann", "--json").stdout.splitlines()
    ]
    assert lines[0]["user"]["interests"] == ["wool"]
    assert [line["interaction"]["item_id"] for line in lines[1:]] == ["toy", "b"]
    assert "toy" in run("user", "export", "ann").stdout


def test_events_send_of_a_search(run, fake):
    assert run("events", "send", "u1", "search", "--text", "red shoes").exit_code == 0
    event = fake.requests["RecordEvents"][0].events[0]
    assert (event.type, event.item_id, event.text) == ("search", "", "red shoes")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(run, shell):
    script = run("completion", shell).stdout

    assert "_RANKSTREAM_COMPLETE" in script
    assert "rankstream" in script


def test_the_command_completes_itself():
    words = {"COMP_WORDS": "rankstream items p", "COMP_CWORD": "2"}
    asked = {"_RANKSTREAM_COMPLETE": "bash_complete", **words}

    result = CliRunner().invoke(main, prog_name="rankstream", env=asked)

    assert result.stdout == "plain,patch\n"


def every_command(group=main, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", [*every_command()], ids=" ".join)
def test_every_help_has_an_example_of_this_command(run, path):
    text = run(*path, "--help").stdout

    example = text.split("Example:")[1]
    assert f"rankstream {' '.join(path)}" in example


def test_items_get(run):
    assert "Toy Story" in run("items", "get", "toy").stdout
    document = json.loads(run("items", "get", "toy", "--json").stdout)
    assert document["item"]["title"] == "Toy Story"
    assert document["item_row"] == 11


def test_profile_show(run):
    shown = run("profile", "show", "u1", "-n", "3").stdout
    assert "9 interactions kept, 12 items seen" in shown
    assert "1970-01-01 00:00:01" in shown
    assert "-0.50" in shown
    document = json.loads(run("profile", "show", "u1", "--json").stdout)
    assert document["interactions"][0]["item_id"] == "toy"
    assert "nothing is known" in run("profile", "show", "nobody").stdout


def test_info(run):
    shown = run("info").stdout
    assert "max_k" in shown
    assert "1,682" in shown
    assert json.loads(run("info", "--json").stdout)["limits"]["max_k"]["value"] == 1000


def test_lag(run, fake):
    shown = run("lag").stdout
    assert "healthy, broker heard 4 ms ago, 1 dead letters" in shown
    assert "rankstream.events" in shown
    lines = run("lag", "--watch", "--count", "2", "--interval", "0", "--json").stdout.splitlines()
    assert [json.loads(line)["partitions"][0]["lag"] for line in lines] == [2, 2]
    assert run("lag", "--watch", "--count", "2", "--interval", "0").exit_code == 0


def test_an_error_is_one_line_and_status_1(run):
    result = run("items", "get", "gone")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith("item gone is not known\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["rank"],
        ["rank", "u1", "-k", "-1"],
        ["rank", "u1", "--filter", "price<=20", "--candidates", "a"],
        ["rank", "--session", "view"],
        ["rank", "u1", "--block-weight", "text"],
        ["rank", "u1", "--block-weight", "text=much"],
        ["explain", "u1"],
        ["explain", "", "toy"],
        ["embed"],
        ["embed", "a", "--file", "-"],
        ["tokenize"],
        ["user", "upsert", "ann", "--attribute", "budget"],
        ["items", "list", "--resume-token", "?"],
        ["completion", "tcsh"],
        ["rank", "u1", "--min-token", "?"],
        ["rank", "u1", "--candidates", "a", "--candidates-file", "-"],
        ["no-such-command"],
        ["items", "import", "/nowhere"],
        ["--timeout", "0", "info"],
    ],
)
def test_wrong_usage_is_status_2(run, arguments):
    assert run(*arguments).exit_code == 2


def test_a_server_that_is_not_there_says_what_to_do(run):
    result = run("--target", "127.0.0.1:1", "rank", "u1")

    assert result.exit_code == 1
    assert "127.0.0.1:1: " in result.stderr
    assert "rankstream serve" in result.stderr


def test_the_target_comes_from_the_environment(running, fake):
    result = CliRunner().invoke(main, ["rank", "u1"], env={"RANKSTREAM_TARGET": running.target})

    assert result.exit_code == 0, result.output
    assert len(fake.requests["Rank"]) == 1


def test_version():
    from importlib.metadata import version

    assert (
        CliRunner().invoke(main, ["--version"]).output
        == f"rankstream, version {version('rankstream')}\n"
    )
