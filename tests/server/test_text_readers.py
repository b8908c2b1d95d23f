"""What one reader takes at a time."""

import pytest

from rankstream.server.text_readers import READ_CHARS, READ_TEXTS, parts_of

LONGEST = READ_CHARS // 2


@pytest.mark.parametrize(
    ("lengths", "sizes"),
    [
        ([], []),
        ([0], [1]),
        ([5] * READ_TEXTS, [READ_TEXTS]),
        ([5] * (READ_TEXTS + 1), [READ_TEXTS, 1]),
        ([LONGEST] * 4, [2, 2]),
        # No more than the longest is read of a text.
        ([9 * LONGEST] * 3, [2, 1]),
        ([1, LONGEST, LONGEST, 1], [2, 2]),
    ],
)
def test_a_part_is_bounded_by_texts_and_by_characters(lengths, sizes):
    texts = ["x" * length for length in lengths]

    parts = [texts[part] for part in parts_of(texts, LONGEST)]

    assert list(map(len, parts)) == sizes
    assert [text for part in parts for text in part] == texts


def test_a_text_longer_than_a_part_is_a_part():
    assert list(parts_of(["x" * 9 * READ_CHARS] * 2, 9 * READ_CHARS)) == [slice(0, 1), slice(1, 2)]
