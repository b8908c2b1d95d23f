"""Settings: every one has a name, a type, a help line, and survives its way to a child."""

import dataclasses

import numpy as np
import pytest

from rankstream.server.config import (
    Encoding,
    Limits,
    Listen,
    Scoring,
    Settings,
    from_json,
    from_mapping,
    options,
    to_json,
)
from rankstream.server.derived import (
    DEFAULT_TYPE_WEIGHTS,
    encoder_settings,
    fold_settings,
    kernel_threads,
    names_in,
    pooling_of,
    topic_settings,
)
from rankstream.server.errors import InvalidArgument
from rankstream.server.paths import Paths
from rankstream.server.profiles.pooling import LONGEST_TTL_MS
from rankstream.server.profiles.settings import TYPES, FoldSettings

OPTIONS = list(options())


@pytest.mark.parametrize("option", OPTIONS, ids=lambda o: o.name)
def test_every_option_has_a_help_line_and_a_default_of_its_type(option):
    assert option.doc.strip()
    assert len(option.doc) < 100
    assert type(option.default) is option.type
    assert option.type in (str, int, float, bool)


def test_names_are_unique_across_sections():
    names = [o.name for o in OPTIONS]

    assert len(set(names)) == len(names)
    assert "config" not in names


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.name.endswith(("_s", "_ms"))])
def test_a_time_says_its_unit(option):
    unit = " ms" if option.name.endswith("_ms") else ("s", "seconds")
    assert any(u in option.doc for u in unit)


def test_a_mapping_sets_what_it_names():
    settings = from_mapping({"port": 7, "history_cap": 9, "text_weight": 2})

    assert settings == dataclasses.replace(
        Settings(),
        listen=Listen(port=7),
        state=dataclasses.replace(Settings().state, history_cap=9),
        scoring=Scoring(text_weight=2.0),
    )
    assert isinstance(settings.scoring.text_weight, float)
    assert from_mapping({}) == Settings()


def test_an_unknown_name_is_refused_with_those_that_there_are():
    with pytest.raises(InvalidArgument, match="^prot: no such setting; there are .*port"):
        from_mapping({"prot": 7})


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", "7"), ("port", 7.0), ("port", True), ("host", 1), ("insecure", 1),
     ("text_weight", "1"), ("text_weight", True), ("port", None)],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(name, value):
    with pytest.raises(InvalidArgument, match=f"^{name}: .*expected"):
        from_mapping({name: value})


def test_settings_survive_their_way_to_a_child():
    settings = from_mapping({"host": "::1", "drain_s": 0.5, "insecure": True, "max_k": 3})

    assert from_json(to_json(settings)) == settings


def test_every_limit_is_a_number():
    """GetServerInfo publishes them as such."""
    for field in dataclasses.fields(Limits):
        assert isinstance(field.default, int | float)


def test_the_derived_settings_follow():
    settings = from_mapping(
        {"topic_prefix": "p.", "events_partitions": 9, "bucket_s": 60, "allowed_skew_s": 7,
         "custom_types": " gift, wish ,", "history_cap": 3, "kernels": 5}
    )  # fmt: skip

    fold = fold_settings(settings)

    assert (fold.bucket_ms, fold.allowed_skew_ms, fold.history_cap) == (60_000, 7_000, 3)
    assert fold.custom_types == ("gift", "wish")
    assert topic_settings(settings).events == "p.events"
    assert topic_settings(settings).events_partitions == 9
    assert kernel_threads(settings) == 5
    assert kernel_threads(from_mapping({"workers": 10_000})) == 1


def test_every_type_has_a_pooling_weight_and_settings_override_it():
    fold = FoldSettings(custom_types=("gift",))
    settings = from_mapping({"type_weights": "gift:4, view:-0.5", "half_life_s": 2.0})

    pooling = pooling_of(settings, fold)

    assert pooling.half_life_ms == 2000
    assert pooling.type_weights[fold.type_ids["gift"]] == 4
    assert pooling.type_weights[fold.type_ids["view"]] == -0.5
    assert pooling.type_weights[fold.type_ids["purchase"]] == DEFAULT_TYPE_WEIGHTS["purchase"]
    assert pooling.type_weights[0] == 0
    assert set(DEFAULT_TYPE_WEIGHTS) == set(TYPES)


@pytest.mark.parametrize("given", ["view", "view:x", "nothing:1", "view:nan", "view:inf", ":1"])
def test_a_type_weight_that_does_not_read_is_refused(given):
    with pytest.raises(InvalidArgument, match="^type_weights: "):
        pooling_of(from_mapping({"type_weights": given}), FoldSettings())


def test_listed_names_are_trimmed():
    assert names_in(" a,, b ,") == ("a", "b")
    assert names_in("") == ()


def test_types_fade_at_a_share_of_the_half_life_and_settings_say_otherwise():
    fold = FoldSettings(custom_types=("gift",), history_cap=80)
    given = {"half_life_s": 100.0, "half_lives": "view:7d, gift: 1.5h", "type_caps": "click:9"}

    pooling = pooling_of(from_mapping(given), fold)

    lives = {name: pooling.half_lives_ms[number] for name, number in fold.type_ids.items()}
    assert lives["view"] == 7 * 86_400_000
    assert lives["gift"] == 5_400_000
    assert lives["rate"] == 100_000
    assert lives["purchase"] > lives["rate"] > lives["click"] > lives["search"]
    caps = {name: int(pooling.caps[number]) for name, number in fold.type_ids.items()}
    assert (caps["click"], caps["search"], caps["view"], caps["gift"]) == (9, 20, 80, 80)
    assert pooling.half_lives_ms.dtype == np.float64
    assert pooling.caps.dtype == np.int64


@pytest.mark.parametrize(
    ("setting", "given"),
    [("half_lives", g) for g in ("view", "view:7", "view:d", "view:7y", "view:0d", "view:-1d",
     "view:infd", "view:nand", "nothing:7d")]
    + [("type_ttls", g) for g in ("view", "view:7", "view:0d", "nothing:7d")]
    + [("type_caps", g) for g in ("view", "view:", "view:-1", "view:1.5", "view:x", "nothing:1")],
)  # fmt: skip
def test_a_half_life_ttl_or_cap_that_does_not_read_is_refused(setting, given):
    with pytest.raises(InvalidArgument, match=f"^{setting}: "):
        pooling_of(from_mapping({setting: given}), FoldSettings())


def test_nothing_expires_unless_settings_say_so():
    assert pooling_of(from_mapping({}), FoldSettings()).ttls_ms is None


def test_times_to_live_are_common_or_by_type():
    types = FoldSettings().type_ids

    some = pooling_of(from_mapping({"type_ttls": "view:30d"}), FoldSettings()).ttls_ms
    all_ = pooling_of(from_mapping({"ttl_s": 9.5, "type_ttls": "view:30d"}), FoldSettings()).ttls_ms

    assert some[types["view"]] == all_[types["view"]] == 30 * 86_400_000
    assert some[types["click"]] == LONGEST_TTL_MS
    assert all_[types["click"]] == 9_500


def test_curves_reach_the_fold():
    fold = fold_settings(from_mapping({"curves": "view:linear(1, 2),rate:stars(10)"}))

    assert fold.curves == ("view:linear(1, 2)", "rate:stars(10)")


def test_each_setting_of_the_encoder_reaches_it(tmp_path):
    names = {field.name for field in dataclasses.fields(Encoding)} - {"cache_mib"}
    chosen = {
        name: 7 if isinstance(getattr(Encoding(), name), int) else f"some {name}" for name in names
    }
    found = encoder_settings(Settings(encoding=Encoding(**chosen)), Paths(tmp_path))
    assert {name: getattr(found, name) for name in names} == chosen
