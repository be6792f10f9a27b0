"""The demo's last act: who shows a key is answered, and a version that is wrong stops at its audit."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from e2e import credit
from e2e.cluster.command import run, wait_until
from e2e.demo.serving import CALL_SECONDS
from e2e.kube import Kube, Object

CALLER, KEYS, TABLE, LABEL = "shop", "credit-callers", "credit-held-out", "paid_back"
#: What is added to everybody's log-odds of paying back: the version that is wrong says no to nearly all.
MISTAKE = -6.0
_HELD_OUT_ROWS, _SEED = 2_000, 23
_SERVICE_PORT, _ADMITTED_SECONDS, _AUDITED_SECONDS = 80, 120.0, 180.0
ACCESS: Object = {
    "apiKeys": {"secretRef": {"name": KEYS}},
    "allow": [{"callers": [f"key:{CALLER}"], "actions": ["Infer", "Feedback", "Metadata"]}],
}
AUDIT: Object = {
    "name": "held-out",
    "type": "Subgroups",
    "data": {"configMapRef": {"name": TABLE, "key": "rows.csv"}},
    "labelColumn": LABEL,
    "attributes": [{"column": credit.ATTRIBUTE, "groups": list(credit.GROUPS)}],
    "minimumAccuracy": "60%",
    "maxAccuracyLoss": "5%",
}


@dataclass(frozen=True)
class Stopped:
    """A version that its audit rejected."""

    seconds: float
    words: str
    """What the audit found."""
    deployments: tuple[str, ...]
    """All Deployments of the model by then."""


class Trust:
    """The model of the act before, whose owner no longer believes everybody and everything."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube, self._namespace = kube, namespace

    def undo(self) -> None:
        """Take back what an earlier run of the demo left."""
        resource = self._resource()
        if resource:
            stable = resource.get("status", {}).get("stable", {}).get("version", "1")
            uri = f"mlflow://{credit.NAME}/{stable}"
            self._patch({"access": None, "rollout": None, "model": {"uri": uri}})
        self._kube.kubectl("delete", "secret", KEYS, f"--namespace={self._namespace}", "--ignore-not-found")

    def new_key(self) -> str:
        """Make a key for the caller, as a user would."""
        return self._slipway("key", "new", credit.NAME, CALLER, f"--secret={KEYS}").strip()

    def close(self) -> None:
        """Answer from now on only who has a key; returns once a stranger is refused."""
        self._patch({"access": ACCESS})
        self._wait(lambda: self.code(None) == 401, _ADMITTED_SECONDS, "answers strangers")

    def code(self, key: str | None) -> int:
        """The status that a request for one applicant is answered with; 0 without an answer."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        asked = credit.applicants(1, _SEED)
        with (
            self._kube.port_forward(f"service/{credit.NAME}", self._namespace, _SERVICE_PORT) as url,
            httpx.Client(base_url=url, timeout=CALL_SECONDS, trust_env=False, headers=headers) as client,
        ):
            try:
                credit.ask(client, asked)
            except httpx.HTTPStatusError as error:
                return error.response.status_code
            except httpx.TransportError:
                return 0
        return 200

    def demand_audit(self) -> None:
        """Have every further version answer a table of people that no version was trained on."""
        table = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": TABLE, "namespace": self._namespace},
            "data": {"rows.csv": _table()},
        }
        self._kube.apply(table)
        self._patch({"rollout": {"strategy": "Canary", "audits": [AUDIT]}})
        self._wait(lambda: self._verdict(self._stable()) == "Pass", _AUDITED_SECONDS, "is not audited")

    def release(self, version: str) -> Stopped:
        """Ask for a version that is wrong, and wait until its audit has stopped it."""
        began = time.monotonic()
        self._patch({"model": {"uri": f"mlflow://{credit.NAME}/{version}"}})
        otherwise = f"has no audit of version {version} that failed"
        self._wait(lambda: self._verdict(version) == "Fail", _AUDITED_SECONDS, otherwise)
        [words] = [each["message"] for each in self._audits() if each["version"] == version]
        label = f"slipway.dev/modeldeployment={credit.NAME}"
        where = (f"--namespace={self._namespace}", f"--selector={label}", "--output=name")
        found = self._kube.kubectl("get", "deployments", *where).split()
        return Stopped(time.monotonic() - began, words, tuple(found))

    def _stable(self) -> str:
        return str(self._resource().get("status", {}).get("stable", {}).get("version", ""))

    def _verdict(self, version: str) -> str:
        found = [str(each["verdict"]) for each in self._audits() if each["version"] == version]
        return found[0] if found else ""

    def _audits(self) -> list[Object]:
        audits: list[Object] = self._resource().get("status", {}).get("audits", [])
        return audits

    def _resource(self) -> Object:
        return self._kube.get("modeldeployment", credit.NAME, self._namespace) or {}

    def _patch(self, spec: Object) -> None:
        words = ("mdep", credit.NAME, f"--namespace={self._namespace}", "--type=merge")
        self._kube.kubectl("patch", *words, f"--patch={json.dumps({'spec': spec})}")

    def _slipway(self, *words: str) -> str:
        where = (f"--namespace={self._namespace}", f"--kubeconfig={self._kube.kubeconfig}")
        return run([Path(sys.executable).with_name("kubectl-slipway"), *words, *where], timeout=60)

    def _wait(self, holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
        wait_until(holds, seconds, lambda: f"{credit.NAME} {otherwise} after {seconds:.0f} s", pause=0.5)


def _table() -> str:
    """Held-out people as CSV: the inputs of the model, what became of them, and their groups."""
    people = credit.applicants(_HELD_OUT_ROWS, _SEED)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*credit.FEATURES, LABEL, credit.ATTRIBUTE])
    for row, paid, group in zip(people.rows.tolist(), people.paid_back.tolist(), people.groups, strict=True):
        lines.writerow([*row, paid, group])
    return text.getvalue()
