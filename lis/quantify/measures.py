"""Five measures of every part of an image (paper §3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn import functional as F

from lis.quantify.ellipse import POWERS, Ellipse, to_angle
from lis.quantify.entropy import part_entropy

MEASURES = ("area", "luminance", "entropy", "eccentricity", "angle")
TOLD = ("area", "luminance", "entropy")
"""Measures by which it is told what a unit changes most: the angle of a round part says little."""
BACKGROUND = "background"
MINIMUM_AREA = 0.0012
"""Fraction of the frame, 20 of 128 × 128 pixels: a label with a smaller mean area is not interpreted."""
_REC_709 = (0.2126, 0.7152, 0.0722)
_CANCELLED = 1e-9
"""Directions with a shorter mean cancel each other out."""


@torch.no_grad()
def measure(masks: Tensor, image: Tensor, labels: int) -> Tensor:
    """Area, luminance, entropy, eccentricity and angle of every label.

    - area: fraction of the frame
    - luminance: mean Rec. 709 luma of the [0, 1] image
    - entropy: mean local entropy of the luma in bits, see `part_entropy`
    - eccentricity in [0, 1] and angle in degrees in (−90, 90]: see `region_moments`

    A mask may be coarser than its image: the luma is averaged to the mask's resolution.

    Args:
        masks: `[n, h, w]` integers: 0 background, 1 … labels.
        image: `[n, 3, H, W]` in [-1, 1]; H a multiple of h, W of w.
        labels: number of labels, without background.

    Returns:
        `[n, labels, 5]` float32 in the order of `MEASURES`, on the masks' device; NaN where a label is absent, for the
        angle of a label without orientation, and for the entropy of one that is too thin for any window.

    Raises:
        ValueError: shapes that do not fit, or a mask that holds something else than 0 … labels.

    Example:
        >>> masks = torch.tensor([[[1, 1, 1, 0], [0, 0, 0, 0]]])
        >>> measure(masks, torch.zeros(1, 3, 4, 8), labels=2)
        tensor([[[0.3750, 0.5000,    nan, 1.0000, 0.0000],
                 [   nan,    nan,    nan,    nan,    nan]]])
    """
    _check(masks, image, labels)
    height, width = masks.shape[1:]
    block = (image.shape[2] // height, image.shape[3] // width)
    brightness = luma(image) if block == (1, 1) else F.avg_pool2d(luma(image), block)
    runs = Runs.of(masks)
    size = torch.from_numpy(runs.areas(labels))
    area = torch.where(size > 0, size / (height * width), torch.nan)
    luminance = torch.from_numpy(runs.sums(brightness.cpu().numpy(), labels)) / size
    entropy = part_entropy(brightness, masks, labels).cpu()
    columns = [area, luminance, entropy, *shapes(runs, labels).unbind(2)]
    return torch.stack([x.float() for x in columns], 2).to(masks.device)


def mean_area(measures: Tensor) -> Tensor:
    """Mean area of each label over the images that have it: `[labels]` float32 of `measures [..., labels, 5]`.

    A fraction of the frame; NaN where no image has the label.

    Example:
        >>> mean_area(torch.tensor([[[0.1, 0, 0, 0, 0]], [[torch.nan] * 5], [[0.3, 0, 0, 0, 0]]]))
        tensor([0.2000])
    """
    area = measures[..., MEASURES.index("area")].flatten(0, -2)
    return area.double().nanmean(0).float()


def interpreted(measures: Tensor) -> Tensor:
    """Which labels are large enough to be interpreted: those of a `mean_area` of `MINIMUM_AREA` or more.

    Absent is not zero: a label that few images have is judged by these.

    Args:
        measures: of the images, `[..., labels, 5]`.

    Returns:
        `[labels]` bool.
    """
    return mean_area(measures) >= MINIMUM_AREA


def luma(image: Tensor) -> Tensor:
    """Rec. 709 luma `[n, H, W]` in [0, 1] of images `[n, 3, H, W]` in [-1, 1]: float32."""
    red, green, blue = image.float().unbind(1)
    weighted = (red * _REC_709[0]).add_(green, alpha=_REC_709[1]).add_(blue, alpha=_REC_709[2])
    return weighted.add_(1).div_(2)


def _check(masks: Tensor, image: Tensor, labels: int) -> None:
    if image.ndim != 4 or image.shape[1] != 3 or masks.ndim != 3 or len(masks) != len(image) or not masks.numel():
        raise ValueError(
            f"masks {list(masks.shape)} and image {list(image.shape)}: expected [n, h, w] and [n, 3, H, W] with n ≥ 1; "
            "give every image one mask"
        )
    if any(of_image % of_mask for of_image, of_mask in zip(image.shape[2:], masks.shape[1:], strict=True)):
        raise ValueError(
            f"masks of {list(masks.shape[1:])} pixels for images of {list(image.shape[2:])}: "
            "expected the image's size or a whole fraction of it; resize the masks (nearest neighbour)"
        )
    if masks.is_floating_point():
        raise ValueError(f"masks are {masks.dtype}: expected integers; take the argmax of the segmenter's logits")
    low, high = (int(x) for x in masks.aminmax())
    if not 0 <= low <= high <= labels:
        raise ValueError(
            f"masks hold values from {low} to {high}: expected 0 (background) to {labels}, the number of labels"
        )


@dataclass(frozen=True)
class Regions:
    """The 8-connected regions of all labels of a batch of masks."""

    owner: Tensor
    """`[regions]` int64: image · labels + label − 1."""
    moments: Tensor
    """`[regions, 6]` float64: raw moments in the order of `lis.quantify.ellipse.POWERS`."""

    @classmethod
    def of(cls, runs: Runs, labels: int) -> Self:
        """Regions of masks that hold 0 (background), 1 … labels."""
        count, region = connected_components(runs.touching(), directed=False)
        one = np.empty(count, np.int64)
        one[region] = np.arange(len(region))
        part = runs.label[one] > 0
        owner = runs.picture[one] * labels + runs.label[one] - 1
        return cls(torch.from_numpy(owner[part]), torch.from_numpy(runs.moments(region, count)[part]))


def region_moments(masks: Tensor, labels: int) -> Tensor:
    """Eccentricity and angle of a label's connected regions, weighted by their areas.

    An ellipse with the same second moments is laid through every 8-connected region. The eccentricity is
    Σ aᵢ eᵢ / Σ aᵢ over the regions' areas and eccentricities. The angle θ is that of Σ aᵢ (cos 2θᵢ, sin 2θᵢ), the mean
    on the doubled angle, since an axis at −89° and one at 90° are near each other. A region whose ellipse is a circle
    (a single pixel, a square) has an eccentricity of 0 and nothing to say about the angle.

    Args:
        masks: `[n, h, w]` integers: 0 background, 1 … labels.
        labels: number of labels, without background.

    Returns:
        `[n, labels, 2]` float32 on the masks' device: eccentricity in [0, 1], angle in degrees in (−90, 90] between
        the horizontal and the major axis, counter-clockwise positive as one sees the picture. NaN where a label is
        absent; the angle also where every region is round or the regions' directions cancel out.

    Example:
        >>> region_moments(torch.tensor([[[1, 1, 1, 0, 1]]]), labels=1)
        tensor([[[0.7500, 0.0000]]])
    """
    return shapes(Runs.of(masks), labels).to(masks.device)


def shapes(runs: Runs, labels: int) -> Tensor:
    """`region_moments` of masks that are there as runs: `[n, labels, 2]` float32."""
    regions = Regions.of(runs, labels)
    ellipse = Ellipse.of(regions.moments)
    shape = torch.cat([torch.ones_like(ellipse.area[:, None]), ellipse.eccentricity[:, None], ellipse.direction], 1)
    sums = shape.new_zeros(runs.shape[0] * labels, 4).index_add_(0, regions.owner, ellipse.area[:, None] * shape)
    mean = sums[:, 1:] / sums[:, :1]
    direction = torch.where(mean[:, 1:].norm(dim=1, keepdim=True) < _CANCELLED, 0, mean[:, 1:])
    return torch.stack([mean[:, 0], to_angle(direction)], 1).view(runs.shape[0], labels, 2).float()


@dataclass(frozen=True)
class Runs:
    """The longest stretches of equal pixels in each row of a batch of masks, background too, in reading order."""

    shape: tuple[int, ...]
    """Of the masks: n, h, w."""
    start: NDArray[np.int64]
    """First pixel `[runs]`, counted through all masks."""
    label: NDArray[np.int64]
    """`[runs]`; 0 is background."""

    @classmethod
    def of(cls, masks: Tensor) -> Self:
        """Runs of `masks [n, h, w]` of integers, found on the processor."""
        pixels = masks.to(torch.int16).cpu().numpy()
        begins = np.ones(masks.shape, bool)
        np.not_equal(pixels[..., 1:], pixels[..., :-1], out=begins[..., 1:])
        start = np.flatnonzero(begins)
        return cls(pixels.shape, start, pixels.reshape(-1)[start].astype(np.int64))

    @property
    def stop(self) -> NDArray[np.int64]:
        """The pixel behind the last `[runs]`, counted through all masks."""
        return np.append(self.start[1:], np.prod(self.shape))

    @property
    def picture(self) -> NDArray[np.int64]:
        """Number of the mask `[runs]`."""
        return self.start // (self.shape[1] * self.shape[2])

    def touching(self) -> coo_array:
        """Which runs of one label lie in neighbouring rows of a mask and share a side or a corner: `[runs, runs]`.

        Those of the background are left out.
        """
        _, height, width = self.shape
        above = np.flatnonzero((self.label > 0) & (self.start // width % height < height - 1))
        row = self.start[above] // width * width
        left = np.maximum(self.start[above] - 1, row) + width
        right = np.minimum(self.stop[above], row + width - 1) + width
        of_pixel = np.repeat(np.arange(len(self.start), dtype=np.int32), self.stop - self.start)
        first, last = of_pixel[left], of_pixel[right]
        a, b = np.repeat(above, last - first + 1), _ranges(first, last)
        same = self.label[a] == self.label[b]
        return coo_array((same[same], (a[same], b[same])), shape=(len(self.start),) * 2)

    def areas(self, labels: int) -> NDArray[np.float64]:
        """Pixels of each label in each mask, `[n, labels]`; without background."""
        return self._by_label(self.stop - self.start, labels)

    def sums(self, values: NDArray[np.floating], labels: int) -> NDArray[np.float64]:
        """Sum of `values [n, h, w]` over the pixels of each label in each mask, `[n, labels]`; without background."""
        return self._by_label(np.add.reduceat(values.reshape(-1), self.start), labels)

    def moments(self, group: NDArray[np.integer], count: int) -> NDArray[np.float64]:
        """Raw moments `[count, 6]`, in the order of `POWERS`, of the groups `[runs]` that the runs belong to."""
        _, height, width = self.shape
        x, y = self.start % width, self.start // width % height
        ends = _sums_before(x + self.stop - self.start)
        along = [end - begin for begin, end in zip(_sums_before(x), ends, strict=True)]
        sums = [np.bincount(group, (along[p] * y**q).astype(float), count) for p, q in POWERS]
        return np.stack(sums, 1, dtype=np.float64)

    def _by_label(self, of_run: NDArray[np.number], labels: int) -> NDArray[np.float64]:
        group, groups = self.picture * (1 + labels) + self.label, self.shape[0] * (1 + labels)
        total = np.bincount(group, of_run.astype(float), groups).astype(np.float64, copy=False)
        return total.reshape(-1, 1 + labels)[:, 1:]


def _sums_before(x: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Σ tᵖ over t = 0 … x − 1, for p = 0, 1, 2."""
    return x, x * (x - 1) // 2, x * (x - 1) * (2 * x - 1) // 6


def _ranges(first: NDArray[np.integer], last: NDArray[np.integer]) -> NDArray[np.int64]:
    """The numbers first … last of every pair, one range after another."""
    sizes = last - first + 1
    offsets = np.cumsum(sizes) - sizes
    return np.repeat(first - offsets, sizes) + np.arange(sizes.sum())
