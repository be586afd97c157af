"""A sequence of pictures brought into the coordinates of its first (supplement S5.2), and what still moves then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

from lis.matching.affine import compose, estimate, identity
from lis.types import Matcher, pixel_grid

_EDGE = 1e-3
"""Pixels by which a point may miss the frame: rounding, not motion."""


@dataclass(frozen=True)
class Alignment:
    """Of N pictures, on the CPU. What could not be matched is NaN, and so is what comes after it."""

    step: Tensor
    """Affine map from picture k to k + 1, `[N − 1, 2, 3]` float64."""
    total: Tensor
    """From picture 0 to picture k, `[N, 2, 3]` float64."""
    aligned: Tensor
    """Pictures in the coordinates of picture 0, `[N, channels, H, W]`; what a picture does not show is taken from
    picture 0."""
    valid: Tensor
    """Pixels that the picture itself shows, `[N, H, W]` bool."""
    local: Tensor
    """Displacement from picture 0 to the aligned picture k, `[N, H, W, 2]` float32, NaN outside of `valid`."""
    reason: tuple[str, ...]
    """For every picture, why something of it is missing; empty where nothing is."""


def align(matcher: Matcher, frames: Tensor, threshold: float = 1.5, fields: Sequence[int] | None = None) -> Alignment:
    """Remove what moves as a whole.

    Picture N is aligned to N − 1, the result to N − 2, and so on until picture 0. The maps of the single steps are
    joined first, so that every picture is resampled once.

    Args:
        matcher: finds the steps' matches, and the field that is left between picture 0 and every aligned one.
        frames: `[N, channels, H, W]`, as the matcher's `view` gives them.
        threshold: see `estimate`.
        fields: numbers of the pictures whose local field is wanted; None: all. The others' is NaN, without a reason.
    """
    result = matcher(frames[:-1], frames[1:])
    fits = [estimate(pair.matches, threshold) for pair in result]
    step = torch.stack([fit.matrix for fit in fits]) if fits else torch.empty(0, 2, 3, dtype=torch.float64)
    reason = _first_reasons([pair.reason or fit.reason for pair, fit in zip(result, fits, strict=True)])
    total = torch.stack(list(accumulate(step, lambda total, matrix: compose(matrix, total), initial=identity())))
    aligned, valid = warp(frames, total, fill=frames[:1])
    requested = range(len(frames)) if fields is None else fields
    local, missing = _local(matcher, frames[0], aligned, valid, requested)
    return Alignment(
        step, total, aligned.cpu(), valid.cpu(), local, tuple(a or b for a, b in zip(reason, missing, strict=True))
    )


def warp(view: Tensor, matrix: Tensor, fill: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Pictures in other coordinates: pixel p shows what lies at M p, bilinearly.

    Args:
        view: `[n, channels, H, W]`.
        matrix: `[n, 2, 3]`; NaN shows nothing.
        fill: `[1 or n, channels, H, W]`, shown where M p lies outside; default: 0.

    Returns:
        The pictures, and which of their pixels `[n, H, W]` bool lie inside.
    """
    height, width = view.shape[-2:]
    matrix, grid = matrix.to(view), pixel_grid(height, width).to(view)
    xy = torch.einsum("hwj,nij->nhwi", grid, matrix[:, :, :2]) + matrix[:, None, None, :, 2]
    last = torch.tensor([width - 1, height - 1]).to(view)
    valid = ((xy >= -_EDGE) & (xy <= last + _EDGE)).all(-1)  # NaN is never inside
    grid = torch.where(valid[..., None], xy, 0) * 2 / last.clamp(min=1) - 1
    inside = F.grid_sample(view, grid, "bilinear", "border", align_corners=True)
    outside = torch.zeros_like(view[:1]) if fill is None else fill
    return torch.where(valid[:, None], inside, outside), valid


def _local(
    matcher: Matcher, first: Tensor, aligned: Tensor, valid: Tensor, requested: Sequence[int]
) -> tuple[Tensor, list[str]]:
    """Fields `[N, H, W, 2]` from the first picture to the aligned ones, and why one is missing."""
    rest = [k for k in requested if k > 0]
    visible = [k for k in rest if valid[k].any()]
    pairs = matcher(first.expand(len(visible), *first.shape), aligned[visible]) if visible else []
    fields, reasons = torch.full((*valid.shape, 2), torch.nan), ["" for _ in valid]
    fields[0] = 0
    for k, pair in zip(visible, pairs, strict=True):
        fields[k] = torch.where(valid[k].cpu()[..., None], pair.field, torch.nan)
        reasons[k] = pair.reason
    for k in set(rest) - set(visible):
        reasons[k] = "nothing of the picture is left in the frame"
    return fields, reasons


def _first_reasons(steps: list[str]) -> list[str]:
    """Of every picture: the reason of the first step on the way to it that failed."""
    named = (reason and f"step {k} to {k + 1}: {reason}" for k, reason in enumerate(steps))
    return list(accumulate(named, lambda first, later: first or later, initial=""))
