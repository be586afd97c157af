"""Concepts that units are compared with: parts, the whole object, background, colours, quadrants, and factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from matplotlib.colors import XKCD_COLORS, to_rgb
from skimage.color import deltaE_ciede2000, rgb2lab
from torch import Tensor
from torch.nn import functional as F

from lis.labels.labelled import reduced_masks

COLOURS = ("black", "white", "grey", "red", "green", "yellow", "blue", "brown", "orange", "pink", "purple")
"""The basic colour terms of Berlin and Kay (1969)."""
QUADRANTS = ("upper left", "upper right", "lower left", "lower right")
BINS = 32
"""Of each of red, green and blue in the table of colours."""


@dataclass(frozen=True)
class ConceptSet:
    """Concepts by name."""

    names: tuple[str, ...]
    """Each once; where a part is called like a colour, say, the colour's kind is added: "orange (colour)"."""
    kinds: tuple[str, ...]
    """Of each: part, object, background, colour, quadrant or factor."""
    labels: tuple[str, ...]
    """Of the parts."""
    factor_names: tuple[str, ...]

    def masks(self, image: Tensor, parts: Tensor, size: int, factors: Tensor | None = None) -> Tensor:
        """Masks `[n, concepts, size, size]` bool, in the order of the names.

        A cell has the part with the largest share of it, and the colour of its mean in sRGB; the object is whatever has
        a part. Of an odd size the middle row and column are lower and right. Factors hold for whole images.

        Args:
            image: `[n, 3, H, W]` in [-1, 1].
            parts: `[n, h, w]` integers, 0 background, k for `labels[k - 1]`.
            size: height and width of the masks in cells.
            factors: `[n, factors]` bool, whether an image has each; None exactly where the set names none.

        Raises:
            ValueError: a value in `parts` that is no label, or factors that are not those of the set.
        """
        if parts.numel() and not 0 <= int(parts.min()) <= int(parts.max()) <= len(self.labels):
            raise ValueError(
                f"parts has values {int(parts.min())} to {int(parts.max())}: expected 0 (background) to "
                f"{len(self.labels)}, the labels being {', '.join(self.labels) or 'none'}"
            )
        groups = [*self._part_masks(parts, size), colour_masks(image, size)]
        groups.append(quadrant_masks(size).to(image.device).expand(len(image), -1, -1, -1))
        if self.factor_names or factors is not None:
            groups.append(self._factor_masks(factors, size))
        return torch.cat(groups, 1)

    def _part_masks(self, parts: Tensor, size: int) -> list[Tensor]:
        if not self.labels:
            return []
        index = reduced_masks(parts, len(self.labels), size)[:, None]
        labels = torch.arange(1, 1 + len(self.labels), device=index.device)[:, None, None]
        return [index == labels, index > 0, index == 0]

    def _factor_masks(self, factors: Tensor | None, size: int) -> Tensor:
        shape = None if factors is None else tuple(factors.shape)
        if factors is None or factors.shape[1] != len(self.factor_names):
            raise ValueError(f"factors {shape}: expected [n, {len(self.factor_names)}], one for each name of the set")
        return factors[..., None, None].expand(-1, -1, size, size)


def concept_set(labels: Sequence[str], factor_names: Sequence[str] = ()) -> ConceptSet:
    """The concepts of images with these parts and factors; without labels neither object nor background.

    Raises:
        ValueError: a label or a factor is named twice.

    Example:
        >>> concept_set(["ear"]).names[:3]
        ('ear', 'object', 'background')
        >>> concept_set(["orange"]).names[-8:-4]
        ('brown', 'orange (colour)', 'pink', 'purple')
    """
    whole = [("object", "object"), ("background", "background")] if labels else []
    concepts = [*((name, "part") for name in labels), *whole]
    concepts += [*((name, "colour") for name in COLOURS), *((name, "quadrant") for name in QUADRANTS)]
    concepts += [(name, "factor") for name in factor_names]
    names: dict[str, str] = {}
    for name, kind in concepts:
        names[name if name not in names else f"{name} ({kind})"] = kind
    if len(names) < len(concepts):
        raise ValueError(f"concepts {', '.join(name for name, _ in concepts)}: expected each name once for each kind")
    return ConceptSet(tuple(names), tuple(names.values()), tuple(labels), tuple(factor_names))


def colour_masks(image: Tensor, size: int) -> Tensor:
    """The basic colour term of the mean of every cell, `[n, 11, size, size]` bool of images `[n, 3, H, W]` in [-1, 1].

    Broden labels pixels by a table of colour names learnt from web images (Bau et al. 2017; van de Weijer et al. 2009).
    This is not that table, but its form with a rule that can be checked: see `colour_table`.
    """
    level = ((F.adaptive_avg_pool2d(image, size).clamp(-1, 1) + 1) * (BINS / 2)).long().clamp(max=BINS - 1)
    index = torch.from_numpy(colour_table()).to(image.device)[tuple(level.unbind(1))]
    return index[:, None] == torch.arange(len(COLOURS), device=image.device)[:, None, None]


@lru_cache(maxsize=1)
def colour_table() -> np.ndarray:
    """Index into `COLOURS` of the centre of every bin of sRGB, `[BINS, BINS, BINS]` int64 (red, green, blue).

    That of the term whose typical colour is nearest by CIEDE2000 (CIE 142-2001), typical being what the participants of
    the xkcd survey called by the term alone (Munroe 2010; matplotlib's `XKCD_COLORS`).
    """
    centres = (np.indices((BINS,) * 3).reshape(3, -1).T + 0.5) / BINS
    typical = rgb2lab(np.array([[to_rgb(XKCD_COLORS[f"xkcd:{name}"]) for name in COLOURS]]))[0]
    lab = rgb2lab(centres[None])[0]
    distances = np.stack([deltaE_ciede2000(lab, colour[None]) for colour in typical], 1)
    return distances.argmin(1).reshape((BINS,) * 3)


def quadrant_masks(size: int) -> Tensor:
    """The quadrants `[4, size, size]` bool of an image, in the order of `QUADRANTS`."""
    first = torch.arange(size) < size // 2
    return torch.stack([row[:, None] & column for row in (first, ~first) for column in (first, ~first)])
