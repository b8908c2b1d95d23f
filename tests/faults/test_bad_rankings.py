"""What may be asked for: a typed status that names the field, and the next request is right.

The numbers are those of the project's list of bad input.
"""

import pytest
from drafts import INVALID, TEXT, ask, ids, whole
from requests_to import (
    WHOLE,
    after,
    catalogue,
    event,
    ids_of,
    item_key,
    profile,
    rank,
    record,
    refused,
    upsert,
)

from rankstream.proto.v1 import catalog_pb2, ranking_pb2

pytestmark = pytest.mark.usefixtures("next_request_is_right")


def condition(column="brand", **test):
    return ranking_pb2.Filter(condition=ranking_pb2.Condition(column=column, **test))


def any_of(*filters):
    return ranking_pb2.Filter(any=ranking_pb2.Filters(filters=filters))


def nested(depth):
    made = condition(exists=True)
    for _ in range(depth - 1):
        made = ranking_pb2.Filter(all=ranking_pb2.Filters(filters=[made]))
    return made


REFUSED = {
    "10: k beyond the limit": (whole(k=1001), "k", "1001, the limit is 1000"),
    "10: the greatest k": (whole(k=2**32 - 1), "k", "the limit is 1000"),
    "15: NUL in a user_id": (
        ranking_pb2.RankRequest(user_id="a\0", whole_catalogue=WHOLE),
        "user_id",
        "NUL",
    ),
    "15: NUL in a candidate": (
        ask(item_ids=ids("toy", "a\0" * 200)),
        "item_ids.item_ids[1]",
        "longer than 256",
    ),
    "16: no user": (ranking_pb2.RankRequest(whole_catalogue=WHOLE), "subject", "not set"),
    "16: a long user": (
        ranking_pb2.RankRequest(user_id="u" * 257, whole_catalogue=WHOLE),
        "user_id",
        "longer than 256 bytes",
    ),
    "17: an empty candidate": (ask(item_ids=ids("toy", "")), "item_ids.item_ids[1]", "empty"),
    "18: no candidates at all": (ask(), "candidates", "give item_ids, item_keys or"),
    "20: too many ids": (
        ask(item_ids=ids(*map(str, range(10_001)))),
        "item_ids.item_ids",
        "10001 candidates, the limit is 10000",
    ),
    "20: too many keys": (
        ask(item_keys=ranking_pb2.ItemKeys(item_keys=range(10_001))),
        "item_keys.item_keys",
        "the limit is 10000",
    ),
    "3: a filter of nothing": (ask(filter=ranking_pb2.Filter()), "filter", "not set"),
    "3: a filter nested deeply": (ask(filter=nested(9)), "filter" + ".all.filters[0]" * 8, "deep"),
    "7: NaN in a filter": (
        ask(filter=condition(range=ranking_pb2.Range(min=float("nan")))),
        "filter.condition.range.min",
        "nan, expected a finite number",
    ),
    "16: a filter without a column": (
        ask(filter=condition(column="", exists=True)),
        "filter.condition.column",
        "empty",
    ),
    "20: too many filters": (
        ask(filter=any_of(*[condition(exists=True)] * 64)),
        "filter",
        "more than 64 filters",
    ),
    "20: too many values": (
        ask(filter=condition(one_of=ranking_pb2.AttributeValues(values=[TEXT] * 257))),
        "filter",
        "more than 256 values",
    ),
    "20: too many exclusions": (
        whole(exclude_item_ids=map(str, range(10_001))),
        "exclude_item_ids",
        "the limit is 10000",
    ),
    "20: too many explained": (
        whole(explain=ranking_pb2.Explain(items=101)),
        "explain.items",
        "the limit is 100",
    ),
    "20: too many reasons": (
        whole(explain=ranking_pb2.Explain(reasons=17)),
        "explain.reasons",
        "the limit is 16",
    ),
    "21: a long wait": (
        whole(read_after=after(b"R1", 10_001)),
        "read_after.max_wait_ms",
        "10001, the limit is 10000",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_ranking_that_is_refused(server, case):
    request, field, words = REFUSED[case]

    with refused(INVALID, words, field=field):
        server.ranking.Rank(request, timeout=10)

    batch = ranking_pb2.BatchRankRequest(requests=[whole(k=1), request])
    good, bad = server.ranking.BatchRank(batch, timeout=10).entries
    assert len(good.response.items) == 1
    assert bad.status.code == INVALID.value[0]
    assert bad.status.message.startswith(f"requests[1].{field}: ")


@pytest.mark.parametrize(("k", "expected"), [(0, 0), (1, 1), (1000, 8)])
def test_10_k_from_nothing_to_more_than_there_is(server, k, expected):
    everything = [item.item_id for item in catalogue()]

    assert len(rank(server, "stranger", everything, k=k).items) == expected
    assert len(rank(server, "known", everything + ["none"], k=k).items) == expected


def test_11_equal_scores_are_in_the_order_of_rows(server):
    names = [f"same-{n}" for n in (3, 1, 2, 0)]
    upsert(server, [catalog_pb2.Item(item_id=name, title="the same") for name in names])

    given = rank(server, "stranger to all", sorted(names))
    some = [i for i in ids_of(rank(server, "stranger to all", k=1000)) if i in names]

    assert len({item.score for item in given.items}) == 1
    assert some == names


def test_18_a_filter_that_nothing_passes_is_an_empty_answer(server):
    request = ask(filter=condition(column="no such column", exists=True))

    assert not server.ranking.Rank(request, timeout=10).items


ODD_IDS = {
    "control characters": "a\x01\x1b[31m\x7f",
    "new lines": "a\r\nERROR forged b",
    "right to left": "\u202eevil\u202c \u0645\u0631\u062d\u0628\u0627",
    "emoji": "👩🏽‍🚀🎬",
    "composed": "caf\u00e9",
    "decomposed": "cafe\u0301",
    "beyond the BMP": "\U0001f4a9\U0010fffd",
    "not a character": "\ufffe\uffff",
    "only blanks": "   \t",
    "path": "../../etc/passwd",
    "a number": "18446744073709551616",
    "negative": "-1",
    "leading zero": "007",
    "256 bytes": "é" * 128,
}


@pytest.mark.parametrize("what", ODD_IDS)
def test_15_19_33_an_id_of_any_characters_comes_back_the_same(server, what):
    name = ODD_IDS[what]
    upsert(server, [catalog_pb2.Item(item_id=name, title=f"title of {name}", tags=[name[:60]])])
    token = record(server, event(name, name, event_id=name))

    found = profile(server, name, token)
    answer = rank(server, name, [name, "toy"], token)

    assert [i.item_id for i in found.interactions] == [name]
    assert found.user_id == name
    assert ids_of(answer)[0] == name
    assert answer.items[0].reasons[0].item_id == name


def test_17_19_candidates_unknown_repeated_or_extreme(server):
    keys = [0, 1, 2**31, 2**63, 2**64 - 1, item_key("toy"), item_key("toy"), 0]
    request = ask(item_keys=ranking_pb2.ItemKeys(item_keys=keys))

    answer = server.ranking.Rank(request, timeout=10)

    assert ids_of(answer) == ["toy"]
    assert list(answer.missing_item_keys) == [0, 1, 2**31, 2**63, 2**64 - 1]


def test_22_a_replayed_request_is_answered_alike(server):
    first, second = (rank(server, "known", ["toy", "alien"], request_id="same") for _ in "12")

    assert first.request_id == second.request_id == "same"
    assert list(first.items) == list(second.items)
