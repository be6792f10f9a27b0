"""A real browser without a window, for pages that are to be looked at."""

import os
import shutil
import tempfile
from pathlib import Path

from e2e.cluster.command import run
from e2e.cluster.errors import ClusterError
from e2e.cluster.node.packages import apt_install

CALL_SECONDS = 120.0


def find_chromium() -> Path:
    """Chromium from PATH; installed by the first call where that is possible."""
    if not shutil.which("chromium") and os.geteuid() == 0 and shutil.which("apt-get"):
        apt_install(["chromium"])
    found = shutil.which("chromium")
    if found is None:
        raise ClusterError("Chromium is not installed: apt-get install chromium")
    return Path(found)


def screenshot(page: Path, picture: Path, *, width: int, height: int, dark: bool = False) -> None:
    """Open a page from a file without any network and write what is seen, by day or at night, as PNG."""
    picture.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        run(
            [
                find_chromium(),
                "--headless=new",
                # As root it has no sandbox; the page is our own and the network does not exist for it.
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--proxy-server=127.0.0.1:9",
                "--force-color-profile=srgb",
                # 0 is dark, 1 is light.
                f"--blink-settings=preferredColorScheme={0 if dark else 1}",
                f"--user-data-dir={profile}",
                f"--window-size={width},{height}",
                f"--screenshot={picture}",
                page.resolve().as_uri(),
            ],
            timeout=CALL_SECONDS,
        )
