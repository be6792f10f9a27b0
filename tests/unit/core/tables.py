"""Reads and runs the tables in ``cases/``: YAML in, YAML out.

A case says what is given (the resource, its children, the time, what the installation has, what writes met
with) and what is wanted.
What every child has in common is filled in, so that a case shows what it is about. ``$A`` stands for the
revision called A, ``$A.digest`` for the digest of its model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from slipway.api.reasons import Reason
from slipway.api.status import ModelStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.core import naming
from slipway.core.objects.controller_revision import controller_revision
from slipway.core.objects.metadata import Owner, metadata
from slipway.core.objects.resolver import resolver_pod
from slipway.core.observed import Fault, Manifest, ObjectKind, ObjectReference, Observed, observe
from slipway.core.plan import Plan, plan
from slipway.core.resource import read
from slipway.core.revision import Revision, Settings, revision_of
from slipway.core.status.report import Report, report, report_unreadable

FOLDER = Path(__file__).parent / "cases"
SETTINGS = Settings(
    "slipway.dev/server:dev",
    "IfNotPresent",
    "http://mlflow.mlflow:5000",
    cuda_image="slipway.dev/server-cuda:dev",
)
OWNER = Owner("fraud", "payments", "0c7f5f0e-5c5c-4d6c-9a57-1f7f7d8b1a11")
NOW = "2026-11-24T12:00:00Z"
#: When what is already there was made.
BEFORE = "2026-11-24T11:00:00Z"


@dataclass(frozen=True)
class Case:
    """One row of a table."""

    given: Mapping[str, Any]
    want: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What came of a case; ``plan`` is None where the spec could not be read."""

    plan: Plan | None
    report: Report


def cases() -> Iterator[tuple[str, Case]]:
    """Every case with its name, ``file: sentence``."""
    for path in sorted(FOLDER.glob("*.yaml")):
        for row in yaml.safe_load(path.read_text())["cases"]:
            letters = revisions(row.get("given", {}).get("revisions") or {})
            text = _filled(row, letters)
            yield f"{path.stem}: {row['case']}", Case(text.get("given") or {}, text["want"])


def model(number: int) -> ModelStatus:
    """Version ``number`` of the model fraud."""
    uri = f"mlflow://fraud/{number}"
    return ModelStatus(uri=uri, resolvedURI=uri, version=str(number), digest=digest(number), bytes=4096)


def digest(number: int) -> str:
    """A digest that is as good as any."""
    return f"sha256:{number:064x}"


def revisions(given: Mapping[str, Any]) -> dict[str, Revision]:
    """A, B and C serve versions 1, 2 and 3; a case may say otherwise."""
    wanted = {"A": {"model": 1}, "B": {"model": 2}, "C": {"model": 3}, **given}
    return {letter: _revision(found) for letter, found in wanted.items()}


def run(case: Case, seen: Callable[[Manifest], Manifest] = lambda child: child) -> Answer:
    """Plan and report; ``seen``: what is known of a child."""
    letters = revisions(case.given.get("revisions") or {})
    resource = read(_resource(case.given, letters))
    now = datetime.fromisoformat(case.given.get("now", NOW))
    if isinstance(resource.spec, Fault):
        return Answer(None, report_unreadable(resource, resource.spec, now))
    resolver = str(resolver_pod(OWNER, resource.spec, SETTINGS)["metadata"]["name"])
    children = [
        seen(child)
        for given in case.given.get("children") or ()
        for kind, fields in given.items()
        for child in _children(kind, fields, letters, resolver)
    ]
    observed = observe(children)
    settings = replace(SETTINGS, **(case.given.get("settings") or {}))
    planned = plan(resource, resource.spec, observed, settings, now)
    after = _after(planned, observed, _faults(case.given.get("faults") or {}, resolver))
    return Answer(planned, report(resource, resource.spec, planned, after, now))


def _revision(found: Mapping[str, Any]) -> Revision:
    number = found["model"]
    spec = ModelDeploymentSpec.model_validate(
        {"model": {"uri": f"mlflow://fraud/{number}"}, "runtime": found.get("runtime") or {}}
    )
    return revision_of(spec, model(number))


def _filled(value: Any, letters: Mapping[str, Revision]) -> Any:
    if isinstance(value, dict):
        return {_filled(key, letters): _filled(found, letters) for key, found in value.items()}
    if isinstance(value, list):
        return [_filled(found, letters) for found in value]
    if isinstance(value, str):
        return re.sub(r"\$([A-Z])(\.digest)?(?![A-Za-z])", lambda found: _letter(found, letters), value)
    return value


def _letter(found: re.Match[str], letters: Mapping[str, Revision]) -> str:
    revision = letters[found.group(1)]
    return revision.model.digest if found.group(2) else revision.name


def _resource(given: Mapping[str, Any], letters: Mapping[str, Revision]) -> dict[str, Any]:
    status = dict(given.get("status") or {})
    if isinstance(status.get("model"), str):
        status["model"] = letters[status["model"]].model.model_dump()
    for role in ("stable", "canary"):
        if isinstance(status.get(role), str):
            revision = letters[status[role]]
            status[role] = {
                "revision": revision.name,
                "version": revision.model.version,
                "digest": revision.model.digest,
            }
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {
            "name": OWNER.name,
            "namespace": OWNER.namespace,
            "uid": OWNER.uid,
            "generation": given.get("generation", 1),
            **(given.get("metadata") or {}),
        },
        "spec": given.get("spec", {"model": {"uri": "mlflow://fraud/1"}}),
        "status": status,
    }


def _children(
    kind: str, given: Mapping[str, Any], letters: Mapping[str, Revision], resolver: str
) -> Iterator[dict[str, Any]]:
    """Children from their short form, a map with the kind as its only key.

    ``Revision`` is all that belongs to one, with as many pods ready as ``ready`` says; ``Route`` the Service
    that clients use and its EndpointSlice; ``Resolver`` the pod that resolves the model.
    """
    if kind == "Revision":
        yield from _revision_children(given, letters)
    elif kind == "Route":
        to = letters[given["to"]].name
        yield _child("Service", {"name": OWNER.name, "component": "route", "leadsTo": to})
        pods = given.get("pods", {f"{OWNER.name}-{to}-0": True})
        yield _child("EndpointSlice", {"name": f"{OWNER.name}-x2x7z", "component": "route", "pods": pods})
    elif kind == "Resolver":
        yield _child("Pod", {"name": resolver, **given, "component": "resolver"})
    elif kind == "ControllerRevision":
        content = letters[given["is"]]
        built = _child(kind, {"revision": content.name})
        yield {**controller_revision(OWNER, content, given.get("number", 1)), "metadata": built["metadata"]}
    else:
        yield _child(kind, given)


def _revision_children(given: Mapping[str, Any], letters: Mapping[str, Revision]) -> Iterator[dict[str, Any]]:
    revision = letters[given["is"]].name
    ready = given.get("ready", 1)
    yield from _children("ControllerRevision", given, letters, "")
    pods = given.get("pods", ready)
    counted = {"observedGeneration": 1, "replicas": pods, "updatedReplicas": pods, "readyReplicas": ready}
    yield _child("Deployment", {"revision": revision, "status": {**counted, **(given.get("status") or {})}})
    yield _child("Service", {"revision": revision, "leadsTo": revision})
    yield _child("HorizontalPodAutoscaler", {"revision": revision})
    yield _child("PodDisruptionBudget", {"revision": revision})
    for number in range(ready):
        is_ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        name = f"{OWNER.name}-{revision}-{number}"
        yield _child("Pod", {"revision": revision, "name": name, "status": is_ready})


def _child(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    revision = given.get("revision")
    labels = naming.labels(OWNER.name, given.get("component", "model-server"), revision)
    name = given.get("name") or naming.revision_object(OWNER.name, str(revision))
    child: dict[str, Any] = {
        "kind": kind,
        "metadata": {
            **metadata(OWNER, name, labels),
            "uid": f"uid-of-{name}",
            "generation": given.get("generation", 1),
            "creationTimestamp": given.get("created", BEFORE),
        },
        **{key: given[key] for key in ("spec", "status") if key in given},
    }
    if given.get("leaving"):
        child["metadata"]["deletionTimestamp"] = NOW
    if kind == ObjectKind.SERVICE:
        child["spec"] = {"selector": naming.pod_selector(OWNER.name, given["leadsTo"])}
    elif kind == ObjectKind.ENDPOINT_SLICE:
        child["metadata"]["labels"]["kubernetes.io/service-name"] = OWNER.name
        child["endpoints"] = [
            {"conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": pod}}
            for pod, ready in given["pods"].items()
        ]
    return child


def _faults(given: Mapping[str, Any], resolver: str) -> dict[ObjectReference, Fault]:
    found = {}
    for place, fault in given.items():
        kind, name = place.split(" ")
        name = resolver if name == f"{OWNER.name}-resolve" else name
        found[ObjectReference(ObjectKind(kind), name)] = Fault(Reason(fault["reason"]), fault["message"])
    return found


def _after(planned: Plan, observed: Observed, refused: Mapping[ObjectReference, Fault]) -> Observed:
    """What is there once the plan's writes were done, but for those that met with a fault."""
    gone = {
        ObjectReference(ObjectKind(found["kind"]), str(found["metadata"]["name"])) for found in planned.delete
    }
    there = {
        ObjectReference(kind, child["metadata"]["name"]): child
        for kind in ObjectKind
        for child in observed.of(kind)
    }
    there = {reference: child for reference, child in there.items() if reference not in gone}
    for manifest in planned.apply:
        reference = ObjectReference(ObjectKind(manifest["kind"]), manifest["metadata"]["name"])
        if reference not in refused:
            before = there.get(reference, {"metadata": {}})
            meta = {**before["metadata"], **manifest["metadata"]}
            there[reference] = {**before, **manifest, "metadata": meta}
    return observe(there.values(), refused)
