"""Files and folders of this machine that stand for what a cluster has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slipway.api.access import KeyRef
from slipway.api.types import ModelDeploymentSpec
from slipway.core.signers import signers_of
from slipway.local.errors import LocalError
from slipway.models.trust import Trust


@dataclass(frozen=True)
class StandIns:
    """What stands for what.

    Attributes:
        volumes: folders, by the names of PersistentVolumeClaims.
        config_maps: files, by the names of ConfigMaps and their keys: ``NAME/KEY``.
    """

    volumes: Mapping[str, Path] = field(default_factory=dict)
    config_maps: Mapping[str, Path] = field(default_factory=dict)


def trust_of(spec: ModelDeploymentSpec, called: str, stand_ins: StandIns) -> Trust | None:
    """Who has to have signed a model; None where nobody has to.

    Args:
        spec: of the ModelDeployment.
        called: what messages call the model.
        stand_ins: for the ConfigMap with the keys, the authorities or the trust root.

    Raises:
        LocalError: where nothing stands for the ConfigMap, or it cannot be read.
    """
    signers = signers_of(spec)
    if signers is None:
        return None
    file = _file(signers.place, called, stand_ins)
    try:
        return Trust.of(signers.identities, {signers.env: file.read_text()}, str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(f"{file} cannot be read as text: {error}") from error


def _file(reference: KeyRef, called: str, stand_ins: StandIns) -> Path:
    name = f"{reference.name}/{reference.key}"
    if name not in stand_ins.config_maps:
        raise LocalError(
            f"{called} has to be signed, as spec.model.verify.signature of the ModelDeployment says, and the "
            f"ConfigMap {reference.name} is in a cluster: say which file stands for its key "
            f"{reference.key}, by --config-map {name}=FILE"
        )
    return stand_ins.config_maps[name]
