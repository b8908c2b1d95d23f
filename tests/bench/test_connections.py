import asyncio
import socket

import pytest
from connections import StreamCalls, UnaryCalls
from entries import failed_entries
from fake_ranking import FakeRanking, FakeStreaming
from google.rpc import code_pb2, status_pb2
from light_channel import CallFailed
from rankings import RANK

from rankstream.proto.v1 import ranking_pb2

REFUSED = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="full")


def request(name):
    ids = ranking_pb2.ItemIds(item_ids=["a", "b"])
    made = ranking_pb2.RankRequest(request_id=name, user_id="u", item_ids=ids)
    return made.SerializeToString()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def until_answered(calls):
    for _ in range(200):
        try:
            return await calls.call(request("again"))
        except CallFailed:
            await asyncio.sleep(0.05)
    pytest.fail("never answered")


@pytest.mark.parametrize("streams", [False, True])
def test_a_connection_comes_back_with_the_server(fake_server, streams):
    port = free_port()

    async def scenario():
        address = f"127.0.0.1:{port}"
        calls = StreamCalls(address) if streams else UnaryCalls(address, RANK, 2, 5.0)
        with pytest.raises(CallFailed, match="UNAVAILABLE"):
            await calls.call(request("before"))
        fake_server(FakeStreaming(), port)
        answer = await until_answered(calls)
        await calls.close()
        return answer

    assert b"again" in asyncio.run(scenario())


def test_a_stream_gives_each_caller_their_own_answer(fake_server):
    address = fake_server(FakeStreaming())

    async def scenario():
        calls = StreamCalls(address)
        answers = await asyncio.gather(*(calls.call(request(f"r{i}")) for i in range(50)))
        await calls.close()
        return answers

    found = [ranking_pb2.BatchRankEntry.FromString(a) for a in asyncio.run(scenario())]
    assert [entry.response.request_id for entry in found] == [f"r{i}" for i in range(50)]


def test_an_entry_with_a_status_fails_its_caller_alone(fake_server):
    address = fake_server(FakeStreaming(lambda n, right: REFUSED if n == 1 else right))

    async def scenario():
        calls = StreamCalls(address)
        asked = [calls.call(request(f"r{i}")) for i in range(3)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        await calls.close()
        return answers

    first, second, third = asyncio.run(scenario())
    assert isinstance(second, CallFailed)
    assert str(second) == "RESOURCE_EXHAUSTED"
    assert b"r0" in first
    assert b"r2" in third


def test_everyone_on_a_stream_that_ends_fails(fake_server):
    address = fake_server(FakeRanking())

    async def scenario():
        calls = StreamCalls(address)
        asked = [calls.call(request(f"r{i}")) for i in range(3)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        await calls.close()
        return answers

    found = [str(error) for error in asyncio.run(scenario())]
    # grpc.aio hides the status where the stream ends during a write.
    assert found in (["UNIMPLEMENTED"] * 3, ["UNAVAILABLE"] * 3)


def test_failed_entries_are_found_without_reading_the_others():
    right = ranking_pb2.BatchRankEntry(
        response=ranking_pb2.RankResponse(request_id="x" * 300, block_names=["text"])
    )
    refused = ranking_pb2.BatchRankEntry(status=REFUSED)
    batch = ranking_pb2.BatchRankResponse(entries=[right, refused, right, refused, right])
    odd = ranking_pb2.BatchRankEntry(status=status_pb2.Status(code=99))

    assert list(failed_entries(batch.SerializeToString())) == ["RESOURCE_EXHAUSTED"] * 2
    assert list(failed_entries(b"")) == []
    one = ranking_pb2.BatchRankResponse(entries=[odd])
    assert list(failed_entries(one.SerializeToString())) == ["UNKNOWN"]
