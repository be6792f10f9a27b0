"""Helm on the test cluster."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from e2e.cluster.command import run
from e2e.cluster.settings import Settings
from e2e.cluster.tools import HELM, KUBERNETES_VERSION, Tools

CHART = Path(__file__).resolve().parents[1] / "charts" / "slipway"
IMAGES = ("operator", "server", "audit", "router")
RELEASE = "slipway"
NAMESPACE = "slipway-system"
CALL_SECONDS = 60.0


def image_values(references: Mapping[str, str], **values: Any) -> dict[str, Any]:
    """The chart's values for images given as `NAME@DIGEST` by their names, such as those of `IMAGES`."""
    images = {
        short: dict(zip(("repository", "digest"), reference.split("@"), strict=True))
        for short, reference in references.items()
    }
    parts = {short: {"image": image} for short, image in images.items() if short != "operator"}
    return {**values, "image": images["operator"], **parts}


@dataclass(frozen=True)
class Helm:
    """Helm, at the version pinned with the cluster's tools; calls raise ClusterError with its last words."""

    program: Path
    kubeconfig: Path

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Helm on the cluster of these settings; built by the first call."""
        return cls(Tools(settings.cache).install(HELM), settings.kubeconfig)

    def helm(
        self, *words: str, values: Mapping[str, Any] | None = None, seconds: float = CALL_SECONDS
    ) -> str:
        """Run helm to its end and return its output; `values` reach it as a values file."""
        argv: list[str | Path] = [self.program, *words]
        if values is None:
            return run(argv, env=self._env(), timeout=seconds)
        return run(
            [*argv, "--values=-"],
            stdin=yaml.safe_dump(dict(values)).encode(),
            env=self._env(),
            timeout=seconds,
        )

    def upgrade(
        self,
        release: str,
        namespace: str,
        values: Mapping[str, Any],
        *,
        chart: Path = CHART,
        seconds: float = 180,
    ) -> None:
        """Install a release or change it to these values, and wait until all of it is ready."""
        words = [
            "upgrade",
            "--install",
            release,
            str(chart),
            f"--namespace={namespace}",
            "--create-namespace",
        ]
        self.helm(
            *words, "--wait", f"--timeout={seconds:.0f}s", values=values, seconds=seconds + CALL_SECONDS
        )

    def uninstall(self, release: str, namespace: str, *, seconds: float = 120) -> None:
        """Remove a release and wait until it is gone; fine where there is none."""
        words = ["uninstall", release, f"--namespace={namespace}", "--ignore-not-found", "--wait"]
        self.helm(*words, f"--timeout={seconds:.0f}s", seconds=seconds + CALL_SECONDS)

    def template(self, values: Mapping[str, Any], *, chart: Path = CHART) -> str:
        """The manifests that these values make, as one YAML stream."""
        words = ["template", RELEASE, str(chart), f"--namespace={NAMESPACE}"]
        return self.helm(*words, f"--kube-version={KUBERNETES_VERSION}", values=values)

    def _env(self) -> dict[str, str]:
        return {"KUBECONFIG": str(self.kubeconfig)}
