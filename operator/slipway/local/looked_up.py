"""What a model's URI means now, asked from this machine as a resolver pod asks."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.api.status import ModelStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.contract import ResolveTask
from slipway.core.resolution import looked_up
from slipway.local.bringing import source_for, surroundings
from slipway.local.errors import LocalError
from slipway.local.wanted import Wanted
from slipway.models.faults import ModelError
from slipway.models.source import profile_at, resolve
from slipway.models.whole import resolve_whole
from slipway.profile import Profile, ProfileError, read_profile


@dataclass(frozen=True)
class LookedUp:
    """A version of a model, and the profile of its training data, if it has one that is of it."""

    model: ModelStatus
    profile: Profile | None


def look_up(spec: ModelDeploymentSpec, uri: str | None = None) -> LookedUp:
    """Ask the store of a spec's model, by the credentials in this process's environment.

    Its signature, should the spec want one, is not verified: the keys are in the cluster.

    Args:
        spec: of the ModelDeployment.
        uri: to be looked up instead of the spec's, with whatever digest it has.

    Raises:
        LocalError: where it cannot be told.
    """
    asked = uri or spec.model.uri
    around = surroundings({})
    is_folder = spec.runtime.server == "External"
    model = spec.model.model_copy(update={"uri": asked})
    source = source_for(Wanted(asked, spec.model_copy(update={"model": model})), {}, around)
    task = ResolveTask(uri=asked, digest=spec.model.digest if uri is None else None)
    try:
        found = resolve_whole(task, source) if is_folder else resolve(task, source)
        text = None if is_folder else profile_at(source, found.uri)
    except ModelError as error:
        raise LocalError(around.credentials.redacted(str(error))) from error
    profile = None
    if text is not None:
        try:
            profile = read_profile(text, found.digest)
        except ProfileError:
            profile = None  # the model server leaves it aside as well
    return LookedUp(looked_up(spec, found), profile)
