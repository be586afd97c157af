"""Which units are shown as fields and trajectories, on which samples, and what is kept of them (Fig. 2B, 4C; S14)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.images import to_uint8
from lis.matches import pixel_grid
from lis.matching.affine import apply
from lis.matching.align import Alignment
from lis.motion.shards import Job, follow
from lis.units.examples import MOST, typical
from lis.units.perturbation import Perturbation

FAR = 3.0
"""A unit under which the figure moves locally so many times as far as under the median unit is not shown: its field
says less than those of the others. Samples that are lost altogether have no field to begin with (`shards.LOST`)."""


@dataclass(frozen=True)
class Shown:
    """A row of a figure: which unit and which sample, by their places."""

    figure: str
    """`fields` (all units on one sample, Fig. 4C) or `trajectories` (each on one of its own, S14)."""
    place: int
    sample: int


def chosen(figure: Tensor, strength: Tensor, most: int) -> list[Shown]:
    """Units that move one part more than the others, each another part, on samples that are typical for them.

    A unit's part is the one with the largest median over samples, of those that most samples with a motion have; units
    come in the order of that median relative to the mean over parts. When all parts have a unit, the next round begins.
    Units that go too `FAR`, or are lost in most samples, are passed over. A sample is typical for a unit when its
    strength is nearest to the mean over samples, for several units when the distances, relative to the means, have the
    smallest sum. Without parts the whole figure counts.

    Args:
        figure: mean length of the local displacement `[units, samples]`, NaN where there is none.
        strength: of each part, `[units, samples, K]`.
        most: units.

    Example:
        >>> strength = torch.tensor([[[9.0, 8.0]], [[4.0, 1.0]], [[3.0, 1.0]], [[1.0, 2.0]]])
        >>> [(row.figure, row.place) for row in chosen(strength.mean(2), strength, 2)]
        [('fields', 1), ('fields', 3), ('trajectories', 1), ('trajectories', 3)]
    """
    parts = strength if strength.shape[2] else figure[..., None]
    moves = figure.isfinite()
    often = parts[moves].isfinite().float().mean(0) >= MOST
    median = parts.nanmedian(1).values.where(often, torch.nan)
    size, part = median.nan_to_num(-1.0).max(1)
    contrast = size / median.nanmean(1) if parts.shape[2] > 1 else size
    whole = figure.nanmedian(1).values
    contrast = contrast.where((size > 0) & (whole <= FAR * whole.nanmedian()) & (moves.float().mean(1) >= MOST), -1.0)
    order = [int(place) for place in contrast.argsort(descending=True, stable=True) if contrast[place] > 0]
    units = _by_turns(order, part.tolist())[:most]
    if not units:
        return []
    own = torch.stack([parts[place, :, part[place]] for place in units])
    common = typical(own)
    fields = [Shown("fields", place, common) for place, row in zip(units, own, strict=True) if row[common].isfinite()]
    return fields + [Shown("trajectories", p, typical(row[None])) for p, row in zip(units, own, strict=True)]


def _by_turns(order: Sequence[int], part: Sequence[int]) -> list[int]:
    """Units in an order in which each part comes once before one comes twice."""
    turn = {place: sum(part[other] == part[place] for other in order[:k]) for k, place in enumerate(order)}
    return sorted(order, key=lambda place: turn[place])


def shown_table(
    rows: Sequence[Shown], along: Sequence[Perturbation], samples: Mapping[str, Tensor], class_names: Sequence[str]
) -> pd.DataFrame:
    """Table "shown" of the stage "motion": figure, name, unit, class, sample_index; a row per row of the tensors."""
    index = [int(samples["class_index"][row.sample]) for row in rows]
    return pd.DataFrame(
        {
            "figure": [row.figure for row in rows],
            "name": [along[row.place].label for row in rows],
            "unit": np.array([along[row.place].unit for row in rows], dtype=np.int64),
            "class": [class_names[c] for c in index],
            "sample_index": np.array([int(samples["sample_index"][row.sample]) for row in rows], dtype=np.int64),
        }
    )


def shown_tensors(
    job: Job, rows: Sequence[Shown], along: Sequence[Perturbation], samples: Mapping[str, Tensor], steps: int
) -> dict[str, Tensor]:
    """Tensors "shown" of the stage "motion", E rows in T steps.

    image and aligned `[E, T, 3, H, W]` uint8, valid `[E, T, H, W]` bool (where an aligned image has pixels of its own),
    local `[E, T, H, W, 2]` float32 (displacement from the first image to each aligned one, pixels, NaN where unknown),
    whole `[E, H, W, 2]` (the same and the affine map: from the first image to the last as it is), mask `[E, h, w]`
    uint8 (parts of the first image), total `[E, T, 2, 3]` (affine map from the first image to each), value `[E, T]` (of
    the unit or the projection).
    """
    found = []
    for row in rows:
        unit, own = along[row.place], samples["r"][row.sample, None]
        alignment, views, masks = follow(job, own, unit, steps)
        found.append(
            {
                "image": to_uint8(views[:, :3]),
                "aligned": to_uint8(alignment.aligned[:, :3]),
                "valid": alignment.valid,
                "local": alignment.local,
                "whole": _whole(alignment),
                "mask": masks[0].to(torch.uint8),
                "total": alignment.total,
                "value": unit.values(steps),
            }
        )
    return {name: torch.stack([one[name] for one in found]) for name in found[0]} if found else {}


def _whole(found: Alignment) -> Tensor:
    """Displacement `[H, W, 2]` from the first image to the last: what is local, then what is not."""
    at = pixel_grid(*found.valid.shape[1:])
    return apply(found.total[-1], at + found.local[-1]) - at
