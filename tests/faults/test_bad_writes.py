"""What may be written: each event and item is kept or refused alone, in words that name it.

The numbers are those of the project's list of bad input. Records in the log are in
``test_dead_letters.py``.
"""

import numpy as np
import pytest
from drafts import INVALID, TEXT, picture
from requests_to import after, blocks_of, event, ids_of, info, profile, rank, record, upsert

from rankstream.proto.v1 import catalog_pb2, common_pb2, events_pb2

pytestmark = pytest.mark.usefixtures("next_request_is_right")


class TestVectors:
    @pytest.mark.parametrize(
        ("fields", "field", "words"),
        [
            ({"data": b"\0" * 15}, ".data", "15 bytes, expected 16"),
            ({"data": b""}, ".data", "0 bytes, expected 16"),
            ({"shape": (3,)}, ".shape", "[3], expected [4]"),
            ({"shape": (2, 2)}, ".shape", "[2, 2], expected [4]"),
            ({"shape": (2**32 - 1,)}, ".shape", "expected [4]"),
            ({"dtype": 0}, ".dtype", "expected FLOAT32"),
            ({"dtype": 99}, ".dtype", "99, expected FLOAT32"),
            ({"block": "sound"}, "", "there are: image"),
            ({"data": np.array([1, np.nan, 0, 0], "<f4").tobytes()}, ".data", "NaN"),
            ({"data": np.array([1, -np.inf, 0, 0], "<f4").tobytes()}, ".data", "infinity"),
        ],
    )
    def test_5_6_7_27_a_wrong_vector_names_its_place(self, server, fields, field, words):
        good = catalog_pb2.Item(item_id="beside", title="beside it")
        request = catalog_pb2.UpsertItemsRequest(items=[good, picture(1, 2, 3, 4, **fields)])

        first, second = server.catalog.UpsertItems(request, timeout=10).results

        block = fields.get("block", "image")
        assert first.status.code == 0
        assert second.status.code == INVALID.value[0]
        assert f"items[1].vectors['{block}']{field}: " in second.status.message
        assert words in second.status.message

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ((0, 0, 0, 0), 0),
            ((1e-45, 0, 0, 0), 1),
            ((3.4e38, 0, 0, 0), 1),
            ((-3.4e38, 0, 0, 0), -1),
            ((3.4e38, 3.4e38, 3.4e38, 3.4e38), 0.5),
        ],
    )
    def test_8_9_zero_denormal_and_huge_vectors_have_a_score(self, server, values, expected):
        axis = picture(1, 0, 0, 0)
        axis.item_id = "axis"
        user = f"looker {values}"
        upsert(server, [axis, picture(*values)])
        token = record(server, event(user, "axis"))

        answer = rank(server, user, ["picture"], token)

        assert blocks_of(answer, answer.items[0])["image"] == pytest.approx(expected, abs=1e-6)


BAD_ATTRIBUTES = {
    "a name of a field": ("price", common_pb2.AttributeValue(number=1), "reserved"),
    "no value": ("a", common_pb2.AttributeValue(), "not set"),
    "NaN": ("a", common_pb2.AttributeValue(number=float("nan")), "finite"),
    "a long text": ("a", common_pb2.AttributeValue(text="x" * 1025), "longer than 1024 bytes"),
    "a long name": ("a" * 65, TEXT, "longer than 64 bytes"),
    "many texts": (
        "a",
        common_pb2.AttributeValue(texts=common_pb2.Texts(values=map(str, range(65)))),
        "65, the limit is 64",
    ),
}


@pytest.mark.parametrize("what", BAD_ATTRIBUTES)
def test_7_20_a_wrong_attribute_names_its_place(server, what):
    name, value, words = BAD_ATTRIBUTES[what]
    items = [
        catalog_pb2.Item(item_id="beside", title="beside it"),
        catalog_pb2.Item(item_id="wrong", attributes={name: value}),
    ]

    results = server.catalog.UpsertItems(
        catalog_pb2.UpsertItemsRequest(items=items), timeout=10
    ).results

    assert [r.status.code for r in results] == [0, INVALID.value[0]]
    assert results[1].status.message.startswith(f"items[1].attributes['{name}']")
    assert words in results[1].status.message


def test_22_a_replayed_event_counts_once(server):
    for _ in range(3):
        token = record(server, *[event("again", "toy", event_id="the same")] * 3)

    assert profile(server, "again", token).history_size == 1


BAD_EVENTS = {
    "28: before 1970": (event("u", "i", event_time_ms=-1), "event_time_ms", "expected 0 to"),
    "28: 2262": (event("u", "i", event_time_ms=9_223_372_036_854), "event_time_ms", "expected 0"),
    "28: the end": (event("u", "i", event_time_ms=2**63 - 1), "event_time_ms", "expected 0 to"),
    "7: NaN": (event("u", "i", weight=float("nan")), "weight", "nan"),
    "7: infinite": (event("u", "i", value=float("inf")), "value", "finite"),
    "9: a huge weight": (event("u", "i", weight=1e300), "weight", "expected a number from -1000"),
    "10: no stars": (event("u", "i", "rate"), "value", "1 to 5 stars"),
    "27: an unknown type": (event("u", "i", "$purge"), "type", "not a known type"),
    "27: no type": (event("u", "i", ""), "type", "not a known type"),
    "15: NUL": (event("u\0", "i"), "user_id", "NUL"),
    "16: no user": (event("", "i"), "user_id", "empty"),
    "16: no item": (event("u", ""), "item_id", "empty"),
    "29: a long id": (event("u", "i", event_id="e" * 257), "event_id", "longer than 256 bytes"),
}


@pytest.mark.parametrize("case", BAD_EVENTS)
def test_32_a_bad_event_is_refused_alone(server, case):
    bad, field, words = BAD_EVENTS[case]
    good = event("witness", "toy", event_id=case)
    request = events_pb2.RecordEventsRequest(events=[good, bad, good])

    answer = server.events.RecordEvents(request, timeout=10)

    assert [r.status.code for r in answer.results] == [0, INVALID.value[0], 0]
    assert answer.results[1].status.message.startswith(f"events[1].{field}: ")
    assert words in answer.results[1].status.message
    assert profile(server, "witness", answer.token).known


def test_28_an_event_of_1970_is_kept_and_poisons_nothing(server):
    old = event("old", "toy", event_time_ms=0, event_id="1970")

    token = record(server, old, event("old", "alien", event_id="now"))

    assert [i.event_time_ms for i in profile(server, "old", token).interactions][1] == 0
    assert ids_of(rank(server, "old", ["toy", "alien"]))[0] == "alien"


def big_item(n_bytes):
    """An item of that many bytes in the log, all its texts within their limits."""
    item = catalog_pb2.Item(item_id="big")
    for field in ("title", "description", "category", "brand"):
        setattr(item, field, "\U0001f4a9" * min(100_000, (n_bytes - item.ByteSize() - 8) // 4))
    item.brand += "x" * (n_bytes - item.ByteSize())
    # The brand's length may have come to take a byte more.
    item.brand = item.brand[: len(item.brand) + n_bytes - item.ByteSize()]
    return item


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(catalog_pb2.Item(item_id="i", title="x" * 100_001), id="14: a long title"),
        pytest.param(catalog_pb2.Item(item_id="i", tags=["t"] * 65), id="20: many tags"),
        pytest.param(catalog_pb2.Item(item_id="i", tags=["t" * 257]), id="14: a long tag"),
        pytest.param(catalog_pb2.Item(item_id="i", price=float("nan")), id="7: NaN price"),
        pytest.param(catalog_pb2.Item(item_id="i", price=-0.01), id="10: negative price"),
        pytest.param(catalog_pb2.Item(item_id=""), id="16: no id"),
        pytest.param(catalog_pb2.Item(item_id="i\0"), id="15: NUL"),
        pytest.param(big_item(1_200_000), id="29: a record larger than the log takes"),
        pytest.param(big_item(1_000_001), id="29: a little larger"),
    ],
)
def test_32_a_bad_item_is_refused_alone(server, item):
    good = catalog_pb2.Item(item_id="good", title="good")
    request = catalog_pb2.UpsertItemsRequest(items=[good, item])

    first, second = server.catalog.UpsertItems(request, timeout=20).results

    assert first.status.code == 0
    assert second.status.code == INVALID.value[0], second
    assert second.status.message.startswith("items[1]")


def test_29_what_is_accepted_is_never_dead_lettered(server):
    limits = {limit.name: limit.value for limit in info(server).limits}
    letters = server.lag().dead_letters

    token = upsert(server, [big_item(limits["max_record_bytes"])])

    request = catalog_pb2.GetItemRequest(item_id="big", read_after=after(token))
    assert server.catalog.GetItem(request, timeout=20).item.item_id == "big"
    assert server.lag().dead_letters == letters


def test_30_a_hot_user_is_bounded(server):
    for part in range(2):
        events = [
            event("hot", f"item {n}", event_id=f"{part} {n}", event_time_ms=part * 10_000 + n)
            for n in range(5000)
        ]
        token = record(server, *events)

    found = profile(server, "hot", token)

    assert found.history_size == len(found.interactions) == 255
    assert found.interactions[0].event_time_ms == 14_999
    assert 0 < found.seen_size <= 4096
