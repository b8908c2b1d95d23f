import hashlib

import numpy as np
import pytest

from rankstream.kernels import KernelArgumentError, blake2b, hash_spans

ITEM = b"item"


def spans_of(texts, gap=b""):
    """One text, and where each of ``texts`` lies in it, ``gap`` before and between them."""
    starts, whole = [], b""
    for text in texts:
        whole += gap
        starts.append(len(whole))
        whole += text
    starts = np.array(starts, np.int64)
    return (
        np.frombuffer(whole, np.uint8),
        starts,
        starts + np.array([len(t) for t in texts], np.int64),
    )


def expected(texts, person=ITEM):
    digests = [hashlib.blake2b(text, digest_size=8, person=person).digest() for text in texts]
    return [int.from_bytes(digest, "little") for digest in digests]


@pytest.mark.parametrize("alone", [True, False])
def test_every_length_to_300(alone):
    rng = np.random.default_rng(1)
    texts = [rng.bytes(length) for length in range(301)]
    batches = [[text] for text in texts] if alone else [texts]
    for batch in batches:
        assert hash_spans(*spans_of(batch), ITEM).tolist() == expected(batch)


@pytest.mark.parametrize("longest", [0, 12, 40, 129, 700])
@pytest.mark.parametrize("gap", [b"", b"\xff\xff\xff"])
def test_batches_of_mixed_lengths(longest, gap):
    rng = np.random.default_rng(longest)
    for count in range(41):
        texts = [rng.bytes(int(length)) for length in rng.integers(0, longest + 1, count)]
        keys = hash_spans(*spans_of(texts, gap), ITEM)
        assert keys.dtype == np.uint64
        assert keys.tolist() == expected(texts)


@pytest.mark.parametrize("place", range(8))
def test_one_long_text_among_short_ones(place):
    texts = [b"short"] * 8
    texts[place] = b"long" * 100
    assert hash_spans(*spans_of(texts), ITEM).tolist() == expected(texts)


@pytest.mark.parametrize("person", [b"", b"event", b"0123456789abcdef", b"\xff" * 16])
def test_every_personalisation(person):
    texts = [b"", b"a", b"b" * 128, b"c" * 129]
    assert hash_spans(*spans_of(texts), person).tolist() == expected(texts, person)


def test_spans_may_overlap_and_repeat():
    text = np.frombuffer(b"abcdefghij", np.uint8)
    starts, stops = np.array([0, 0, 2, 10]), np.array([10, 10, 5, 10])
    want = expected([b"abcdefghij", b"abcdefghij", b"cde", b""])
    assert hash_spans(text, starts, stops, ITEM).tolist() == want


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1), (0, 4), (4, 4)])
def test_refuses_spans_outside_the_text(start, stop):
    text, starts, stops = spans_of([b"abc"])
    starts, stops = np.append(starts, start), np.append(stops, stop)
    with pytest.raises(KernelArgumentError, match=f"spans: {start}:{stop} at 1; expected .* 0:3"):
        hash_spans(text, starts, stops, ITEM)


def test_refuses_what_breaks_the_contract():
    text, starts, stops = spans_of([b"abc"])
    with pytest.raises(KernelArgumentError, match="person: has 17 bytes; expected at most 16"):
        hash_spans(text, starts, stops, b"p" * 17)
    with pytest.raises(KernelArgumentError, match=r"stops: has shape \(2,\)"):
        hash_spans(text, starts, np.append(stops, 0), ITEM)
    with pytest.raises(KernelArgumentError, match="starts: has dtype <i4"):
        hash_spans(text, starts.astype(np.int32), stops, ITEM)


def test_arrays_that_can_be_written_are_no_second_signature():
    text, starts, stops = spans_of([b"abc"])
    hash_spans(text, starts, stops, ITEM)
    hash_spans(text.copy(), starts.copy(), stops.copy(), ITEM)
    assert len(blake2b._hash_inside.signatures) == 1
