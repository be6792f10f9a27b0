"""The plugin of kubectl for krew: an archive with the wheel and a launcher, and its manifest."""

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

#: Where krew's plugins and their environments are, the launcher itself says.
_LAUNCHER = """\
#!/bin/sh
# Runs Slipway's command line from the wheel next to this file, in an environment of its own, which the first
# run makes.
set -eu
here=$(dirname "$(readlink -f "$0")")
home="${XDG_CACHE_HOME:-$HOME/.cache}/slipway/kubectl-@VERSION@"
if [ ! -e "$home/made" ]; then
  for python in python3.14 python3.13 python3.12 python3.11 python3 ''; do
    if [ -z "$python" ]; then
      echo 'error: kubectl slipway needs Python 3.11 or newer on the PATH' >&2
      exit 1
    fi
    if "$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi
  done
  echo "making $home, once" >&2
  rm -rf "$home"
  "$python" -m venv "$home"
  "$home/bin/python" -m pip install --quiet --disable-pip-version-check "$here/@WHEEL@[cli,report]"
  touch "$home/made"
fi
exec "$home/bin/kubectl-slipway" "$@"
"""
#: Of every file in the archive: the same tree makes the same bytes.
_TIME = 315_532_800


def archive(wheel: Path, version: str, license_: Path, target: Path) -> Path:
    """Write the archive; the same bytes whenever it is made."""
    launcher = _LAUNCHER.replace("@VERSION@", version).replace("@WHEEL@", wheel.name)
    files = {
        "LICENSE": (license_.read_bytes(), 0o644),
        "kubectl-slipway": (launcher.encode(), 0o755),
        wheel.name: (wheel.read_bytes(), 0o644),
    }
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as packed:
        for name, (content, mode) in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(content), mode, _TIME
            packed.addfile(info, io.BytesIO(content))
    target.write_bytes(gzip.compress(plain.getvalue(), mtime=0))
    return target


def manifest(version: str, uri: str, sha256: str, homepage: str) -> str:
    """Krew's manifest of the plugin, as YAML.

    Args:
        version: of the release.
        uri: of the archive.
        sha256: of the archive, 64 hex digits.
        homepage: of the project.
    """
    platform: Mapping[str, Any] = {
        "selector": {"matchExpressions": [{"key": "os", "operator": "In", "values": ["darwin", "linux"]}]},
        "uri": uri,
        "sha256": sha256,
        "bin": "kubectl-slipway",
    }
    document = {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "slipway"},
        "spec": {
            "version": f"v{version}",
            "homepage": homepage,
            "shortDescription": "Release models: rollouts, checks, reports",
            "description": "Shows what serves and how far a rollout is, checks and plans ModelDeployments, "
            "promotes, aborts and undoes.\n",
            "caveats": "Needs Python 3.11 or newer; the first run makes an environment in the cache.\n",
            "platforms": [platform],
        },
    }
    return yaml.safe_dump(document, sort_keys=False, width=100)
