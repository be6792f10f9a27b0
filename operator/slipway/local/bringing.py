"""From what is wanted to a folder with the model and a revision of it, by the code of resolver and fetch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slipway.contract import FetchTask, Resolution, ResolveTask
from slipway.core.objects.deployment import serving_config
from slipway.core.objects.metadata import Owner
from slipway.core.objects.resolver import hazards
from slipway.core.resolution import model_status
from slipway.core.revision import Revision, revision_of
from slipway.core.signers import built_by
from slipway.local.errors import LocalError
from slipway.local.files import FileSource
from slipway.local.stand_ins import StandIns, trust_of
from slipway.local.wanted import Wanted
from slipway.models.credentials import Credentials
from slipway.models.faults import ModelError
from slipway.models.source import NOBODY, Source, fetch, resolve
from slipway.models.sources import Surroundings, source_of
from slipway.names import CREDENTIAL_ENV_PREFIX, PROFILE_FILE

#: Seconds that a server which is replaced goes on answering at most, until its clients have left.
DRAIN_SECONDS = 6


@dataclass(frozen=True)
class Brought:
    """A model that can be served.

    Attributes:
        revision: what an operator would make of it.
        folder: with the model's files.
        config: of the server, as JSON.
        resolution: what its URI meant.
    """

    revision: Revision
    folder: Path
    config: str
    resolution: Resolution

    @property
    def has_profile(self) -> bool:
        """Whether a profile came along."""
        return (self.folder / PROFILE_FILE).is_file()

    def serves_as(self, other: Brought) -> bool:
        """Whether clients could not tell a server of this from one of the other."""
        return (self.config, self.resolution.profile, self.revision.runtime.env) == (
            other.config,
            other.resolution.profile,
            other.revision.runtime.env,
        )


def surroundings(volumes: Mapping[str, Path], environment: Mapping[str, str] = os.environ) -> Surroundings:
    """What sources are given: variables by the names that the credentials Secret has for its keys.

    Args:
        volumes: folders that stand for PersistentVolumeClaims; one at most.
        environment: of this process.
    """
    named = {f"{CREDENTIAL_ENV_PREFIX}{name}": value for name, value in environment.items()}
    uri = environment.get("MLFLOW_TRACKING_URI", "")
    around = Surroundings(credentials=Credentials.of({**named, **environment}), mlflow_tracking_uri=uri)
    for folder in volumes.values():
        around = Surroundings(around.credentials, uri, folder)
    return around


def bring(
    wanted: Wanted,
    folder: Path,
    stand_ins: StandIns,
    known: Resolution | None = None,
) -> Brought | None:
    """Resolve the model and copy its files into the folder.

    Args:
        wanted: what is to be served.
        folder: an empty one.
        stand_ins: for volumes and ConfigMaps of a cluster.
        known: what the URI meant at the last look; where it still does, nothing is copied, and None is given.

    Raises:
        LocalError: where the model cannot be had, or is not signed as the spec wants it.
    """
    spec, volumes = wanted.spec, stand_ins.volumes
    around = surroundings(volumes)
    trust = trust_of(spec, wanted.called, stand_ins)
    try:
        source = source_for(wanted, volumes, around)
        uri = spec.model.uri
        asked = ResolveTask(
            uri=uri,
            digest=spec.model.digest,
            known=known,
            isSigned=trust is not None,
            provenance=built_by(spec),
            # It is Slipway's own server that runs it here, whatever does in a cluster.
            hazards=hazards(spec, is_own=True),
        )
        found = resolve(asked, source, trust or NOBODY)
        if known is not None and _of(found) == _of(known):
            return None
        fetch(FetchTask(uri=found.uri, digest=found.digest, profile=found.profile), source, folder)
    except ModelError as error:
        raise LocalError(around.credentials.redacted(str(error))) from error
    except OSError as error:
        raise LocalError(f"{wanted.called} cannot be read: {error}") from error
    revision = revision_of(spec, model_status(uri, found))
    owner = Owner(name=wanted.name, namespace="default", uid="")
    here = {"drainSeconds": DRAIN_SECONDS, "device": "CPU"}
    config = serving_config(owner, revision, None).model_copy(update=here)
    return Brought(revision, folder, config.model_dump_json(exclude_defaults=True), found)


def _of(found: Resolution) -> tuple[str, str, str | None]:
    return found.version, found.digest, found.profile


def source_for(wanted: Wanted, volumes: Mapping[str, Path], around: Surroundings) -> Source:
    """What brings a model, by the scheme of its URI; raises :class:`LocalError` where that cannot be said."""
    if wanted.path is not None:
        return FileSource(wanted.path)
    scheme, _, rest = wanted.spec.model.uri.partition("://")
    if scheme == "mlflow" and not (around.mlflow_tracking_uri or around.credentials.tracking_uri):
        raise LocalError(
            f"{wanted.called} is in an MLflow that is not known: set MLFLOW_TRACKING_URI to the address of "
            "its tracking server, such as http://localhost:5000"
        )
    claim = rest.partition("/")[0]
    if scheme == "pvc" and claim not in volumes:
        raise LocalError(
            f"{wanted.called} is on a volume of a cluster: say which folder stands for it, "
            f"by --volume {claim}=FOLDER"
        )
    if scheme == "pvc":
        around = surroundings({claim: volumes[claim]})
    return source_of(wanted.spec.model.uri, around)
