"""Check what `make` needs before it starts: `python3 e2e/prerequisites.py [--tests] [--cluster] [--browser]`.

Runs on the machine's own Python, which may be what is too old: nothing here is newer than Python 3.6.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys

PYTHON_MINIMUM = (3, 11)
GO_MINIMUM = (1, 26)


def main():  # type: () -> int
    parser = argparse.ArgumentParser(description="Check what make needs before it starts.")
    parser.add_argument("--tests", action="store_true", help="also what tests without a cluster need")
    parser.add_argument("--cluster", action="store_true", help="also what a cluster and its images need")
    parser.add_argument("--browser", action="store_true", help="also what looks at pages")
    asked = parser.parse_args()
    missing = find_missing(asked.tests, asked.cluster, asked.browser)
    for line in missing:
        print("missing: " + line, file=sys.stderr)
    if missing:
        print("Install what is missing and run the same command again.", file=sys.stderr)
    return 1 if missing else 0


def find_missing(tests, cluster, browser):  # type: (bool, bool, bool) -> list[str]
    """One line for each thing that is not there, with the way to get it."""
    missing = []
    if sys.version_info < PYTHON_MINIMUM:
        found = ".".join(map(str, sys.version_info[:3]))
        missing.append(f"Python 3.11 or newer (python3 is {found}); name another with make PYTHON=…")
    elif not (importlib.util.find_spec("ensurepip") or shutil.which("uv")):
        missing.append("Python's venv module (apt-get install python3-venv), or uv")
    if not shutil.which("git"):
        missing.append("git (apt-get install git)")
    if (tests or cluster) and go_is_missing():
        missing.append("Go {}.{} or newer (https://go.dev/dl/), to build tools with".format(*GO_MINIMUM))
    if tests and not (shutil.which("node") and shutil.which("npm")):
        missing.append("Node.js 20 or newer with npm (https://nodejs.org), to run Azure's store in tests")
    if browser and not shutil.which("chromium") and not (os.geteuid() == 0 and shutil.which("apt-get")):
        missing.append("Chromium (apt-get install chromium), to look at pages in tests")
    if cluster and not docker_answers():
        if os.geteuid() != 0:
            missing.append(
                "a Docker engine that answers `docker info`, or root (sudo) to run a node without it"
            )
        elif not shutil.which("apt-get"):
            missing.append(
                "a Docker engine that answers `docker info`, or Debian or Ubuntu to run a node without it"
            )
    return missing


def go_is_missing():  # type: () -> bool
    if not shutil.which("go"):
        return True
    version = subprocess.run(["go", "version"], stdout=subprocess.PIPE, cwd="/").stdout.decode()
    found = re.search(r"go(\d+)\.(\d+)", version)
    return found is None or (int(found.group(1)), int(found.group(2))) < GO_MINIMUM


def docker_answers():  # type: () -> bool
    if not shutil.which("docker"):
        return False
    quiet = subprocess.DEVNULL
    return subprocess.run(["docker", "info"], stdout=quiet, stderr=quiet).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
