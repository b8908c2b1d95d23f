"""Embed, EmbedStream and Tokenize: in order, each request and each text with its own fate."""

import asyncio
import threading

import numpy as np
import pytest
from google.rpc import code_pb2
from service_calls import Call, Requests, codes

from rankstream.proto.v1 import encoder_pb2
from rankstream.server.config import Limits
from rankstream.server.embedder import Embedder
from rankstream.server.encoder.base import EncoderError, TokenizedText, Tokens
from rankstream.server.encoder.prompts import Prompts
from rankstream.server.errors import InvalidArgument
from rankstream.server.services.encoder import EncoderService
from rankstream.server.wire import Names

LIMITS = Limits(max_texts=3, max_text_chars=50, max_stream_texts=4)
PROMPTS = Prompts({"query": "find: ", "none": ""})
NAMES = Names("1", "w", "space", {}, {})


class LengthEncoder:
    """Vectors and tokens of the texts' lengths; a text "bad" fails its batch."""

    prompts = PROMPTS
    max_tokens = 512

    def __init__(self):
        self.threads = set()
        self.gate = threading.Event()
        self.gate.set()

    def read(self, texts, prompt=None):
        ids = [list(map(ord, PROMPTS.before(prompt) + text)) for text in texts]
        lengths = np.array([len(one) for one in ids], np.int32)
        return Tokens(ids, lengths, lengths > 5)

    def encode_tokens(self, ids):
        self.threads.add(threading.current_thread().name)
        self.gate.wait(10)
        if list(map(ord, "bad")) in ids:
            msg = "the encoder failed"
            raise EncoderError(msg)
        return np.repeat([[len(one)] for one in ids], 2, axis=1).astype(np.float32)

    def tokenize(self, texts, prompt=None):
        self.threads.add(threading.current_thread().name)
        read = [PROMPTS.before(prompt) + text for text in texts]
        return [TokenizedText(list(map(ord, t[:5])), list(t[:5]), len(t) > 5) for t in read]


@pytest.fixture
def encoder():
    return LengthEncoder()


@pytest.fixture
def service(encoder):
    embedder = Embedder(encoder, cache_bytes=1 << 16, max_queued=9, max_batch_tokens=200, readers=2)
    yield EncoderService(embedder, 2, PROMPTS, NAMES, LIMITS)
    encoder.gate.set()
    embedder.close()


def sent(*requests):
    """The stream of requests with these texts; an error is raised in its place."""
    return Requests(
        *(r if isinstance(r, Exception) else encoder_pb2.EmbedRequest(texts=r) for r in requests)
    )


def embedded(service, *requests, left=None):
    async def scenario():
        found = [r async for r in service.EmbedStream(sent(*requests), Call(left))]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return found

    return asyncio.run(scenario())


def rows_of(response):
    vector = response.embeddings
    return np.frombuffer(vector.data, "<f4").reshape(vector.shape)[:, 0].tolist()


def test_responses_come_in_the_order_of_the_requests(service):
    found = embedded(service, *(["x" * n, "y" * (n + 1)] for n in range(40)))

    assert [rows_of(r) for r in found] == [[n, n + 1] for n in range(40)]
    assert {r.served_by.space_fingerprint for r in found} == {"space"}


def test_a_bad_text_fails_alone_and_a_bad_request_fails_whole(service):
    first, second, third, fourth, fifth, sixth = embedded(
        service, ["a", "x" * 51], ["a"] * 4, ["bad"], InvalidArgument("request", "odd"), [], ["ab"]
    )

    invalid = code_pb2.INVALID_ARGUMENT
    assert codes(first.results) == [code_pb2.OK, invalid]
    assert rows_of(first) == [1, 0]
    # No more results than texts may be.
    assert codes(second.results) == [invalid] * 3
    assert second.results[0].status.message == "texts: 4 texts, the limit is 3"
    assert rows_of(second) == [0, 0, 0]
    assert codes(third.results) == [code_pb2.INTERNAL]
    assert codes(fourth.results) == [invalid]
    assert list(fifth.embeddings.shape) == [0, 2]
    assert (codes(sixth.results), rows_of(sixth)) == ([code_pb2.OK], [2])


def test_each_request_has_its_own_prompt(service, encoder):
    encoder.gate.clear()
    asked = [
        encoder_pb2.EmbedRequest(texts=["a", "bb"][: n % 2 + 1], prompt_name=name)
        for n, name in enumerate(("", "query", "none", "query"))
    ]

    async def scenario():
        waiting = [asyncio.create_task(service.Embed(request, Call())) for request in asked]
        await asyncio.sleep(0)
        encoder.gate.set()
        return await asyncio.gather(*waiting)

    assert [rows_of(answer) for answer in asyncio.run(scenario())] == [[1], [7, 8], [1], [7, 8]]


def test_a_prompt_that_does_not_exist_fails_its_request_alone(service):
    first, second, third = (
        encoder_pb2.EmbedRequest(texts=["a"], prompt_name=name)
        for name in ("none", "qury", "query")
    )
    problem = "prompt_name: no prompt 'qury'; there are 'none', 'query'"

    async def scenario():
        stream = service.EmbedStream(Requests(first, second, third), Call())
        return [answer async for answer in stream]

    answers = asyncio.run(scenario())

    assert [codes(answer.results) for answer in answers] == [
        *([code_pb2.OK], [code_pb2.INVALID_ARGUMENT], [code_pb2.OK])
    ]
    assert answers[1].results[0].status.message == problem
    with pytest.raises(InvalidArgument, match=problem):
        asyncio.run(service.Embed(second, Call()))
    request = encoder_pb2.TokenizeRequest(texts=["a"], prompt_name="qury")
    with pytest.raises(InvalidArgument, match=problem):
        asyncio.run(service.Tokenize(request, Call()))


def test_a_priority_that_is_not_known_is_refused(service):
    request = encoder_pb2.EmbedRequest(texts=["a"], priority=7)

    with pytest.raises(InvalidArgument, match="priority: 7; expected PRIORITY_INTERACTIVE or"):
        asyncio.run(service.Embed(request, Call()))


def test_tokens_are_those_of_the_prompt_and_the_text(service):
    request = encoder_pb2.TokenizeRequest(texts=["ab"], prompt_name="query")

    (found,) = asyncio.run(service.Tokenize(request, Call())).texts

    assert list(found.tokens) == list("find:")


def test_a_stream_whose_time_is_over_says_so_in_each_response(service):
    found = embedded(service, ["a", "b"], ["c"], left=0.0)

    assert [codes(r.results) for r in found] == [[code_pb2.DEADLINE_EXCEEDED] * 2, [4]]


def test_no_more_requests_are_read_than_are_in_flight(service, encoder):
    encoder.gate.clear()
    requests = sent(*[["a", "b"]] * 20)

    async def scenario():
        stream = service.EmbedStream(requests, Call())
        first = asyncio.create_task(anext(stream))
        await asyncio.sleep(0.01)
        read = requests.read
        encoder.gate.set()
        await first
        await stream.aclose()
        return read, asyncio.all_tasks() == {asyncio.current_task()}

    assert asyncio.run(scenario()) == (2, True)


def tokenized(service, *texts):
    return asyncio.run(service.Tokenize(encoder_pb2.TokenizeRequest(texts=texts), Call()))


def test_each_text_has_its_tokens_or_its_own_error(service, encoder):
    first, second, third = tokenized(service, "ab", "x" * 51, "abcdef").texts

    assert (list(first.token_ids), list(first.tokens)) == ([97, 98], ["a", "b"])
    assert not first.truncated
    assert second.status.message == "texts[1]: 51 characters, the limit is 50"
    assert third.truncated
    assert all(name.startswith("reader") for name in encoder.threads)


def test_too_many_texts_are_refused(service):
    with pytest.raises(InvalidArgument, match="texts: 4 texts, the limit is 3"):
        tokenized(service, *"abcd")
    assert len(tokenized(service).texts) == 0


def embed(service, *texts):
    return asyncio.run(service.Embed(encoder_pb2.EmbedRequest(texts=texts), Call()))


def test_each_text_is_embedded_or_has_its_own_error(service, encoder):
    response = embed(service, "ab", "x" * 51, "abcdef")
    with pytest.raises(InvalidArgument, match="texts: 4 texts, the limit is 3"):
        embed(service, *"aaaa")

    rows = np.frombuffer(response.embeddings.data, "<f4").reshape(response.embeddings.shape)
    assert rows.tolist() == [[2, 2], [0, 0], [6, 6]]
    assert codes(response.results) == [code_pb2.OK, code_pb2.INVALID_ARGUMENT, code_pb2.OK]
    assert response.results[1].status.message == "texts[1]: 51 characters, the limit is 50"
    assert [(r.tokens, r.truncated) for r in response.results] == [
        (2, False),
        (0, False),
        (6, True),
    ]
    assert encoder.threads
    assert all(name.startswith("encoder") for name in encoder.threads)
