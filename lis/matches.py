"""What a matcher gives: matched points, a dense field, and the reason where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Matches:
    """Points of image 1 and where they lie in image 2; x to the right, y down, whole numbers at pixel centres."""

    xy1: Tensor
    """`[n, 2]` float32, pixels of image 1."""
    xy2: Tensor
    """`[n, 2]` float32, pixels of image 2."""
    score: Tensor
    """`[n]` float32; larger is surer."""

    @classmethod
    def none(cls) -> Self:
        """No match at all."""
        return cls(torch.empty(0, 2), torch.empty(0, 2), torch.empty(0))

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, chosen: Tensor) -> Matches:
        """Those that an index or mask `[n]` chooses."""
        return Matches(self.xy1[chosen], self.xy2[chosen], self.score[chosen])

    @property
    def displacement(self) -> Tensor:
        """xy2 − xy1 `[n, 2]`."""
        return self.xy2 - self.xy1

    def to(self, device: torch.device | str) -> Matches:
        """On a device."""
        return Matches(self.xy1.to(device), self.xy2.to(device), self.score.to(device))


@dataclass(frozen=True)
class Correspondence:
    """Of one pair of images, on the CPU."""

    matches: Matches
    """Single points; may be none."""
    field: Tensor
    """Displacement (x, y) of every pixel of image 1, `[H, W, 2]` float32, pixels: pixel p lies at p + field[p] in
    image 2. NaN everywhere where matching failed."""
    reason: str = ""
    """Why there is no field; empty where there is one."""

    @classmethod
    def failed(cls, shape: tuple[int, int], reason: str, matches: Matches | None = None) -> Self:
        """No field `[H, W, 2]` for `shape` (H, W), and why."""
        return cls(matches or Matches.none(), torch.full((*shape, 2), torch.nan), reason)


def pixel_grid(height: int, width: int) -> Tensor:
    """Positions (x, y) of all pixels, `[height, width, 2]` float32.

    Example:
        >>> pixel_grid(1, 3).tolist()
        [[[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]]
    """
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y], -1).float()
