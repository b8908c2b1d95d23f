"""A call and a stream of requests, as gRPC hands them to a service."""

import asyncio


class Call:
    """A call with or without a deadline."""

    def __init__(self, left=None):
        self.left = left

    def time_remaining(self):
        return self.left


class Requests:
    """A stream of requests; counts how many were read, and can be told to wait or to fail."""

    def __init__(self, *given):
        self.given = list(given)
        self.read = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.read == len(self.given):
            raise StopAsyncIteration
        self.read += 1
        found = self.given[self.read - 1]
        if isinstance(found, asyncio.Future):
            found = await found
        if isinstance(found, BaseException):
            raise found
        return found


def codes(entries):
    return [entry.status.code for entry in entries]
