"""Pictures of some counterfactuals in the generator: the way, and the units that change most, tuned (Fig. S20)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.boundary.generator_shards import Block, between, ends
from lis.boundary.generator_tables import TOLD, Paths, typical
from lis.context import Context
from lis.linking.fit import load_link
from lis.look import PICTURED, Look, Looker
from lis.quantify.change import change
from lis.quantify.measures import MEASURES, interpreted
from lis.store import Artifact, Draft
from lis.types import Finder
from lis.units.pictures import style_codes
from lis.units.selection import perturbations


def pictures(ctx: Context, paths: Paths, units: pd.DataFrame, linked: Artifact, masks: Finder, draft: Draft) -> None:
    """Write the pictures of `gan_counterfactual.shown` pairs of classes: each class towards the next, as far as asked.

    Shown is the way that `typical` chooses; of its first image those units are tuned, from their smallest to their
    largest activation over the training pairs, that change most on the ways of the pair: `gan_counterfactual.units` of
    the live ones.

    Tensors "shown", a row per pair: image `[k, T, 3, H, W]` uint8, mask, measures, probability, prediction as in
    `lis.look.Look`. Table "shown": origin, target, sample_index, row (of the table "samples"). Tensors
    "tuned", a row per pair and unit: the same in `view.steps` steps. Table "tuned", the same rows: shown (row of the
    table "shown"), unit, change (mean over the ways of the pair), standard, own (change on the way that is shown),
    minimum, maximum, label, measure (what the unit changes most of `TOLD`: each over its largest |change| among
    the units that are shown of the pair) and measured (that change); label "" where nothing changes.
    """
    config, looker = ctx.config.gan_counterfactual, Looker.pictured(ctx, masks, paths.labels)
    ways = [(place, typical(paths, rows)) for place, rows in _next(paths)[: config.shown]]
    shown = [_way(looker, paths, row).tensors(PICTURED) for _, row in ways]
    tables, tuned = [], []
    for at, (place, row) in enumerate(ways):
        origin, target, _ = paths.pairs[place]
        own = units[(units["origin"] == paths.class_names[origin]) & (units["target"] == paths.class_names[target])]
        chosen = _with_range(pd.DataFrame(own), linked.table("units")).head(config.units)
        w = style_codes(
            load_link(linked), paths.r[row, :1], [(unit, 0) for unit in perturbations(chosen)], ctx.config.view.steps
        )
        tuned.append(looker(w).tensors(PICTURED))
        moved = paths.shift[row, torch.tensor(chosen["unit"].to_numpy())].numpy()
        tables.append(told(chosen.assign(shown=at, own=moved), tuned[-1]["measures"], paths.labels))
    rows = [(paths.class_names[o], paths.class_names[t]) for o, t, _ in (paths.pairs[place] for place, _ in ways)]
    index = [int(paths.sample_index[row]) for _, row in ways]
    table = pd.DataFrame(rows, columns=pd.Index(["origin", "target"]))
    draft.table("shown", table.assign(sample_index=index, row=[row for _, row in ways]))
    draft.tensors("shown", {name: torch.stack([way[name] for way in shown]) for name in shown[0]})
    draft.table("tuned", pd.concat(tables, ignore_index=True))
    draft.tensors("tuned", {name: torch.cat([part[name] for part in tuned]) for name in tuned[0]})


def _next(paths: Paths) -> list[tuple[int, Tensor]]:
    """Places and rows of the pairs that lead from a class to the next one."""
    classes = len(paths.class_names)
    return [(place, rows) for place, (o, t, rows) in enumerate(paths.pairs) if t == (o + 1) % classes]


def _way(looker: Looker, paths: Paths, row: int) -> Look:
    origin, target = (paths.class_names[int(x[row])] for x in (paths.origin, paths.target))
    first, last = ends(looker.ctx, Block(origin, target, (int(paths.sample_index[row]),)))
    return looker(between(first, last, looker.ctx.config.gan_counterfactual.steps)[0].float())


def _with_range(units: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """The live units, in their order: unit, change, standard, minimum, maximum."""
    live = pd.DataFrame(known[known["status"] == "live"])[["unit", "minimum", "maximum"]]
    return units[["unit", "change", "standard"]].merge(live, on="unit", how="inner")


def told(units: pd.DataFrame, measures: Tensor, labels: tuple[str, ...]) -> pd.DataFrame:
    """The units with what each changes most: label, measure and measured.

    Args:
        units: a row per unit.
        measures: `[units, steps, K, 5]`; labels that are not `interpreted` are passed over.
        labels: K names.
    """
    moved = change(measures[:, 0], measures[:, -1]).numpy()
    counts = interpreted(measures).numpy()[:, None] & np.isin(MEASURES, TOLD)
    size = np.where(counts, np.nan_to_num(np.abs(moved)), 0)
    size = size / np.maximum(size.max((0, 1), initial=0), 1e-12)
    found = []
    for unit, sizes in enumerate(size):
        label, measure = np.unravel_index(int(sizes.argmax()), sizes.shape) if sizes.size else (0, 0)
        any_ = bool(sizes.size and sizes.max() > 0)
        found.append(
            (labels[label] if any_ else "", MEASURES[measure], moved[unit, label, measure] if any_ else np.nan)
        )
    return units.assign(**{name: [row[k] for row in found] for k, name in enumerate(("label", "measure", "measured"))})
