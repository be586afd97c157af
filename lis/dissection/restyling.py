"""Images in another style with their shapes where they were: other factors of part world, colours, or textures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count, permutations
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lis.dissection.user_pictures import UserPicture
from lis.generators.partworld import PartWorld
from lis.types import Generator

STYLE = ("hue", "lightness", "saturation", "texture", "contrast", "marking", "bars")
"""Last words of the names of part world's factors that change colour or pattern and no shape."""
ORDERS = torch.tensor([order for order in permutations(range(3)) if order != (0, 1, 2)])
"""Orders of the channels but the usual one, `[5, 3]`."""
Restyling = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Restyled images `[n, 3, H, W]` of images, of their donors' images, and of an index in [0, 5) for each, `[n]`."""


def style_factors(names: Sequence[str]) -> list[int]:
    """Indices of the factors of colour and pattern.

    Example:
        >>> style_factors(["x", "ear_length", "fur_hue", "fur_texture", "marking", "wing_bars"])
        [2, 3, 4, 5]
    """
    return [index for index, name in enumerate(names) if name.rpartition("_")[2] in STYLE]


def with_style_of(world: PartWorld, w: Tensor, donor: Tensor) -> Tensor:
    """Style codes `[n, w_dim]` with the geometry of `w [n, w_dim]`, and colours and patterns of `donor [n, w_dim]`."""
    u, style = world.true_factors(w).clone(), style_factors(world.factor_names)
    u[:, style] = world.true_factors(donor)[:, style]
    return world.of_factors(u)


def permute_channels(image: Tensor, order: Tensor) -> Tensor:
    """Images with their colour channels in another order: another hue, with HSV's value and saturation as they were.

    Args:
        image: `[n, 3, H, W]`.
        order: of the channels of each image, `[n, 3]` int64.
    """
    return image.gather(1, order.to(image.device)[:, :, None, None].expand_as(image))


def is_grey(image: Tensor) -> Tensor:
    """Which images `[n, 3, H, W]` have three equal channels, so that `permute_channels` leaves them as they are: `[n]`.

    Example:
        >>> is_grey(torch.tensor([[0.5, 0.5, 0.5], [0.5, 0.5, 0.4]])[:, :, None, None]).tolist()
        [True, False]
    """
    return (image == image[:, :1]).flatten(1).all(1)


def swap_amplitudes(image: Tensor, donor: Tensor) -> Tensor:
    """Images with their own phases and the Fourier amplitudes of others, per channel: edges stay, textures do not.

    F⁻¹(|F(donor)| · e^{i∠F(image)}) (Oppenheim & Lim 1981: phase carries the structure; as augmentation Chen et al.
    2021, Amplitude-Phase Recombination), cut to [-1, 1].

    Args:
        image: `[n, 3, H, W]` in [-1, 1].
        donor: the same of others.

    Example:
        >>> image = torch.rand(1, 3, 8, 8) * 2 - 1
        >>> bool(torch.allclose(swap_amplitudes(image, image), image, atol=1e-5))
        True
    """
    phase = torch.fft.rfft2(image.float()).angle()
    mixed = torch.polar(torch.fft.rfft2(donor.float()).abs(), phase)
    return torch.fft.irfft2(mixed, s=image.shape[-2:]).clamp(-1, 1).to(image)


RESTYLINGS: dict[str, Restyling] = {
    "texture": lambda image, donor, _: swap_amplitudes(image, donor),
    "colour": lambda image, _, index: permute_channels(image, ORDERS[index]),
}
"""What is done to any images; the second changes none that are grey."""


def restylings(generator: Generator) -> list[str]:
    """Names of what can be done to images of a generator, the most exact first.

    With "factors" where they are part world's, whose truth is exact.
    """
    return [*(["factors"] if isinstance(generator, PartWorld) else []), *RESTYLINGS]


def images_behind(restyling: str) -> int:
    """Images that one restyled image takes: itself and its donor, which of "factors" is no image.

    Example:
        >>> images_behind("factors"), images_behind("texture")
        (1, 2)
    """
    return 2 if restyling in RESTYLINGS else 1


class Restylable(Protocol):
    """Images, and what can be done to them."""

    @property
    def restylings(self) -> list[str]:
        """Names of what can be done, the most exact first."""
        ...

    def images(self, rows: Tensor) -> Tensor:
        """Images `[k, 3, H, W]` in [-1, 1] of samples `rows [k]`, on the device of the run."""
        ...

    def restyled(self, name: str, rows: Tensor, donor: Tensor, index: Tensor) -> Tensor:
        """The same restyled.

        Args:
            name: of `restylings`.
            rows: of the samples, `[k]` int64.
            donor: of the samples that lend their style, `[k]` int64.
            index: of an order of channels for each, `[k]` int64 in [0, 5).
        """
        ...


@dataclass(frozen=True)
class GeneratedImages:
    """Those of style codes: `Restylable`, with "factors" where they are part world's, whose truth is exact."""

    generator: Generator
    w: Tensor
    """`[n, w_dim]`."""
    device: torch.device

    @property
    def restylings(self) -> list[str]:
        """See `Restylable`."""
        return restylings(self.generator)

    def images(self, rows: Tensor) -> Tensor:
        """See `Restylable`."""
        return self.generator.synthesize(self._codes(rows))

    def restyled(self, name: str, rows: Tensor, donor: Tensor, index: Tensor) -> Tensor:
        """See `Restylable`."""
        if name == "factors" and isinstance(self.generator, PartWorld):
            return self.generator.synthesize(with_style_of(self.generator, self._codes(rows), self._codes(donor)))
        return RESTYLINGS[name](self.images(rows), self.images(donor), index)

    def _codes(self, rows: Tensor) -> Tensor:
        return self.w[rows].to(self.device)


@dataclass(frozen=True)
class FolderImages:
    """A user's own pictures: `Restylable`; they are read when they are asked for."""

    pictures: Sequence[UserPicture]
    size: int
    """Height and width that they are resized to."""
    device: torch.device
    restylings: list[str] = field(default_factory=lambda: [*RESTYLINGS])

    def images(self, rows: Tensor) -> Tensor:
        """See `Restylable`."""
        image = torch.stack([self.pictures[k].read(self.size)[0] for k in rows.tolist()])
        return image.to(self.device).float() / 127.5 - 1

    def restyled(self, name: str, rows: Tensor, donor: Tensor, index: Tensor) -> Tensor:
        """See `Restylable`."""
        return RESTYLINGS[name](self.images(rows), self.images(donor), index)


def derangement(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each sample another one of its group, `[n]` int64: each is another's exactly once (Sattolo's shuffle).

    Args:
        groups: of each sample, `[n]`.
        rng: draws.

    Raises:
        ValueError: a group of one sample.
    """
    result = np.arange(len(groups))
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        if len(rows) < 2:
            raise ValueError(f"group {group} has 1 sample: expected 2 or more, of which each gets another")
        order = rng.permutation(rows)
        result[order] = np.roll(order, 1)
    return result


def pairings(sizes: Sequence[int]) -> int:
    """How many sets of pairs `derangement` can draw: ∏ max(1, (n − 1)! / 2) over groups of n samples.

    A group has (n − 1)! cycles. One that is read backwards pairs the same samples, so that the IoU of responses over
    the pairs, which has no direction, is the same; of two or three samples there is one set of pairs.

    Args:
        sizes: samples of each group.

    Example:
        >>> pairings([3, 3, 3]), pairings([5, 4])
        (1, 36)
    """
    return math.prod(max(1, math.factorial(n - 1) // 2) for n in sizes)


def require_pairings(class_index: Tensor, shuffles: int) -> None:
    """Check that there are more sets of pairs within classes than draws, so that p has the resolution that it states.

    Args:
        class_index: class of each sample, `[n]` int64.
        shuffles: draws of `derangement`.

    Raises:
        ValueError: there are no more than draws.
    """
    sizes = class_index.unique(return_counts=True)[1].tolist()
    if pairings(sizes) > shuffles:
        return
    enough = next(n for n in count(4) if pairings([n] * len(sizes)) > shuffles)
    span = " to ".join(map(str, sorted({min(sizes), max(sizes)})))
    raise ValueError(
        f"texture.shuffles={shuffles}: images of {len(sizes)} classes of {span} can be paired with others of their "
        f"class in {pairings(sizes):,} ways: expected more than {shuffles:,}, else p is smaller than the images "
        f"support; give {enough} images of each class (pictures of a folder, or texture.samples and pairs.test), or "
        "lower texture.shuffles"
    )
