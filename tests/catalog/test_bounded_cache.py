"""What leaves a bounded cache, and when."""

from rankstream.server.catalog.bounded_cache import BoundedCache


def held(cache, *keys):
    return [key for key in keys if cache.get(key) is not None]


def test_what_was_used_least_lately_leaves_first():
    cache = BoundedCache(max_entries=3, max_bytes=100)
    for key in "abc":
        cache.put(key, key.upper(), 1)
    assert cache.get("a") == "A"

    cache.put("d", "D", 1)

    assert held(cache, "a", "b", "c", "d") == ["a", "c", "d"]
    assert (len(cache), cache.held_bytes) == (3, 3)


def test_bytes_are_bounded_too():
    cache = BoundedCache(max_entries=10, max_bytes=10)
    for key, size in (("a", 4), ("b", 4), ("c", 4)):
        cache.put(key, key, size)
    assert held(cache, "a", "b", "c") == ["b", "c"]

    cache.put("b", "grown", 9)
    assert held(cache, "b", "c") == ["b"]
    cache.put("too large", 1, 11)

    assert held(cache, "b", "too large") == []
    assert (len(cache), cache.held_bytes) == (0, 0)


def test_a_value_that_is_set_again_counts_once():
    cache = BoundedCache(max_entries=2, max_bytes=10)
    for size in (3, 5, 4):
        cache.put("a", size, size)

    assert (cache.get("a"), len(cache), cache.held_bytes) == (4, 1, 4)
    cache.clear()
    assert (cache.get("a"), len(cache), cache.held_bytes) == (None, 0, 0)
