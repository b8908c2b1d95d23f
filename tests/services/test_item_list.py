"""Pages of items: every item once, in the order of keys, bounded, resumable anywhere."""

import pytest
from small_server import item

from rankstream.proto.v1 import catalog_pb2
from rankstream.server.errors import InvalidArgument
from rankstream.server.services import item_list
from rankstream.server.services.item_list import pack_resume, read_page, unpack_resume
from rankstream.server.types import item_key


def in_order(names):
    return sorted(names, key=lambda name: item_key(name).to_bytes(8, "little"))


def names_of(page):
    return [catalog_pb2.Item.FromString(record.payload).item_id for record in page]


def all_pages(store, behind=b"", most=None):
    while page := read_page(store, behind, most):
        yield page
        behind = page[-1].key


@pytest.fixture
def names(server):
    made = [f"item-{n}" for n in range(150)]
    server.put(*(item(name, f"the {name}") for name in made))
    return in_order(made)


def test_pages_hold_every_item_once_in_order(server, names):
    before = server.store.readers()
    pages = list(all_pages(server.store))

    assert [name for page in pages for name in names_of(page)] == names
    assert [len(page) for page in pages] == [64, 64, 22]
    assert server.store.readers() == before


@pytest.mark.parametrize("most", [0, 1, 63, 64, 65])
def test_a_page_is_no_longer_than_wanted(server, names, most):
    assert names_of(read_page(server.store, b"", most)) == names[: min(most, 64)]


def test_large_items_make_short_pages(server, names, monkeypatch):
    monkeypatch.setattr(item_list, "_PAGE_BYTES", 100)
    pages = list(all_pages(server.store))

    assert max(len(page) for page in pages) < 10
    assert [name for page in pages for name in names_of(page)] == names


def test_a_list_goes_on_behind_any_item_even_one_that_is_gone(server, names):
    for place in (0, 70, 149):
        behind = item_key(names[place]).to_bytes(8, "little")
        server.put(delete=[names[place]])
        found = [n for page in all_pages(server.store, behind) for n in names_of(page)]
        assert found == [n for n in names[place + 1 :]]


def test_no_items_are_no_pages(server):
    assert read_page(server.store, b"", None) == []


def test_a_record_is_a_listed_item_with_its_token(server, names):
    page = read_page(server.store, b"", 3)
    listed = [catalog_pb2.ListedItem.FromString(record.to_pb()) for record in page]

    assert [found.item for found in listed] == [item(n, f"the {n}") for n in names[:3]]
    assert [unpack_resume(found.resume_token) for found in listed] == [r.key for r in page]


TOKEN = pack_resume(b"12345678")


def test_an_empty_token_begins_at_the_start():
    assert unpack_resume(b"") == b""
    assert unpack_resume(TOKEN) == b"12345678"


@pytest.mark.parametrize(
    "token",
    [TOKEN[:-1], TOKEN + b"\0", TOKEN[1:], b"L2" + TOKEN[2:], b"R1", b"\0", b"x" * 1000]
    + [TOKEN[:i] + bytes([TOKEN[i] ^ 1]) + TOKEN[i + 1 :] for i in range(len(TOKEN))],
)
def test_a_token_that_is_none_of_ours_is_refused(token):
    with pytest.raises(InvalidArgument) as refused:
        unpack_resume(token)
    assert refused.value.field == "resume_token"
