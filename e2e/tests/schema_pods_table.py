"""What the API server takes and refuses of ``spec.runtime.pod``."""

from __future__ import annotations

from collections.abc import Iterator

from e2e.tests.schema_cases import Case
from e2e.tests.schema_shapes import INT32, bounds, choice, items, required, text, twins

POD = "spec.runtime.pod"
ZONE = f"{POD}.topologySpread.*"
LONGEST_KEY = "a" * 253 + "/" + "b" * 63
OF_LABELS = (
    "labels slipway.dev/…, app.kubernetes.io/managed-by, app.kubernetes.io/component, pod-template-hash"
)
OF_ANNOTATIONS = "annotations slipway.dev/…, prometheus.io/port, prometheus.io/path"


def _name(path: str) -> Iterator[Case]:
    yield text(path, 253)
    for right, wrong in (("a", ""), ("a.b", "a..b"), ("a-b", "a-"), ("a", "A"), ("1", "a/b")):
        yield Case(path, "rule", right, wrong, "must be a name of lower case letters")


def _map(path: str, owned: tuple[str, ...], says: str) -> Iterator[Case]:
    whole = {f"k{index}": "" for index in range(33)}
    yield Case(
        path,
        "maxProperties",
        dict.fromkeys(list(whole)[:32], ""),
        whole,
        "Too many: 33: must have at most 32 items",
    )
    longer = {"a" + LONGEST_KEY: ""}
    yield Case(path, "rule", {LONGEST_KEY: ""}, longer, "keys must have at most 317 characters")
    for right, wrong in (("a.b/C_d", "a b"), ("b" * 63, "b" * 64), ("a", "a/"), ("a", "/a"), ("a", "")):
        yield Case(path, "rule", {right: ""}, {wrong: ""}, "keys must be label keys, such as")
    for wrong in owned:
        yield Case(path, "rule", {f"{wrong}-not": ""}, {wrong: ""}, says)
    for prefixed in ("slipway.dev/revision", "slipway.dev/mine"):
        yield Case(path, "rule", {f"not-{prefixed}": ""}, {prefixed: ""}, says)


PODS = [
    *items(f"{POD}.imagePullSecrets", 16, lambda index: {"name": f"pull-{index}"}),
    *twins(f"{POD}.imagePullSecrets", lambda index: {"name": f"pull-{index}"}),
    *required(f"{POD}.imagePullSecrets.*", "name"),
    *_name(f"{POD}.imagePullSecrets.*.name"),
    *_name(f"{POD}.serviceAccountName"),
    *_map(
        f"{POD}.labels",
        ("app.kubernetes.io/managed-by", "app.kubernetes.io/component", "pod-template-hash"),
        OF_LABELS,
    ),
    text(f"{POD}.labels.*", 63),
    *(
        Case(f"{POD}.labels.*", "rule", right, wrong, "must be a label value: letters, digits,")
        for right, wrong in (("", "-"), ("A_b.c-1", "a b"), ("a", "a."))
    ),
    *_map(
        f"{POD}.annotations",
        (
            "prometheus.io/port",
            "prometheus.io/path",
            "eks.amazonaws.com/skip-containers",
            "azure.workload.identity/skip-containers",
        ),
        OF_ANNOTATIONS,
    ),
    text(f"{POD}.annotations.*", 4096),
    *_name(f"{POD}.priorityClassName"),
    *_name(f"{POD}.runtimeClassName"),
    *items(f"{POD}.topologySpread", 8, lambda index: {"topologyKey": f"a{index}"}),
    *twins(f"{POD}.topologySpread", lambda index: {"topologyKey": f"a{index}"}),
    *required(ZONE, "topologyKey"),
    Case(
        f"{ZONE}.topologyKey",
        "maxLength",
        LONGEST_KEY,
        "a" * 318,
        "Too long: may not be more than 317",
        also="topologyKey must be a label key",
    ),
    Case(f"{ZONE}.topologyKey", "rule", "a/b", "a b", "topologyKey must be a label key, such as"),
    *bounds(f"{ZONE}.maxSkew", 1, INT32),
    *choice(f"{ZONE}.whenUnsatisfiable", "ScheduleAnyway", "DoNotSchedule"),
]
