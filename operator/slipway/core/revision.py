"""What pods of a ModelDeployment differ in: a revision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slipway.api.freshness import Freshness
from slipway.api.inputs import Inputs
from slipway.api.monitoring import Fairness, Feedback
from slipway.api.status import ModelStatus
from slipway.api.types import ModelDeploymentSpec, Runtime
from slipway.core import names


@dataclass(frozen=True)
class Settings:
    """What the installation decides for all ModelDeployments."""

    server_image: str
    image_pull_policy: str = "IfNotPresent"
    mlflow_tracking_uri: str = ""
    #: Secrets, of each ModelDeployment's own namespace, that its pods' images are pulled with.
    image_pull_secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Revision:
    """A model's bytes and what runs them; two equal revisions need the same pods."""

    model: ModelStatus
    runtime: Runtime
    image: str
    #: Image of the container that brings the model, and the MLflow server it asks.
    fetch_image: str
    mlflow_tracking_uri: str
    credentials: str | None
    inputs: Inputs | None = None
    feedback: Feedback | None = None
    fairness: Fairness | None = None
    freshness: Freshness | None = None

    @property
    def name(self) -> str:
        """Hash of the content, the same wherever and whenever it is computed."""
        return names.content_hash(self.content())

    @property
    def judged(self) -> str:
        """Hash of what a rollout judges: the same bytes under another version's name are judged already."""
        content = self.content()
        content["model"] = self.model.digest
        return names.content_hash(content)

    def content(self) -> dict[str, Any]:
        """As stored in a ControllerRevision.

        Defaults are left out, so that a field which a newer operator adds changes no revision's name.
        """
        content: dict[str, Any] = {
            "model": {
                "uri": self.model.resolvedURI,
                "version": self.model.version,
                "digest": self.model.digest,
                "bytes": self.model.bytes,
            },
            "runtime": self.runtime.model_dump(mode="json", exclude={"image"}, exclude_defaults=True),
            "image": self.image,
            "fetchImage": self.fetch_image,
            "mlflowTrackingURI": self.mlflow_tracking_uri,
            "credentials": self.credentials,
        }
        if self.inputs is not None:
            content["inputs"] = self.inputs.model_dump(mode="json", exclude_defaults=True)
        if self.feedback is not None:
            content["feedback"] = self.feedback.model_dump(mode="json", exclude_defaults=True)
        if self.fairness is not None:
            content["fairness"] = self.fairness.model_dump(mode="json", exclude_defaults=True)
        if self.freshness is not None:
            content["freshness"] = self.freshness.model_dump(mode="json", exclude_defaults=True)
        return content


def revision_of(spec: ModelDeploymentSpec, model: ModelStatus, settings: Settings) -> Revision:
    """The revision that a spec asks for once its model is resolved."""
    credentials = spec.model.credentials
    performance = spec.monitoring.performance if spec.monitoring else None
    return Revision(
        model=model,
        runtime=spec.runtime,
        image=spec.runtime.image or settings.server_image,
        fetch_image=settings.server_image,
        mlflow_tracking_uri=settings.mlflow_tracking_uri if model.uri.startswith("mlflow:") else "",
        credentials=credentials.secretRef.name if credentials else None,
        inputs=spec.inputs,
        feedback=performance.feedback if performance else None,
        fairness=_counted(spec.fairness),
        freshness=spec.monitoring.freshness if spec.monitoring else None,
    )


def _counted(fairness: Fairness | None) -> Fairness | None:
    """What pods count of groups, without what the operator judges it by."""
    if fairness is None:
        return None
    attributes = tuple(
        attribute.model_copy(update={"referenceGroup": None}) for attribute in fairness.sensitiveAttributes
    )
    return Fairness(sensitiveAttributes=attributes, favorableOutcomes=fairness.favorableOutcomes)


def revision_from(content: dict[str, Any]) -> Revision:
    """The revision that a ControllerRevision remembers.

    Raises:
        ValueError: if the content is not one of ours (pydantic's ``ValidationError`` included).
        KeyError: if a part of it is missing.
        TypeError: if a part of it is something else than a map.
    """
    model = content["model"]
    return Revision(
        model=ModelStatus(
            uri=model["uri"],
            resolvedURI=model["uri"],
            version=model["version"],
            digest=model["digest"],
            bytes=model["bytes"],
        ),
        runtime=Runtime.model_validate(content["runtime"]),
        image=content["image"],
        fetch_image=content["fetchImage"],
        mlflow_tracking_uri=content["mlflowTrackingURI"],
        credentials=content.get("credentials"),
        inputs=Inputs.model_validate(content["inputs"]) if "inputs" in content else None,
        feedback=Feedback.model_validate(content["feedback"]) if "feedback" in content else None,
        fairness=Fairness.model_validate(content["fairness"]) if "fairness" in content else None,
        freshness=Freshness.model_validate(content["freshness"]) if "freshness" in content else None,
    )
