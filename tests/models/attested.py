"""What builders attest of a model, as they write it, and who signs that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.models.cosigned import Signer
from tests.models.test_signature import statement as files_of

SLSA = "https://slsa.dev/provenance/v1"
BUILDER = "https://github.com/acme/fraud/.github/workflows/release.yml@refs/heads/main"
SOURCE = "github.com/acme/fraud"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
WANTED = {"builder": BUILDER, "source": SOURCE}
PROVENANCE = "provenance.sigstore.json"
GIT = {"uri": f"git+https://{SOURCE}@refs/heads/main", "digest": {"gitCommit": COMMIT}}
IMAGE = {"uri": "pkg:docker/python@3.11", "digest": {"sha256": "0" * 64}}
#: Of GitHub's action attest-build-provenance.
GITHUB = {"workflow": {"ref": "refs/heads/main", "repository": f"https://{SOURCE}", "path": "release.yml"}}


def predicate(
    given: Mapping[str, Any] = GITHUB, builder: str = BUILDER, made_of: Sequence[Mapping[str, Any]] = (GIT,)
) -> dict[str, Any]:
    """As GitHub's action writes it, if nothing else."""
    return {
        "buildDefinition": {
            "buildType": "https://actions.github.io/buildtypes/workflow/v1",
            "externalParameters": given,
            "internalParameters": {"github": {"event_name": "push"}},
            "resolvedDependencies": list(made_of),
        },
        "runDetails": {"builder": {"id": builder}, "metadata": {"invocationId": "https://github.com/1"}},
    }


def attestation(*sums: str, **more: Any) -> dict[str, Any]:
    """A statement about files, or a manifest, by their SHA-256 (64 hexadecimal digits)."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": f"file-{place}", "digest": {"sha256": each}} for place, each in enumerate(sums)],
        "predicateType": SLSA,
        "predicate": predicate(),
        **more,
    }


def sums_of(folder: Path, *names: str) -> list[str]:
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]


def sign(folder: Path, by: Signer) -> None:
    """The model's own signature."""
    (folder / "model.sig").write_text(json.dumps(by.bundle(without_provenance(folder))))


def without_provenance(folder: Path) -> dict[str, Any]:
    said = files_of(folder)
    listed = said["predicate"]["resources"]
    said["predicate"]["resources"] = [each for each in listed if each["name"] != PROVENANCE]
    return said


def attest(folder: Path, by: Signer, **more: Any) -> None:
    """What a build attests of the model with its weights, next to it."""
    said = attestation(*sums_of(folder, "model.onnx", "weights.bin"), **more)
    (folder / PROVENANCE).write_text(json.dumps(by.bundle(said)))
