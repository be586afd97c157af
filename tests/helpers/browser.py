"""Pages as a browser without a screen builds them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import suppress

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ATTEMPTS, SECONDS = 4, 25.0
"""A browser that stands still, as one of hundreds does on a busy machine, is ended and started again."""


def dom(address: str) -> str:
    """The document behind all its scripts, as HTML.

    Raises:
        TimeoutExpired: no attempt has ended.
    """
    for _ in range(ATTEMPTS - 1):
        with suppress(subprocess.TimeoutExpired):
            return _dom(address)
    return _dom(address)


def _dom(address: str) -> str:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            f"--user-data-dir={profile}",
        ]
        command += ["--dump-dom", address]
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout
