"""Text in, events in, scores out: what an answer is made of, over each broker."""

import numpy as np
import pytest
from requests_to import (
    TITLES,
    after,
    blocks_of,
    catalogue,
    event,
    ids_of,
    info,
    profile,
    rank,
    record,
    rows_of,
    upsert,
)
from server_process import wait_for

from rankstream.proto.v1 import catalog_pb2, encoder_pb2, ranking_pb2


@pytest.fixture(scope="module")
def server(serve_on):
    """A server with a small catalogue; tests write for users of their own."""
    started = serve_on("scores.", vectors="image:3:0.5").start()
    upsert(started, catalogue())
    return started


def assert_parts_add_up(answer):
    for item in answer.items:
        total = sum(item.parts.blocks) + item.parts.bias
        assert item.score == pytest.approx(total, rel=2**-22, abs=1e-9)


def test_an_item_goes_in_is_encoded_and_comes_out(server):
    item = catalog_pb2.Item(
        item_id="café/1", title="Amélie", description="Paris", category="romance", tags=["fr"]
    )

    token = upsert(server, [item])

    found = server.catalog.GetItem(
        catalog_pb2.GetItemRequest(item_id="café/1", read_after=after(token)), timeout=20
    )
    assert found.item == item
    assert "Amélie" in found.text
    assert "Paris" in found.text
    assert ids_of(rank(server, "someone", ["café/1"])) == ["café/1"]


def test_an_event_changes_the_ranking_and_says_why(server):
    before = rank(server, "line", list(TITLES))
    assert before.served_by.fallback == "unknown_user"

    token = record(server, event("line", "alien"))
    answer = rank(server, "line", list(TITLES), token)

    assert answer.served_by.fallback == ""
    assert ids_of(answer)[:2] == ["alien", "aliens"]
    assert not answer.freshness.stale
    assert answer.items[1].reasons[0].item_id == "alien"
    assert answer.items[1].reasons[0].type == "click"
    assert_parts_add_up(answer)
    assert [i.rank for i in answer.items] == list(range(1, len(TITLES) + 1))
    assert [i.score for i in answer.items] == sorted((i.score for i in answer.items), reverse=True)


def test_the_whole_catalogue_and_given_candidates_agree_to_the_last_bit(server):
    token = record(server, event("agree", "toy"), event("agree", "titanic", "view"))

    given = rank(server, "agree", list(TITLES), token)
    retrieved = rank(server, "agree", token=token, k=1000)

    scores = {i.item_id: i.score for i in retrieved.items}
    assert {i.item_id: i.score for i in given.items} == {n: scores[n] for n in TITLES}


def test_reasons_add_up_to_what_the_blocks_contribute(server):
    liked = [event("sum", "toy"), event("sum", "godfather", "purchase", value=2)]
    token = record(server, *liked, event("sum", "titanic", "rate", value=1))

    answer = rank(
        server, "sum", token=token, k=1000, explain=ranking_pb2.Explain(items=100, reasons=16)
    )

    assert_parts_add_up(answer)
    for item in answer.items:
        explained = sum(reason.contribution for reason in item.reasons)
        assert explained == pytest.approx(sum(item.parts.blocks), abs=1e-5)
    contributions = {r.item_id: r.contribution for r in answer.items[0].reasons}
    assert contributions.keys() == {"toy", "godfather", "titanic"}


def test_one_click_scores_text_as_the_encoder_sees_it(server):
    token = record(server, event("cosine", "nemo"))
    texts = [
        server.catalog.GetItem(catalog_pb2.GetItemRequest(item_id=name), timeout=20).text
        for name in TITLES
    ]
    answer = server.encoder.Embed(encoder_pb2.EmbedRequest(texts=texts), timeout=20)
    vectors = rows_of(answer)
    own = vectors[list(TITLES).index("nemo")]

    ranked = rank(server, "cosine", list(TITLES), token)

    weights = {b.name: b.weight for b in info(server).blocks}
    for item in ranked.items:
        cosine = float(vectors[list(TITLES).index(item.item_id)] @ own)
        # bfloat16, and other texts in the encoder's batch
        text = blocks_of(ranked, item)["text"]
        assert text == pytest.approx(weights["text"] * cosine, abs=0.03)


def test_a_bad_rating_repels(server):
    token = record(server, event("critic", "alien", "rate", value=1))

    answer = rank(server, "critic", list(TITLES), token)

    # Whatever others think of it, which is in the bias.
    similar = {i.item_id: blocks_of(answer, i)["text"] for i in answer.items}
    assert min(similar, key=similar.get) == "alien"
    assert similar["alien"] < 0
    assert profile(server, "critic", token).interactions[0].weight == -1


def test_a_caller_supplied_vector_is_a_block_of_its_own(server):
    def with_image(name, *values):
        vector = catalog_pb2.Item().vectors[""]
        vector.data, vector.dtype = np.array(values, "<f4").tobytes(), 1
        vector.shape.append(len(values))
        item = catalog_pb2.Item(item_id=name, title="a picture")
        item.vectors["image"].CopyFrom(vector)
        return item

    upsert(
        server, [with_image("red", 2, 0, 0), with_image("pink", 1, 1, 0), with_image("z", 0, 0, 0)]
    )
    token = record(server, event("painter", "red"))

    answer = rank(server, "painter", ["red", "pink", "z"], token)

    image = {i.item_id: blocks_of(answer, i)["image"] for i in answer.items}
    assert image["red"] == pytest.approx(0.5)
    assert image["pink"] == pytest.approx(0.5 * np.sqrt(0.5))
    assert image["z"] == 0


def test_popularity_is_in_the_bias_of_everyone(server):
    upsert(server, [catalog_pb2.Item(item_id="hit", title="a hit"), *catalogue()])
    record(server, *(event(f"fan-{i}", "hit") for i in range(200)))

    def biased():
        bias = {i.item_id: i.parts.bias for i in rank(server, "newcomer", ["hit", "toy"]).items}
        return bias["hit"] > bias["toy"]

    wait_for(biased, "a bias for what 200 people clicked")
    answer = rank(server, "newcomer", k=1)
    assert ids_of(answer) == ["hit"]
    assert answer.served_by.fallback == "unknown_user"


def test_an_event_before_its_item_counts_once_the_item_arrives(server):
    token = record(server, event("early", "sequel"))
    assert rank(server, "early", list(TITLES), token).served_by.fallback == "no_usable_history"

    upsert(server, [catalog_pb2.Item(item_id="sequel", title="Alien, horror on a spaceship 2")])

    answer = rank(server, "early", list(TITLES))
    assert answer.served_by.fallback == ""
    assert ids_of(answer)[0] in ("alien", "aliens")


def test_texts_are_embedded_and_a_long_one_is_flagged(server):
    request = encoder_pb2.EmbedRequest(texts=["a film", "", "word " * 2000, "a film"])

    answer = server.encoder.Embed(request, timeout=20)

    vectors = rows_of(answer)
    assert vectors.shape == (4, info(server).encoder.dimensions)
    assert [r.truncated for r in answer.results] == [False, False, True, False]
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-3)
    assert vectors[0] @ vectors[3] == pytest.approx(1, abs=1e-3)
