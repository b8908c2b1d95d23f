"""A slice of ``bench/fuzz.py``; and that it would find what there is to find."""

import asyncio
import itertools
from random import Random

import pytest
from fuzz_decoders import DECODERS, Decoder, Disagreement, read_item_ids
from fuzz_drafts import draft_messages
from fuzz_findings import fuzz_batch
from fuzz_methods import METHODS
from fuzz_mutation import mutated, tree_of
from fuzz_seeds import CALLS, EVENTS, IMAGE_DIMENSIONS, RANKINGS
from fuzz_server import ServerFuzz, Target, fuzz_server
from fuzz_watch import MOST_MIB, Growth, Weight
from google.protobuf.message import DecodeError
from rich.progress import Progress
from serving import Server

from rankstream import kernels
from rankstream.proto.v1 import ranking_pb2

SEED = 3
SHARES = sum(decoder.share for decoder in DECODERS)


@pytest.mark.parametrize("decoder", DECODERS, ids=[decoder.name for decoder in DECODERS])
def test_a_decoder_reads_or_refuses(decoder):
    # 20,000 messages in all, as many of each decoder's as its share of the whole run.
    count = -(-20_000 * decoder.share // SHARES)

    assert fuzz_batch(decoder, SEED, 0, count) is None


def test_a_live_server_answers_with_typed_statuses(serve_shared):
    started = serve_shared(vectors=f"image:{IMAGE_DIMENSIONS}").start()
    admin = f"127.0.0.1:{started.admin_port}"
    server = Server(started.target, admin, started.data_dir, started.process, 0.0)
    target = Target(started.target, admin, server, started.log_path)

    with Progress(disable=True) as progress:
        run = asyncio.run(fuzz_server(target, 1_000, SEED, progress))

    assert run.findings == []
    assert run.sent >= 1_000
    assert set(target.processes()) == {"supervisor", "ingest-0", "worker-0"}
    assert len(run.codes) > len(METHODS) // 2


def test_every_rpc_has_seeds_that_are_its_messages():
    assert {method.name for method in METHODS} == set(CALLS)
    for method in METHODS:
        assert {len(method.draft(Random(seed))) for seed in range(20)} != {0}


def test_a_failure_is_found_made_small_and_drawn_again():
    def refuse_the_letter(values):
        for value in values:
            if b"w" in value:
                msg = "it has the letter"
                raise KeyError(msg)

    decoder = Decoder("fussy", 1, draft_messages(EVENTS), refuse_the_letter)

    found = fuzz_batch(decoder, SEED, 4)

    assert found.messages == [b"w".hex()]
    assert found.error == "KeyError: 'it has the letter'"
    assert fuzz_batch(decoder, SEED, 4) == found


def test_a_batch_that_fails_only_together_is_kept_together():
    def refuse_two(values):
        assert not (any(b"\0" in v for v in values) and any(b"\xff" in v for v in values))

    singles = itertools.cycle([b"a\0a", b"b", b"c\xffc"])
    decoder = Decoder("pair", 1, lambda _: next(singles), refuse_two)

    found = fuzz_batch(decoder, SEED, 0, 3)

    assert b"\0".hex() in found.messages
    assert b"\xff".hex() in found.messages


def test_two_readers_that_differ_are_found(monkeypatch):
    read = kernels.read_item_ids
    monkeypatch.setattr(kernels, "read_item_ids", lambda wire, most: read(wire[:-3], most))

    with pytest.raises(Disagreement, match="ids"):
        read_item_ids(b"\x0a\x01a\x0a\x01b")


def test_what_grows_or_is_logged_is_found(tmp_path):
    log = tmp_path / "log"
    log.write_text("all is well\n2026 ERROR an RPC failed unexpectedly\nTraceback\n")
    run = ServerFuzz(Target("127.0.0.1:1", log=log), SEED, sent=100)
    run.growth.add(10, {"worker-0": Weight(1.0, 1.0, 5)})
    run.growth.add(20, {"worker-0": Weight(100.0, 150.0, 9)})
    run.growth.add(95, {"worker-0": Weight(101.0 + MOST_MIB, 400.0, 9)})

    run.require_well()

    assert [finding.decoder for finding in run.findings] == ["log", "log", "growth"]
    assert "worker-0" in run.findings[2].error


def test_growth_counts_from_the_given_part_on():
    growth = Growth()
    for sent, size in ((0, 1.0), (20, 50.0), (50, 80.0), (100, 60.0)):
        growth.add(sent, {"a": Weight(size, size, int(size))})

    gained = growth.since(0.2, 100)["a"]

    assert gained["private_mib_gained"] == 10.0
    assert gained["files_gained"] == 10


def test_a_mutation_is_near_what_is_valid():
    draw, readable = Random(SEED), 0
    tree = tree_of(RANKINGS[-1])
    made = {mutated(draw, tree) for _ in range(500)}
    for data in made:
        try:
            readable += bool(ranking_pb2.RankRequest.FromString(data))
        except DecodeError:
            continue

    assert len(made) > 300
    assert 100 < readable < len(made)
