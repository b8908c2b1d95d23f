"""What a client shows: the token with every call, and files that have to read."""

import asyncio

import pytest
from fake_server import run_fake_server

from rankstream.client import AsyncClient, Client, Credentials, Event, InvalidArgument, RankQuery


@pytest.mark.parametrize(
    ("credentials", "field"),
    [
        (Credentials(access_token="a b"), "credentials.access_token"),
        (Credentials(access_token="a\nb"), "credentials.access_token"),
        (Credentials(access_token="ü"), "credentials.access_token"),
        (Credentials(ca="/nothing.pem"), "credentials.ca"),
        (Credentials(certificate="/nothing.pem"), "credentials.key"),
        (Credentials(key="/nothing.pem"), "credentials.certificate"),
        (Credentials(certificate="/nothing.pem", key="/nothing.pem"), "credentials.key"),
    ],
)
def test_what_cannot_be_used_is_named_before_anything_is_sent(credentials, field):
    with pytest.raises(InvalidArgument) as refused:
        Client(credentials=credentials)

    assert refused.value.field_violations[0].field == field


def test_a_token_is_not_shown():
    assert "secret" not in repr(Credentials(access_token="secret"))


def test_nothing_is_shown_unless_it_is_given():
    assert Credentials().metadata == ()
    assert Credentials().channel_credentials is None


def test_every_kind_of_call_carries_the_token(fake_server):
    credentials = Credentials(access_token="secret")
    with fake_server.client(credentials=credentials) as client:
        client.rank("u1", ["toy"])
        list(client.stream_rank([RankQuery("u1")]))
        client.import_events([Event("u1", "view", "toy")])
        list(client.list_items())
        client.server_info()
    blocking = carried(fake_server)
    asyncio.run(ask_the_other_way(fake_server, credentials))
    asynchronous = carried(fake_server)

    called = {"Rank", "StreamRank", "ImportEvents", "ListItems", "GetServerInfo"}
    assert called <= set(blocking)
    assert called <= set(asynchronous)
    assert {*blocking.values(), *asynchronous.values()} == {"Bearer secret"}


def test_without_credentials_nothing_is_carried(fake_server):
    with fake_server.client() as client:
        client.rank("u1", ["toy"])

    assert carried(fake_server) == {"Rank": None}


@pytest.fixture
def fake_server():
    with run_fake_server() as running:
        yield running


async def ask_the_other_way(server, credentials):
    where = {"admin_target": server.target, "credentials": credentials}
    async with AsyncClient(server.target, **where) as client:
        await client.rank("u1", ["toy"])
        assert [one async for one in client.stream_rank([RankQuery("u1")])]
        await client.import_events([Event("u1", "view", "toy")])
        assert [one async for one in client.list_items()]
        await client.server_info()


def carried(server):
    """By method, the header of the calls since the last time."""
    found = {
        path.rpartition("/")[2]: said.get("authorization") for path, said in server.fake.metadata
    }
    server.fake.metadata.clear()
    return found
