import pytest

from rankstream.server.encoder.text import DEFAULT_TEMPLATE, ItemTemplate, text_hash
from rankstream.server.errors import InvalidArgument


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (
            {
                "title": "Chess set",
                "description": "Hand carved.",
                "category": "Games",
                "brand": "Woody",
                "tags": ["wood", "classic"],
            },
            "Chess set. Hand carved. Games. Woody. wood, classic",
        ),
        ({"title": "Chess set"}, "Chess set"),
        ({"brand": "Woody"}, "Woody"),
        ({"title": "Chess set", "tags": ["wood"]}, "Chess set. wood"),
        ({"title": "Wow!", "description": "A game?", "brand": "X"}, "Wow! A game? X"),
        (
            {"title": "  Chess \n set ", "description": " \t ", "tags": ["", " wood "]},
            "Chess set. wood",
        ),
        ({}, ""),
        ({"title": "{brand} | 100%", "brand": "X"}, "{brand} | 100%. X"),
    ],
)
def test_an_item_becomes_a_text_with_nothing_dangling(item, text):
    assert ItemTemplate.parse(DEFAULT_TEMPLATE).render(**item) == text


def test_literal_text_goes_with_its_field():
    template = ItemTemplate.parse("{title} | by {brand} | tags: {tags} | {{{category}}}")

    assert template.render(title="Chess", tags=["a", "b"]) == "Chess. tags: a, b"
    assert template.render(brand="Woody") == "by Woody"
    assert template.render(title="Chess", category="Games") == "Chess. {Games}"


@pytest.mark.parametrize(
    "template",
    [
        "",
        "title",
        "{title} |",
        "{price}",
        "{title} {brand}",
        "{title.__class__}",
        "{title!r}",
        "{title:>9}",
        "{title",
        "{}",
    ],
)
def test_a_wrong_template_is_refused_with_the_fields_there_are(template):
    with pytest.raises(InvalidArgument, match=r"exactly one of \{title\}"):
        ItemTemplate.parse(template)


def test_another_template_has_another_version():
    assert ItemTemplate.parse("{title}").version == ItemTemplate.parse("{title}").version
    assert ItemTemplate.parse("{title}").version != ItemTemplate.parse("{title} | {brand}").version


def test_a_text_is_its_exact_characters():
    assert text_hash("chess") == text_hash("chess")
    assert len(text_hash("")) == 16
    distinct = ["", " ", "chess", "Chess", "chess ", "caf\u00e9", "cafe\u0301", "a\x00", "a"]
    assert len({text_hash(text) for text in distinct}) == len(distinct)


def test_a_lone_surrogate_has_a_hash():
    assert text_hash("bad \ud800") == text_hash("bad ?")


def test_the_hash_is_the_published_one():
    # From the definition: BLAKE2b-128 of UTF-8, personalised; stored, so it may never change.
    assert text_hash("Toy Story (1995)").hex() == "874a23828457a8ef271e0131f0a1bc35"
