"""Tags of a registry in Git mean what GTO says that they mean."""

from __future__ import annotations

import pytest

from slipway.models.gto import Registry, place_of

A, B, C = "a" * 40, "b" * 40, "c" * 40


@pytest.mark.parametrize(
    ("tags", "stages"),
    [
        ({"fraud#prod#1": A, "fraud#prod#2": B}, {"prod": B}),
        ({"fraud#prod#9": A, "fraud#prod#10": B}, {"prod": B}),
        ({"fraud#prod#3": A, "fraud#prod#1": A, "fraud#prod#2": B}, {"prod": A}),
        ({"fraud#prod#1": A, "fraud#dev#2": B}, {"prod": A, "dev": B}),
        ({"fraud#prod": A}, {"prod": A}),
        ({"fraud#prod": A, "fraud#prod#1": B}, {"prod": B}),
        ({"fraud#prod#1": A, "fraud#prod#2": B, "fraud#prod!#3": B}, {"prod": A}),
        ({"fraud#prod#1": A, "fraud#prod!#2": A}, {}),
        ({"fraud#prod": A, "fraud#prod!": A}, {}),
        ({"fraud#prod#1": A, "fraud#prod!#2": A, "fraud#prod#3": A}, {"prod": A}),
        ({"fraudster#prod#1": A, "other=fraud#prod#2": B, "fraud#prod#x": C, "fraud#": C, "fraud": C}, {}),
        ({f"fraud#prod#{'9' * 30}": A, "fraud#prod#1": B}, {"prod": B}),
    ],
)
def test_a_stage_is_of_the_commit_that_got_it_last_and_has_it_still(
    tags: dict[str, str], stages: dict[str, str]
) -> None:
    assert Registry.of("fraud", tags).stages() == stages


@pytest.mark.parametrize(
    ("tags", "newest"),
    [
        ({"fraud@v1.9.0": A, "fraud@v1.10.0": B}, "v1.10.0"),
        ({"fraud@v2.0.0-rc.1": A, "fraud@v1.0.0": B}, "v2.0.0-rc.1"),
        ({"fraud@v2.0.0-rc.1": A, "fraud@v2.0.0": B}, "v2.0.0"),
        ({"fraud@v2.0.0-rc.10": A, "fraud@v2.0.0-rc.9": B}, "v2.0.0-rc.10"),
        ({"fraud@v2.0.0-rc.1": A, "fraud@v2.0.0-rc.x": B}, "v2.0.0-rc.x"),
        ({"fraud@v1.0.0": A, "fraud@v2.0.0": B, "fraud@v2.0.0!": B}, "v1.0.0"),
        ({"fraud@v1.0.0#1": A, "fraud@v1.1.0#2": B}, "v1.1.0"),
        ({"fraud@v1": A, "fraud@1.0.0": A, f"fraud@v{'1' * 5000}.0.0": A, "fraud@deprecated": A}, None),
    ],
)
def test_the_newest_version_is_the_one_of_semver_that_was_not_cancelled(
    tags: dict[str, str], newest: str | None
) -> None:
    assert next(reversed(Registry.of("fraud", tags).versions()), None) == newest


def test_a_commit_in_a_stage_is_called_by_its_version() -> None:
    registry = Registry.of("team:fraud", {"team=fraud@v1.0.0": A, "team=fraud#prod#1": A, "fraud@v2.0.0": A})
    assert registry.version_of(registry.stages()["prod"]) == "v1.0.0"
    assert registry.version_of(B) is None


def test_a_name_may_have_the_folder_of_its_dvc_yaml() -> None:
    assert place_of("fraud") == ("", "fraud")
    assert place_of("team/a:fraud") == ("team/a", "fraud")
    assert place_of("fraud!") is None
    assert place_of("") is None
