"""What pixels are compared by: patches, DAISY, and feature maps of networks."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal, Protocol

import torch
from skimage.feature import daisy
from torch import Tensor
from torch.nn import functional as F

from lis.matching.gray import gray_pair
from lis.types import Classifier

_FAINT = 0.02
"""Root mean square of a patch's differences from its mean colour, in an image in [-1, 1], below which its descriptor is
shortened: what a flat area differs by is noise."""
_TINY = 1e-6
"""Length below which a vector of maps counts as none."""


class Descriptor(Protocol):
    """Gives every pixel of two images a vector."""

    @property
    def fingerprint(self) -> str:
        """Equal for equal descriptors."""
        ...

    @property
    def generator_layers(self) -> Literal[True] | Collection[str]:
        """Names of the generator's maps that `view` reads; empty: none, True: all."""
        ...

    def view(self, image: Tensor, maps: dict[str, Tensor] | None) -> Tensor:
        """What it reads of images `[n, 3, H, W]` and the generator's maps: `[n, 3 + c, H, W]`."""
        ...

    def __call__(self, view1: Tensor, view2: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors `[n, channels, H, W]` of n pairs: of length 1, shorter where there is no texture."""
        ...


class OfImages:
    """A descriptor that reads the images alone."""

    @property
    def generator_layers(self) -> Collection[str]:
        """None."""
        return ()

    def view(self, image: Tensor, maps: dict[str, Tensor] | None) -> Tensor:
        """The images."""
        return image


@dataclass(frozen=True)
class Patches(OfImages):
    """Colour patches, without their mean colour, on the axes along which those of both images vary most."""

    size: int = 9
    channels: int = 32

    @property
    def fingerprint(self) -> str:
        """Its settings."""
        return str(self)

    def __call__(self, view1: Tensor, view2: Tensor) -> tuple[Tensor, Tensor]:
        """Of images `[n, 3, H, W]`."""
        least = _FAINT * math.sqrt(3 * self.size**2)
        first, second = (self._patches(view[:, :3]) for view in (view1, view2))
        return lengthened(*projected(first, second, self.channels), least)

    def _patches(self, image: Tensor) -> Tensor:
        """`[n, 3 · size², H, W]`."""
        margin = self.size // 2
        patches = F.unfold(F.pad(image, (margin,) * 4, "replicate"), self.size).unflatten(1, (3, -1))
        return (patches - patches.mean(2, keepdim=True)).flatten(1, 2).unflatten(2, image.shape[-2:])


@dataclass(frozen=True)
class Daisy(OfImages):
    """DAISY (Tola et al. 2010): histograms of gradients in a flower of circles around a pixel."""

    radius: int = 8
    rings: int = 2
    histograms: int = 6
    orientations: int = 8

    @property
    def fingerprint(self) -> str:
        """Its settings and the library's version."""
        return f"{self} {version('scikit-image')}"

    def __call__(self, view1: Tensor, view2: Tensor) -> tuple[Tensor, Tensor]:
        """Of images `[n, 3, H, W]`."""
        pairs = [gray_pair(*pair) for pair in zip(view1[:, :3], view2[:, :3], strict=True)]
        first, second = (torch.stack([self._flowers(pair[k]) for pair in pairs]).to(view1) for k in (0, 1))
        # Gradients of one grey level in all histograms' cells count as no texture.
        return lengthened(first, second, _FAINT)

    def _flowers(self, picture: object) -> Tensor:
        """`[channels, H, W]` of `[H, W]` grey levels."""
        levels = F.pad(torch.as_tensor(picture)[None, None].float() / 255, (self.radius,) * 4, "replicate")[0, 0]
        result = daisy(
            levels.numpy(),
            step=1,
            radius=self.radius,
            rings=self.rings,
            histograms=self.histograms,
            orientations=self.orientations,
            normalization="off",
        )
        return torch.from_numpy(result).float().permute(2, 0, 1)


@dataclass(frozen=True)
class FeatureMaps:
    """Feature maps of the generator or of the classifier, seen in the images as they come.

    Args:
        classifier: whose convolutions are read; None: the generator's maps, which come with the images.
        layers: their names; None: all whose maps have at least an eighth of the image's size, for which all have to be
            made.
        channels: that the maps of a pair are projected to.
    """

    classifier: Classifier | None = None
    layers: Sequence[str] | None = None
    channels: int = 32

    @property
    def generator_layers(self) -> Literal[True] | Collection[str]:
        """Of the generator those that are named, or all, for their sizes tell which; of the classifier none."""
        return () if self.classifier is not None else tuple(self.layers) if self.layers else True

    @property
    def fingerprint(self) -> str:
        """Settings and the classifier's weights; the generator's maps follow from the images' style codes."""
        return f"FeatureMaps {self.classifier and self.classifier.fingerprint} {self.layers} {self.channels}"

    def view(self, image: Tensor, maps: dict[str, Tensor] | None) -> Tensor:
        """The images, and the maps in their size.

        Raises:
            ValueError: there are no maps, or no such layers.
        """
        maps = maps if self.classifier is None else layer_maps(self.classifier, image)
        if not maps:
            raise ValueError(
                "matcher.descriptor=generator: the images came without the generator's feature maps; use another "
                "descriptor for them (matcher.descriptor=patches)"
            )
        return torch.cat([image, stacked(chosen(maps, self.layers, image.shape[-1]), image.shape[-2:])], 1)

    def __call__(self, view1: Tensor, view2: Tensor) -> tuple[Tensor, Tensor]:
        """Of views `[n, 3 + c, H, W]`: without the mean of both, projected, of length 1."""
        first, second = view1[:, 3:], view2[:, 3:]
        mean = (first.mean((2, 3), keepdim=True) + second.mean((2, 3), keepdim=True)) / 2
        return lengthened(*projected(first - mean, second - mean, self.channels), _TINY)


@torch.no_grad()
def layer_maps(classifier: Classifier, image: Tensor) -> dict[str, Tensor]:
    """Maps `[n, channels, h, w]` that the classifier's convolutions make of images `[n, 3, H, W]` in [-1, 1]."""
    maps: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, out, name=name: maps.update({name: out}))
        for name, module in classifier.layers.items()
    ]
    try:
        classifier.features(image)
    finally:
        for hook in hooks:
            hook.remove()
    return maps


def chosen(maps: dict[str, Tensor], layers: Sequence[str] | None, size: int) -> list[Tensor]:
    """The maps of some layers; None: of all that are at least an eighth of `size` wide.

    Raises:
        ValueError: there is no such layer.
    """
    require_layers(layers, maps)
    return [x for name, x in maps.items() if (name in layers if layers else 8 * x.shape[-1] >= size)]


def require_layers(layers: Sequence[str] | None, known: Collection[str]) -> None:
    """Checks the names of layers.

    Raises:
        ValueError: there is no such layer.
    """
    if unknown := [name for name in layers or () if name not in known]:
        raise ValueError(f"matcher.layers: no layer {unknown[0]!r}, expected some of {', '.join(known)}")


def stacked(maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Maps in one size `[n, channels of all, *size]`; each layer's vectors have a mean length of 1."""
    resized = [F.interpolate(x.float(), tuple(size), mode="bilinear", align_corners=False) for x in maps]
    return torch.cat([x / x.norm(dim=1).mean((1, 2))[:, None, None, None].clamp(min=1e-12) for x in resized], 1)


def projected(first: Tensor, second: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Vectors `[n, c, H, W]` of a pair on the `channels` axes that keep most of their dot products.

    The axes are found in float64: rounding, which differs with the threads, turns the last ones in float32.
    """
    if first.shape[1] <= channels:
        return first, second
    moments = [torch.einsum("nchw,ndhw->ncd", x, x).double() for x in (first, second)]
    axes = torch.linalg.eigh(moments[0] + moments[1])[1][:, :, -channels:].to(first)
    return torch.einsum("nchw,ncd->ndhw", first, axes), torch.einsum("nchw,ncd->ndhw", second, axes)


def lengthened(first: Tensor, second: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Vectors `[n, c, H, W]` of length 1; those shorter than `least` stay shorter in proportion."""
    one, other = (x / x.norm(dim=1, keepdim=True).clamp(min=least) for x in (first, second))
    return one, other
