"""A model server as pods of a ModelDeployment with ``spec.access`` have it, as a page prints that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from e2e import snippets
from e2e.snippets import Block
from slipway import contract
from slipway.api.access import Access
from slipway.api.types import ModelDeploymentSpec
from slipway.core.objects.access import contract_of, mounts_of, volumes_of
from tests.server import onnx_models
from tests.server.running import Server, tensor
from tests.server.test_access import Mounted

PAGE = "docs/access.md"
#: The ModelDeployment of the pages.
NAME, NAMESPACE = "fraud", "payments"
_DIRECTORIES = {
    contract.ACCESS_KEYS_DIR: "SLIPWAY_ACCESS_KEYS_DIR",
    contract.ACCESS_ISSUERS_DIR: "SLIPWAY_ACCESS_ISSUERS_DIR",
    contract.TLS_DIR: "SLIPWAY_TLS_DIR",
}
#: Secrets and ConfigMaps of the namespace: by name, texts by key.
Objects = Mapping[str, Mapping[str, str]]
X = {"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}


def printed() -> list[Block]:
    """The parts of a spec that the page prints, in their order."""
    return [block for block in snippets.blocks(PAGE) if block.language == "yaml"]


def access_of(block: Block) -> Access:
    """What a printed part of a spec says of access."""
    document = snippets.as_model_deployment(yaml.safe_load(block.text))
    access = ModelDeploymentSpec.model_validate(document["spec"]).access
    assert access is not None, block
    return access


class Pod:
    """The server with what the operator tells it, and with the volumes that the operator gives it."""

    def __init__(self, folder: Path, access: Access, objects: Objects) -> None:
        self._volumes = volumes_of(access, NAME)
        folders = {
            mount["name"]: (_DIRECTORIES[mount["mountPath"]], Mounted(folder / mount["name"]))
            for mount in mounts_of(access, NAME)
        }
        self._mounted = {name: mounted for name, (_, mounted) in folders.items()}
        self.mount(objects)
        onnx_models.save(onnx_models.identity(), folder / "model")
        (folder / "feedback").mkdir()
        (folder / "feedback/1").write_bytes(b"0123456789abcdef" * 2)
        environment = {variable: str(mounted.directory) for variable, mounted in folders.values()}
        self.server = Server(
            folder / "model",
            environment={**environment, "SLIPWAY_FEEDBACK_KEYS_DIR": str(folder / "feedback")},
            modelName=NAME,
            feedbackMaxAgeDays=9,
            access=contract_of(access, NAMESPACE),
        )

    def mount(self, objects: Objects) -> None:
        """What a kubelet does after a change; all of these volumes may lack what they name."""
        for volume in self._volumes:
            self._mounted[volume["name"]].put(**_files(volume, objects))

    def code(self, key: str | None = None, path: str = "", body: Any = None) -> int:
        """What a client with a key or a token is answered: asked to infer, unless a path says otherwise."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        if path and body is None:
            return self.server.client.get(path, headers=headers).status_code
        where = path or self.server.infer_path
        return self.server.client.post(where, json=body or X, headers=headers).status_code

    def __enter__(self) -> Pod:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.__exit__(kind, error, trace)


def _files(volume: Mapping[str, Any], objects: Objects) -> dict[str, str]:
    if "secret" in volume:
        return dict(objects.get(volume["secret"]["secretName"], {}))
    sources = [found for source in volume["projected"]["sources"] for found in source.values()]
    return {
        item["path"]: objects[source["name"]][item["key"]]
        for source in sources
        for item in source["items"]
        if item["key"] in objects.get(source["name"], {})
    }
