"""Filtered answers: those of the whole catalogue, of the items that pass."""

from small_server import ids_of, item, task

from rankstream.server.filters import AllOf, EqualsUser, Filter, NoneOf, between, equals


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
