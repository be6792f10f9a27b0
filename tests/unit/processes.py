"""The operator as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path


async def start_operator(
    folder: Path, name: str, address: str, **environment: str
) -> asyncio.subprocess.Process:
    """Start an operator; its token is its name, and it logs to ``NAME.log`` in the folder."""
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "it", "user": "me"}}],
        "clusters": [{"name": "it", "cluster": {"server": address.rstrip("/")}}],
        "users": [{"name": "me", "user": {"token": name}}],
    }
    (folder / name).write_text(json.dumps(config))
    whole = {
        **os.environ,
        "KUBECONFIG": str(folder / name),
        "POD_NAME": name,
        "POD_NAMESPACE": "slipway-system",
        "SLIPWAY_SERVER_IMAGE": "slipway.dev/server:dev",
        "SLIPWAY_ROUTER_IMAGE": "slipway.dev/router:dev",
        "SLIPWAY_HTTP_PORT": "0",
        "PYTHONPATH": os.pathsep.join(sys.path),
        **environment,
    }
    with (folder / f"{name}.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "slipway.main", env=whole, stdout=log, stderr=log
        )
