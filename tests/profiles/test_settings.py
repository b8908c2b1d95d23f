"""Types, settings and the version of the fold."""

import dataclasses

import pytest

from rankstream.server.errors import InvalidArgument
from rankstream.server.profiles import settings as module
from rankstream.server.profiles.settings import TYPES, FoldSettings, fold_version

HISTORY, SEEN, COUNTED = 1, 2, 4


def test_built_in_types_keep_their_ids():
    ids = {"impression": 1, "view": 2, "click": 3, "cart": 4, "purchase": 5, "rate": 6}
    ids |= {"search": 7, "review": 8, "like": 9, "dislike": 10, "play": 11}

    assert FoldSettings().type_ids == ids


def test_only_admitted_types_have_an_id():
    settings = FoldSettings(custom_types=("wishlist",))

    assert settings.type_id("wishlist") in range(1024, 65_536)
    assert settings.type_names[settings.type_id("wishlist")] == "wishlist"
    assert settings.type_id("sneeze") is None
    assert settings.type_id("$reset") is None


def test_a_custom_id_does_not_depend_on_the_other_custom_types():
    alone, among = FoldSettings(custom_types=("b",)), FoldSettings(custom_types=("c", "b", "a"))

    assert alone.type_id("b") == among.type_id("b")


@pytest.mark.parametrize("name", ["", "$x", "click", "x" * 65])
def test_a_bad_custom_name_is_refused(name):
    with pytest.raises(InvalidArgument, match="custom_types"):
        FoldSettings(custom_types=(name,))


def test_two_custom_types_of_one_id_are_refused(monkeypatch):
    monkeypatch.setattr(module, "_custom_id", lambda name: 2_000)

    with pytest.raises(InvalidArgument, match="'a' and 'b' .*|'b' and 'a' .*rename"):
        FoldSettings(custom_types=("a", "b"))


def test_classes_follow_the_settings():
    settings = FoldSettings(custom_types=("wishlist",))
    classes = settings.rules.classes

    assert classes[settings.type_id("impression")] == SEEN
    assert classes[settings.type_id("search")] == HISTORY
    assert classes[settings.type_id("dislike")] == HISTORY | SEEN
    assert classes[settings.type_id("click")] == HISTORY | SEEN | COUNTED
    assert classes[settings.type_id("wishlist")] == classes[settings.type_id("view")]
    assert classes[[0, 12, 1023, 65_535]].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "change",
    [
        {"history_cap": 0},
        {"history_cap": 65_536},
        {"seen_cap": 0},
        {"seen_cap": 40_001},
        {"recent_cap": 0},
        {"bucket_ms": 0},
        {"allowed_skew_ms": -1},
        {"history_types": ("sneeze",)},
        {"counted_types": ("impression",), "seen_types": ("view",)},
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(change):
    with pytest.raises(InvalidArgument, match=next(iter(change))):
        FoldSettings(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"history_cap": 254},
        {"seen_cap": 4095},
        {"history_types": TYPES},
        {"seen_types": ("view",), "counted_types": ("view",)},
        {"counted_types": ("view",)},
        {"custom_types": ("wishlist",)},
        {"bucket_ms": 3_600_000},
        {"allowed_skew_ms": 0},
        {"curves": ("view:centred(30,30)",)},
    ],
)
def test_whatever_changes_the_fold_changes_its_version(change):
    assert fold_version(FoldSettings(**change)) != fold_version(FoldSettings())


def test_every_setting_is_in_the_version_but_the_layout():
    covered = {"history_cap", "seen_cap", "history_types", "seen_types", "counted_types"}
    covered |= {"custom_types", "bucket_ms", "allowed_skew_ms", "curves"}

    assert {f.name for f in dataclasses.fields(FoldSettings)} == covered | {"recent_cap"}
    assert fold_version(FoldSettings(recent_cap=7)) == fold_version(FoldSettings())


def test_the_version_does_not_depend_on_the_order_of_names():
    one, other = FoldSettings(custom_types=("a", "b")), FoldSettings(custom_types=("b", "a"))

    assert fold_version(one) == fold_version(other)


def test_a_revision_of_the_code_changes_the_version(monkeypatch):
    before = fold_version(FoldSettings())
    monkeypatch.setattr(module, "FOLD_REVISION", module.FOLD_REVISION + 1)

    assert fold_version(FoldSettings()) != before
