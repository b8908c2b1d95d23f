"""A Ranking service that answers rightly, or as a test wants it: real gRPC, no engine."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from google.rpc import status_pb2
from load_calls import MADE_UP

from rankstream.proto.v1 import ranking_pb2, ranking_pb2_grpc

THREADS = 64


def right_answer(request: ranking_pb2.RankRequest) -> ranking_pb2.RankResponse:
    """Every candidate that exists, in the order of the request, each score lower than the last."""
    given = request.item_ids.item_ids
    response = ranking_pb2.RankResponse(request_id=request.request_id, block_names=["text"])
    response.missing_item_ids.extend(name for name in given if name.startswith(MADE_UP))
    there = [name for name in given if not name.startswith(MADE_UP)]
    for place, name in enumerate(there[: request.k or None]):
        item = response.items.add(item_id=name, rank=place + 1)
        item.parts.blocks.append(1.0 - place / 1000)
        item.parts.bias = 0.5
        item.score = float(np.float32(item.parts.blocks[0] + item.parts.bias))
    return response


class FakeRanking(ranking_pb2_grpc.RankingServicer):
    """Answers with ``answer``, which may change the right answer, wait, or give a status.

    Attributes:
        asked: requests so far, over every RPC.
    """

    def __init__(self, answer=lambda number, response: response) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self.asked = 0

    def Rank(self, request, context):  # noqa: N802 - the name that gRPC gives
        found = self._make(request)
        if isinstance(found, status_pb2.Status):
            codes = {code.value[0]: code for code in grpc.StatusCode}
            context.abort(codes[found.code], found.message)
        return found

    def BatchRank(self, request, context):  # noqa: N802
        return ranking_pb2.BatchRankResponse(entries=[self._entry(r) for r in request.requests])

    def _entry(self, request):
        found = self._make(request)
        if isinstance(found, status_pb2.Status):
            return ranking_pb2.BatchRankEntry(status=found)
        return ranking_pb2.BatchRankEntry(response=found)

    def _make(self, request):
        with self._lock:
            number, self.asked = self.asked, self.asked + 1
        return self._answer(number, right_answer(request))


class FakeStreaming(FakeRanking):
    """The same with StreamRank."""

    def StreamRank(self, requests, context):  # noqa: N802
        for message in requests:
            entries = [self._entry(request) for request in message.requests]
            yield ranking_pb2.BatchRankResponse(entries=entries)


@pytest.fixture
def fake_server():
    """Serves a servicer; gives host:port."""
    servers = []

    def start(servicer: FakeRanking, port: int = 0) -> str:
        server = grpc.server(ThreadPoolExecutor(THREADS))
        ranking_pb2_grpc.add_RankingServicer_to_server(servicer, server)
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{bound}"

    yield start
    for server in servers:
        server.stop(0).wait()
