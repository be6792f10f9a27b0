"""The operator's judge alone, beside a store with one ModelDeployment and its pods."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from slipway.api.types import API_VERSION, KIND
from slipway.api.verdicts import VerdictStatus
from slipway.core.endpoint import Endpoint
from slipway.core.monitoring.judge import Findings
from slipway.core.monitoring.series import Values
from slipway.core.naming import labels
from slipway.core.observed import ObjectKind
from slipway.core.resource import Resource, read
from slipway.engine.observers.monitoring import Judge
from slipway.engine.store import Key, Store

KEY = Key("risk", "fraud")
VERSION = "7"
STABLE = {"revision": "a", "version": VERSION, "digest": "sha256:0"}
_BEGAN = datetime(2026, 11, 24, tzinfo=UTC)


class Judged:
    """A judge whose pods show what a test says.

    Attributes:
        shown: what each pod shows now, by its name; the pods are those that are named at the start.
        changes: how often status was written.
    """

    def __init__(self, spec: Mapping[str, Any], pods: Mapping[str, Values]) -> None:
        self.now = _BEGAN
        self.shown = dict(pods)
        self.store = Store()
        self.changes = 0
        self._spec = spec
        self.store.put(_resource(spec, {}))
        for owner in _owners():
            self.store.put(owner)
        for name in pods:
            self.store.put(_pod(name))
        self.judge = Judge(self.store, self._read, self._changed, lambda: self.now, spread=lambda: 0.0)

    async def look(self, seconds: float) -> None:
        """One look, so many seconds after the last one; what it finds is written."""
        self.now += timedelta(seconds=seconds)
        if KEY in self.judge._watched:
            self.judge._watched[KEY].due = self.now
            self.judge.pool.refresh(KEY)
        await self.judge.round()

    @property
    def findings(self) -> Findings:
        return self.judge._watched[KEY].findings

    def status(self, type_: str) -> str:
        """Of a condition, as status holds it; empty where there is none."""
        found = self.verdict(type_)
        return found.status if found is not None else ""

    @property
    def resource(self) -> Resource:
        manifest = self.store.resource(KEY)
        assert manifest is not None
        return read(manifest)

    def verdict(self, type_: str) -> VerdictStatus | None:
        """What status holds of a condition."""
        manifest = self.store.resource(KEY)
        assert manifest is not None
        monitoring = read(manifest).status.monitoring
        return next((one for one in monitoring.verdicts if one.type == type_), None) if monitoring else None

    async def _read(self, target: Endpoint) -> Mapping[str, Values] | None:
        return {VERSION: self.shown[target.host]}

    def _changed(self, key: Key) -> None:
        """As a reconcile does: what is found goes to status."""
        self.changes += 1
        manifest = self.store.resource(key)
        assert manifest is not None
        monitoring = self.judge.monitoring(read(manifest))
        told = monitoring.model_dump(mode="json", exclude_none=True) if monitoring else None
        crashes = self.judge.crashes(read(manifest)).get(STABLE["revision"])
        stable = STABLE | ({"crashes": crashes.model_dump(mode="json")} if crashes else {})
        self.store.put(_resource(self._spec, {"monitoring": told, "stable": stable}, 2 + self.changes))


def _resource(spec: Mapping[str, Any], status: Mapping[str, Any], version: int = 1) -> dict[str, Any]:
    meta = {"name": KEY.name, "namespace": KEY.namespace, "uid": "u", "generation": 1}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {**meta, "resourceVersion": str(version)},
        "spec": {"model": {"uri": "mlflow://fraud/7"}, **spec},
        "status": {"stable": STABLE, **status},
    }


def _owners() -> list[dict[str, Any]]:
    """The Deployment of the pods, and its ReplicaSet."""
    found = labels(KEY.name, "model-server", "a")
    meta = {"namespace": KEY.namespace, "resourceVersion": "1", "labels": found}
    return [
        {
            "kind": kind,
            "metadata": {**meta, "name": name, "uid": name, "ownerReferences": [_controlled(*owner)]},
        }
        for kind, name, owner in (
            ("Deployment", "fraud-a", (KIND, "fraud", "u")),
            ("ReplicaSet", "fraud-a-1", ("Deployment", "fraud-a", "fraud-a")),
        )
    ]


def _controlled(kind: str, name: str, uid: str) -> dict[str, Any]:
    return {"kind": kind, "name": name, "uid": uid, "controller": True}


def _pod(name: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": KEY.namespace, "uid": name, "resourceVersion": "1"}
    ready = [{"type": "Ready", "status": "True"}]
    return {
        "apiVersion": "v1",
        "kind": ObjectKind.POD.value,
        "metadata": {
            **meta,
            "labels": labels(KEY.name, "model-server", "a"),
            "ownerReferences": [_controlled("ReplicaSet", "fraud-a-1", "fraud-a-1")],
        },
        "status": {"phase": "Running", "podIP": name, "conditions": ready},
    }
