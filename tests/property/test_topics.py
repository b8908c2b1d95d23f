"""The order between topics and partitions, cuts, crashes and compaction change no final answer."""

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from topics_log import ITEMS, ROOMY, Log, logs
from topics_records import Gone, Said
from topics_runs import (
    EVERYONE,
    FILTERS,
    QUERY,
    deterministic,
    drive,
    few,
    in_order,
    outcome,
    replica,
    steps,
)


def check_state(state, log):
    oracle, ids = log.oracle, {name: number for number, name in enumerate(EVERYONE)}
    assert state["profiles"] == [oracle.profile_bytes(user) for user in EVERYONE]
    assert state["seen"] == [oracle.seen_bytes(user) for user in EVERYONE]
    people = [[i.decode() for i in state["people"][ids[user]].ids] for user in EVERYONE]
    assert people == [oracle.person(user) for user in EVERYONE]
    assert state["counters"] == oracle.counters()
    assert state["items_count"] == len(state["items"]) == len(oracle.items)
    assert all(vector for _, vector in state["texts"].values())


def check_answers(answers, log):
    for user in EVERYONE:
        plain, asked = log.oracle.rank(user), log.oracle.rank(user, QUERY)
        about, seen = log.oracle.attributes(user), log.oracle.seen_items(user)
        items = log.oracle.items
        check_answer(answers[user, "whole"], plain, set(items))
        check_answer(answers[user, "given"], plain, set(items))
        check_answer(answers[user, "unseen"], plain, set(items) - seen)
        check_answer(answers[user, "query"], asked, set(items))
        for name, (_, passes) in FILTERS.items():
            wanted = {i for i, item in items.items() if passes(item, about)}
            check_answer(answers[user, name], plain, wanted)
        missing = [i for i in [*ITEMS, "nothing"] if i not in items]
        assert answers[user, "given"][1] == missing


def check_answer(answer, expected, wanted):
    shown, _, fallback, _ = answer
    assert set(shown) == wanted
    if expected.shaky:
        # What cancels out but for rounding is no direction to agree upon.
        event("shaky")
        return
    known = "no_usable_history" if expected.known else "unknown_user"
    assert fallback == ("" if expected.personal else known)
    for name, (score, blocks, bias, reasons) in shown.items():
        total, parts, popular, why = expected.items[name]
        assert score == pytest.approx(total, abs=1e-6)
        assert blocks == pytest.approx(parts, abs=1e-6)
        assert bias == pytest.approx(popular, abs=1e-6)
        found = sorted(((i, text), kind, at, part) for i, text, kind, at, part in reasons)
        assert [r[:3] for r in found] == [r[:3] for r in why]
        for r, w in zip(found, why, strict=True):
            assert r[3] == pytest.approx(w[3], abs=1e-6)


@deterministic
@given(logs(), steps, steps)
def test_any_interleaving_answers_as_the_log_read_in_order(log, one, other):
    outcomes = []
    for schedule in (one, other):
        with replica(log) as made:
            drive(made, schedule)
            outcomes.append(outcome(made))
    with replica(log) as made:
        in_order(made, log)
        outcomes.append(outcome(made))

    state, answers = outcomes[-1]
    check_state(state, log)
    check_answers(answers, log)
    for found in outcomes[:-1]:
        assert found == outcomes[-1]


@few
@given(st.data(), logs(), steps)
def test_what_compaction_drops_changes_nothing(data, log, schedule):
    superseded = {
        (where, record.offset)
        for where, entries in log.partitions.items()
        for n, (_, record) in enumerate(entries)
        if where[0] != "events" and any(r.key == record.key for _, r in entries[n + 1 :])
    }
    dropped = data.draw(
        st.sets(st.sampled_from(sorted(superseded))) if superseded else st.just(set())
    )
    dropped |= data.draw(st.sampled_from([set(), tombstones_of(log, superseded)]))
    with replica(log) as whole, replica(log, log.without(dropped)) as compacted:
        in_order(whole, log)
        drive(compacted, schedule)
        (state, answers), (left, found) = outcome(whole), outcome(compacted)

    # Behind a record that is gone there may be none to say so.
    assert left.pop("positions").keys() <= state.pop("positions").keys()
    # A text that nothing names any more is remembered by one of them.
    assert left.pop("texts").items() <= state.pop("texts").items()
    assert left == state
    assert found == answers


def tombstones_of(log, superseded):
    """Deletions and all that they delete: after a time Kafka drops those, too."""
    gone = {
        (where, record.key): record.offset
        for where, entries in log.partitions.items()
        if where[0] != "events"
        for plain, record in entries
        if isinstance(plain, Gone) and (where, record.offset) not in superseded
    }
    return {
        (where, record.offset)
        for where, entries in log.partitions.items()
        for _, record in entries
        if (where, record.key) in gone
    }


@few
@given(st.data(), logs(), steps)
def test_an_event_that_comes_again_changes_nothing_while_it_is_retained(data, log, schedule):
    """Here everything is retained: the sets have room, and resets are left out."""
    once, twice = Log(ROOMY), Log(ROOMY)
    for topic, _, record, made in log.produced:
        kept = topic != "events" or (isinstance(record, Said) and record.event_id)
        for target, times in ((once, 1), (twice, data.draw(st.integers(1, 2)))) if kept else ():
            target.now = made.timestamp
            for _ in range(times if topic == "events" else 1):
                target.write(topic, record)
    with replica(once) as one, replica(twice) as other:
        in_order(one, once)
        drive(other, schedule)
        (state, answers), (again, found) = outcome(one), outcome(other)

    assert again | {"positions": {}} == state | {"positions": {}}
    assert found == answers
