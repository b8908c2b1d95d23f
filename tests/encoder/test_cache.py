import threading

import numpy as np

from rankstream.server.encoder.base import Encoded
from rankstream.server.encoder.cache import ENTRY_BYTES, VectorCache
from rankstream.server.encoder.cached_encoder import CachedEncoder
from rankstream.server.encoder.prompts import Prompts
from rankstream.server.encoder.text import text_hash

DIMENSION = 4
ENTRY = ENTRY_BYTES + 4 * DIMENSION


def encoded(*values):
    vectors = np.repeat(np.array(values, np.float32)[:, None], DIMENSION, axis=1)
    return Encoded(vectors, np.array(values, np.int32), np.array(values) > 5)


def test_the_least_recently_used_goes_first():
    cache = VectorCache(2 * ENTRY)
    cache.put([b"a"], encoded(1))
    cache.put([b"b"], encoded(2))
    cache.get([b"a"])

    cache.put([b"c"], encoded(3))

    a, b, c = cache.get([b"a", b"b", b"c"])
    assert b is None
    assert a is not None
    assert c is not None
    assert (a.vector[0], c.vector[0]) == (1, 3)


def test_bytes_stay_within_the_budget_and_are_counted():
    cache = VectorCache(10 * ENTRY + 5)

    for n in range(50):
        cache.put([n.to_bytes(16)], encoded(n))

    stats = cache.stats()
    assert (stats.entries, stats.held_bytes, stats.evictions) == (10, 10 * ENTRY, 40)


def test_putting_a_key_again_replaces_it_without_counting_twice():
    cache = VectorCache(3 * ENTRY)
    cache.put([b"a", b"a"], encoded(1, 2))

    assert cache.stats().held_bytes == ENTRY
    assert cache.get([b"a"])[0].vector[0] == 2


def test_hits_and_misses_are_counted():
    cache = VectorCache(ENTRY)
    cache.put([b"a"], encoded(1))

    cache.get([b"a", b"b", b"a"])

    assert (cache.stats().hits, cache.stats().misses) == (2, 1)


def test_a_budget_of_nothing_remembers_nothing():
    cache = VectorCache(0)
    cache.put([b"a"], encoded(1))

    assert cache.get([b"a"]) == [None]
    assert cache.stats().held_bytes == 0


def test_what_is_remembered_is_a_copy_that_nobody_can_change():
    cache = VectorCache(ENTRY)
    batch = encoded(1)
    cache.put([b"a"], batch)
    batch.vectors[:] = 9

    (found,) = cache.get([b"a"])

    assert found.vector[0] == 1
    assert found.vector.base is None
    assert not found.vector.flags.writeable
    assert (found.tokens, found.truncated) == (1, False)


def test_threads_keep_the_books_right():
    cache = VectorCache(20 * ENTRY)

    def work(seed):
        rng = np.random.default_rng(seed)
        for n in rng.integers(0, 60, 400):
            key = int(n).to_bytes(16)
            (found,) = cache.get([key])
            assert found is None or found.vector[0] == n
            cache.put([key], encoded(n))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stats = cache.stats()
    assert stats.held_bytes == stats.entries * ENTRY <= 20 * ENTRY
    assert stats.hits + stats.misses == 1600


class Recorder:
    """An encoder that writes down what it is asked."""

    dimension, max_tokens, fingerprint, numerics = DIMENSION, 8, "space", "none"
    backend, model_name, precision = "recorder", "recorder", "f32"
    prompts = Prompts({"query": "find: ", "item": "item: ", "empty": ""})

    def __init__(self):
        self.asked = []

    def encode_counted(self, texts, prompt=None):
        self.asked.append(list(texts))
        read = [self.prompts.before(prompt) + text for text in texts]
        lengths = [[len(text), ord(text[0]), 0, 0] for text in read]
        vectors = np.array(lengths, np.float32).reshape(-1, DIMENSION)
        return Encoded(vectors, np.ones(len(texts)), np.zeros(len(texts)))


def test_a_text_is_encoded_once_also_within_one_call():
    recorder = Recorder()
    encoder = CachedEncoder(recorder, 100 * ENTRY)

    first = encoder.encode(["a", "bb", "a"])
    second = encoder.encode(["ccc", "bb"])

    assert recorder.asked == [["a", "bb"], ["ccc"]]
    np.testing.assert_array_equal(first[:, 0], [1, 2, 1])
    np.testing.assert_array_equal(second[:, 0], [3, 2])
    assert encoder.cache.get([text_hash("ccc")])[0] is not None
    assert encoder.encode([]).shape == (0, DIMENSION)


def test_a_text_under_two_prompts_is_two_texts():
    recorder = Recorder()
    encoder = CachedEncoder(recorder, 100 * ENTRY)
    read = {None: "sea", "query": "find: sea", "item": "item: sea"}

    for _ in range(2):
        for prompt, text in read.items():
            assert encoder.encode(["sea"], prompt)[0, :2].tolist() == [len(text), ord(text[0])]
    assert recorder.asked == [["sea"]] * 3
    # The empty prompt is none.
    assert encoder.encode(["sea"], "empty")[0, 0] == 3
    assert len(recorder.asked) == 3


def test_what_is_counted_is_remembered_under_its_prompt():
    recorder = Recorder()
    encoder = CachedEncoder(recorder, 100 * ENTRY)
    encoder.encode_counted(["sky"], "query")

    assert encoder.encode(["sky"], "query")[0, 0] == 9
    assert encoder.encode(["sky"])[0, 0] == 3
    assert recorder.asked == [["sky"], ["sky"]]
