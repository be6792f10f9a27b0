"""What pods of a ModelDeployment differ in: a revision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from slipway.api.freshness import Freshness
from slipway.api.inputs import Inputs
from slipway.api.monitoring import Fairness, Feedback
from slipway.api.pods import NOTHING, PodOptions
from slipway.api.status import ModelStatus
from slipway.api.suspects import Detector, SuspectInputs
from slipway.api.types import ModelDeploymentSpec, Runtime
from slipway.core import naming


@dataclass(frozen=True)
class Settings:
    """What the installation decides for all ModelDeployments."""

    server_image: str
    image_pull_policy: str = "IfNotPresent"
    mlflow_tracking_uri: str = ""
    #: Secrets, of each ModelDeployment's own namespace, that its pods' images are pulled with.
    image_pull_secrets: tuple[str, ...] = ()
    #: ``requests`` and ``limits`` of containers that bring a model; None for those that always do.
    downloads: Mapping[str, Mapping[str, str]] | None = None
    #: What pods have unless their ModelDeployment says otherwise.
    pods: PodOptions = NOTHING
    #: Whether a ModelDeployment has to say who may ask.
    access_required: bool = False
    #: Image of audits that attack a model; empty where nobody said so.
    audit_image: str = ""
    audit_pull_policy: str = "IfNotPresent"
    #: Addresses at which public keys of issuers may be read.
    issuers: frozenset[str] = frozenset()
    #: Image of model servers with ``device: CUDA``, pulled as the other one is; empty where there is none.
    cuda_image: str = ""


@dataclass(frozen=True)
class Revision:
    """A model's bytes and what people chose to run them with; two equal revisions need the same pods.

    Nothing of the installation is in it: neither its images nor its addresses. Nor is ``runtime.pod``: who
    pays for a pod, or what pulls its image, changes nothing that a rollout could judge.
    """

    model: ModelStatus
    runtime: Runtime
    credentials: str | None
    inputs: Inputs | None = None
    feedback: Feedback | None = None
    fairness: Fairness | None = None
    freshness: Freshness | None = None
    #: Detectors of ``spec.monitoring.suspectInputs``, in alphabetical order.
    suspects: tuple[Detector, ...] = ()
    #: The ServiceAccount by whose identity the model's bytes are brought.
    service_account: str | None = None
    #: What its ControllerRevision holds, if there is one: another operator may have put the same otherwise.
    record: Mapping[str, Any] | None = None

    @cached_property
    def name(self) -> str:
        """Hash of the content, the same wherever and whenever it is computed."""
        return naming.content_hash(self.content())

    @property
    def identity(self) -> str:
        """Hash of what people chose: the name, unless another operator gave it one."""
        return naming.content_hash(self._chosen())

    @property
    def profile(self) -> str | None:
        """The profile that its pods must have, by digest; None for what is named without one.

        That is of before profiles were pinned: its pods take any profile that is of the model.
        """
        return self.model.profile if self.record is None else _pinned(self.record)

    def with_any_profile(self) -> Revision:
        """The same as people chose it before profiles were pinned."""
        return replace(self, model=self.model.model_copy(update={"profile": None}))

    @property
    def judged(self) -> str:
        """Hash of what a rollout judges: digest, runtime and inputs, by whatever name of a version.

        A rejection says next to it which profile, so that an operator of before knows what was judged too.
        """
        chosen = self._chosen()
        return naming.content_hash(
            {
                "digest": self.model.digest,
                "runtime": chosen["runtime"],
                "inputs": chosen.get("inputs"),
            }
        )

    def content(self) -> dict[str, Any]:
        """As stored in a ControllerRevision."""
        return self._chosen() if self.record is None else dict(self.record)

    def named_before(self, fetch_image: str, mlflow_tracking_uri: str) -> Revision:
        """The same revision by the name that an operator before ADR 8 gives it in such an installation."""
        chosen = self.with_any_profile()._chosen()
        record = {
            **chosen,
            "runtime": {key: value for key, value in chosen["runtime"].items() if key != "image"},
            "image": self.runtime.image or fetch_image,
            "fetchImage": fetch_image,
            "mlflowTrackingURI": mlflow_tracking_uri if self.model.resolvedURI.startswith("mlflow:") else "",
        }
        return replace(self, record=record)

    @property
    def judged_before(self) -> str:
        """Hash by which an operator before ADR 8 remembers that a revision which it named was judged."""
        return naming.content_hash({**self.content(), "model": self.model.digest})

    @property
    def installation(self) -> tuple[str, str] | None:
        """Image that fetches models and MLflow's address, where the record is from before ADR 8."""
        if self.record is None or "fetchImage" not in self.record:
            return None
        return str(self.record["fetchImage"]), str(self.record["mlflowTrackingURI"])

    def may_pin(self, image: str) -> bool:
        """Whether the spec may have pinned this image: before ADR 8 the chart's own one looked like none."""
        record = self.record or {}
        return record.get("image") == record.get("fetchImage") == image

    def pinning(self, image: str) -> Revision:
        """This revision, read as one whose spec pins this image."""
        return replace(self, runtime=self.runtime.model_copy(update={"image": image}))

    def _chosen(self) -> dict[str, Any]:
        """Defaults are left out, so that a field which a newer operator adds changes no revision's name."""
        chosen: dict[str, Any] = {
            "model": {
                "uri": self.model.resolvedURI,
                "version": self.model.version,
                "digest": self.model.digest,
                "bytes": self.model.bytes,
                **({} if self.model.profile is None else {"profile": self.model.profile}),
                **({"folder": True} if self.model.folder else {}),
            },
            "runtime": self.runtime.model_dump(mode="json", exclude_defaults=True),
            "credentials": self.credentials,
        }
        if self.service_account is not None:
            chosen["serviceAccount"] = self.service_account
        if self.inputs is not None:
            chosen["inputs"] = self.inputs.model_dump(mode="json", exclude_defaults=True)
        if self.feedback is not None:
            chosen["feedback"] = self.feedback.model_dump(mode="json", exclude_defaults=True)
        if self.fairness is not None:
            chosen["fairness"] = self.fairness.model_dump(mode="json", exclude_defaults=True)
        if self.freshness is not None:
            chosen["freshness"] = self.freshness.model_dump(mode="json", exclude_defaults=True)
        if self.suspects:
            chosen["suspectInputs"] = list(self.suspects)
        return chosen


def revision_of(spec: ModelDeploymentSpec, model: ModelStatus) -> Revision:
    """The revision that a spec asks for once its model is resolved."""
    credentials = spec.model.credentials
    performance = spec.monitoring.performance if spec.monitoring else None
    return Revision(
        model=model,
        runtime=spec.runtime.model_copy(update={"pod": NOTHING}),
        credentials=credentials.secretRef.name if credentials and credentials.secretRef else None,
        service_account=credentials.serviceAccountName if credentials else None,
        inputs=spec.inputs,
        feedback=performance.feedback if performance else None,
        fairness=_counted(spec.fairness),
        freshness=spec.monitoring.freshness if spec.monitoring else None,
        suspects=_suspects(spec.monitoring.suspectInputs if spec.monitoring else None),
    )


def _suspects(asked: SuspectInputs | None) -> tuple[Detector, ...]:
    return () if asked is None else tuple(sorted(asked.detectors))


def _counted(fairness: Fairness | None) -> Fairness | None:
    """What pods count of groups, without what the operator judges it by."""
    if fairness is None:
        return None
    attributes = tuple(
        attribute.model_copy(update={"referenceGroup": None}) for attribute in fairness.sensitiveAttributes
    )
    return Fairness(sensitiveAttributes=attributes, favorableOutcomes=fairness.favorableOutcomes)


def _pinned(content: Mapping[str, Any]) -> str | None:
    found = content["model"].get("profile")
    return None if found is None else str(found)


def revision_from(content: Mapping[str, Any]) -> Revision:
    """The revision that a ControllerRevision remembers.

    Raises:
        ValueError: if the content is not one of ours (pydantic's ``ValidationError`` included).
        KeyError: if a part of it is missing.
        TypeError: if a part of it is something else than a map.
    """
    model = content["model"]
    runtime = Runtime.model_validate(content["runtime"])
    if "fetchImage" in content:
        # From before ADR 8, when the chart's images were in it.
        image = content["image"] if content["image"] != content["fetchImage"] else ""
        runtime = runtime.model_copy(update={"image": image})
    return Revision(
        model=ModelStatus(
            uri=model["uri"],
            resolvedURI=model["uri"],
            version=model["version"],
            digest=model["digest"],
            bytes=model["bytes"],
            profile=_pinned(content),
            folder=True if model.get("folder") is True else None,
        ),
        runtime=runtime,
        credentials=content.get("credentials"),
        service_account=content.get("serviceAccount"),
        inputs=Inputs.model_validate(content["inputs"]) if "inputs" in content else None,
        feedback=Feedback.model_validate(content["feedback"]) if "feedback" in content else None,
        fairness=Fairness.model_validate(content["fairness"]) if "fairness" in content else None,
        freshness=Freshness.model_validate(content["freshness"]) if "freshness" in content else None,
        suspects=_suspects(
            SuspectInputs(detectors=content["suspectInputs"]) if "suspectInputs" in content else None
        ),
        record=content,
    )
