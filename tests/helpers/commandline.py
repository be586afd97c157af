"""Runs the real command line in a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["lis.run", "lis.job"])
ROOT = Path(__file__).parents[2]
STORE = Path("outputs", "store")
"""Of a run, in the folder it was started in."""
SMALL = ("size=smoke", "evaluation.lpips=false", "device=cpu")


def start(*overrides: str, cwd: Path) -> subprocess.Popen[str]:
    """Start `python -m lis.run` in the folder `cwd`, where its `outputs/` will lie; output is captured."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    command = [sys.executable, "-m", "lis.run", *overrides]
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def fork(target: Callable[..., object], *arguments: object) -> BaseProcess:
    """Start a function of a module in a process that has imported everything already."""
    process = _FORKS.Process(target=target, args=arguments)
    process.start()
    return process


def lis(
    *overrides: str, cwd: Path, timeout: float = 300, before: Callable[[], object] | None = None
) -> tuple[int, str]:
    """Exit code and everything that was printed by a run of the command line.

    Its process is forked from one that has imported everything already, which takes most of a small run's time. What
    is to be damaged in it, `before`, a function of a module, does.
    """
    with tempfile.TemporaryFile() as output:
        process = begin(*overrides, cwd=cwd, output=output.fileno(), before=before)
        process.join(timeout)
        alive = process.is_alive()
        process.kill()
        process.join()
        output.seek(0)
        text = output.read().decode()
    assert not alive, f"not done after {timeout} s:\n{text}"
    assert process.exitcode is not None
    return process.exitcode, text


def begin(*overrides: str, cwd: Path, output: int, before: Callable[[], object] | None = None) -> BaseProcess:
    """Start a run as `lis` does, which writes to the file with the descriptor `output`."""
    return fork(_command, overrides, str(cwd), DupFd(output), before)


def _command(overrides: tuple[str, ...], cwd: str, output: Any, before: Callable[[], object] | None) -> None:
    """What `python -m lis.run` does, in a process of its own; `output` is a `DupFd`."""
    from lis import run  # there already

    handle = output.detach()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(handle, stream.fileno())
    os.chdir(cwd)
    os.environ["COLUMNS"] = "200"
    if before is not None:
        before()
    sys.argv = [run.__file__, *overrides]
    run.command()


def made(run: Path) -> list[str]:
    """Stage and key of everything that a run has made itself, from its log."""
    lines = (run / "lis.log").read_text().splitlines()
    return [line.partition(" - made ")[2] for line in lines if " - made " in line]


def metrics(run: Path) -> dict[str, float]:
    """The numbers of a finished run."""
    return json.loads((run / "metrics.json").read_text())


def drafts(store: Path, stage: str = "") -> Iterator[Path]:
    """What is being made just now in a store."""
    # os.walk passes over folders that vanish while it looks.
    for folder, names, _ in os.walk(store / "drafts" / stage):
        yield from (Path(folder, name) for name in names if "@" in name)
