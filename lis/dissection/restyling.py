"""Images in another style with their shapes where they were: other factors of part world, colours, or textures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

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
    "colour": lambda image, _, index: permute_channels(image, ORDERS[index]),
    "texture": lambda image, donor, _: swap_amplitudes(image, donor),
}
"""What is done to the images of any generator."""


def restylings(generator: Generator) -> list[str]:
    """What a generator allows: "factors" where it is part world, whose truth is exact, "colour" and "texture"."""
    return [*(["factors"] if isinstance(generator, PartWorld) else []), *RESTYLINGS]


def restyled_images(name: str, generator: Generator, w: Tensor, donor: Tensor, index: Tensor) -> Tensor:
    """Images `[n, 3, H, W]` of style codes, restyled.

    Args:
        name: of `restylings`.
        generator: makes the images.
        w: `[n, w_dim]`.
        donor: style codes that lend their style, `[n, w_dim]`.
        index: of an order of channels for each, `[n]` int64 in [0, 5).
    """
    if name == "factors" and isinstance(generator, PartWorld):
        return generator.synthesize(with_style_of(generator, w, donor))
    return RESTYLINGS[name](generator.synthesize(w), generator.synthesize(donor), index)


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
