"""``AsyncClient`` answers as ``Client`` does."""

from __future__ import annotations

import asyncio

import pytest

from rankstream.client import (
    AsyncClient,
    FailedPrecondition,
    InvalidArgument,
    RankQuery,
    Unavailable,
    User,
)


def run_async(running, use, **options):
    async def with_client():
        target = running.target
        async with AsyncClient(target, admin_target=target, **options) as client:
            return await use(client)

    return asyncio.run(with_client())


def test_every_single_answer_awaited(running, fake):
    """The same answers as of the blocking client, from the same requests."""

    async def use(client):
        return [
            await client.rank("u1", ["toy"], request_id="r"),
            await client.similar_items("toy", k=1),
            await client.explain("u1", ["toy"]),
            await client.get_item("toy"),
            await client.get_profile("u1"),
            await client.delete_items(["toy"]),
            await client.merge_profiles("guest", "u1"),
            await client.reset_profile("u1"),
            await client.purge_user("u1"),
            await client.upsert_user(User("u1")),
            await client.server_info(),
            await client.consumer_lag(),
        ]

    awaited = run_async(running, use)
    with running.client() as client:
        blocking = [
            client.rank("u1", ["toy"], request_id="r"),
            client.similar_items("toy", k=1),
            client.explain("u1", ["toy"]),
            client.get_item("toy"),
            client.get_profile("u1"),
            client.delete_items(["toy"]),
            client.merge_profiles("guest", "u1"),
            client.reset_profile("u1"),
            client.purge_user("u1"),
            client.upsert_user(User("u1")),
            client.server_info(),
            client.consumer_lag(),
        ]

    # The user was written between the two: all else is equal.
    assert awaited[:4] + awaited[5:] == blocking[:4] + blocking[5:]
    for method, asked in fake.requests.items():
        assert asked[0] == asked[1], method


def test_a_batch_awaited(running, fake):
    async def use(client):
        return await client.batch_rank([RankQuery(f"u{n}", request_id=str(n)) for n in range(10)])

    rankings = run_async(running, use)

    assert [ranking.request_id for ranking in rankings] == [str(n) for n in range(10)]
    assert sorted(len(r.requests) for r in fake.requests["BatchRank"]) == [2, 4, 4]


def test_a_failed_call_of_a_batch_awaited(running, fake, make_status):
    import grpc

    fake.max_batch = 2
    fake.fail("BatchRank", make_status(grpc.StatusCode.INTERNAL, "broke"))

    async def use(client):
        return await client.batch_rank([RankQuery(f"u{n}") for n in range(4)])

    answers = run_async(running, use, connections=1)

    assert [getattr(answer, "code", "OK") for answer in answers] == ["INTERNAL"] * 2 + ["OK"] * 2


def test_errors_awaited(running, fake, make_status):
    import grpc

    fake.fail("Rank", *[make_status(grpc.StatusCode.UNAVAILABLE, "restarting")] * 2)

    async def use(client):
        assert (await client.rank("u")).item_ids == ["toy", "b", "c"]
        with pytest.raises(InvalidArgument, match="^k: "):
            await client.rank("u", k=-1)
        with pytest.raises(Unavailable, match="not SERVING after 0.3 s: NOT_SERVING"):
            await client.wait_ready(timeout_s=0.3)

    running.set_health(False)
    run_async(running, use)
    assert len(fake.requests["Rank"]) == 3


def test_ready_awaited(running):
    running.set_health(True)

    run_async(running, lambda client: client.wait_ready(10))


def test_a_closed_client_awaited(running):
    async def use(client):
        await client.close()
        for call in (client.rank("u"), client.batch_rank([RankQuery("u")]), client.wait_ready(1)):
            with pytest.raises(FailedPrecondition, match="closed"):
                await call

    run_async(running, use)


def test_a_change_of_generations_is_followed_over_a_change_of_workers(running, fake):
    fake.breaks_after += [2, 0]

    async def use(client):
        phases = [step.phase async for step in client.reindex("/models/e5", id="mine")]
        return phases, await client.cancel_reindex(), await client.drop_generation()

    phases, cancelled, dropped = run_async(running, use)

    assert phases == ["loading", "encoding", "starting", "draining", "done"]
    assert {request.id for request in fake.requests["Reindex"]} == {"mine"}
    assert (cancelled.phase, dropped) == ("cancelled", 2)
