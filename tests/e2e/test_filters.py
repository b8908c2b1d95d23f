"""Attributes in, filters over them out: a real server, and again after a restart."""

import pytest
from google.protobuf.json_format import ParseDict
from requests_to import ids_of, profile, upsert

from rankstream.proto.v1 import catalog_pb2, profiles_pb2, ranking_pb2

FILMS = [
    {"itemId": "alien", "title": "Alien, horror in space", "category": "film", "brand": "fox",
     "tags": ["horror", "space"], "price": 9.5,
     "attributes": {"year": {"number": 1979}, "cast": {"texts": {"values": ["weaver", "hurt"]}}}},
    {"itemId": "nemo", "title": "Finding Nemo, a fish story", "category": "film",
     "brand": "pixar", "tags": ["children"], "price": 7,
     "attributes": {"year": {"number": 2003}, "subtitled": {"flag": True}}},
    {"itemId": "dune", "title": "Dune, a desert planet", "category": "book", "brand": "chilton",
     "tags": ["space"], "price": 12, "attributes": {"year": {"number": 1965}}},
    {"itemId": "gift", "title": "A gift voucher"},
]  # fmt: skip


def condition(column, **test):
    return {"condition": {"column": column, **test}}


def all_of(*filters):
    return {"all": {"filters": list(filters)}}


def none_of(*filters):
    return {"none": {"filters": list(filters)}}


def request(asked, user="somebody", **fields):
    return ParseDict({"userId": user, "filter": asked, **fields}, ranking_pb2.RankRequest())


def found(server, asked, **fields):
    return sorted(ids_of(server.ranking.Rank(request(asked, **fields), timeout=20)))


@pytest.fixture(scope="module")
def server(serve_shared):
    started = serve_shared(prefix="filters.").start()
    upsert(started, [ParseDict(film, catalog_pb2.Item()) for film in FILMS])
    return started


SPACE = condition("tags", equals={"text": "space"})
OLD = condition("year", range={"max": 1979})

PASSING = {
    "equals": (condition("category", equals={"text": "film"}), ["alien", "nemo"]),
    "one of a set": (SPACE, ["alien", "dune"]),
    "an attribute's set": (condition("cast", equals={"text": "hurt"}), ["alien"]),
    "one_of": (
        condition("brand", oneOf={"values": [{"text": "fox"}, {"text": "chilton"}]}),
        ["alien", "dune"],
    ),
    "a flag": (condition("subtitled", equals={"flag": True}), ["nemo"]),
    "a range, ends included": (condition("price", range={"min": 7, "max": 9.5}), ["alien", "nemo"]),
    "a range with an open end": (OLD, ["alien", "dune"]),
    "exists": (condition("year", exists=True), ["alien", "dune", "nemo"]),
    "exists not": (condition("year", exists=False), ["gift"]),
    "nested": (all_of(SPACE, none_of(condition("category", equals={"text": "book"}))), ["alien"]),
    "all of none": (all_of(), ["alien", "dune", "gift", "nemo"]),
    "nothing": (condition("category", equals={"text": "Film"}), []),
    "another kind": (condition("year", equals={"text": "1979"}), []),
    "an unknown column": (condition("colour", exists=True), []),
    "a user without the attribute": (condition("brand", equalsUserAttribute="favourite"), []),
    "a range of a user without it": (condition("price", range={"maxUserAttribute": "purse"}), []),
}


@pytest.mark.parametrize("what", PASSING)
def test_a_filter_passes(server, what):
    asked, passing = PASSING[what]

    assert found(server, asked) == passing


def test_k_exclusions_and_scores_are_those_of_the_whole_catalogue(server):
    whole = server.ranking.Rank(
        ParseDict({"userId": "somebody", "wholeCatalogue": {}}, ranking_pb2.RankRequest()),
        timeout=20,
    )
    scores = {item.item_id: item.score for item in whole.items}

    answer = server.ranking.Rank(request(condition("year", exists=True)), timeout=20)

    assert {i.item_id: i.score for i in answer.items} == {n: scores[n] for n in ids_of(answer)}
    assert found(server, SPACE, excludeItemIds=["dune"]) == ["alien"]
    assert len(found(server, all_of(), k=2)) == 2


def test_a_filter_reads_the_attributes_of_the_requests_user(server):
    user = {"userId": "ann", "attributes": {
        "favourites": {"texts": {"values": ["fox", "chilton"]}}, "purse": {"number": 10},
    }}  # fmt: skip
    written = server.profiles.UpsertUser(
        ParseDict({"user": user}, profiles_pb2.UpsertUserRequest()), timeout=20
    )
    seen = profile(server, "ann", written.token)
    assert seen.user_id == "ann"
    mine = condition("brand", equalsUserAttribute="favourites")
    dear = condition("price", range={"minUserAttribute": "purse"})

    def for_ann(asked):
        return sorted(ids_of(server.ranking.Rank(request(asked, "ann"), timeout=20)))

    assert for_ann(mine) == ["alien", "dune"]
    assert for_ann(dear) == ["dune"]
    assert for_ann(all_of(mine, none_of(dear))) == ["alien"]
    assert for_ann(condition("price", range={"minUserAttribute": "favourites"})) == []
    assert found(server, mine) == []


def test_similar_items_may_be_filtered(server):
    asked = {"itemId": "alien", "filter": SPACE}

    answer = server.ranking.SimilarItems(
        ParseDict(asked, ranking_pb2.SimilarItemsRequest()), timeout=20
    )

    assert ids_of(answer) == ["dune"]


def test_filters_of_a_batch_do_not_touch_one_another(server):
    asked = [SPACE, OLD, {}, SPACE, condition("subtitled", equals={"flag": True})]
    batch = ranking_pb2.BatchRankRequest(requests=[request(one) for one in asked])

    entries = server.ranking.BatchRank(batch, timeout=20).entries

    assert [e.status.code for e in entries] == [0, 0, 3, 0, 0]
    assert entries[2].status.message.startswith("requests[2].filter: not set")
    answers = [sorted(ids_of(e.response)) for e in entries]
    assert answers == [["alien", "dune"], ["alien", "dune"], [], ["alien", "dune"], ["nemo"]]


def test_a_price_that_changes_is_seen_by_the_next_request(server):
    dear = condition("price", range={"min": 100})
    assert found(server, dear) == []

    upsert(server, [ParseDict({**FILMS[3], "price": 100}, catalog_pb2.Item())])

    assert found(server, dear) == ["gift"]
    upsert(server, [ParseDict(FILMS[3], catalog_pb2.Item())])
    assert found(server, dear) == []


def test_after_a_restart_filters_pass_the_same(server):
    server.stop()
    server.start()

    for asked, passing in PASSING.values():
        assert found(server, asked) == passing
