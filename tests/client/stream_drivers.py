"""Drives both forms of client through one stream or call."""

from __future__ import annotations

import asyncio

from rankstream.client import (
    AsyncClient,
)


class Blocking:
    """Drives the blocking client."""

    def __init__(self, running):
        self.running = running

    def all_of(self, name, *arguments, **options):
        with self.running.client() as client:
            return list(getattr(client, name)(*arguments, **options))

    def one(self, name, *arguments, **options):
        with self.running.client() as client:
            return getattr(client, name)(*arguments, **options)


class Async(Blocking):
    """Drives the asyncio client."""

    def all_of(self, name, *arguments, **options):
        async def run(client):
            return [answer async for answer in getattr(client, name)(*arguments, **options)]

        return asyncio.run(self._with_client(run))

    def one(self, name, *arguments, **options):
        async def run(client):
            return await getattr(client, name)(*arguments, **options)

        return asyncio.run(self._with_client(run))

    async def _with_client(self, run):
        target = self.running.target
        async with AsyncClient(target, admin_target=target) as client:
            return await run(client)
