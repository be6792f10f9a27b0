"""A revision's name and a rejection are of what people chose, and of nothing of the installation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from slipway.api.rollout_status import Rejection
from slipway.api.status import ModelDeploymentStatus, ModelStatus, RevisionStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.core import naming
from slipway.core.objects.controller_revision import controller_revision
from slipway.core.objects.deployment import deployment
from slipway.core.observed import Manifest, observe
from slipway.core.plan import plan
from slipway.core.resource import Resource
from slipway.core.revision import Revision, Settings, revision_from, revision_of
from slipway.core.rollout.history import (
    by_its_name,
    carried_over_rejections,
    rejection_of,
    revision_from_history,
    with_rejection,
)
from slipway.core.signers import verified_for
from tests.unit.core.tables import OWNER, SETTINGS, digest, model
from tests.unit.core.test_properties import FEW, NOW, specs

BEFORE: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "names_before.yaml").read_text())
NOTHING = ModelDeploymentStatus()


def spec_of(found: dict[str, Any]) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate(found["spec"])


def wanted_of(found: dict[str, Any], number: int = 1) -> Revision:
    uri = found["spec"]["model"]["uri"]
    known = ModelStatus(
        uri=uri, resolvedURI=uri, version=str(number), digest=f"sha256:{number:064x}", bytes=4096
    )
    return revision_of(spec_of(found), known)


def record_of(found: dict[str, Any]) -> Manifest:
    """The ControllerRevision as the operator of before made it."""
    revision = revision_from(found["content"])
    assert revision.name == found["name"]
    return controller_revision(OWNER, revision, 1)


def rejected_before(found: dict[str, Any]) -> Rejection:
    return Rejection(
        revision=found["name"],
        digest=found["content"]["model"]["digest"],
        content=found["judged"],
        id=f"{found['name']}.1",
        rejectedAt="2026-11-24T12:00:00Z",
        message="gate errors: 9 of 10 failed",
    )


def changed(found: dict[str, Any], **runtime: Any) -> dict[str, Any]:
    spec = {**found["spec"], "runtime": {**found["spec"].get("runtime", {}), **runtime}}
    return {**found, "spec": spec}


@pytest.mark.parametrize("kind", BEFORE)
def test_a_revision_keeps_the_name_that_an_earlier_operator_gave_it(kind: str) -> None:
    found = BEFORE[kind]
    record = record_of(found)
    named = by_its_name(wanted_of(found), OWNER, NOTHING, observe([record]))
    assert named.name == found["name"]
    # What is applied again is what is there: data of a ControllerRevision cannot change.
    assert controller_revision(OWNER, named, 1)["data"] == record["data"]
    kept = revision_from_history(found["name"], observe([record]))
    assert kept is not None
    assert kept.content() == found["content"]


@pytest.mark.parametrize("kind", BEFORE)
def test_its_name_is_told_by_its_deployment_where_the_record_is_gone(kind: str) -> None:
    found = BEFORE[kind]
    known = revision_from(found["content"])
    live = deployment(OWNER, known.pinning(found["spec"].get("runtime", {}).get("image", "")), SETTINGS)
    assert by_its_name(wanted_of(found), OWNER, NOTHING, observe([live])).name == found["name"]


@pytest.mark.parametrize("kind", BEFORE)
def test_the_hashes_of_before_are_told_from_what_people_chose(kind: str) -> None:
    found = BEFORE[kind]
    named = wanted_of(found).named_before(SETTINGS.server_image, SETTINGS.mlflow_tracking_uri)
    assert (named.name, named.judged_before) == (found["name"], found["judged"])


@pytest.mark.parametrize("kind", BEFORE)
def test_what_was_rejected_before_stays_out_and_the_rejection_says_what_it_is_of(kind: str) -> None:
    found, unknown = BEFORE[kind], rejected_before(BEFORE[kind])
    wanted = wanted_of(found)
    (known,) = carried_over_rejections((unknown,), wanted, observe([record_of(found)]))
    assert rejection_of(wanted, (known,)) == known
    assert known.model_copy(update={"identity": None}) == unknown
    if known.identity is not None:
        other = wanted_of(changed(found, threads=7))
        assert rejection_of(other, (known,)) is None


def test_a_rejection_of_before_is_told_by_its_hash_where_the_record_is_gone() -> None:
    found = BEFORE["whole"]
    # Another revision's record still tells which installation that was.
    other = BEFORE["pinned"]
    (known,) = carried_over_rejections(
        (rejected_before(found),), wanted_of(found), observe([record_of(other)])
    )
    assert known.identity == wanted_of(found).judged


def test_a_rejection_of_before_of_which_nothing_else_is_known_is_of_the_digest() -> None:
    found = BEFORE["whole"]
    unknown = carried_over_rejections((rejected_before(found),), wanted_of(found), observe([]))
    assert unknown[0].identity is None
    assert rejection_of(wanted_of(changed(found, threads=7)), unknown) is not None
    assert rejection_of(wanted_of(found, 2), unknown) is None
    # What was let in beside it goes on.
    twin = wanted_of(changed(found, threads=7))
    assert rejection_of(twin, unknown, {twin.name}) is None


def test_credentials_feedback_and_the_like_are_nothing_that_was_judged() -> None:
    found = BEFORE["whole"]
    wanted = wanted_of(found)
    rejected = with_rejection((), wanted, observe([]), "r.1", "bad", NOW)
    other = replace(wanted, credentials="other", feedback=None, fairness=None, freshness=None)
    assert other.name != wanted.name
    assert rejection_of(other, rejected) is not None
    assert rejection_of(replace(wanted, inputs=None), rejected) is None
    version = replace(wanted, model=wanted.model.model_copy(update={"version": "9"}))
    assert rejection_of(version, rejected) is not None


def test_a_rejection_of_now_holds_for_an_operator_of_before() -> None:
    found = BEFORE["whole"]
    (rejection,) = with_rejection(
        (), wanted_of(found), observe([record_of(BEFORE["pinned"])]), "r.1", "bad", NOW
    )
    assert rejection.content == found["judged"]


def test_an_image_pinned_to_the_charts_own_is_the_same_until_the_pods_run_another() -> None:
    found = BEFORE["pinned to the chart's"]
    record, known = record_of(found), revision_from(found["content"])
    for there in ([record], [record, deployment(OWNER, known, SETTINGS)]):
        named = by_its_name(wanted_of(found), OWNER, NOTHING, observe(there))
        assert named.name == found["name"]
        assert named.runtime.image == SETTINGS.server_image
    upgraded = deployment(OWNER, known, Settings("slipway.dev/server:2"))
    named = by_its_name(wanted_of(found), OWNER, NOTHING, observe([record, upgraded]))
    assert named.name != found["name"]


def test_of_several_names_for_the_same_the_stable_one_counts() -> None:
    """Each upgrade of before made a revision of the same model."""
    wanted = revision_of(spec_of(BEFORE["smallest"]), model(1))
    old, new = wanted.named_before("server:1", ""), wanted.named_before("server:2", "")
    there = observe([controller_revision(OWNER, old, 1), controller_revision(OWNER, new, 2)])
    assert by_its_name(wanted, OWNER, NOTHING, there).name == new.name

    def serving(revision: Revision) -> RevisionStatus:
        return RevisionStatus(revision=revision.name, version="1", digest=digest(1))

    status = ModelDeploymentStatus(stable=serving(old), canary=serving(new))
    assert by_its_name(wanted, OWNER, status, there).name == old.name


ONE, OTHER, THIRD = (f"sha256:{number:064x}" for number in (7, 8, 9))


def profiled(profile: str | None, found: dict[str, Any] = BEFORE["smallest"]) -> Revision:
    wanted = wanted_of(found)
    return replace(wanted, model=wanted.model.model_copy(update={"profile": profile}))


def noting(revision: Revision, profile: str | None) -> ModelDeploymentStatus:
    """A status by which a revision is stable, and had this profile when it was last resolved."""
    stable = RevisionStatus(revision=revision.name, version="1", digest=digest(1), profile=profile)
    return ModelDeploymentStatus(stable=stable)


def test_another_profile_is_another_revision_and_no_profile_is_one_too() -> None:
    names = {profiled(profile).name for profile in (None, "none", ONE, OTHER)}
    assert len(names) == 4
    record = controller_revision(OWNER, profiled(ONE), 1)
    kept = revision_from_history(profiled(ONE).name, observe([record]))
    assert kept is not None
    assert kept.profile == ONE


@pytest.mark.parametrize("kind", BEFORE)
@pytest.mark.parametrize("seen", [None, ONE])
def test_what_is_named_without_a_profile_has_the_one_that_is_found_first(kind: str, seen: str | None) -> None:
    """An upgrade of the operator starts no rollout, and the next change of the profile does."""
    record = record_of(BEFORE[kind])
    before = revision_from(BEFORE[kind]["content"])
    there, status = observe([record]), noting(before, seen)
    named = by_its_name(profiled(ONE, BEFORE[kind]), OWNER, status, there)
    assert (named.name, named.model.profile) == (before.name, ONE)
    # Its pods are not replaced for that.
    assert named.profile is None
    other = by_its_name(profiled(OTHER, BEFORE[kind]), OWNER, status, there)
    assert (other.name == before.name) is (seen is None)


def test_what_is_named_without_a_profile_is_none_of_a_third_one() -> None:
    before, other = profiled(None), profiled(OTHER)
    there = observe([controller_revision(OWNER, found, 1) for found in (before, other)])
    status = noting(other, OTHER)
    assert by_its_name(other, OWNER, status, there).name == other.name
    assert by_its_name(profiled(THIRD), OWNER, status, there).name == profiled(THIRD).name
    # While it still has a role, what it had is known.
    assert by_its_name(profiled(ONE), OWNER, noting(before, ONE), there).name == before.name
    assert by_its_name(other, OWNER, noting(before, ONE), there).name == other.name


def test_a_status_without_a_profile_wants_the_revision_that_has_one() -> None:
    """As an operator of before leaves it, once it was installed again for a while."""
    known = profiled(ONE)
    named = by_its_name(profiled(None), OWNER, NOTHING, observe([controller_revision(OWNER, known, 1)]))
    assert (named.name, named.profile, named.model.profile) == (known.name, ONE, ONE)


def test_a_rejection_is_of_the_profile_that_was_judged() -> None:
    wanted = profiled(ONE)
    rejected = with_rejection((), wanted, observe([]), "r.1", "bad", NOW)
    assert rejection_of(replace(wanted, credentials="other"), rejected) is not None
    assert rejection_of(profiled(OTHER), rejected) is None
    assert rejection_of(profiled(None), rejected) is not None
    # One of today knows no profile, and holds for any.
    unknown = with_rejection((), profiled(None), observe([]), "r.1", "bad", NOW)
    assert rejection_of(profiled(ONE), unknown) is not None
    # And what an operator of before reads of it is what that one calls it.
    assert rejected[0].identity == unknown[0].identity
    (named,) = {wanted.named_before("server:1", "").judged_before for wanted in (wanted, profiled(None))}
    assert named


def test_another_profile_of_a_revision_that_was_rejected_without_one_is_tried() -> None:
    before = profiled(None)
    rejected = with_rejection((), replace(before, model=profiled(ONE).model), observe([]), "r.1", "bad", NOW)
    rejected = (rejected[0].model_copy(update={"revision": before.name}),)
    there = observe([controller_revision(OWNER, before, 1)])
    status = ModelDeploymentStatus(rejected=rejected)
    assert rejection_of(by_its_name(profiled(ONE), OWNER, status, there), rejected) is not None
    assert rejection_of(by_its_name(profiled(OTHER), OWNER, status, there), rejected) is None


_installations = st.builds(
    Settings,
    st.sampled_from(["slipway.dev/server:dev", "example.com/server:2", "example.com/server:3"]),
    st.sampled_from(["Always", "IfNotPresent"]),
    st.sampled_from(["", "http://a", "http://b:5000"]),
)


@FEW
@given(specs(), _installations, _installations)
def test_no_change_of_the_installation_changes_the_name_of_a_revision(
    found: dict[str, Any], one: Settings, other: Settings
) -> None:
    spec = ModelDeploymentSpec.model_validate(found)
    known = model(1).model_copy(update={"uri": spec.model.uri, "verifiedFor": verified_for(spec)})
    if spec.runtime.server == "External":
        known = known.model_copy(update={"folder": True})
    if spec.model.digest is not None:
        known = known.model_copy(update={"digest": spec.model.digest})
    status = ModelDeploymentStatus(model=known)
    resource = Resource(OWNER, 1, spec, status, deleting=False)

    def planned(settings: Settings, *there: Manifest) -> tuple[str, list[tuple[str, str, str]]]:
        """Name of the revision that is wanted; kind, name and revision of all that is applied of one."""
        found = plan(resource, spec, observe(there), settings, NOW)
        assert found.roles.wanted is not None
        labels = [(made, made["metadata"]["labels"]) for made in found.apply]
        return found.roles.wanted.name, [
            (made["kind"], made["metadata"]["name"], own[naming.REVISION_LABEL])
            for made, own in labels
            if naming.REVISION_LABEL in own
        ]

    first = planned(one)
    # A revision may have nothing on the cluster before its audits have passed.
    assert first[1] or spec.rollout.audits
    assert planned(other) == first
    # An operator of before named it so: it keeps that name in every installation.
    before = revision_of(spec, known).named_before(one.server_image, one.mlflow_tracking_uri)
    name, applied = planned(other, controller_revision(OWNER, before, 1))
    assert {name, *(revision for _, _, revision in applied)} == {before.name}
