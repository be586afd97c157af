"""Maps of units laid over the pixels of an image (Bau et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Border = Literal["fade", "clamp"]
Placement = Literal["receptive_field", "sensitivity", "even"]
"""Where the samples of a map lie: in the middle of what each sees, where it is sensitive to the image, or evenly."""


@dataclass(frozen=True)
class ReceptiveField:
    """Where the samples of a map lie in a square image: sample k is centred on pixel `offset + scale · k` of a side.

    A map does not span the image evenly where convolutions are padded by less, or more, than half of what their kernel
    exceeds their stride by: behind 3×3 convolutions of stride 2 with a padding of 1 the first sample is centred on the
    first pixel, not on the middle of the first cell.
    """

    scale: float
    """Pixels between the centres of neighbouring samples."""
    offset: float
    """The pixel that the first sample is centred on; 0 is the first one of the image."""
    image: int
    """Height and width of the image in pixels."""
    corners: bool = False
    """Whether the first and last centre of an enlarged map are the first and last pixel of the image (as in the code of
    Bau et al. 2020); else both are cut into cells, of which the centres count."""

    def __post_init__(self) -> None:
        if not (self.scale > 0 and self.image > 0):
            raise ValueError(f"{self}: expected a positive scale, and an image of a pixel or more")

    def positions(self, target: int) -> Tensor:
        """Where the samples of a line of `target` samples of the image lie among those of the map, `[target]`."""
        if self.corners:
            return (torch.linspace(0, self.image - 1, target, dtype=torch.float64) - self.offset) / self.scale
        return self._of_pixels(torch.arange(target, dtype=torch.float64) + 0.5, target)

    def edges(self, target: int) -> Tensor:
        """Where the bounds of the cells of such a line lie, sample k of the map being `[k, k + 1)`: `[target + 1]`."""
        return self._of_pixels(torch.arange(target + 1, dtype=torch.float64), target) + 0.5

    def _of_pixels(self, cells: Tensor, target: int) -> Tensor:
        return (cells * self.image / target - 0.5 - self.offset) / self.scale


@dataclass(frozen=True)
class Upsampling:
    """How maps of a layer are laid over masks; see `upsample_activations`."""

    border: Border = "fade"
    field: ReceptiveField | None = None

    def __call__(self, maps: Tensor, size: int | tuple[int, int]) -> Tensor:
        """`[n, units, H, W]` of maps `[n, units, h, w]`."""
        return upsample_activations(maps, size, self.border, self.field)

    @property
    def settings(self) -> Tensor:
        """All of it as numbers, `[5]` float64."""
        field = self.field
        numbers = (0.0, 0.0, 0.0, 0.0) if field is None else (field.scale, field.offset, field.image, field.corners)
        return torch.tensor([get_args(Border).index(self.border), *numbers], dtype=torch.float64)


EVEN = Upsampling()
"""Over the whole image, fading at its border."""


def upsample_activations(
    maps: Tensor, size: int | tuple[int, int], border: Border = "fade", field: ReceptiveField | None = None
) -> Tensor:
    """Maps resized to that of a mask: enlarged bilinearly, on the centres of pixels, or averaged over areas.

    Where the samples of a side lie closer than those asked for, a cell has the mean of what it covers, so that no
    activation lies between the samples.

    Args:
        maps: `[n, units, h, w]` floating.
        size: height and width (H, W), or one number for both.
        border: beyond the outer centres, "fade" falls to zero as beside a frame of zeros (Bau et al. 2020) and "clamp"
            repeats them, as `interpolate(align_corners=False)`.
        field: where the samples lie in the image. Without one the map spans the image evenly.

    Returns:
        `[n, units, H, W]`; constant where the map is 1×1.

    Raises:
        ValueError: another border.

    Example:
        >>> upsample_activations(torch.tensor([[[[0.0, 4.0]]]]), (1, 4))
        tensor([[[[0., 1., 3., 3.]]]])
        >>> upsample_activations(torch.tensor([[[[0.0, 4.0]]]]), (1, 4), "clamp")
        tensor([[[[0., 1., 3., 4.]]]])
        >>> upsample_activations(torch.tensor([[[[0.0, 4.0, 8.0]]]]), (1, 2))
        tensor([[[[1.3333, 6.6667]]]])
    """
    if border not in get_args(Border):
        raise ValueError(f"border={border!r}: expected 'fade' or 'clamp'")
    height, width = (size, size) if isinstance(size, int) else size
    h, w = maps.shape[-2:]
    if (h, w) == (1, 1):
        return maps.expand(*maps.shape[:2], height, width).clone()
    rows, columns = (_resizing(a, b, border, field).to(maps) for a, b in ((h, height), (w, width)))
    return rows @ (maps @ columns.T)


def _resizing(source: int, target: int, border: Border, field: ReceptiveField | None) -> Tensor:
    """Weights `[target, source]` float64 of the samples of a line, for each sample of the resized line."""
    if field is None:
        field = ReceptiveField(1, 0, source)
    if field.scale < field.image / target:
        return _areas(field.edges(target), source, border)
    return _bilinear(field.positions(target), source, border)


def _areas(edges: Tensor, source: int, border: Border) -> Tensor:
    """Share of each sample `[k, k + 1)` in the cells between `edges [target + 1]`, `[target, source]` float64."""
    first, last, samples = edges[:-1, None], edges[1:, None], torch.arange(source)
    overlap = (torch.minimum(last, samples + 1) - torch.maximum(first, samples)).clamp(min=0)
    if border == "clamp":
        overlap[:, :1] += last.clamp(max=0) - first.clamp(max=0)
        overlap[:, -1:] += last.clamp(min=source) - first.clamp(min=source)
    return overlap / (last - first)


def _bilinear(position: Tensor, source: int, border: Border) -> Tensor:
    """Weights `[target, source]` float64 of the samples of a line at positions `[target]` among them."""
    if border == "clamp":
        position = position.clamp(0, source - 1)
    return (1 - (position[:, None] - torch.arange(source)).abs()).clamp(min=0)
