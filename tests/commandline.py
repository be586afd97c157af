"""Runs the real command line in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SMALL = ("size=smoke", "evaluation.lpips=false", "device=cpu")


def start(*overrides: str, cwd: Path) -> subprocess.Popen[str]:
    """Start `python -m lis.run` in the folder `cwd`, where its `outputs/` will lie; output is captured."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    command = [sys.executable, "-m", "lis.run", *overrides]
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def lis(*overrides: str, cwd: Path, timeout: float = 300) -> tuple[int, str]:
    """Exit code and everything that was printed."""
    process = start(*overrides, cwd=cwd)
    output, _ = process.communicate(timeout=timeout)
    return process.returncode, output


def made(run: Path) -> list[str]:
    """Stage and key of everything that a run has made itself, from its log."""
    lines = (run / "lis.log").read_text().splitlines()
    return [line.partition(" - making ")[2] for line in lines if " - making " in line]


def metrics(run: Path) -> dict[str, float]:
    """The numbers of a finished run."""
    return json.loads((run / "metrics.json").read_text())


def manifests(store: Path) -> dict[str, str]:
    """When each artifact of a store was made, by its folder."""
    # os.walk passes over folders that vanish while it looks: a run may be at work in this store.
    folders = [Path(folder) for folder, _, files in os.walk(store) if "manifest.json" in files]
    done = [folder for folder in folders if folder.relative_to(store).parts[0] not in ("set-aside", "drafts")]
    return {str(f.relative_to(store)): json.loads((f / "manifest.json").read_text())["created"] for f in done}
