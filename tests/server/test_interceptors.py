"""Errors to statuses: each code, the details that ride along, and nothing raw gets out."""

import asyncio
import inspect
import time
from types import SimpleNamespace

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2

from rankstream.server import errors
from rankstream.server.interceptors import StatusInterceptor, deadline_of, status_of

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


def guarded(handler):
    async def wrap():
        found = grpc.unary_unary_rpc_method_handler(handler)

        async def continuation(details):
            return found

        return (await StatusInterceptor().intercept_service(continuation, DETAILS)).unary_unary

    return asyncio.run(wrap())


DETAILS = SimpleNamespace(method="/a.Service/Method")


def test_a_method_is_wrapped_once():
    async def handler(request, context):
        return request

    async def scenario():
        asked = []

        async def continuation(details):
            asked.append(details.method)
            return grpc.unary_unary_rpc_method_handler(handler)

        interceptor = StatusInterceptor()
        first = await interceptor.intercept_service(continuation, DETAILS)
        other = await interceptor.intercept_service(continuation, SimpleNamespace(method="/b"))
        again = await interceptor.intercept_service(continuation, DETAILS)
        return asked, first is again, first is other

    assert asyncio.run(scenario()) == (["/a.Service/Method", "/b"], True, False)


def test_a_handlers_answer_passes():
    async def handler(request, context):
        return request + 1

    assert asyncio.run(guarded(handler)(1, Call())) == 2


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
        asyncio.run(guarded(handler)(1, call))

    assert call.code == code
    assert "grpc-status-details-bin" in dict(call.trailing)


def test_a_cancelled_handler_stays_cancelled():
    async def handler(request, context):
        raise asyncio.CancelledError

    call = Call()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(guarded(handler)(1, call))

    assert call.trailing is None


def test_streams_and_unknown_methods_pass_untouched():
    async def scenario(found):
        async def continuation(details):
            return found

        return await StatusInterceptor().intercept_service(continuation, DETAILS)

    stream = grpc.unary_stream_rpc_method_handler(lambda request, context: iter(()))

    assert asyncio.run(scenario(None)) is None
    assert asyncio.run(scenario(stream)) is stream
