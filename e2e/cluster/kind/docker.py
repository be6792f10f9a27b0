"""What Docker's engine answers: whether it runs, and which image of a node it has or gets."""

from contextlib import suppress

from e2e.cluster.command import run, step, tell
from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import Settings

# The image that this version of kind is released with for Kubernetes 1.34.
NODE_IMAGE = "kindest/node:v1.34.0@sha256:7416a61b42b1662ca6ca89f02028ac133a309a2a30ba309614e8ec94d976dc5a"
ANSWER_SECONDS = 20.0
PULL_SECONDS = 900.0


def kind_is_usable(settings: Settings) -> bool:
    """Whether Docker answers and has an image for kind's nodes, or gets it now; see `find_node_image`."""
    return engine_answers() and find_node_image(settings) is not None


def engine_answers() -> bool:
    """Whether there is a Docker client, and an engine that answers it."""
    try:
        docker("info", seconds=ANSWER_SECONDS)
    except ClusterError:
        return False
    return True


def find_node_image(settings: Settings) -> str | None:
    """The image for kind's nodes by the name that Docker knows it under; None where there is none.

    Raises ClusterError where the settings name an image that Docker neither has nor gets.
    """
    if named := settings.kind_image:
        if not _has(named) and (problem := _pull(named)):
            raise ClusterError(
                f"SLIPWAY_KIND_IMAGE={named} is not in Docker and cannot be pulled: `docker load` it, "
                f"or unset the variable ({problem})"
            )
        return named
    if _has(NODE_IMAGE):
        return NODE_IMAGE
    problem = _pull(NODE_IMAGE)
    if not problem:
        return NODE_IMAGE
    # One that came from a file has a tag and no digest of a registry.
    loaded = NODE_IMAGE.split("@")[0]
    if _has(loaded):
        tell(f"  {loaded} was loaded from a file: its digest is not checked")
        return loaded
    tell(f"  Docker runs, but has no {loaded}: {problem}")
    return None


def docker(*words: str, seconds: float = 120.0) -> str:
    """Run Docker's client and return what it printed."""
    return run(["docker", *words], timeout=seconds)


def _has(image: str) -> bool:
    with suppress(ClusterError):
        docker("image", "inspect", image, seconds=ANSWER_SECONDS)
        return True
    return False


def _pull(image: str) -> str | None:
    """Why the image cannot be pulled; None where it was."""
    try:
        with step(f"pulling the node image {image.split('@')[0]}"):
            docker("pull", "--quiet", image, seconds=PULL_SECONDS)
    except ClusterError as unreachable:
        return str(unreachable)[-200:]
    return None
