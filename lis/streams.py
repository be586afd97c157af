"""Named random streams: one per purpose, none sharing a sample with another.

A sample is addressed by (seed, stream name, class, index). The first three choose the key of a Philox generator
(Salmon et al. 2011), the index its counter, so two addresses never meet and a sample never depends on its batch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # to declare a stream takes neither
    import numpy as np
    from torch import Tensor

NAMES = (
    "train pairs",
    "test pairs",
    "link fit",
    "baselines",
    "similarity",
    "classifier training",
    "classifier test",
    "probe training",
    "probe test",
    "labels",
    "labels test",
    "exact masks",
    "segmenter",
    "tuning",
    "null directions",
    "map of units",
    "views",
    "motion",
    "matching",
    "counterfactual starts",
    "planted units",
    "detector channels",
    "dissection halves",
)
"""Every purpose that draws random numbers in a run, but for those of stages that draw from the stream of their name."""
_STAGES: set[str] = set()


def declare(stage: str) -> None:
    """Let a stage have the stream of its name."""
    _STAGES.add(stage)


@dataclass(frozen=True)
class Stream:
    """A named stream of a run.

    Raises:
        ValueError: the name is neither one of `NAMES` nor that of a stage with a seed, or the seed is negative.

    Example:
        >>> import torch
        >>> stream = Stream("test pairs", seed=0)
        >>> both, second = stream.normal(3, torch.tensor([4, 9]), 2), stream.normal(3, torch.tensor([9]), 2)
        >>> bool((both[1] == second[0]).all())
        True
    """

    name: str
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in {*NAMES, *_STAGES}:
            raise ValueError(
                f"unknown stream {self.name!r}: expected one of {', '.join(NAMES)}, or the name of a stage that is "
                "declared with seed=True"
            )
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")

    def rng(self, class_index: int | None = None, index: int = 0) -> np.random.Generator:
        """The generator of one sample: `index` is its place in the class (`None`: the stream has no classes)."""
        import numpy as np

        address = f"{self.seed}|{self.name}|{class_index}".encode()
        key = np.frombuffer(hashlib.blake2b(address, digest_size=16).digest(), dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=[0, index, 0, 0]))

    def normal(self, class_index: int | None, indices: Tensor, dim: int) -> Tensor:
        """Standard normal draws `[n, dim]` (float32) of the samples `indices [n]` (int64)."""
        import numpy as np
        import torch

        rows = [self.rng(class_index, int(k)).standard_normal(dim, dtype=np.float32) for k in indices.tolist()]
        return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, dim)

    @property
    def torch_seed(self) -> int:
        """A 63-bit seed for libraries that take a number."""
        return int(self.rng().integers(2**63 - 1))
