"""A stage's work in blocks, each made into an artifact of its own, a shard.

A killed run goes on where it stopped, and a run that wants more starts from the shards that are there. What an engine
maps is (job, block) → artifact. A block is small and can be pickled; a job holds models, so that another process builds
one of its own from the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from lis.context import Context
from lis.store import Artifact, Draft, Recipe


class Job(Protocol):
    """What all shards of a run share."""

    @property
    def ctx(self) -> Context:
        """The run."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """Keys of the artifacts that every shard follows from."""
        ...


AnyJob = TypeVar("AnyJob", bound=Job)
Block = TypeVar("Block")


def both_models(job: Job, block: Any) -> dict[str, str]:
    """Fingerprints of the generator and of the classifier."""
    return {"generator": job.ctx.generator.fingerprint, "classifier": job.ctx.classifier.fingerprint}


@dataclass(frozen=True)
class Shards(Generic[AnyJob, Block]):
    """What a kind of shard is: one for each module that has some, made of functions of the module."""

    stage: str
    """Folder of the store."""
    version: int
    config: Callable[[AnyJob, Block], dict[str, Any]]
    """What a shard depends on beside inputs and models: neither the size of a batch nor that of the run."""
    build: Callable[[AnyJob, Block, Draft], None]
    """Writes what a shard holds."""
    weights: Callable[[AnyJob, Block], dict[str, str]] = both_models
    """Fingerprints of the models that a shard depends on, by name."""

    def recipe(self, job: AnyJob, block: Block) -> Recipe:
        """What a shard depends on."""
        return Recipe(self.stage, self.version, self.config(job, block), job.inputs, self.weights(job, block))

    def shard(self, job: AnyJob, block: Block) -> Artifact:
        """The shard of a block, from the store or made now."""
        return job.ctx.store.make(self.recipe(job, block), partial(self.build, job, block))

    def artifacts(self, job: AnyJob, blocks: Sequence[Block], label: str) -> Iterator[Artifact]:
        """The shards of all blocks, in their order, each as soon as the engine has it.

        Args:
            job: what they share.
            blocks: what is to be made.
            label: of the progress.
        """
        ctx, total = job.ctx, len(blocks)
        made = ctx.engine.map(Making(self, job), blocks)
        return ctx.progress.track(ctx.store.shared(made, total), total=total, label=label)

    def tensors(self, job: AnyJob, blocks: Sequence[Block], label: str, name: str = "block") -> dict[str, Tensor]:
        """The tensors `name` of all shards, one block after the other: `[rows of all blocks, …]` each."""
        return joined(self.artifacts(job, blocks, label), name)


@dataclass(frozen=True)
class Making(Generic[AnyJob, Block]):
    """What an engine does with the blocks of a job (`lis.engine.Task`)."""

    shards: Shards[AnyJob, Block]
    job: AnyJob

    @property
    def ctx(self) -> Context:
        """The run."""
        return self.job.ctx

    def find(self, block: Block) -> Artifact | None:
        """The shard of a block, if it is in the store."""
        return self.job.ctx.store.find(self.shards.recipe(self.job, block))

    def attempt(self, block: Block) -> Artifact | None:
        """The shard of a block, from the store or made now; None where another job is making it."""
        build = partial(self.shards.build, self.job, block)
        return self.job.ctx.store.attempt(self.shards.recipe(self.job, block), build)


def joined(artifacts: Iterable[Artifact], name: str = "block") -> dict[str, Tensor]:
    """The tensors `name` of some artifacts, one after the other; empty where there are no artifacts."""
    parts = [artifact.tensors(name) for artifact in artifacts]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]} if parts else {}
