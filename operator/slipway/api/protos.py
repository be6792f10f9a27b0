"""The Python modules for protobuf messages, from the ``.proto`` files beside them.

``python -m slipway.api.protos`` writes them; with ``--check`` it exits 1 on a difference. It needs
grpcio-tools, which is among the packages for development.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from slipway.api.generated import ROOT, write_or_check

_FOLDERS = ("server/slipway_server/rpc", "server/slipway_server/batching", "operator/slipway/models")


def files() -> dict[str, str]:
    """Return each module's text by its path."""
    return {path: text for folder in _FOLDERS for path, text in _modules(folder).items()}


def _modules(folder: str) -> dict[str, str]:
    from grpc_tools import protoc

    protos = ROOT / folder / "protos"
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        sources = [str(path) for path in sorted(protos.glob("*.proto"))]
        if protoc.main(["protoc", f"-I{protos}", f"--python_out={out}", f"--pyi_out={out}", *sources]):
            raise SystemExit("protoc refused the .proto files")
        return {f"{folder}/{path.name}": path.read_text() for path in sorted(out.iterdir())}


if __name__ == "__main__":
    sys.exit(write_or_check("slipway.api.protos", files()))
