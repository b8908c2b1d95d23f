import pytest
from companion import CompanionFailed
from fake_ranking import FakeRanking, FakeStreaming
from google.rpc import code_pb2, status_pb2
from rankings import rank_candidates
from report import REPEATS, Report
from stream_client import Client, Streams

KEY = "rank.stream.vs_unary"
FULL = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="full")


@pytest.mark.parametrize("stream_first", [False, True])
def test_all_ways_have_a_rate(fake_server, stream_first):
    client = Client(fake_server(FakeStreaming()), 0.2, 8, stream_first)

    found = client.run(rank_candidates(4, 1, k=3))

    assert set(found) == {"stream", "stream_of_one", "unary", "unary_in_turn"}
    assert all(rate > 0 for rate in found.values())


def test_an_entry_that_fails_is_no_answer(fake_server):
    client = Client(fake_server(FakeStreaming(lambda n, right: FULL)), 0.1, 8, stream_first=True)

    with pytest.raises(CompanionFailed):
        client.run(rank_candidates(4, 1, k=3))


def test_the_comparisons_are_ratios(fake_server):
    report = Report({}, {})
    streams = Streams(report, fake_server(FakeStreaming()), 0.05)

    for repeat in range(REPEATS):
        streams.compare(repeat)
    streams.conclude()

    assert list(report.ratios) == [
        KEY,
        "rank.stream_of_one.vs_unary",
        "rank.stream_of_one.vs_unary_in_turn",
    ]
    assert report.problems == {}


def test_a_server_without_stream_rank_is_a_problem_for_its_key(fake_server):
    report = Report({}, {})
    streams = Streams(report, fake_server(FakeRanking()), 0.05)

    streams.compare(1)
    streams.conclude()

    assert report.problems == {KEY: "the server does not implement StreamRank"}
    assert report.ratios == {}
