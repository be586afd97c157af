"""Work on small models in which something goes wrong, in every process or in the first that comes to it: the victim."""

from __future__ import annotations

import errno
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helpers.fakes import FakeGenerator, make_context
from lis.context import Context
from lis.shards import Shards
from lis.store import Artifact, Draft, Recipe

log = logging.getLogger(__name__)
NOISE = "x" * 20_000


def order(root: Path, fault: str, victims: int = 1) -> None:
    """Have so many processes that come to it meet a fault, each once, in what is made from now on; "" ends it."""
    for file in root.glob("victim-*"):
        file.unlink()
    (root / "victims").write_text(str(victims))
    (root / "fault").write_text(fault)


def victims(root: Path) -> set[int]:
    """Numbers of the processes that have met the fault."""
    return {int(file.read_text()) for file in root.glob("victim-*") if file.read_text()}


def is_victim(root: Path, fault: str) -> bool:
    """Whether this process meets a fault of this name."""
    if not (root / "fault").exists() or (root / "fault").read_text() != fault:
        return False
    for number in range(int((root / "victims").read_text())):
        file = root / f"victim-{number}"
        try:
            with file.open("x") as stream:
                stream.write(str(os.getpid()))
            return True
        except FileExistsError:
            if file.read_text() == str(os.getpid()):
                return True
    return False


class FaultyGenerator(FakeGenerator):
    """Its images are NaN where a process is a victim of "nan".

    Args:
        root: where faults are ordered.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def synthesize(self, w: Tensor, features: Any = False) -> Any:
        """Images."""
        return super().synthesize(w * torch.nan if is_victim(self.root, "nan") else w, features)


def context(root: Path, device: str = "cpu", threads: int = 1) -> Context:
    """A run with its store in `root`, which another process can build."""
    torch.set_num_threads(threads)
    return replace(make_context(root, FaultyGenerator(root)), opener=partial(context, root))


@dataclass(frozen=True)
class Job:
    """A run."""

    ctx: Context
    root: Path
    payload: bytes = b""
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """A number, and so many bytes that are sent with it."""

    number: int
    payload: bytes = b""


def full_disk(job: Job) -> None:
    """The system refuses to write, in the middle of an artifact."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(job.root / "store" / "drafts"))


def much_to_say(job: Job) -> None:
    """More than a pipe takes."""
    for _ in range(50):
        log.warning(NOISE)
    time.sleep(0.2)


FAULTS: dict[str, Callable[[Job], object]] = {
    "SIGKILL": lambda job: os.kill(os.getpid(), signal.SIGKILL),
    "SIGTERM": lambda job: os.kill(os.getpid(), signal.SIGTERM),
    "full disk": full_disk,
    "talk": much_to_say,
    "hang": lambda job: time.sleep(60),
}


def build(job: Job, block: Block, draft: Draft) -> None:
    """Two files; a fault comes between them."""
    draft.tensors("block", {"x": torch.tensor([float(block.number)])})
    for name, fault in FAULTS.items():
        if is_victim(job.root, name):
            fault(job)
    draft.json("whole", {"pid": os.getpid()})


def config(job: Job, block: Block) -> dict[str, Any]:
    """What a shard depends on."""
    return {"block": block.number}


SHARDS = Shards("shard", 1, config, build)


def total(job: Job, numbers: range, payload: bytes = b"") -> Artifact:
    """The sum of some numbers, a shard for each, as a stage makes it."""
    blocks = [Block(number, payload) for number in numbers]

    def assemble(draft: Draft) -> None:
        draft.json("sum", {"sum": float(SHARDS.tensors(job, blocks, "blocks")["x"].sum())})

    return job.ctx.store.make(Recipe("stage", 1, {"numbers": list(numbers)}), assemble)
