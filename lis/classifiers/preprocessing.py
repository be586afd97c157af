"""From a generator's image in [-1, 1] to what a classifier reads: on the device, in one differentiable step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Interpolation = Literal["bilinear", "bicubic"]
_CROP_MODES = ("center", "squash", "border")
_PILLOW_BITS = 22
"""Pillow's fixed-point weights have this many bits behind the point (its Resample.c)."""


class Preprocessing(nn.Module):
    """Resize with antialiasing, centre crop, normalise: `y = (crop(resize((x + 1) / 2)) − mean) / std`.

    Args:
        resize: height and width in pixels to resize to; images are square.
        crop: height and width of the centre crop; None: all of it.
        mean: per channel, of images in [0, 1].
        std: per channel, of images in [0, 1].
        interpolation: `bilinear` or `bicubic`.
        uint8: round to 8 bits before and after resizing, exactly as Pillow does: what a program sees that reads image
            files. Such an image has no gradient.

    Raises:
        ValueError: a crop larger than the resized image, an unknown interpolation, or not one mean and std per channel.

    Example:
        >>> imagenet = Preprocessing(256, 224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        >>> imagenet(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 3, 224, 224])
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        resize: int,
        crop: int | None,
        mean: Sequence[float],
        std: Sequence[float],
        interpolation: Interpolation = "bilinear",
        uint8: bool = False,
    ) -> None:
        super().__init__()
        _check(resize, crop, mean, std, interpolation)
        self.resize, self.uint8 = resize, uint8
        self.interpolation: Interpolation = interpolation
        self.size = crop or resize
        """Height and width of what the network reads, in pixels."""
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        # Resizing keeps affine maps, so both of them become one, which leaves [-1, 1] exact for mean = std = 0.5.
        m, s = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (self.mean, self.std))
        self.register_buffer("scale", (0.5 / s).float(), persistent=False)
        self.register_buffer("shift", ((0.5 - m) / s).float(), persistent=False)

    @classmethod
    def as_drawn(cls, size: int = 64) -> Preprocessing:
        """Images of `size` as they are, in [-1, 1]; others resized to it."""
        return cls(size, None, (0.5,) * 3, (0.5,) * 3)

    @classmethod
    def of_torchvision(cls, transforms: Any, uint8: bool = False) -> Preprocessing:
        """That of torchvision's weights.

        Args:
            transforms: what `weights.transforms()` gives, an `ImageClassification`.
            uint8: as of the class.
        """
        (resize,), (crop,) = transforms.resize_size, transforms.crop_size
        return cls(resize, crop, transforms.mean, transforms.std, transforms.interpolation.value, uint8)

    @classmethod
    def of_timm(cls, data_config: Mapping[str, Any], uint8: bool = False) -> Preprocessing:
        """That of timm's weights.

        Args:
            data_config: what `timm.data.resolve_data_config` gives: input_size, interpolation, mean, std, crop_pct and
                crop_mode (`center`, `squash` and `border` are the same for square images).
            uint8: as of the class.

        Raises:
            ValueError: an unknown crop mode or interpolation, or an input that is not 3 × size × size.
        """
        channels, height, width = data_config["input_size"]
        if channels != 3 or height != width:
            raise ValueError(f"timm's input_size is {(channels, height, width)}: expected (3, size, size)")
        mode = data_config["crop_mode"]
        if mode not in _CROP_MODES:
            raise ValueError(f"timm's crop_mode is {mode!r}: expected one of {', '.join(_CROP_MODES)}")
        resize = math.floor(height / data_config["crop_pct"])
        mean, std, interpolation = (data_config[key] for key in ("mean", "std", "interpolation"))
        return cls(resize, height, mean, std, interpolation, uint8)

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what comes out, as plain values."""
        plain = {"resize": self.resize, "crop": self.size, "mean": list(self.mean), "std": list(self.std)}
        return plain | {"interpolation": self.interpolation, "uint8": self.uint8}

    def forward(self, image: Tensor) -> Tensor:
        """Images `[n, 3, s, s]` in [-1, 1] → `[n, 3, size, size]`, normalised.

        Raises:
            ValueError: images that are not square, or do not have three channels.
        """
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] != image.shape[3]:
            raise ValueError(f"expected square images [n, 3, s, s], got {tuple(image.shape)}")
        resized = self._resize_8bit(image) if self.uint8 else self._resize(image)
        return self.cropped(resized) * self.scale + self.shift

    def cropped(self, resized: Tensor) -> Tensor:
        """The centre `[..., size, size]` of what is `[..., resize, resize]`."""
        margin = round((self.resize - self.size) / 2)  # to even, as torchvision does
        return resized[..., margin : margin + self.size, margin : margin + self.size]

    def _resize(self, image: Tensor) -> Tensor:
        if image.shape[-1] == self.resize:
            return image
        size = (self.resize, self.resize)
        return F.interpolate(image, size, mode=self.interpolation, align_corners=False, antialias=True)

    def _resize_8bit(self, image: Tensor) -> Tensor:
        levels = resize_like_pillow(to_levels(image), self.resize, self.interpolation)
        return (levels / 127.5 - 1).to(image.dtype)


def to_levels(image: Tensor) -> Tensor:
    """Grey levels 0…255 (whole numbers, float64) of images in [-1, 1], rounded half up."""
    return (image.detach().double() * 127.5 + 127.5 + 0.5).floor().clamp(0, 255)


def resize_like_pillow(levels: Tensor, size: int, interpolation: Interpolation) -> Tensor:
    """Resize grey levels as Pillow does, to the bit, on any device.

    Pillow weighs in fixed point, first along rows, then along columns, and rounds to 8 bits after each. Double
    precision holds these sums exactly, so their order does not matter.

    Args:
        levels: whole numbers in 0…255, `[..., s, s]`, float64.
        size: height and width of the result in pixels.
        interpolation: `bilinear` or `bicubic`.

    Returns:
        Whole numbers in 0…255, `[..., size, size]`, float64.
    """
    if levels.shape[-1] == size:
        return levels
    weights = torch.from_numpy(_pillow_weights(levels.shape[-1], size, interpolation)).to(levels.device)
    rows = _rounded(levels @ weights.T)
    return _rounded(weights @ rows)


def _pillow_weights(source: int, size: int, interpolation: Interpolation) -> np.ndarray:
    """Fixed-point weights `[size, source]`, as whole numbers in float64."""
    kernel, support = {"bilinear": (_triangle, 1.0), "bicubic": (_cubic, 2.0)}[interpolation]
    step = source / size
    stretch = max(step, 1.0)
    centre = (np.arange(size)[:, None] + 0.5) * step
    first = np.floor(np.maximum(centre - support * stretch + 0.5, 0))
    last = np.floor(np.minimum(centre + support * stretch + 0.5, source))
    pixel = np.arange(source)[None, :]
    weights = kernel((pixel - centre + 0.5) / stretch) * ((pixel >= first) & (pixel < last))
    weights = weights / weights.sum(1, keepdims=True) * 2.0**_PILLOW_BITS
    return np.trunc(weights + np.copysign(0.5, weights))


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


def _cubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    """Keys' cubic convolution (1981)."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _rounded(sums: Tensor) -> Tensor:
    return ((sums + 2.0 ** (_PILLOW_BITS - 1)) / 2.0**_PILLOW_BITS).floor().clamp(0, 255)


def _check(resize: int, crop: int | None, mean: Sequence[float], std: Sequence[float], interpolation: str) -> None:
    if crop is not None and crop > resize:
        raise ValueError(f"a crop of {crop} px does not fit into an image resized to {resize} px")
    if interpolation not in get_args(Interpolation):
        raise ValueError(f"unknown interpolation {interpolation!r}: expected {' or '.join(get_args(Interpolation))}")
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError(f"expected three means and three std > 0, got mean={list(mean)}, std={list(std)}")
