"""A request whose right answer is known, asked again and again while a server is fuzzed."""

from __future__ import annotations

import grpc
from fuzz_seeds import WITNESS, WITNESS_ITEMS

from rankstream.proto.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    common_pb2,
    events_pb2,
    events_pb2_grpc,
    profiles_pb2,
    profiles_pb2_grpc,
    ranking_pb2,
    ranking_pb2_grpc,
)

_TITLES = ("a comet in the night sky", "a teapot of blue china", "a violin and its bow")
_TIMEOUT_S = 30.0
_WAIT_MS = 10_000
_WAITS = 12


class WrongAnswer(Exception):
    """The known-good request was answered wrongly; the message holds the answer."""


async def prepare_witness(channel: grpc.aio.Channel) -> None:
    """Writes the items and the one click, and waits until they count."""
    items = [
        catalog_pb2.Item(item_id=name, title=title)
        for name, title in zip(WITNESS_ITEMS, _TITLES, strict=True)
    ]
    catalog = catalog_pb2_grpc.CatalogStub(channel)
    written = await catalog.UpsertItems(
        catalog_pb2.UpsertItemsRequest(items=items), timeout=_TIMEOUT_S
    )
    click = events_pb2.Event(
        event_id="witness", user_id=WITNESS, type="click", item_id=WITNESS_ITEMS[0]
    )
    clicked = await events_pb2_grpc.EventsStub(channel).RecordEvents(
        events_pb2.RecordEventsRequest(events=[click]), timeout=_TIMEOUT_S
    )
    for token in (written.token, clicked.token):
        await _await_applied(channel, token)
    await require_witness(channel)


async def _await_applied(channel: grpc.aio.Channel, token: bytes) -> None:
    after = common_pb2.ReadAfter(min_token=token, max_wait_ms=_WAIT_MS)
    request = profiles_pb2.GetProfileRequest(user_id=WITNESS, read_after=after)
    for tries_left in reversed(range(_WAITS)):
        try:
            await profiles_pb2_grpc.ProfilesStub(channel).GetProfile(request, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED or not tries_left:
                raise
        else:
            return


async def require_witness(channel: grpc.aio.Channel) -> None:
    """Ranks the witness's items: what was clicked is first, nothing is missing.

    Raises:
        WrongAnswer: it is not so.
        grpc.aio.AioRpcError: there was no answer.
    """
    request = ranking_pb2.RankRequest(
        user_id=WITNESS,
        item_ids=ranking_pb2.ItemIds(item_ids=sorted(WITNESS_ITEMS, reverse=True)),
    )
    answer = await ranking_pb2_grpc.RankingStub(channel).Rank(request, timeout=_TIMEOUT_S)
    found = [item.item_id for item in answer.items]
    if found[:1] != [WITNESS_ITEMS[0]] or sorted(found) != sorted(WITNESS_ITEMS):
        msg = f"ranked {found}, expected all of {WITNESS_ITEMS}, the first one first"
        raise WrongAnswer(msg)
