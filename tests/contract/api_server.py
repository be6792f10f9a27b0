"""What the engine counts on an API server to do.

It runs against the fake one in the unit tests and against a real one in ``e2e``: where the two differ, a test
that stands on the fake one proves nothing.

Importing the tests of this module into another one, next to a fixture ``cluster``, runs them there.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from kubernetes.aio.client.api_client import ApiClient

from slipway.api.types import API_VERSION, KIND
from slipway.core import naming
from slipway.core.observed import Manifest, ObjectKind
from slipway.engine.controller.apply import CLAIM_MANAGER, STATUS_MANAGER, WEBHOOK_MANAGER
from slipway.engine.errors import ApiError
from slipway.engine.kube import RESOURCES
from slipway.engine.projection import CREATED_ENTRY, WORKLOAD_MANAGER, project
from slipway.infra.fence import Fence
from slipway.infra.kube import KubeClient, call
from slipway.infra.leader import Candidate, Leases, Timing

#: Nobody's lease: an operator that runs in the cluster leaves alone what it claims.
NOBODY = "nowhere/slipway-operator"
OLDEST = 1


@dataclass(frozen=True)
class Cluster:
    """An API server, and a namespace in which nobody else is at work.

    Attributes:
        client: of the API server, as an administrator.
        namespace: that exists.
        expire: has the API server forget its past, where a test can bring that about.
    """

    client: ApiClient
    namespace: str
    expire: Callable[[], None] = lambda: None

    @property
    def kube(self) -> KubeClient:
        """The operator's own client."""
        return KubeClient(self.client, lambda *_: None, lambda: 12.0)

    async def raw(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **query: str
    ) -> dict[str, Any]:
        """One request; raises ApiError."""
        where = f"{path}?{urlencode(query)}" if query else path
        return await call(self.client, lambda *_: None, method, where, 12.0, body, content_type)

    async def apply(self, manifest: Manifest, manager: str, *, force: bool) -> dict[str, Any]:
        """Server-side apply."""
        path = self.path(str(manifest["kind"]), str(manifest["metadata"]["name"]))
        query = {"fieldManager": manager, "force": str(force).lower()}
        return await self.raw("PATCH", path, manifest, "application/apply-patch+yaml", **query)

    def path(self, kind: str, name: str | None = None) -> str:
        return RESOURCES[kind].path(self.namespace, name)

    def meta(self, name: str, **more: Any) -> dict[str, Any]:
        """Metadata of something that concerns Slipway."""
        labels = {naming.MODEL_LABEL: "contract"}
        return {"name": name, "namespace": self.namespace, "labels": labels, **more}

    def config_map(self, name: str, data: dict[str, str], **more: Any) -> Manifest:
        meta = self.meta(name, **more)
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}

    def model(self, name: str, replicas: int = 1, **more: Any) -> Manifest:
        spec = {"model": {"uri": "https://store.invalid/m.onnx"}, "scaling": {"minReplicas": replicas}}
        meta = {"name": name, "namespace": self.namespace, **more}
        return {"apiVersion": API_VERSION, "kind": KIND, "metadata": meta, "spec": spec}

    def status(self, live: Manifest, status: dict[str, Any], version: str | None = None) -> Manifest:
        meta = live["metadata"]
        mark = {name: meta[name] for name in ("name", "namespace", "uid")}
        if version is not None:
            mark["resourceVersion"] = version
        return {"apiVersion": API_VERSION, "kind": KIND, "metadata": mark, "status": status}

    async def claimed(self, name: str) -> Manifest:
        """A ModelDeployment that no operator touches."""
        made = await self.kube.apply(self.model(name), "kubectl")
        live = await self.kube.apply_status(self.status(made, {"operator": NOBODY}), CLAIM_MANAGER)
        # What an operator that runs there wrote before the claim goes again.
        return await self.kube.apply_status(self.status(live, {}), STATUS_MANAGER)

    async def watched(self, kind: str, version: str, most: int) -> list[dict[str, Any]]:
        """The first events of a watch from a version on, at most so many; ERROR ends it."""
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "20"}
        query["labelSelector"] = naming.MODEL_LABEL
        host = self.client.configuration.host
        session = self.client.rest_client.pool_manager
        assert session is not None, "something was asked for before"
        request = await self.client.param_serialize(
            "GET", f"{self.path(kind)}?{urlencode(query)}", auth_settings=["BearerToken"]
        )
        assert request[1].startswith(host)
        found: list[dict[str, Any]] = []
        timeout = aiohttp.ClientTimeout(total=20)
        async with session.get(request[1], headers=request[2], timeout=timeout) as response:
            if response.status != 200:
                return [{"type": "ERROR", "object": json.loads(await response.text())}]
            async for line in response.content:
                found.append(json.loads(line))
                if len(found) >= most or found[-1]["type"] == "ERROR":
                    break
        return found


def said_in(live: Manifest) -> dict[str, Any]:
    """Its status without empty lists: those of an operator from before the claim stay for good.

    Server-side apply takes an empty list back from nobody who applied it, and then nobody owns it. And
    without the generation that nobody has observed, which is there unless an operator came before.
    """
    unseen = ("observedGeneration", 0)
    return {name: value for name, value in live["status"].items() if value != [] and (name, value) != unseen}


def version_of(live: Manifest) -> str:
    return str(live["metadata"]["resourceVersion"])


async def refused(awaitable: Any, code: int, reason: str) -> ApiError:
    with pytest.raises(ApiError) as raised:
        await awaitable
    assert (raised.value.code, raised.value.reason) == (code, reason), str(raised.value)
    return raised.value


# Server-side apply


async def test_applying_what_is_there_already_changes_no_version(cluster: Cluster) -> None:
    first = await cluster.kube.apply(cluster.config_map("same", {"a": "1"}), "one")
    again = await cluster.kube.apply(cluster.config_map("same", {"a": "1"}), "one")
    assert version_of(again) == version_of(first)
    other = await cluster.kube.apply(cluster.config_map("same", {"a": "2"}), "one")
    assert int(version_of(other)) > int(version_of(first))


async def test_a_field_that_a_manager_leaves_out_goes_unless_another_one_has_it(cluster: Cluster) -> None:
    await cluster.kube.apply(cluster.config_map("shared", {"mine": "1", "both": "1"}), "one")
    await cluster.kube.apply(cluster.config_map("shared", {"theirs": "1", "both": "1"}), "two")
    live = await cluster.kube.apply(cluster.config_map("shared", {}), "one")
    assert live["data"] == {"theirs": "1", "both": "1"}


async def test_an_apply_without_force_is_refused_what_another_manager_has(cluster: Cluster) -> None:
    await cluster.apply(cluster.config_map("taken", {"a": "1"}), "one", force=True)
    error = await refused(
        cluster.apply(cluster.config_map("taken", {"a": "2"}), "two", force=False), 409, "Conflict"
    )
    assert error.causes == {"FieldManagerConflict"}
    # The same value is no conflict.
    await cluster.apply(cluster.config_map("taken", {"a": "1"}), "two", force=False)


async def test_a_forced_apply_takes_a_field_over_so_that_the_one_before_cannot_take_it_away(
    cluster: Cluster,
) -> None:
    await cluster.kube.apply(cluster.config_map("forced", {"a": "1", "b": "1"}), "one")
    live = await cluster.kube.apply(cluster.config_map("forced", {"a": "2"}), "two")
    assert live["data"] == {"a": "2", "b": "1"}
    live = await cluster.kube.apply(cluster.config_map("forced", {}), "one")
    assert live["data"] == {"a": "2"}


async def test_a_creation_of_what_is_there_is_refused_and_changes_nothing(cluster: Cluster) -> None:
    first = await cluster.kube.apply(cluster.config_map("namesake", {"a": "1"}), "kubectl")
    await refused(
        cluster.kube.create(cluster.config_map("namesake", {"b": "1"}), "one"), 409, "AlreadyExists"
    )
    live = await cluster.kube.get(ObjectKind.CONFIG_MAP, cluster.namespace, "namesake")
    assert live is not None
    assert version_of(live) == version_of(first)


async def test_what_a_creation_wrote_is_taken_back_by_an_apply_once_it_counts_as_applied(
    cluster: Cluster,
) -> None:
    for kind in ("stays", "goes"):
        made = await cluster.kube.create(cluster.config_map(kind, {"a": "1", "b": "1"}), WORKLOAD_MANAGER)
        entry = project(made)["metadata"][CREATED_ENTRY]
        if kind == "goes":
            path = f"/metadata/managedFields/{entry}/operation"
            operations = [{"op": "replace", "path": path, "value": "Apply"}]
            owned = await cluster.kube.patch(made, operations, WORKLOAD_MANAGER)
            assert CREATED_ENTRY not in project(owned)["metadata"]
        live = await cluster.kube.apply(cluster.config_map(kind, {"a": "2"}), WORKLOAD_MANAGER)
        assert live["data"] == ({"a": "2", "b": "1"} if kind == "stays" else {"a": "2"})


async def test_pods_that_others_added_stay_when_a_created_deployment_is_applied_for_the_first_time(
    cluster: Cluster,
) -> None:
    manifest = _deployment(cluster, "scaled", {})
    # Whoever leaves the number out has it by default.
    del manifest["spec"]["replicas"]
    manifest["spec"]["paused"] = True
    made = await cluster.kube.create(manifest, WORKLOAD_MANAGER)
    assert made["spec"]["replicas"] == 1
    scaled = {**manifest, "spec": {"replicas": 0}}
    live = await cluster.kube.apply(scaled, "hpa")
    while True:
        path = f"/metadata/managedFields/{project(live)['metadata'][CREATED_ENTRY]}/operation"
        operations = [{"op": "replace", "path": path, "value": "Apply"}]
        try:
            await cluster.kube.patch(live, operations, WORKLOAD_MANAGER)
            break
        except ApiError as error:
            # Its controller has just said something of it.
            if error.code != 409:
                raise
            live = await _settled(cluster, ObjectKind.DEPLOYMENT, "scaled")
    live = await cluster.kube.apply(manifest, WORKLOAD_MANAGER)
    assert live["spec"]["replicas"] == 0


async def test_owners_are_merged_by_their_uid(cluster: Cluster) -> None:
    owners = [await cluster.kube.apply(cluster.config_map(f"owner-{name}", {}), "m") for name in "ab"]
    references = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": found["metadata"]["name"],
            "uid": found["metadata"]["uid"],
        }
        for found in owners
    ]
    for manager, reference in zip(("one", "two"), references, strict=True):
        live = await cluster.kube.apply(cluster.config_map("owned", {}, ownerReferences=[reference]), manager)
    assert {found["uid"] for found in live["metadata"]["ownerReferences"]} == {
        found["uid"] for found in references
    }
    live = await cluster.kube.apply(cluster.config_map("owned", {}), "one")
    assert [found["uid"] for found in live["metadata"]["ownerReferences"]] == [references[1]["uid"]]


async def test_amounts_come_back_in_their_canonical_form_and_are_the_same_all_the_same(
    cluster: Cluster,
) -> None:
    manifest = _deployment(cluster, "amounts", {"cpu": "1000m", "memory": "1024Mi"})
    first = await cluster.kube.apply(manifest, "one")
    (container,) = first["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}
    settled = await _settled(cluster, ObjectKind.DEPLOYMENT, "amounts")
    assert version_of(await cluster.kube.apply(manifest, "one")) == version_of(settled)


async def test_containers_and_their_variables_are_merged_by_name(cluster: Cluster) -> None:
    manifest = _deployment(cluster, "merged", {})
    await cluster.kube.apply(manifest, "one")
    spec = {"name": "server", "env": [{"name": "THEIRS", "value": "2"}]}
    theirs = {
        **manifest,
        "spec": {"template": {"spec": {"containers": [spec, {"name": "more", "image": "y"}]}}},
    }
    live = await cluster.kube.apply(theirs, "two")
    server, more = live["spec"]["template"]["spec"]["containers"]
    assert {found["name"]: found["value"] for found in server["env"]} == {"MINE": "1", "THEIRS": "2"}
    assert (server["image"], more["name"]) == ("x", "more")
    live = await cluster.kube.apply(manifest, "one")
    assert len(live["spec"]["template"]["spec"]["containers"]) == 2, (
        "a forced apply removes nothing of others"
    )


async def _settled(cluster: Cluster, kind: str, name: str) -> Manifest:
    """An object once its controller has said what it has to say of it."""
    before = None
    while True:
        live = await cluster.kube.get(kind, cluster.namespace, name)
        assert live is not None
        if before is not None and version_of(live) == version_of(before):
            return live
        before = live
        await asyncio.sleep(1.0)


def _deployment(cluster: Cluster, name: str, requests: dict[str, str]) -> Manifest:
    labels = {"app": name}
    container = {
        "name": "server",
        "image": "x",
        "env": [{"name": "MINE", "value": "1"}],
        "resources": {"requests": requests},
    }
    # No pods: nobody is to have work by it.
    spec = {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": cluster.meta(name), "spec": spec}


# Preconditions


async def test_a_resource_version_that_is_not_the_newest_is_a_conflict(cluster: Cluster) -> None:
    first = await cluster.kube.apply(cluster.config_map("moved", {"a": "1"}), "one")
    second = await cluster.kube.apply(cluster.config_map("moved", {"a": "2"}), "two")
    old = cluster.config_map("moved", {"a": "3"}, resourceVersion=version_of(first))
    await refused(cluster.kube.apply(old, "one"), 409, "Conflict")
    new = cluster.config_map("moved", {"a": "3"}, resourceVersion=version_of(second))
    assert (await cluster.kube.apply(new, "one"))["data"] == {"a": "3"}


async def test_a_status_made_from_an_old_version_is_a_conflict(cluster: Cluster) -> None:
    live = await cluster.claimed("old")
    first = await cluster.kube.apply_status(
        cluster.status(live, {"replicas": 1}, version_of(live)), STATUS_MANAGER
    )
    await refused(
        cluster.kube.apply_status(cluster.status(live, {"replicas": 2}, version_of(live)), STATUS_MANAGER),
        409,
        "Conflict",
    )
    # Not even one that would change nothing.
    await refused(
        cluster.kube.apply_status(cluster.status(live, {"replicas": 1}, version_of(live)), STATUS_MANAGER),
        409,
        "Conflict",
    )
    second = await cluster.kube.apply_status(
        cluster.status(live, {"replicas": 2}, version_of(first)), STATUS_MANAGER
    )
    assert second["status"]["replicas"] == 2


async def test_a_change_of_spec_or_of_an_annotation_makes_a_status_old(cluster: Cluster) -> None:
    live = await cluster.claimed("edited")
    await cluster.kube.apply(cluster.model("edited", annotations={"team": "risk"}), "kubectl")
    await refused(
        cluster.kube.apply_status(cluster.status(live, {"replicas": 2}, version_of(live)), STATUS_MANAGER),
        409,
        "Conflict",
    )


async def test_a_uid_of_another_object_is_a_conflict(cluster: Cluster) -> None:
    live = await cluster.claimed("again")
    await cluster.kube.delete(live)
    await refused(
        cluster.kube.apply_status(cluster.status(live, {"replicas": 1}), STATUS_MANAGER), 404, "NotFound"
    )
    other = await cluster.claimed("again")
    assert other["metadata"]["uid"] != live["metadata"]["uid"]
    body = {"preconditions": {"uid": live["metadata"]["uid"]}}
    await refused(cluster.raw("DELETE", cluster.path(KIND, "again"), body), 409, "Conflict")
    # To the operator that is done: what it wanted to be gone is gone.
    await cluster.kube.delete(live)
    assert await cluster.kube.get(KIND, cluster.namespace, "again") is not None
    await cluster.kube.delete(other)
    assert await cluster.kube.get(KIND, cluster.namespace, "again") is None
    await cluster.kube.delete(other)


async def test_a_status_is_kept_from_a_namesake_by_its_version_and_not_by_its_uid(cluster: Cluster) -> None:
    live = await cluster.claimed("namesake")
    await cluster.kube.delete(live)
    await cluster.claimed("namesake")
    old = cluster.status(live, {"replicas": 1}, version_of(live))
    await refused(cluster.kube.apply_status(old, STATUS_MANAGER), 409, "Conflict")
    # Whoever writes without a version, as the webhook, says it of whatever has the name.
    told = await cluster.kube.apply_status(cluster.status(live, {"replicas": 1}), STATUS_MANAGER)
    assert told["metadata"]["uid"] != live["metadata"]["uid"]
    assert told["status"]["replicas"] == 1


async def test_an_apply_with_the_uid_of_another_object_is_invalid(cluster: Cluster) -> None:
    live = await cluster.kube.apply(cluster.config_map("other", {}), "one")
    await cluster.kube.delete(live)
    other = await cluster.kube.apply(cluster.config_map("other", {}), "one")
    assert other["metadata"]["uid"] != live["metadata"]["uid"]
    wrong = cluster.config_map("other", {"a": "1"}, uid=live["metadata"]["uid"])
    await refused(cluster.kube.apply(wrong, "one"), 422, "Invalid")


async def test_an_apply_with_the_uid_of_what_is_gone_makes_nothing(cluster: Cluster) -> None:
    live = await cluster.kube.apply(cluster.config_map("gone", {}), "one")
    await cluster.kube.delete(live)
    await refused(
        cluster.kube.apply(cluster.config_map("gone", {}, uid=live["metadata"]["uid"]), "one"),
        409,
        "Conflict",
    )
    assert await cluster.kube.get(ObjectKind.CONFIG_MAP, cluster.namespace, "gone") is None


# Status, generation, immutability, validation


async def test_what_is_new_has_a_status_that_nobody_wrote_and_that_says_so(cluster: Cluster) -> None:
    for name, make in (
        ("applied", cluster.kube.apply(cluster.model("applied"), "kubectl")),
        ("created", cluster.kube.create(cluster.model("created"), "kubectl")),
    ):
        made = await make
        assert made["status"] == {"observedGeneration": 0}, name
        written = [one.get("fieldsV1", {}) for one in made["metadata"].get("managedFields", ())]
        assert not any("f:status" in fields for fields in written), name


async def test_what_nobody_wrote_stays_until_the_operator_says_what_it_saw(cluster: Cluster) -> None:
    live = await cluster.claimed("seen")
    told = await cluster.kube.apply_status(cluster.status(live, {"observedGeneration": 1}), STATUS_MANAGER)
    assert said_in(told) == {"operator": NOBODY, "observedGeneration": 1}
    # A change of the spec is stored with it.
    told = await cluster.kube.apply(cluster.model("seen", replicas=2), "kubectl")
    assert said_in(told) == {"operator": NOBODY, "observedGeneration": 1}


async def test_status_is_written_by_its_subresource_only_and_spec_by_the_other(cluster: Cluster) -> None:
    live = await cluster.claimed("apart")
    told = await cluster.kube.apply({**cluster.model("apart"), "status": {"replicas": 5}}, "kubectl")
    assert said_in(told) == {"operator": NOBODY}
    both = {**cluster.status(live, {"replicas": 2}), "spec": {"scaling": {"minReplicas": 9}}}
    told = await cluster.kube.apply_status(both, STATUS_MANAGER)
    assert told["status"]["replicas"] == 2
    assert told["spec"]["scaling"]["minReplicas"] == 1


async def test_only_a_change_of_spec_is_another_generation(cluster: Cluster) -> None:
    live = await cluster.claimed("generations")
    assert live["metadata"]["generation"] == 1
    live = await cluster.kube.apply(cluster.model("generations", labels={"team": "risk"}), "kubectl")
    assert live["metadata"]["generation"] == 1
    live = await cluster.kube.apply_status(cluster.status(live, {"replicas": 3}), STATUS_MANAGER)
    assert live["metadata"]["generation"] == 1
    live = await cluster.kube.apply(cluster.model("generations", 2, labels={"team": "risk"}), "kubectl")
    assert live["metadata"]["generation"] == 2


async def test_the_fields_of_status_that_others_write_stay_when_it_is_written(cluster: Cluster) -> None:
    live = await cluster.claimed("managers")
    asked = {"refreshRequestedAt": "2026-11-24T12:00:00.000000Z"}
    await cluster.kube.apply_status(cluster.status(live, asked), WEBHOOK_MANAGER)
    for status in ({"replicas": 3}, {"replicas": 4}, {}):
        told = await cluster.kube.apply_status(cluster.status(live, status), STATUS_MANAGER)
    assert said_in(told) == {"operator": NOBODY, **asked}


async def test_conditions_are_merged_by_their_type(cluster: Cluster) -> None:
    live = await cluster.claimed("conditions")
    for manager, type_ in ((STATUS_MANAGER, "Ready"), (WEBHOOK_MANAGER, "Other")):
        told = await cluster.kube.apply_status(
            cluster.status(live, {"conditions": [_condition(type_)]}), manager
        )
    assert {found["type"] for found in told["status"]["conditions"]} == {"Ready", "Other"}


def _condition(type_: str) -> dict[str, Any]:
    return {
        "type": type_,
        "status": "True",
        "reason": "Serving",
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-11-24T12:00:00Z",
    }


async def test_a_status_that_the_schema_refuses_is_invalid(cluster: Cluster) -> None:
    live = await cluster.claimed("invalid")
    error = await refused(
        cluster.kube.apply_status(cluster.status(live, {"replicas": -1}), STATUS_MANAGER), 422, "Invalid"
    )
    assert "replicas" in error.message


async def test_what_a_person_wrote_into_status_outlives_applies_and_may_leave_half_a_block(
    cluster: Cluster,
) -> None:
    live = await _restored(cluster, "outlives")
    told = await cluster.kube.apply_status(cluster.status(live, {"replicas": 4}), STATUS_MANAGER)
    assert (told["status"]["replicas"], told["status"]["routerPort"]) == (4, PORT)
    # One field of a block becomes the operator's, the rest stays the person's.
    newer = {"stable": {**STABLE, "version": "2"}}
    told = await cluster.kube.apply_status(cluster.status(live, newer), STATUS_MANAGER)
    assert told["status"]["stable"]["version"] == "2"
    error = await refused(cluster.kube.apply_status(cluster.status(live, {}), STATUS_MANAGER), 422, "Invalid")
    assert "version" in error.message


async def test_a_status_that_is_replaced_has_nothing_of_what_others_wrote(cluster: Cluster) -> None:
    live = await _restored(cluster, "replaced")
    newer = {"stable": {**STABLE, "version": "2"}}
    told = await cluster.kube.apply_status(cluster.status(live, newer), STATUS_MANAGER)
    whole = {"operator": NOBODY, "replicas": 5}
    replaced = await cluster.kube.replace_status(
        cluster.status(told, whole, version_of(told)), STATUS_MANAGER
    )
    assert replaced["status"] == whole
    assert replaced["spec"] == live["spec"]
    assert replaced["metadata"]["generation"] == live["metadata"]["generation"]
    # From then on an apply of the same manager has its way with what it applies.
    told = await cluster.kube.apply_status(cluster.status(live, {"replicas": 6}), STATUS_MANAGER)
    told = await cluster.kube.apply_status(cluster.status(told, {}), STATUS_MANAGER)
    assert told["status"] == {"operator": NOBODY}
    error = await refused(
        cluster.kube.replace_status(cluster.status(told, {"replicas": -1}, version_of(told)), STATUS_MANAGER),
        422,
        "Invalid",
    )
    assert "replicas" in error.message


async def test_a_status_is_replaced_at_the_version_that_was_read_of_this_very_object(
    cluster: Cluster,
) -> None:
    live = await _restored(cluster, "again")
    old = cluster.status(live, {"operator": NOBODY}, version_of(live))
    told = await cluster.kube.apply_status(cluster.status(live, {"replicas": 4}), STATUS_MANAGER)
    await refused(cluster.kube.replace_status(old, STATUS_MANAGER), 409, "Conflict")
    await cluster.kube.delete(told)
    await refused(cluster.kube.replace_status(old, STATUS_MANAGER), 404, "NotFound")
    await cluster.claimed("again")
    await refused(cluster.kube.replace_status(old, STATUS_MANAGER), 422, "Invalid")


PORT = 12345
STABLE = {"revision": "5d8f", "version": "1", "digest": f"sha256:{'0' * 64}", "replicas": 2}


async def _restored(cluster: Cluster, name: str) -> Manifest:
    """A ModelDeployment whose status is of a backup, as `kubectl replace --subresource=status` brings it."""
    live = await cluster.claimed(name)
    status = {"operator": NOBODY, "routerPort": PORT, "stable": STABLE}
    path = f"{cluster.path(KIND, name)}/status"
    return await cluster.raw("PUT", path, {**live, "status": status}, fieldManager="kubectl-replace")


async def test_the_content_of_a_revision_never_changes(cluster: Cluster) -> None:
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": cluster.meta("memory"),
        "data": {"model": {"version": "1"}},
        "revision": 1,
    }
    await cluster.kube.apply(manifest, "one")
    assert (await cluster.kube.apply({**manifest, "revision": 2}, "one"))["revision"] == 2
    other = {**manifest, "data": {"model": {"version": "2"}}}
    error = await refused(cluster.kube.apply(other, "one"), 422, "Invalid")
    assert "immutable" in error.message


# Absence, selection, lists


async def test_what_is_not_there_is_not_found(cluster: Cluster) -> None:
    assert await cluster.kube.get(ObjectKind.CONFIG_MAP, cluster.namespace, "none") is None
    await refused(cluster.raw("GET", cluster.path(ObjectKind.CONFIG_MAP, "none")), 404, "NotFound")
    # A group that nobody installed is not even a Status.
    await refused(cluster.raw("GET", "/apis/nobody.example/v1/things"), 404, "")


async def test_lists_hold_what_has_the_label_of_their_namespace_without_kinds(cluster: Cluster) -> None:
    await cluster.kube.apply(cluster.config_map("labelled", {}), "one")
    plain = cluster.config_map("plain", {})
    await cluster.kube.apply({**plain, "metadata": {**plain["metadata"], "labels": {"a": "b"}}}, "one")
    found, version = await cluster.kube.list(ObjectKind.CONFIG_MAP, cluster.namespace)
    assert [item["metadata"]["name"] for item in found] == ["labelled"]
    assert version >= int(version_of(found[0]))
    listed = await cluster.raw("GET", cluster.path(ObjectKind.CONFIG_MAP), labelSelector="a=b")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["plain"]
    assert "kind" not in listed["items"][0]
    assert listed["kind"] == "ConfigMapList"
    listed = await cluster.raw("GET", cluster.path(ObjectKind.CONFIG_MAP), labelSelector="a=c")
    assert listed["items"] == []


async def test_pages_show_the_list_as_it_was_at_the_first_of_them(cluster: Cluster) -> None:
    for name in "abc":
        await cluster.kube.apply(cluster.config_map(f"page-{name}", {}), "one")
    query = {"limit": "1", "labelSelector": naming.MODEL_LABEL}
    page = await cluster.raw("GET", cluster.path(ObjectKind.CONFIG_MAP), **query)
    version, seen = page["metadata"]["resourceVersion"], [page["items"][0]["metadata"]["name"]]
    await cluster.kube.apply(cluster.config_map("page-bb", {}), "one")
    while token := page["metadata"].get("continue"):
        page = await cluster.raw("GET", cluster.path(ObjectKind.CONFIG_MAP), **query, **{"continue": token})
        assert page["metadata"]["resourceVersion"] == version
        seen += [item["metadata"]["name"] for item in page["items"]]
    assert seen == ["page-a", "page-b", "page-c"]


async def test_a_page_of_a_past_that_is_forgotten_is_expired(cluster: Cluster) -> None:
    await cluster.kube.apply(cluster.config_map("late", {}), "one")
    cluster.expire()
    token = json.dumps({"v": "meta.k8s.io/v1", "rv": OLDEST, "start": f"{cluster.namespace}/a\0"})
    query = {"limit": "1", "continue": base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")}
    await refused(cluster.raw("GET", cluster.path(ObjectKind.CONFIG_MAP), **query), 410, "Expired")


# Watches


async def test_a_watch_tells_what_happens_after_a_list_and_deletions_with_a_newer_version(
    cluster: Cluster,
) -> None:
    before = await cluster.kube.apply(cluster.config_map("before", {}), "one")
    _, version = await cluster.kube.list(ObjectKind.CONFIG_MAP, cluster.namespace)
    watching = asyncio.create_task(cluster.watched(ObjectKind.CONFIG_MAP, str(version), 3))
    made = await cluster.kube.apply(cluster.config_map("watched", {}), "one")
    changed = await cluster.kube.apply(cluster.config_map("watched", {"a": "1"}), "one")
    await cluster.kube.delete(changed)
    events = await watching
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert {event["object"]["metadata"]["name"] for event in events} == {"watched"}
    versions = [int(version_of(event["object"])) for event in events]
    assert versions[:2] == [int(version_of(made)), int(version_of(changed))]
    assert versions == sorted(set(versions))
    assert int(version_of(before)) <= version < versions[0]


async def test_a_watch_from_a_past_that_is_forgotten_ends_with_an_error_410(cluster: Cluster) -> None:
    await cluster.kube.apply(cluster.config_map("past", {}), "one")
    cluster.expire()
    (error,) = await cluster.watched(ObjectKind.CONFIG_MAP, str(OLDEST), 1)
    assert error["type"] == "ERROR"
    assert (error["object"]["kind"], error["object"]["code"]) == ("Status", 410)
    assert error["object"]["reason"] in ("Expired", "Gone")


# Events and leases


async def test_events_get_a_name_of_their_own(cluster: Cluster) -> None:
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": "fraud-", "namespace": cluster.namespace},
        "eventTime": "2026-11-24T12:00:00.000000Z",
        "type": "Normal",
        "reason": "Serving",
        "note": "it serves",
        "action": "Reconcile",
        "reportingController": "slipway.dev/operator",
        "reportingInstance": "contract",
        "regarding": {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "namespace": cluster.namespace},
    }
    path = f"/apis/events.k8s.io/v1/namespaces/{cluster.namespace}/events"
    made = {(await cluster.raw("POST", path, event))["metadata"]["name"] for _ in range(2)}
    assert len(made) == 2
    assert all(name.startswith("fraud-") for name in made)
    await cluster.kube.emit(cluster.namespace, event)


async def test_a_lease_has_one_holder(cluster: Cluster) -> None:
    timing = Timing(retry=0.2, lease=2.0)
    fences = [Fence(timing.begin, timing.finish) for _ in range(2)]
    one, two = (
        Candidate(Leases(cluster.client), cluster.namespace, f"pod-{number}", fence, timing)
        for number, fence in enumerate(fences)
    )
    await one.acquire()
    waiting = asyncio.create_task(two.acquire())
    keeping = asyncio.create_task(one.keep())
    await asyncio.sleep(3)
    assert fences[0].left() > 0
    assert not waiting.done()
    keeping.cancel()
    await one.release()
    await asyncio.wait_for(waiting, 5)
    assert (fences[0].left(), fences[1].left() > 0) == (0, True)
    # Two that read the same state cannot both write.
    leases = Leases(cluster.client)
    read = await leases.get(cluster.namespace, "slipway-operator")
    assert read is not None
    await leases.replace({**read, "spec": {**read["spec"], "holderIdentity": "pod-3"}})
    await refused(
        leases.replace({**read, "spec": {**read["spec"], "holderIdentity": "pod-4"}}), 409, "Conflict"
    )
    meta = {"name": "slipway-operator", "namespace": cluster.namespace}
    await refused(leases.create({**read, "metadata": meta}), 409, "AlreadyExists")
    assert await leases.get(cluster.namespace, "none") is None
