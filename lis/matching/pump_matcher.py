"""PUMP as a matcher: descriptors, matches, filter, dense field (the paper's choice, §3.2)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lis.config import PumpConfig
from lis.matches import Correspondence, Matches
from lis.matching.descriptors import Descriptor, hashed
from lis.matching.gray import gray_pair, untextured
from lis.matching.pump import densify, filter_matches, match

VERSION = 2
_STRIDE = 4
_LEAST = 3
"""Matches that a field needs."""


@dataclass(frozen=True)
class Pump:
    """PUMP (Revaud et al. 2022) on any descriptor.

    Args:
        descriptor: what pixels are compared by.
        enlarge: factor by which pictures are enlarged before matching, so that components can be large enough.
        power, border, min_shape, levels: see `lis.matching.pump.match`.
        locality, min_component: see `lis.matching.pump.filter_matches`.
    """

    descriptor: Descriptor
    enlarge: int = 2
    power: float = PumpConfig.power
    border: float = PumpConfig.border
    min_shape: int = PumpConfig.min_shape
    levels: int | None = PumpConfig.levels
    locality: float = PumpConfig.locality
    min_component: int = PumpConfig.min_component

    @property
    def fingerprint(self) -> str:
        """SHA-256 over settings, versions and the descriptor's weights."""
        settings = (self.enlarge, self.power, self.border, self.min_shape, self.levels)
        return hashed("pump", VERSION, self.descriptor.fingerprint, *settings, self.locality, self.min_component)

    @property
    def layers(self) -> Literal[True] | Collection[str]:
        """Those that the descriptor reads."""
        return self.descriptor.generator_layers

    def view(self, image: Tensor, maps: dict[str, Tensor] | None = None) -> Tensor:
        """What the descriptor reads."""
        return self.descriptor.view(image, maps)

    @torch.no_grad()
    def __call__(self, view1: Tensor, view2: Tensor) -> list[Correspondence]:
        """Of n pairs `[n, 3 + c, H, W]`; on their device until the matches are filtered."""
        shape = (view1.shape[-2], view1.shape[-1])
        reasons = [self._unfit(*pair) for pair in zip(view1, view2, strict=True)]
        fit = [k for k, reason in enumerate(reasons) if not reason]
        found = dict(zip(fit, self._matches(view1[fit], view2[fit]), strict=True)) if fit else {}
        return [
            self._correspondence(found[k], shape) if k in found else Correspondence.failed(shape, reason)
            for k, reason in enumerate(reasons)
        ]

    def _unfit(self, view1: Tensor, view2: Tensor) -> str:
        """Why a pair cannot be matched; empty where it can."""
        if min(view1.shape[-2:]) * self.enlarge < 2 * _STRIDE:
            return f"{view1.shape[-2]} × {view1.shape[-1]} pixels are too few for a grid"
        if not (view1.isfinite().all() and view2.isfinite().all()):
            return "an image is not finite"
        pair = gray_pair(view1[:3], view2[:3])
        return next((f"image {k} has no texture" for k, picture in enumerate(pair, 1) if untextured(picture)), "")

    def _matches(self, view1: Tensor, view2: Tensor) -> list[Matches]:
        """All that choose each other, in pixels of the enlarged pictures."""
        first, second = self.descriptor(*(self._enlarged(view) for view in (view1, view2)))
        grid = first[:, :, _STRIDE // 2 :: _STRIDE, _STRIDE // 2 :: _STRIDE]
        found = match(grid, second, power=self.power, border=self.border, min_shape=self.min_shape, levels=self.levels)
        return found if isinstance(found, list) else [found]

    def _correspondence(self, matches: Matches, shape: tuple[int, int]) -> Correspondence:
        kept = filter_matches(matches.to("cpu"), self.locality, self.min_component)
        if len(kept) < _LEAST:
            why = f"of {len(matches)} matches none hang together with more than {self.min_component}"
            return Correspondence.failed(shape, why)
        xy1, xy2 = ((xy + 0.5) / self.enlarge - 0.5 for xy in (kept.xy1, kept.xy2))
        reduced = Matches(xy1, xy2, kept.score)
        return Correspondence(reduced, densify(reduced, shape))

    def _enlarged(self, view: Tensor) -> Tensor:
        if self.enlarge == 1:
            return view
        return F.interpolate(view, scale_factor=self.enlarge, mode="bicubic", align_corners=False)
