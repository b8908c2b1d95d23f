"""Errors to statuses: each code, the details that ride along, and nothing raw gets out."""

import asyncio
import inspect
import time

import grpc
import pytest
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2

from rankstream.server import errors
from rankstream.server.boundary import deadline_of, guarded, status_of
from rankstream.server.services.streams import ordered

ALL = [e for _, e in inspect.getmembers(errors, inspect.isclass) if e.__module__ == errors.__name__]


class Call:
    """What a handler is given of a call."""

    def __init__(self, left=None):
        self.left = left
        self.trailing = None

    def time_remaining(self):
        return self.left

    def set_trailing_metadata(self, metadata):
        self.trailing = metadata

    async def abort(self, code, details):
        self.code, self.details = code, details
        raise grpc.aio.AbortError


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_a_code_that_the_tree_shows(kind):
    assert code_pb2.Code.Value(kind.status) > 0
    line = next(x for x in errors.__doc__.splitlines() if kind.__name__ in x.split())
    assert kind.status in line.split()


def test_a_wrong_field_rides_along():
    status = status_of(errors.InvalidArgument("requests[3].k", "7, the limit is 5"))

    detail = error_details_pb2.BadRequest()
    assert status.code == code_pb2.INVALID_ARGUMENT
    assert status.message == "requests[3].k: 7, the limit is 5"
    assert status.details[0].Unpack(detail)
    (violation,) = detail.field_violations
    assert (violation.field, violation.description) == ("requests[3].k", "7, the limit is 5")


def test_the_time_to_come_again_rides_along():
    status = status_of(errors.Overloaded("full", retry_after_s=1.25))

    detail = error_details_pb2.RetryInfo()
    assert status.code == code_pb2.RESOURCE_EXHAUSTED
    assert status.details[0].Unpack(detail)
    assert detail.retry_delay.ToMilliseconds() == 1250


def test_other_errors_have_a_code_and_a_message_alone():
    status = status_of(errors.NotFound("no such item"))

    assert (status.code, status.message) == (code_pb2.NOT_FOUND, "no such item")
    assert len(status.details) == 0


def test_what_was_not_expected_tells_nothing(caplog):
    status = status_of(ValueError("secret"))

    assert status.code == code_pb2.INTERNAL
    assert "secret" not in status.message
    assert "secret" in caplog.text


def test_a_message_is_one_printable_bounded_line():
    status = status_of(errors.InvalidArgument("f", "a\nb\x00c\ud800 ü" + "x" * 10_000))

    assert status.message.startswith("f: a\\nb\\x00c\\ud800 ü")
    assert len(status.message) < 2100


def test_a_call_without_a_deadline_gets_the_default():
    now = time.monotonic()

    assert 10 <= deadline_of(Call(), 10.0) - now < 11
    assert 2 <= deadline_of(Call(2.0), 10.0) - now < 3
    assert deadline_of(Call(1e12), 10.0) - now <= 3601


class Methods:
    """A server that keeps the methods it is given."""

    def __init__(self):
        self.found = {}

    def add_registered_method_handlers(self, service, methods):
        self.found |= {f"/{service}/{name}": method for name, method in methods.items()}


def guarded_call(handler):
    server = Methods()
    methods = {"Method": grpc.unary_unary_rpc_method_handler(handler)}
    guarded(server).add_registered_method_handlers("a.Service", methods)
    return server.found["/a.Service/Method"].unary_unary


def test_a_handlers_answer_passes():
    async def handler(request, context):
        return request + 1

    assert asyncio.run(guarded_call(handler)(1, Call())) == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidArgument("k", "bad"), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.Overloaded("full", 1.0), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.StaleState("old"), grpc.StatusCode.DEADLINE_EXCEEDED),
        (KeyError("bug"), grpc.StatusCode.INTERNAL),
    ],
)
def test_a_handlers_error_becomes_a_status_with_its_details(error, code):
    async def handler(request, context):
        raise error

    call = Call()
    with pytest.raises(grpc.aio.AbortError):
        asyncio.run(guarded_call(handler)(1, call))

    assert call.code == code
    assert "grpc-status-details-bin" in dict(call.trailing)


def test_a_cancelled_handler_stays_cancelled():
    async def handler(request, context):
        raise asyncio.CancelledError

    call = Call()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(guarded_call(handler)(1, call))

    assert call.trailing is None


class Doubling:
    """A service of streams over numbers: doubles each, and fails at 13."""

    def __init__(self):
        self.closed = asyncio.Event()

    def handlers(self):
        codec = {"request_deserializer": read_number, "response_serializer": lambda n: b"%d" % n}
        return {
            "Many": grpc.unary_stream_rpc_method_handler(self.many, **codec),
            "Sum": grpc.stream_unary_rpc_method_handler(self.sum, **codec),
            "Both": grpc.stream_stream_rpc_method_handler(self.both, **codec),
            "Surviving": grpc.stream_stream_rpc_method_handler(self.surviving, **codec),
            "ByItself": grpc.unary_stream_rpc_method_handler(self.by_itself, **codec),
        }

    async def many(self, count, context):
        for n in range(count):
            yield doubled(n)

    async def sum(self, numbers, context):
        return sum([doubled(n) async for n in numbers])

    async def both(self, numbers, context):
        try:
            async for n in numbers:
                yield doubled(n)
        finally:
            self.closed.set()

    def surviving(self, numbers, context):
        return ordered(numbers, self.double, most=4, refuse=lambda error: -1)

    async def double(self, number):
        return doubled(number)

    async def by_itself(self, count, context):
        for n in range(count):
            await context.write(n)


def read_number(data):
    if not data.isdigit():
        raise DecodeError("no number")  # noqa: EM101 - as protobuf does
    return int(data)


def doubled(number):
    if number == 13:
        msg = "thirteen"
        raise errors.Overloaded(msg, retry_after_s=2.0)
    return 2 * number


def over_a_server(scenario):
    """Runs it with a guarded service and a channel to it."""

    async def run():
        server, service = grpc.aio.server(), Doubling()
        guarded(server).add_registered_method_handlers("s", service.handlers())
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await asyncio.wait_for(scenario(service, channel), 20)
        await server.stop(0)

    asyncio.run(run())


async def answers_of(call):
    """The answers up to the end, and the error that ended them."""
    found = []
    try:
        async for answer in call:
            found.append(int(answer))
    except grpc.aio.AioRpcError as error:
        return found, error
    return found, None


NUMBERS = [b"1", b"2", b"13", b"4"]


def test_a_streams_error_comes_behind_its_answers_with_its_details():
    async def scenario(service, channel):
        many, failed = await answers_of(channel.unary_stream("/s/Many")(b"20"))
        assert many == list(range(0, 26, 2))
        assert failed.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(failed.trailing_metadata())["grpc-retry-pushback-ms"] == "2000"

        both, failed = await answers_of(channel.stream_stream("/s/Both")(iter(NUMBERS)))
        assert (both, failed.details()) == ([2, 4], "thirteen")

        with pytest.raises(grpc.aio.AioRpcError, match="thirteen"):
            await channel.stream_unary("/s/Sum")(iter(NUMBERS))

    over_a_server(scenario)


def test_streams_that_are_right_pass():
    async def scenario(service, channel):
        assert await answers_of(channel.unary_stream("/s/Many")(b"3")) == ([0, 2, 4], None)
        assert await answers_of(channel.unary_stream("/s/ByItself")(b"3")) == ([0, 1, 2], None)
        assert int(await channel.stream_unary("/s/Sum")(iter(NUMBERS[:2]))) == 6
        both = channel.stream_stream("/s/Both")(iter(NUMBERS[:2]))
        assert await answers_of(both) == ([2, 4], None)

    over_a_server(scenario)


def test_a_message_that_is_none_has_a_typed_status(caplog):
    async def scenario(service, channel):
        calls = [
            channel.unary_stream("/s/Many")(b"x"),
            channel.unary_stream("/s/ByItself")(b"x"),
            channel.stream_stream("/s/Both")(iter([b"1", b"x", b"2"])),
        ]
        for call in calls:
            _, failed = await answers_of(call)
            assert failed.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert failed.details().startswith("request: not this method's message")
        with pytest.raises(grpc.aio.AioRpcError, match="not this method's message"):
            await channel.stream_unary("/s/Sum")(iter([b"x"]))

    over_a_server(scenario)
    assert not caplog.records


def test_a_stream_that_refuses_survives_what_is_no_message():
    async def scenario(service, channel):
        given = iter([b"1", b"x", b"13", b"4"])
        call = channel.stream_stream("/s/Surviving")(given)
        assert await answers_of(call) == ([2, -1, -1, 8], None)

    over_a_server(scenario)


def test_a_caller_that_goes_closes_the_generator(caplog):
    async def scenario(service, channel):
        call = channel.stream_stream("/s/Both")()
        await call.write(b"1")
        assert await call.read() == b"2"
        call.cancel()
        await service.closed.wait()

    over_a_server(scenario)
    assert not caplog.records


def test_a_caller_that_reads_nothing_and_goes_closes_the_generator(caplog):
    async def scenario(service, channel):
        call = channel.stream_stream("/s/Both")(iter([b"1" * 4000] * 10_000))
        assert await call.read()
        call.cancel()
        await service.closed.wait()

    over_a_server(scenario)
    assert not caplog.records
