"""What a caller may send: a typed status that names the field, and the next request is right.

The numbers are those of the project's list of bad input. Records in the log are in
``test_dead_letters.py``, deadlines and full queues in ``test_overload.py``.
"""

import random
import socket

import grpc
import numpy as np
import pytest
from google import protobuf
from google.protobuf.internal import api_implementation
from requests_to import (
    WHOLE,
    after,
    blocks_of,
    catalogue,
    event,
    ids_of,
    info,
    item_key,
    profile,
    rank,
    record,
    refused,
    upsert,
)

from rankstream.proto.v1 import (
    catalog_pb2,
    common_pb2,
    encoder_pb2,
    events_pb2,
    profiles_pb2,
    ranking_pb2,
)

MESSAGE_BYTES = 2 << 20
INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
GOAWAY_FOR_PINGS = b"too_many_pings"
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


@pytest.fixture(scope="module")
def server(serve_shared):
    started = serve_shared(max_message_bytes=MESSAGE_BYTES, vectors="image:4").start()
    upsert(started, catalogue())
    profile(started, "known", record(started, event("known", "alien", event_id="1")))
    return started


@pytest.fixture(autouse=True)
def _the_next_request_is_right(server):
    pids = server.children()
    yield
    answer = rank(server, "known", ["toy", "alien"])
    assert ids_of(answer) == ["alien", "toy"]
    assert server.children() == pids


def ask(**fields):
    return ranking_pb2.RankRequest(user_id="known", **fields)


def whole(**fields):
    return ask(whole_catalogue=WHOLE, **fields)


def ids(*names):
    return ranking_pb2.ItemIds(item_ids=names)


def embed(*texts):
    return encoder_pb2.EmbedRequest(texts=texts)


def condition(column="brand", **test):
    return ranking_pb2.Filter(condition=ranking_pb2.Condition(column=column, **test))


def any_of(*filters):
    return ranking_pb2.Filter(any=ranking_pb2.Filters(filters=filters))


def nested(depth):
    made = condition(exists=True)
    for _ in range(depth - 1):
        made = ranking_pb2.Filter(all=ranking_pb2.Filters(filters=[made]))
    return made


TEXT = common_pb2.AttributeValue(text="x")
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


OVER_LIMIT = {
    "entries": ("ranking/BatchRank", ranking_pb2.BatchRankRequest(requests=[whole()] * 1025)),
    "events": (
        "events/RecordEvents",
        events_pb2.RecordEventsRequest(events=[event("u", "i")] * 5001),
    ),
    "items": (
        "catalog/UpsertItems",
        catalog_pb2.UpsertItemsRequest(items=[catalog_pb2.Item(item_id="i")] * 1001),
    ),
    "texts": ("encoder/Embed", embed(*["x"] * 513)),
}


@pytest.mark.parametrize("what", OVER_LIMIT)
def test_20_a_batch_over_its_limit_is_refused_whole(server, what):
    path, request = OVER_LIMIT[what]

    with refused(INVALID, "the limit is"):
        method_of(server, path)(request, timeout=10)


EMPTY = {
    "ranking/BatchRank": (ranking_pb2.BatchRankRequest(), "entries"),
    "events/RecordEvents": (events_pb2.RecordEventsRequest(), "results"),
    "catalog/UpsertItems": (catalog_pb2.UpsertItemsRequest(), "results"),
    "encoder/Embed": (encoder_pb2.EmbedRequest(), "results"),
}


@pytest.mark.parametrize("path", EMPTY)
def test_13_an_empty_batch_is_an_empty_answer(server, path):
    request, field = EMPTY[path]

    assert len(getattr(method_of(server, path)(request, timeout=10), field)) == 0


def test_13_no_candidates_and_no_text(server):
    assert not rank(server, "known", []).items
    answer = server.encoder.Embed(embed("", " \n"), timeout=10)
    vectors = np.frombuffer(answer.embeddings.data, "<f4").reshape(answer.embeddings.shape)
    assert [r.status.code for r in answer.results] == [0, 0]
    assert np.isfinite(vectors).all()


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


class TestVectors:
    @staticmethod
    def item(*values, dtype=common_pb2.Vector.FLOAT32, shape=(4,), data=None, block="image"):
        made = catalog_pb2.Item(item_id="picture", title="a picture")
        packed = np.array(values, "<f4").tobytes() if data is None else data
        made.vectors[block].CopyFrom(common_pb2.Vector(data=packed, dtype=dtype, shape=shape))
        return made

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
        request = catalog_pb2.UpsertItemsRequest(items=[good, self.item(1, 2, 3, 4, **fields)])

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
        axis = self.item(1, 0, 0, 0)
        axis.item_id = "axis"
        user = f"looker {values}"
        upsert(server, [axis, self.item(*values)])
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


def test_18_a_filter_that_nothing_passes_is_an_empty_answer(server):
    request = ask(filter=condition(column="no such column", exists=True))

    assert not server.ranking.Rank(request, timeout=10).items


def test_14_a_long_text_is_refused_and_a_longish_one_flagged(server):
    answer = server.encoder.Embed(embed("x" * 100_001, "word " * 2000, "fine"), timeout=20)

    assert [r.status.code for r in answer.results] == [INVALID.value[0], 0, 0]
    assert answer.results[0].status.message == "texts[0]: 100001 characters, the limit is 100000"
    assert [r.truncated for r in answer.results] == [False, True, False]


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


def test_22_a_replayed_event_counts_once(server):
    for _ in range(3):
        token = record(server, *[event("again", "toy", event_id="the same")] * 3)

    assert profile(server, "again", token).history_size == 1


def test_22_a_replayed_request_is_answered_alike(server):
    first, second = (rank(server, "known", ["toy", "alien"], request_id="same") for _ in "12")

    assert first.request_id == second.request_id == "same"
    assert list(first.items) == list(second.items)


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


def test_4_a_decompression_bomb(server):
    with refused(EXHAUSTED):
        server.encoder.Embed(embed("x" * (50 << 20)), timeout=20, compression=grpc.Compression.Gzip)


def test_4_a_compressed_message_within_the_limit(server):
    answer = server.encoder.Embed(
        embed("word " * 2000), timeout=20, compression=grpc.Compression.Gzip
    )
    assert answer.results[0].truncated


def test_24_huge_metadata(server):
    with refused(EXHAUSTED):
        server.ranking.Rank(whole(), timeout=10, metadata=[("x-long", "v" * 100_000)])


def test_24_many_streams_on_one_connection(server):
    calls = [server.ranking.Rank.future(whole(k=1), timeout=20) for _ in range(1000)]

    codes = {call.code() for call in calls}

    assert codes <= {grpc.StatusCode.OK, EXHAUSTED}
    assert grpc.StatusCode.OK in codes


def test_34_messages_and_logs_stay_on_their_line(server):
    forged = "x\n2026-01-01 00:00:00,000 ERROR forged line\r\x1b[2J"
    with pytest.raises(grpc.RpcError) as caught:
        server.catalog.GetItem(catalog_pb2.GetItemRequest(item_id=forged), timeout=10)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert caught.value.details().isprintable()

    bad = event("u", "i", forged)
    answer = server.events.RecordEvents(events_pb2.RecordEventsRequest(events=[bad]), timeout=10)
    assert answer.results[0].status.message.isprintable()
    assert not [line for line in server.log.splitlines() if line.startswith("2026-01-01")]


BASES = {
    "ranking/Rank": whole(
        k=3, exclude_item_ids=["toy"], exclude_seen=True, explain=ranking_pb2.Explain(items=2)
    ),
    "ranking/BatchRank": ranking_pb2.BatchRankRequest(
        requests=[whole(k=2), ask(item_ids=ids("toy", "alien")), ask()]
    ),
    "events/RecordEvents": events_pb2.RecordEventsRequest(
        events=[event("fuzz", "toy", "rate", value=3, event_id="f"), event("fuzz", "alien")]
    ),
    "catalog/UpsertItems": catalog_pb2.UpsertItemsRequest(
        items=[TestVectors.item(1, 2, 3, 4), catalog_pb2.Item(item_id="f", tags=["a"], price=1)]
    ),
    "catalog/GetItem": catalog_pb2.GetItemRequest(item_id="toy"),
    "catalog/PatchItem": catalog_pb2.PatchItemRequest(
        item=TestVectors.item(1, 2, 3, 4),
        update_mask={"paths": ["price", "vectors.image", "attributes.x"]},
        if_version=1,
    ),
    "catalog/DeleteItems": catalog_pb2.DeleteItemsRequest(item_ids=["gone", "never"]),
    "ranking/SimilarItems": ranking_pb2.SimilarItemsRequest(
        item_id="toy", k=2, exclude_item_ids=["alien"], block_weights={"text": 1}, with_bias=True
    ),
    "ranking/Explain": ranking_pb2.ExplainRequest(request=ask(item_ids=ids("toy", "alien"))),
    "profiles/GetProfile": profiles_pb2.GetProfileRequest(user_id="known", max_interactions=3),
    "profiles/UpsertUser": profiles_pb2.UpsertUserRequest(
        user=profiles_pb2.User(
            user_id="fuzz", attributes={"a": TEXT}, interests=["tea"], identities=["fuzz-guest"]
        )
    ),
    "profiles/MergeProfiles": profiles_pb2.MergeProfilesRequest(
        from_user_id="fuzz", into_user_id="fuzz-into"
    ),
    "profiles/ResetProfile": profiles_pb2.ResetProfileRequest(user_id="fuzz"),
    "profiles/PurgeUser": profiles_pb2.PurgeUserRequest(user_id="fuzz"),
    "encoder/Embed": embed("a text", "another"),
    "encoder/Tokenize": encoder_pb2.TokenizeRequest(texts=["a text", "another"]),
}
FINE = {
    grpc.StatusCode.OK,
    INVALID,
    EXHAUSTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


@pytest.mark.parametrize("path", BASES)
def test_1_a_message_over_the_limit(server, path):
    # A field that nobody knows, at the end of what is valid.
    more = b"\xfa\x7f" + varint(MESSAGE_BYTES) + bytes(MESSAGE_BYTES)
    send = raw_method(server, path, BASES[path])

    with refused(EXHAUSTED):
        send(BASES[path].SerializeToString() + more, timeout=20)


@pytest.mark.parametrize("path", BASES)
def test_2_mutated_messages(server, path):
    draw = random.Random(path)
    send = raw_method(server, path, BASES[path])
    valid = BASES[path].SerializeToString()

    calls = [send.future(mutated(draw, valid), timeout=20) for _ in range(1500)]

    for call in calls:
        assert call.code() in FINE, call.details()


@pytest.mark.parametrize("path", BASES)
def test_2_3_truncated_random_and_nested_bytes(server, path):
    draw = random.Random(path)
    send = raw_method(server, path, BASES[path])
    valid = BASES[path].SerializeToString()
    requests = [valid[:n] for n in range(0, len(valid), max(1, len(valid) // 30))]
    requests += [draw.randbytes(draw.randrange(1, 200)) for _ in range(50)]
    # Groups of an unknown field in each other, and lengths that lie.
    requests += [b"\xfb\x01" * 50_000, b"\x0a\xff\xff\xff\xff\x07", b"\x0a" * 5000, b"\xff" * 11]

    for call in [send.future(request, timeout=20) for request in requests]:
        assert call.code() in FINE, call.details()


def test_2_every_call_of_one_message_is_among_them():
    files = (catalog_pb2, encoder_pb2, events_pb2, profiles_pb2, ranking_pb2)
    declared = {
        f"{service.name.lower()}/{method.name}"
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if not (method.client_streaming or method.server_streaming)
    }

    assert set(BASES) == declared


def test_3_protobuf_is_parsed_by_the_implementation_that_bounds_depth():
    assert api_implementation.Type() == "upb"
    assert tuple(map(int, protobuf.__version__.split("."))) >= (6, 33, 5)


def test_24_a_flood_of_pings_ends_that_connection_alone(server):
    ping, settings = b"\0\0\x08\x06\0" + bytes(12), b"\0\0\0\x04\0\0\0\0\0"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as flood:
        flood.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
        said = b""
        try:
            while GOAWAY_FOR_PINGS not in said:
                flood.sendall(ping * 100)
                received = flood.recv(1 << 16)
                said += received
                if not received:
                    break
        except ConnectionError:
            # Closed while there were still pings to read.
            pass

    assert GOAWAY_FOR_PINGS in said


def test_27_fields_of_a_later_version_are_ignored(server):
    send = raw_method(server, "ranking/Rank", whole())
    later = whole(k=1).SerializeToString() + b"\xfa\x7f\x03new\xf0\x7f\x2a"

    answer = ranking_pb2.RankResponse.FromString(send(later, timeout=10))

    assert len(answer.items) == 1


def test_an_unknown_method(server):
    send = server.channel().unary_unary("/rankstream.v1.Ranking/Explode")

    with refused(grpc.StatusCode.UNIMPLEMENTED):
        send(b"", timeout=10)


def method_of(server, path):
    service, method = path.split("/")
    return getattr(getattr(server, service), method)


def raw_method(server, path, request):
    """The method as bytes in, bytes out."""
    service, method = path.split("/")
    package = request.DESCRIPTOR.file.package
    return server.channel().unary_unary(f"/{package}.{service.capitalize()}/{method}")


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def mutated(draw, valid):
    """A valid message with some bytes changed, cut out, repeated or put in."""
    data = bytearray(valid)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(5):
            case 0 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 1 if at < len(data):
                data[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del data[at : at + draw.randint(1, 8)]
            case 3:
                data[at:at] = draw.randbytes(draw.randint(1, 8))
            case _:
                data[at:at] = data[at : at + draw.randint(1, 32)]
    return bytes(data)
