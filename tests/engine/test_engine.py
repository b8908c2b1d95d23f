"""The engine's answers against its definition in plain Python, to the last bit."""

import kernels_oracle
import numpy as np
import pytest
from small_server import HALF_LIFE_MS, ids_of, item, items_of, keys_of, task

from rankstream.kernels import answer as answer_kernel
from rankstream.kernels import distinct_keys, pool_cpu, query, rank_cpu, warm_up
from rankstream.server.candidates import GivenIds
from rankstream.server.errors import CorruptState, InvalidArgument
from rankstream.server.filters import AllOf, EqualsUser, Filter, NoneOf, between, equals
from rankstream.server.types import item_key

USERS = ("ann", "bob", "cat", "dan")


class Oracle:
    """Answers from what was written, one query after the other; reads only the fused rows."""

    def __init__(self, server, live, history, bias):
        head = server.head()
        self.items = np.array(server.segments.segments.rows[: head.rows])
        keys = server.segments.segments.keys[: head.rows].tolist()
        # The latest row of a key is its live one, where the item is live.
        self.rows = {
            name: max(r for r, k in enumerate(keys) if k == item_key(name)) for name in live
        }
        self.names = {row: name for name, row in self.rows.items()}
        self.bias = np.zeros(head.rows, np.float32)
        self.bias[: len(bias)] = bias[: head.rows]
        self.history, self.server = history, server

    def query(self, user):
        events = sorted((e for e in self.history if e[0] == user), key=lambda e: e[2])
        rows = np.array([self.rows.get(e[1], -1) for e in events], np.int32)
        newest = max((e[2] for e in events), default=0)
        ages = [newest - e[2] for e in events]
        decay = np.exp2(-np.array(ages, np.float64) / HALF_LIFE_MS)
        kinds = self.server.pooling.type_weights[[self.server.fold.type_ids[e[3]] for e in events]]
        signed = np.array([np.float32(e[4]) for e in events], np.float64)
        layout = self.server.layout
        offsets = np.cumsum([0] + [b.dimensions for b in layout.blocks])
        weights = np.array([[b.weight for b in layout.blocks]])
        indptr = np.array([0, len(rows)])
        pooled, _ = kernels_oracle.pool(
            rows, indptr, kinds * signed * decay, self.items, offsets, weights
        )
        return pooled[0]

    def answer(self, asked):
        query = self.query(asked.user.decode())
        out = {self.names.get(r) for r in range(len(self.items))} - {None}
        out -= {name for name in out if item_key(name) in asked.excluded.tolist()}
        if asked.exclude_seen:
            out -= {e[1] for e in self.history if e[0] == asked.user.decode() and e[3] != "search"}
        if asked.candidates is not None:
            given = asked.candidates
            wanted = (given.read().keys if isinstance(given, GivenIds) else given).tolist()
            out = {name for name in out if item_key(name) in wanted}
        found = []
        for name in out:
            row = self.rows[name]
            score = kernels_oracle.score(query, self.items[row], self.bias[row])
            found.append((-float(score), row, name, score))
        best = sorted(found)[: asked.k]
        return [b[2] for b in best], np.array([b[3] for b in best], np.float32)


def furnish(server, seed):
    """Items that come, change, go and come again; events of known and unknown items; a bias."""
    random = np.random.default_rng(seed)
    live = set()

    def made(number, word):
        image = random.standard_normal(5) if number % 3 else None
        tags = [f"t{t}" for t in random.integers(0, 4, 2)]
        live.add(f"i{number}")
        return item(f"i{number}", f"{word} {number % 9}", tags=tags, price=number, image=image)

    server.put(*(made(n, "first") for n in range(20)))
    server.put(*(made(n, "second") for n in range(15, 30)), delete=["i3", "i4", "i99"])
    server.put(made(4, "again"), *(made(n, "third") for n in range(5, 8)))
    server.put(delete=["i7"])
    live -= {"i3", "i7"}
    history = [
        (user, f"i{random.integers(0, 33)}", int(at), kind, float(weight))
        for user in USERS[:3]
        for at, kind, weight in zip(
            np.cumsum(random.integers(1, 900, 25)),
            random.choice(["view", "click", "rate", "search"], 25),
            random.uniform(-1, 1, 25),
            strict=True,
        )
    ]
    server.events(*history)
    bias = random.uniform(0, 0.3, server.head().rows - 2).astype(np.float32)
    server.set_bias(bias)
    return Oracle(server, live, history, bias)


def tasks(random):
    """Every way of asking."""
    some = [f"i{n}" for n in random.permutation(35)[:17]]
    yield task("ann")
    yield task("bob", k=1)
    yield task("ann", k=500)
    yield task("nobody", k=7)
    yield task("dan", exclude_seen=True)
    yield task("cat", k=40, exclude_seen=True, exclude=["i1", "i3", "i17", "unknown"])
    yield task("bob", k=0)
    yield task("ann", item_ids=some, k=17)
    yield task("cat", candidates=distinct_keys(keys_of(some)), k=3, exclude=some[:4])
    yield task("bob", item_ids=some, k=17, exclude_seen=True)
    yield task("ann", item_ids=["i3", "i7", "unknown"], k=3)
    yield task("ann", item_ids=[], k=0)
    yield task("nobody", item_ids=some, k=5)


def assert_answers(answers, asked, oracle):
    for answer, wanted in zip(answers, asked, strict=True):
        names, scores = oracle.answer(wanted)
        found = items_of(answer)
        assert [item.item_id for item in found] == names
        assert np.array([item.score for item in found], np.float32).tobytes() == scores.tobytes()
        assert [item.rank for item in found] == list(range(1, len(names) + 1))


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


def filtered(user, test, **given):
    return task(user, filter=Filter.make(test), **given)


def furnish_shelves(server):
    """Thirty items on three shelves, seen and not."""
    for start in (0, 15):
        server.put(
            *(
                item(f"i{n}", f"text {n % 7}", price=n, attributes={"shelf": f"s{n % 3}"})
                for n in range(start, start + 15)
            )
        )
    server.put(delete=["i6"])
    server.events(*(("ann", f"i{n}", n, "click", 1.0) for n in (3, 5, 9)))


def test_a_filter_answers_what_the_whole_catalogue_does_of_the_items_that_pass(server):
    furnish_shelves(server)
    shelf, cheap = equals("shelf", "s0"), between("price", None, 12.0)
    asked = [
        filtered("ann", shelf, k=50),
        filtered("ann", AllOf((shelf, cheap)), k=50, exclude_seen=True),
        filtered("bob", shelf, k=3, exclude=["i0", "i12"]),
        filtered("ann", NoneOf((shelf,)), k=4, explained=2, reasons=2),
        filtered("bob", equals("shelf", "none")),
        filtered("ann", shelf, k=0),
    ]
    of_shelf = [n for n in range(0, 30, 3) if n != 6]
    passing = [
        of_shelf,
        [n for n in of_shelf if n <= 12 and n not in (3, 9)],
        [n for n in of_shelf if n not in (0, 12)],
        [n for n in range(30) if n % 3],
        [],
        of_shelf,
    ]

    together = server.rank(*asked, task("ann", k=5), task("ann", item_ids=["i1", "i2"], k=2))
    alone = [server.rank(one)[0] for one in asked]

    for one, answer, lone, numbers in zip(asked, together, alone, passing, strict=False):
        user = one.user.decode()
        (whole,) = server.rank(task(user, k=50, explained=one.explained, reasons=one.reasons))
        wanted = [i for i in ids_of(whole) if i in {f"i{n}" for n in numbers}][: one.k]
        assert ids_of(answer) == wanted
        assert bytes(lone.items) == bytes(answer.items)
        assert answer.missing == []
    assert len(ids_of(together[6])) == 5
    assert set(ids_of(together[7])) == {"i1", "i2"}


def test_a_filter_follows_the_catalogue(server):
    furnish_shelves(server)
    asked = filtered("ann", equals("shelf", "s0"), k=50)
    assert "i0" in ids_of(server.rank(asked)[0])

    server.put(
        item("i0", "text 0", price=0, attributes={"shelf": "s1"}),
        item("i99", "new", attributes={"shelf": "s0"}),
    )

    found = ids_of(server.rank(asked)[0])
    assert "i0" not in found
    assert "i99" in found


def test_a_condition_on_an_attribute_of_an_unknown_user_passes_nothing(server):
    furnish_shelves(server)
    mine = EqualsUser("shelf", "favourite")

    nothing, everything = server.rank(filtered("ann", mine), filtered("ann", NoneOf((mine,)), k=50))

    assert ids_of(nothing) == []
    assert len(ids_of(everything)) == 29


def test_a_filter_over_no_items_is_an_empty_answer(server):
    (answer,) = server.rank(filtered("ann", NoneOf(())))
    assert ids_of(answer) == []


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
