"""Stand-ins for what tuning reads images with: a segmenter of two parts that needs no training, and loops to check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.fakes import NAMES, FakeClassifier, FakeGenerator, make_context, stand_in
from lis.config import TuningConfig
from lis.context import Context
from lis.linking.link import link, load_link
from lis.linking.pairs import pairs
from lis.quantify.measures import measure
from lis.store import Artifact, Recipe
from lis.units import parts

LABELS = ("bright", "dark")
BRIGHT, DARK = 0.15, -0.15
"""A pixel is a part's where its red channel is beyond these."""
SIZES = {"units": 6, "seeds": 3, "control_directions": 4, "control_lengths": 2, "unit_block": 4, "seed_block": 2}


class FakeSegmenter:
    """Labels the pixels of the generator's only map."""

    labels: tuple[str, ...] = LABELS
    size, layers = 8, ("only",)
    fingerprint = "fake-segmenter"

    def __call__(self, maps: dict[str, Tensor]) -> Tensor:
        """Logits `[n, 3, 8, 8]`."""
        red = maps["only"][:, 0]
        return torch.stack([torch.zeros_like(red), red - BRIGHT, DARK - red], 1)


def use_fake_segmenter(patch: pytest.MonkeyPatch) -> None:
    """Puts the fake in the place of the stage that trains one."""

    def trained(ctx: Context) -> Artifact:
        return ctx.store.make(Recipe("fake-segmenter", 1, {}), lambda draft: None)

    stand_in(patch, "segmenter", trained)
    patch.setattr(parts, "segmenter", trained)
    patch.setattr(parts, "load_segmenter", lambda ctx, artifact: FakeSegmenter())


def tuning_context(root: Path, generator: Any = None, classifier: Any = None, **overrides: Any) -> Context:
    """A context on the fakes for a few units and samples; `overrides` as in `helpers.fakes.make_config`.

    Units move along the rows of the link, which plain steps can follow.
    """
    overrides.setdefault("classes__labels", list(LABELS))
    sizes = {key: overrides.pop(f"tuning__{key}", value) for key, value in SIZES.items()}
    along = overrides.pop("tuning__along", "link")
    return make_context(root, generator, classifier, tuning=TuningConfig(**sizes, along=along), **overrides)


def look(ctx: Context, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Measures `[labels, 5]`, probabilities of all classes and r̃ of the image of one `w [w_dim]`."""
    image = ctx.generator.synthesize(w[None])
    masks = torch.where(image[:, 0] > BRIGHT, 1, torch.where(image[:, 0] < DARK, 2, 0))
    r = ctx.classifier.features(image)
    return measure(masks, image, 2)[0], ctx.classifier.head(r).softmax(1)[0], r[0]


def spread(ctx: Context) -> np.ndarray:
    """Standard deviations of the units over the training pairs."""
    return pairs(ctx, "train").tensors("pairs")["r"].double().std(0, correction=0).numpy()


def slow_screen(ctx: Context, artifact: Artifact, unit: int, seed: int) -> dict[str, Any]:
    """What `screen` should have found for one unit and one sample, in plain steps."""
    row = link(ctx).table("units").loc[unit]
    model, r = load_link(link(ctx)), pairs(ctx, "tuning").tensors("pairs")["r"][seed]
    found, codes = [], []
    for value in np.linspace(row["minimum"], row["maximum"], ctx.config.tuning.steps):
        moved = r.clone()
        moved[unit] = float(value)
        codes.append(model(moved[None])[0])
        found.append(look(ctx, codes[-1]))
    change = (found[-1][2] - found[0][2]).numpy()
    live = (link(ctx).table("units")["status"] == "live").to_numpy()
    rest = [change[u] / spread(ctx)[u] for u in np.flatnonzero(live) if u != unit]
    ours = [ctx.classifier.class_names.index(name) for name in ctx.class_names]
    return {
        "measures": torch.stack([one[0] for one in found]),
        "probability": torch.stack([one[1][ours] for one in found]),
        "prediction": torch.stack([one[1].argmax() for one in found]),
        "reencoded_share": torch.tensor(change[unit] / (row["maximum"] - row["minimum"])).float(),
        "own": torch.tensor(change[unit] / spread(ctx)[unit]).float(),
        "others": torch.tensor(np.sqrt(np.mean(np.square(rest)))).float(),
        "more": torch.tensor(np.mean(np.abs(rest) > abs(change[unit] / spread(ctx)[unit]))).float(),
        "step_norm": (codes[-1] - codes[0]).norm(),
        "position": torch.stack([(w - model(r[None])[0]) @ (codes[-1] - codes[0]) for w in codes])
        / (codes[-1] - codes[0]).norm(),
    }


__all__ = ["LABELS", "NAMES", "FakeClassifier", "FakeGenerator", "slow_screen", "tuning_context", "use_fake_segmenter"]
