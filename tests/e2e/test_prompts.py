"""A model with prompts behind a whole server: which of them items, queries and users' texts get."""

import folders
import numpy as np
import pytest
from grpc import StatusCode
from requests_to import WHOLE, blocks_of, event, info, rank, record, refused, rows_of, upsert
from server_process import wait_for

from rankstream.proto.v1 import catalog_pb2, encoder_pb2, ranking_pb2

PROMPTS = {"query": "red chess board ", "document": "wood train for kids ", "third": ""}


@pytest.fixture(scope="module")
def server(serve_shared, tmp_path_factory):
    folder = folders.write_random_decoder(tmp_path_factory.mktemp("prompted") / "model")
    folders.write_sentence_config(folder, prompts=PROMPTS)
    made = serve_shared(model=folder)
    made.start()
    upsert(made, [catalog_pb2.Item(item_id="toy", title="toy story")])
    return made


def embedded(server, text, prompt=""):
    request = encoder_pb2.EmbedRequest(texts=[text], prompt_name=prompt)
    return rows_of(server.encoder.Embed(request, timeout=20))[0]


def similarity(answer):
    (item,) = answer.items
    return blocks_of(answer, item)["text"]


def test_items_and_queries_have_prompts_of_their_own(server):
    request = ranking_pb2.RankRequest(
        whole_catalogue=WHOLE, query=ranking_pb2.Query(text="alien", weight=1.0)
    )

    answer = server.ranking.Rank(request, timeout=20)

    expected = embedded(server, "toy story", "document") @ embedded(server, "alien", "query")
    assert similarity(answer) == pytest.approx(expected, abs=1e-4)
    wrong = embedded(server, "toy story") @ embedded(server, "alien")
    assert abs(expected - wrong) > 1e-3


def test_what_a_user_searched_for_has_the_prompt_of_queries(server):
    token = record(server, event("ann", "", "search", text="blue alien"))

    def known():
        answer = rank(server, "ann", token=token)
        return similarity(answer) != 0 and answer

    answer = wait_for(known, "the vector of what ann searched for")

    expected = embedded(server, "toy story", "document") @ embedded(server, "blue alien", "query")
    assert similarity(answer) == pytest.approx(expected, abs=1e-4)


def test_the_server_says_which_prompts_there_are(server):
    found = info(server).encoder

    assert list(found.prompts) == ["document", "query", "third"]
    assert (found.item_prompt, found.query_prompt) == ("document", "query")
    assert found.default_prompt == ""
    np.testing.assert_allclose(embedded(server, "toy", "third"), embedded(server, "toy"), atol=1e-5)


def test_a_prompt_that_does_not_exist_is_named_with_those_that_do(server):
    words = ("no prompt 'qury'", "'document', 'query', 'third'")
    embed = encoder_pb2.EmbedRequest(texts=["a", "b"], prompt_name="qury")
    with refused(StatusCode.INVALID_ARGUMENT, *words, field="prompt_name"):
        server.encoder.Embed(embed, timeout=10)
    tokenize = encoder_pb2.TokenizeRequest(texts=["a"], prompt_name="qury")
    with refused(StatusCode.INVALID_ARGUMENT, *words, field="prompt_name"):
        server.encoder.Tokenize(tokenize, timeout=10)

    good = encoder_pb2.EmbedRequest(texts=["a"], prompt_name="query")
    first, second, third = server.encoder.EmbedStream(iter([good, embed, good]), timeout=20)

    assert [r.status.code for r in second.results] == [StatusCode.INVALID_ARGUMENT.value[0]] * 2
    np.testing.assert_allclose(rows_of(first), rows_of(third), atol=1e-5)


def test_tokens_include_the_prompt(server):
    request = encoder_pb2.TokenizeRequest(texts=["toy"], prompt_name="document")

    (found,) = server.encoder.Tokenize(request, timeout=10).texts

    assert list(found.tokens) == ["wood", "train", "for", "kids", "toy", "[SEP]"]
