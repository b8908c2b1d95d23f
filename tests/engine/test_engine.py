"""The engine's answers against its definition in plain Python, to the last bit."""

import numpy as np
import pytest
from engine_oracle import assert_answers, furnish, tasks
from small_server import ids_of, item, items_of, keys_of, task

from rankstream.kernels import answer as answer_kernel
from rankstream.kernels import distinct_keys, pool_cpu, query, rank_cpu, warm_up
from rankstream.server.candidates import GivenIds
from rankstream.server.errors import CorruptState, InvalidArgument


def test_a_task_alone_gets_the_bytes_that_it_gets_in_company(server):
    furnish(server, 12)
    some = [f"i{n}" for n in range(33)]
    asked = [
        task("ann", item_ids=some, k=33, explained=9, reasons=4),
        task("bob", candidates=distinct_keys(keys_of(some)), k=5, explained=2, exclude_seen=True),
        task("nobody", item_ids=some, k=33, explained=3, reasons=2),
    ]

    together = server.rank(*asked)

    for one, found in zip(asked, together, strict=True):
        (alone,) = server.rank(one)
        assert bytes(alone.items) == bytes(found.items)
        assert (alone.missing, alone.fallback) == (found.missing, found.fallback)
        assert (alone.updated_at_ms, alone.applied) == (found.updated_at_ms, found.applied)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_answers_are_those_of_the_definition(server, seed):
    oracle = furnish(server, seed)
    asked = list(tasks(np.random.default_rng(seed)))

    together = server.rank(*asked)
    alone = [server.rank(one)[0] for one in asked]

    assert_answers(together, asked, oracle)
    assert_answers(alone, asked, oracle)


def test_a_worker_that_starts_late_answers_as_one_that_followed(server):
    server.rank(task())
    oracle = furnish(server, 4)
    asked = list(tasks(np.random.default_rng(4)))
    followed = server.rank(*asked)

    server.engine = server.new_engine()

    assert_answers(followed, asked, oracle)
    assert_answers(server.rank(*asked), asked, oracle)


def test_parts_and_bias_add_up_to_the_score(server):
    furnish(server, 5)

    answers = server.rank(task("ann", k=30), task("cat", item_ids=["i1", "i2", "i20"], k=3))

    for answer in answers:
        parts = np.array([item.parts.blocks for item in items_of(answer)])
        biases = np.array([item.parts.bias for item in items_of(answer)])
        scores = [item.score for item in items_of(answer)]
        assert parts.shape == (len(scores), 3)
        np.testing.assert_allclose(parts.sum(axis=1) + biases, scores, rtol=0, atol=1e-7)
        assert np.any(parts != 0, axis=0).all()


def test_reasons_over_all_interactions_add_up_to_the_score_less_the_bias(server):
    furnish(server, 6)

    (answer,) = server.rank(task("ann", k=30, explained=30, reasons=25))

    for found in items_of(answer):
        amounts = [r.contribution for r in found.reasons]
        assert amounts == sorted(amounts, reverse=True)
        assert abs(sum(amounts) - (found.score - found.parts.bias)) < 1e-5


def test_a_reason_names_the_interaction(server):
    server.put(item("sea", "sea"), item("sky", "sky"))
    server.events(("ann", "sea", 5, "click", 1.0), ("ann", "later", 6, "view", 1.0))

    (answer,) = server.rank(task("ann", k=1, explained=1, reasons=3))

    (found,) = items_of(answer)
    (reason,) = found.reasons
    assert found.item_id == "sea"
    assert (reason.item_id, reason.type, reason.event_time_ms) == ("sea", "click", 5)


def counts_of_reasons(answer):
    return [len(found.reasons) for found in items_of(answer)]


def test_only_the_first_items_carry_reasons_and_only_where_asked(server):
    furnish(server, 7)

    plain, some = server.rank(task("ann", k=5), task("ann", k=5, explained=2, reasons=1))

    assert counts_of_reasons(plain) == [0] * 5
    assert counts_of_reasons(some) == [1, 1, 0, 0, 0]


def test_each_task_of_a_batch_has_its_own_number_of_reasons(server):
    furnish(server, 9)

    one, three, none = server.rank(
        task("ann", explained=2, reasons=1), task("bob", explained=1, reasons=3), task("cat")
    )

    assert counts_of_reasons(one) == [1, 1] + [0] * 8
    assert counts_of_reasons(three) == [3] + [0] * 9
    assert counts_of_reasons(none) == [0] * 10


def test_missing_candidates_are_reported_and_excluded_ones_are_not(server):
    furnish(server, 8)
    wanted = ["i1", "i3", "unknown", "i2", "i7"]

    asked = task("ann", item_ids=wanted, k=5, exclude=["i1"])
    (alone,), (answer, _) = server.rank(asked), server.rank(asked, task("bob"))

    assert answer.missing == alone.missing == ["i3", "unknown", "i7"]
    assert ids_of(answer) == ids_of(alone) == ["i2"]


def test_candidates_are_each_their_own_and_named_once(server):
    furnish(server, 8)
    asked = [["i1", "i2", "i1"], [], ["no"], ["i2", "", "i5"], ["i5", "i2" * 200], ["i9"]]
    tasks = [task(user, item_ids=names) for user, names in zip("abcdef", asked, strict=True)]

    found = server.rank(*tasks, task("g", candidates=distinct_keys(keys_of(["i2", "gone"]))))

    for answer, alone in zip(found, [server.rank(one)[0] for one in tasks], strict=False):
        assert type(answer) is type(alone)
        if isinstance(answer, InvalidArgument):
            assert str(answer) == str(alone)
        else:
            assert (ids_of(answer), answer.missing) == (ids_of(alone), alone.missing)
    first, nothing, gone, empty, long, last, by_key = found
    assert (sorted(ids_of(first)), ids_of(nothing), ids_of(gone)) == (["i1", "i2"], [], [])
    assert "item_ids[1]: empty" in str(empty)
    assert "item_ids[1]: longer than 256 bytes" in str(long)
    (cut,) = server.rank(task("h", candidates=GivenIds(b"\n\5i2", 1, 256, "item_ids")))
    assert "item_ids: malformed from byte 0" in str(cut)
    assert gone.missing == ["no"]
    assert (ids_of(last), ids_of(by_key)) == (["i9"], ["i2"])
    assert by_key.missing == keys_of(["gone"]).tolist()


def test_equal_scores_go_to_the_lower_row(server):
    server.put(*(item(name, "same") for name in ("c", "a", "b")))

    (whole,) = server.rank(task("nobody"))
    (given,) = server.rank(task("nobody", item_ids=["b", "a", "c"]))

    assert ids_of(whole) == ids_of(given) == ["c", "a", "b"]


def test_the_fallback_says_why_an_answer_is_not_personal(server):
    server.put(item("sea", "sea"))
    server.events(("ann", "sea", 5, "click", 1.0), ("bob", "nowhere", 5, "click", 1.0))

    ann, bob, nobody = server.rank(task("ann"), task("bob"), task("nobody"))

    assert (ann.fallback, bob.fallback) == ("", "no_usable_history")
    assert nobody.fallback == "unknown_user"
    assert (ann.updated_at_ms, nobody.updated_at_ms) == (5, 0)


def test_an_interaction_counts_from_the_moment_its_item_arrives(server):
    server.events(("ann", "sea", 5, "click", 1.0))
    server.put(item("sky", "sky"))
    assert server.rank(task("ann"))[0].fallback == "no_usable_history"

    server.put(item("sea", "sea"))

    (answer,) = server.rank(task("ann"))
    assert ids_of(answer)[0] == "sea"
    assert answer.fallback == ""


def test_an_empty_catalogue_answers_with_nothing(server):
    server.events(("ann", "sea", 5, "click", 1.0))

    asked = task("ann", item_ids=["sea"], k=1, explained=1, reasons=1)
    whole, given = server.rank(task("ann"), asked)
    (alone,) = server.rank(asked)

    assert ids_of(whole) == ids_of(given) == ids_of(alone) == []
    assert given.missing == alone.missing == ["sea"]
    assert whole.head.rows == 0


def test_a_catalogue_whose_items_are_all_deleted_answers_with_nothing(server):
    server.put(item("sea", "sea"), item("sky", "sky"))
    server.put(delete=["sea", "sky"])

    (answer,) = server.rank(task())

    assert ids_of(answer) == []
    assert answer.head.items == 0
    assert answer.head.rows == 2


def test_an_answer_says_what_it_has_seen(server):
    server.put(item("sea", "sea"))
    server.events(("ann", "sea", 5, "click", 1.0))

    (answer,) = server.rank(task("ann"))

    assert [(p.lane, p.partition, p.next_offset) for p in answer.applied] == [
        ("events", 0, 2),
        ("items", 0, 1),
    ]
    assert answer.head == server.head()
    assert answer.times.batch_size == 1


def test_bias_of_a_row_that_was_not_seen_yet_is_zero(server):
    server.put(item("sea", "sea"))
    server.set_bias([0.25])
    server.rank(task())

    assert server.engine.bias_of(0) == 0.25
    assert server.engine.bias_of(10_000) == 0.0


def test_every_way_of_asking_is_one_signature_of_the_kernels(server):
    # Another one would be compiled under the first request that has it.
    warm_up(server.layout.stride, len(server.layout.blocks))
    furnish(server, 11)
    asked = list(tasks(np.random.default_rng(11)))

    server.rank(*asked)
    for one in asked:
        server.rank(one)

    hot = answer_kernel._rank_given, query.gather_past, pool_cpu.pool_serial, rank_cpu.pick
    for kernel in hot:
        outside = [s for s in kernel.signatures if all_read_only(s)]
        assert len(outside) == 1, kernel


def all_read_only(signature):
    """Whether arrays of a kernel's first argument are read-only: called from Python, not inside."""
    first = signature[0]
    arrays = [t for t in getattr(first, "types", (first,)) if hasattr(t, "mutable")]
    return not any(t.mutable for t in arrays)


def test_a_damaged_profile_is_said_and_never_answered(server):
    server.put(item("sea", "sea"))
    with server.store.write() as txn:
        txn.put("recent", b"ann", b"\0" * 64)

    for asked in (task("ann"), task("ann", item_ids=["sea"])):
        try:
            (alone,) = server.rank(asked)
        except CorruptState as error:
            alone = error
        damaged, whole = server.rank(asked, task("bob"))

        for answer in (alone, damaged):
            assert isinstance(answer, CorruptState)
            assert "rebuild the state from the log" in str(answer)
        assert ids_of(whole) == ["sea"]
