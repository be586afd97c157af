"""The matchers that are held against each other, each by a name for tables."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lis import build
from lis.config import FlowConfig, MatcherConfig, PumpConfig
from lis.context import Context
from lis.images import LARGEST
from lis.matching.gray import usual_enlargement
from lis.peaks import FLOAT
from lis.types import Correspondence, Generator, Matcher, Matches

STILL = "no motion"
DESCRIPTORS = ("patches", "daisy", "classifier", "generator")
"""Those of PUMP that need no checkpoint."""
CANDIDATES: dict[str, MatcherConfig] = {
    "flow": FlowConfig(),
    **{f"pump_{name}": PumpConfig(descriptor=name) for name in DESCRIPTORS},
}
"""What `matching.matchers` can name."""
_RUN = "this run's"
_VOTES = 10


@dataclass(frozen=True)
class Still:
    """Says that nothing moves: what every matcher has to do better than."""

    @property
    def fingerprint(self) -> str:
        """Of its name."""
        return hashlib.sha256(b"still").hexdigest()

    @property
    def layers(self) -> Collection[str]:
        """None."""
        return ()

    def view(self, image: Tensor, maps: dict[str, Tensor] | None = None) -> Tensor:
        """The images themselves."""
        return image

    def __call__(self, view1: Tensor, view2: Tensor) -> list[Correspondence]:
        """A field of zeros for each pair."""
        return [Correspondence(Matches.none(), torch.zeros(*view.shape[1:], 2)) for view in view1]


def validate_matchers(names: list[str]) -> None:
    """Checks `matching.matchers`.

    Raises:
        ValueError: there is no such matcher.
    """
    if unknown := [name for name in names if name not in CANDIDATES]:
        raise ValueError(f"matching.matchers: unknown {unknown[0]!r}, expected some of {', '.join(CANDIDATES)}")


def matched_side(generator: Generator) -> int:
    """Height and width in pixels of the images that are matched; see `smaller`."""
    return generator.resolution // -(-generator.resolution // LARGEST)


def run_matcher(ctx: Context) -> Matcher:
    """The matcher of the run."""
    return build.matcher(ctx.config.matcher, matched_side(ctx.generator), ctx.classifier)


def matchers(ctx: Context) -> dict[str, Matcher]:
    """No motion, those of `matching.matchers` (empty: all `CANDIDATES`), and the run's own where it is another."""
    requested = ctx.config.matching.matchers or list(CANDIDATES)
    result: dict[str, Matcher] = {STILL: Still()}
    result |= {name: build.matcher(CANDIDATES[name], matched_side(ctx.generator), ctx.classifier) for name in requested}
    last = run_matcher(ctx)
    return result if last.fingerprint in {m.fingerprint for m in result.values()} else result | {_RUN: last}


def run_name(ctx: Context, known: Mapping[str, Matcher]) -> str:
    """What the run's matcher is called among those of `matchers`."""
    fingerprint = run_matcher(ctx).fingerprint
    return next(name for name, matcher in known.items() if matcher.fingerprint == fingerprint)


def vote_bytes(ctx: Context) -> int:
    """Bytes of PUMP's votes, every cell of 4 × 4 pixels for every window of 2 × 2, ten times for all levels.

    Measured: 8 to 13 times at 64, 96 and 128 px.
    """
    side = min(ctx.generator.resolution, LARGEST)
    side *= getattr(ctx.config.matcher, "enlarge", None) or usual_enlargement(side)
    return _VOTES * (side // 4) ** 2 * (side // 2) ** 2 * FLOAT
