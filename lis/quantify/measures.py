"""Five measures of every part of an image (paper §3.2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lis.quantify.entropy import part_entropy
from lis.quantify.regions import shapes
from lis.quantify.runs import Runs

MEASURES = ("area", "luminance", "entropy", "eccentricity", "angle")
MINIMUM_AREA = 0.0012
"""Fraction of the frame, 20 of 128 × 128 pixels: a label with a smaller mean area is not interpreted."""
_REC_709 = (0.2126, 0.7152, 0.0722)


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
