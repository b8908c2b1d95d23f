"""Vectors and tokens of texts."""

from __future__ import annotations

import numpy as np
import pytest

from rankstream.client import DataLoss, InvalidArgument


def test_embed(client):
    embeddings = client.embed(["ab c", "", "\U0001f600"])

    assert embeddings.vectors.dtype == np.float32
    assert embeddings.vectors.tolist() == [[4.0] * 3, [0.0] * 3, [1.0] * 3]
    assert [result.tokens for result in embeddings.results] == [2, 0, 1]
    assert [result.error is None for result in embeddings.results] == [True, False, True]
    embeddings.vectors[0] = 0


def test_a_priority_is_one_of_two(client):
    assert len(client.embed(["ab"], priority="bulk").vectors) == 1
    with pytest.raises(InvalidArgument, match="^priority: 'high'; expected 'interactive', 'bulk'"):
        client.embed(["ab"], priority="high")


def test_a_prompt_is_named(client):
    assert client.embed(["ab"], prompt_name="query").vectors[0, 0] == 7
    assert client.tokenize(["ab"], prompt_name="query")[0].tokens == ("find", "ab")
    for call in (client.embed, client.tokenize):
        with pytest.raises(InvalidArgument, match="prompt_name: no prompt 'qury'"):
            call(["ab"], prompt_name="qury")
        with pytest.raises(InvalidArgument, match="^prompt_name: 7 is of type int"):
            call(["ab"], prompt_name=7)


def test_embed_refuses_one_string(client):
    with pytest.raises(InvalidArgument, match="^texts: "):
        client.embed("one")


def test_an_answer_whose_bytes_do_not_fill_its_shape_is_refused():
    from rankstream.client.vectors import vector_from_pb
    from rankstream.proto.v1 import common_pb2

    with pytest.raises(DataLoss, match="7 bytes"):
        vector_from_pb(common_pb2.Vector(data=b"1234567", dtype=1, shape=[2]))
    with pytest.raises(DataLoss, match="dtype 0"):
        vector_from_pb(common_pb2.Vector(data=b"", shape=[0]))


def test_texts_are_tokenized(client):
    words, empty = client.tokenize(["red shoes", ""])

    assert words.token_ids.dtype == np.uint32
    assert (words.tokens, words.error) == (("red", "shoes"), None)
    assert isinstance(empty.error, InvalidArgument)
