"""A unit's part by activation beside its part by cause, and beside the part that was planted.

Dissection names a unit by where it is active (Bau et al. 2020); tuning by what changes in the image when the unit is
asked to change (Wehrheim et al. 2024). Both are asked of the same units, for the same parts: unit u of r is the spatial
mean of map u of a layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.classifiers.detectors import Detectors
from lis.config import RunConfig
from lis.config.fields import number
from lis.context import Context
from lis.dissection.activations import record_activations
from lis.dissection.agreement import MIN_IMAGES
from lis.dissection.dissect import dissect, named_modules
from lis.dissection.work import bridge_work
from lis.peaks import no_images
from lis.quantify.measures import MEASURES
from lis.stage import MODELS, stage
from lis.statistics import RANGE, SIGNIFICANT, benjamini_hochberg, control_test, wilson
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.units.controls import MIRRORED, Null
from lis.units.tuned import Tuned
from lis.units.tuning import tuned_arrays, tuning
from lis.units.unit_statistics import faithfulness, null_arrays

WAYS = ("activation", "cause")
"""How a unit is named: by where it is active, by what it changes."""
TOLERANCE = 1e-4
"""Largest difference between r and the spatial mean of the map, relative to the largest activation."""
_IMAGES = 4
"""Images of noise on which the two are compared."""


@dataclass
class BridgeConfig:
    """Units named by activation and by cause."""

    shuffles: int = number(1000, low=19)
    """Times that the names of units are shuffled, the control of agreement and of names that are right."""


def problems(config: RunConfig) -> Iterable[str]:
    """Says where no part can be told from what random directions change, or from another part."""
    if config.tuning.control_directions < 1:
        yield "bridge holds units against random directions: expected tuning.control_directions of 1 or more, got 0"
    if len(config.classes.labels) < 2:
        yield f"bridge tells parts from each other: expected two classes.labels or more, got {config.classes.labels}"


def pooled_layer(ctx: Context) -> str:
    """The last dissected layer, whose spatial mean is r.

    Raises:
        ValueError: it is not, on images of noise.
    """
    name, module = list(named_modules(ctx, vars(ctx.config)["dissect"].layers).items())[-1]
    size, r = ctx.generator.resolution, list[Tensor]()
    image = Stream("bridge", 0).normal(None, torch.arange(_IMAGES), 3 * size**2).unflatten(1, (3, size, size))
    with torch.no_grad():
        image = image.tanh().to(ctx.device)
        maps = record_activations(lambda x: r.append(ctx.classifier.features(x)), {name: module}, image)[name]
    mean = maps.mean((2, 3))
    told = f"bridge compares unit u of r with unit u of {name}, as if r were the mean of its map over the image"
    remedy = "name the last map before global average pooling as the last of dissect.layers, or use another classifier"
    if mean.shape != r[0].shape:
        raise ValueError(f"{told}: {name} has {mean.shape[1]} units and r {r[0].shape[1]}; {remedy}")
    if (far := float((mean - r[0]).abs().max())) > TOLERANCE * float(r[0].abs().max()):
        raise ValueError(
            f"{told}: they differ by {far:.3g}, expected at most {TOLERANCE:g} of the largest activation, "
            f"{float(r[0].abs().max()):.3g}; {remedy}"
        )
    return name


@stage(
    "bridge",
    version=1,
    inputs=(dissect, tuning),
    config=BridgeConfig,
    seed=True,
    models=MODELS,
    problems=problems,
    check=pooled_layer,
    images=no_images,
    arrays=lambda ctx: 3 * tuned_arrays(ctx) + null_arrays(ctx),
    work=bridge_work,
)
def bridge(ctx: Context, config: BridgeConfig, dissected: Artifact, tuned_units: Artifact, draft: Draft) -> None:
    """Tuned units by the part that they agree with, and by the part that changes along them; planted ones scored.

    Only parts that both can name take part: interpreted by the tuning and present in the dissection. By activation it
    is the part of the highest IoU, met on 5 images or more; by cause the part whose area changes most (|mean log₂
    ratio|) over what random directions change of it that move w as far. Both have a p over all parts and a q over the
    units: Bonferroni over the parts of the permutation test, and `largest_change`. A unit is *named* by activation with
    q ≤ 0.05, by cause with q ≤ 0.05 where the unit itself moves the way that it was asked.

    Table "bridge", a row per tuned unit: unit, concept (of all kinds, as the dissection labels it; empty: none),
    by_activation (empty: no part), iou, q_activation, named_activation, by_cause, change (log₂ ratio of its area),
    ratio (|change| over the root mean square of random directions), q_cause, own (change of the unit itself on images,
    in its standard deviations), reached (more than by random directions: `lis.units.unit_statistics.faithfulness`),
    named_cause, agree, both (agree, and named by both), and, where channels are planted, kind ("part", "critical",
    "unplanted"), target, scored (planted for a part that both can name), activation_right, cause_right; elsewhere kind
    and target are empty. Table "shares": what ("agree", "both", "activation_right", "cause_right", "named_activation",
    "named_cause", "reached"), kind (of the units; empty: all), count, n, share, low, high (95 % Wilson), chance,
    chance_low, chance_high (mean and 95 % when names are shuffled among these units; NaN of what is told by q). Json
    "facts": layer, along (`tuning.along`), parts, left_out (labels that one of the two cannot name), directions (random
    ones), units (of r), planted.

    Raises:
        ValueError: r is not the spatial mean of the layer, or fewer than two parts can be named by both.
    """
    tuned, rng = Tuned.of(tuned_units), Stream("bridge", ctx.config.seed).rng()
    layer = list(dissected.json("facts")["layers"])[-1]
    agreement, units = (_of_layer(dissected.table(name), layer) for name in ("agreement", "units"))
    parts, left_out = common_parts(agreement, tuned)
    null, area = Null.of(tuned_units, tuned, rng), MEASURES.index("area")
    index = [tuned.labels.index(part) for part in parts]
    table = units.set_index("unit")[["concept"]].loc[tuned.unit.tolist()].reset_index()
    table = table.join(by_activation(agreement, tuned.unit.tolist(), parts))
    table = table.join(by_cause(tuned.average.effect[:, index, area], null.effect[:, :, index, area], parts))
    arrived = faithfulness(tuned, null)[["own", "reached"]]
    planting = ctx.classifier.planting if isinstance(ctx.classifier, Detectors) else None
    kinds, targets = (planting.kind, planting.target) if planting else (("",) * len(units),) * 2
    table = scored(table.join(arrived), kinds, targets, parts)
    draft.table("bridge", table)
    draft.table("shares", shares_table(table, config.shuffles, rng))
    facts: dict[str, Any] = {"layer": layer, "along": ctx.config.tuning.along, "parts": parts, "left_out": left_out}
    facts |= {"directions": null.effect.shape[1] // MIRRORED, "units": len(units), "planted": planting is not None}
    draft.json("facts", facts)


def _of_layer(table: pd.DataFrame, layer: str) -> pd.DataFrame:
    return pd.DataFrame(table[table["layer"] == layer])


def common_parts(agreement: pd.DataFrame, tuned: Tuned) -> tuple[list[str], list[str]]:
    """Labels that dissection and tuning can name, and those that one of them cannot.

    Args:
        agreement: table "agreement" of the dissection, of one layer.
        tuned: the units.

    Raises:
        ValueError: there are fewer than two of the former.
    """
    present = set(agreement[(agreement["kind"] == "part") & np.isfinite(agreement["iou"])]["concept"])
    parts = [label for label in tuned.interpreted_labels if label in present]
    if len(parts) < 2:
        raise ValueError(
            f"dissection meets the parts {', '.join(sorted(present)) or 'none'}, tuning interprets "
            f"{', '.join(tuned.interpreted_labels) or 'none'}: expected two or more in both; give classes.labels that "
            "are large enough in the images"
        )
    return parts, [label for label in tuned.labels if label not in parts]


def by_activation(agreement: pd.DataFrame, units: list[int], parts: list[str]) -> pd.DataFrame:
    """The part that each unit agrees with most.

    Args:
        agreement: table "agreement" of the dissection, of one layer.
        units: numbers of the U units.
        parts: that may name them.

    Returns:
        by_activation, iou, q_activation, named_activation: a row per unit; q of p times the number of parts, at most 1
        (Bonferroni), over the units.
    """
    candidates = agreement[agreement["concept"].isin(parts) & (agreement["images_met"] >= MIN_IMAGES)]
    iou, p = (
        candidates.pivot(index="unit", columns="concept", values=name).reindex(index=units, columns=parts).to_numpy()
        for name in ("iou", "p")
    )
    best, rows = np.nan_to_num(iou, nan=-1.0).argmax(1), np.arange(len(units))
    known = np.isfinite(iou[rows, best])
    q = benjamini_hochberg(np.minimum(1.0, len(parts) * p[rows, best]))
    columns = {"by_activation": np.where(known, np.array(parts)[best], ""), "iou": iou[rows, best]}
    return pd.DataFrame(columns | {"q_activation": q, "named_activation": q <= SIGNIFICANT})


def by_cause(effect: Tensor, control: Tensor, parts: list[str]) -> pd.DataFrame:
    """The part whose area changes most along each unit, as `largest_change` counts it.

    Args:
        effect: mean log₂ ratio of the area of each part, `[U, parts]`.
        control: the same along random directions and their opposites, `[U, 2 D, parts]`.
        parts: names.

    Returns:
        by_cause, change, ratio, q_cause: a row per unit; q over the units.
    """
    best, ratio, p = largest_change(effect, control)
    change = effect.gather(1, best[:, None])[:, 0].numpy()
    columns = {"by_cause": np.where(np.isfinite(change), np.array(parts)[best.numpy()], ""), "change": change}
    return pd.DataFrame(columns | {"ratio": ratio.numpy(), "q_cause": benjamini_hochberg(p.numpy())})


def largest_change(effect: Tensor, control: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The part of the largest change over that of random directions, tested as the largest of all parts.

    p says how often the largest standardised change of a direction is at least the unit's: single-step maxT (Westfall
    & Young 1993), by `lis.statistics.control_test`. All are divided by the root mean square over the 2 D and the unit
    itself, so that under the null the unit is one of them.

    Args:
        effect: of U units, `[U, K]`; NaN where a part has no change.
        control: of D random directions and their opposites, `[U, 2 D, K]`.

    Returns:
        Index of the part, `[U]` int64; |effect| over the root mean square of random directions alone, `[U]`; p `[U]`
        float64; the last two NaN where no part has a change.

    Example:
        >>> effect, control = torch.tensor([[1.0, 3.0]]), torch.tensor([[[2.0, 1.0], [-2.0, -1.0]]])
        >>> [each.tolist() for each in largest_change(effect, control)]
        [[1], [3.0], [0.5]]
    """
    everything = torch.cat([effect[:, None], control], 1).double()
    scale = everything.square().nanmean(1, keepdim=True).sqrt()
    sizes = (everything.abs() / scale).nan_to_num(0.0)
    known = ~effect.isnan()
    best = sizes[:, 0].where(known, -1.0).argmax(1)
    largest = sizes.amax(2)
    p = control_test(largest[:, 0], largest[:, 1:], MIRRORED).p.where(known.any(1), torch.nan)
    ratio = effect.abs().double() / control.double().square().nanmean(1).sqrt()
    return best, ratio.gather(1, best[:, None])[:, 0], p


def scored(table: pd.DataFrame, kinds: tuple[str, ...], targets: tuple[str, ...], parts: list[str]) -> pd.DataFrame:
    """The table "bridge": with what is called by cause, what agrees, and what is right.

    Args:
        table: the columns of `by_activation` and `by_cause`, unit, own and reached.
        kinds: of all units of r, by number: what is planted there; empty: not known.
        targets: its part or class.
        parts: that both can name.
    """
    unit = table["unit"].tolist()
    table["named_cause"] = (table["q_cause"] <= SIGNIFICANT) & (table["own"] > 0)
    table["agree"] = (table["by_activation"] == table["by_cause"]) & (table["by_cause"] != "")
    table["both"] = table["agree"] & table["named_activation"] & table["named_cause"]
    table["kind"], table["target"] = [kinds[u] for u in unit], [targets[u] for u in unit]
    table["scored"] = (table["kind"] == "part") & table["target"].isin(parts)
    for way in WAYS:
        table[f"{way}_right"] = table["scored"] & (table[f"by_{way}"] == table["target"])
    return table


def shares_table(table: pd.DataFrame, shuffles: int, rng: np.random.Generator) -> pd.DataFrame:
    """The table "shares" of `bridge`.

    Args:
        table: table "bridge".
        shuffles: how often the names are shuffled among the units that are counted.
        rng: of the shuffles.
    """
    named = pd.DataFrame(table[(table["by_activation"] != "") & (table["by_cause"] != "")])
    decided = pd.DataFrame(named[named["named_activation"] & named["named_cause"]])
    planted = pd.DataFrame(table[table["scored"]])
    rows = [_matches("agree", "", named, "by_activation", "by_cause", shuffles, rng)]
    rows.append(_matches("both", "", decided, "by_activation", "by_cause", shuffles, rng))
    rows += [_matches(f"{way}_right", "part", planted, f"by_{way}", "target", shuffles, rng) for way in WAYS]
    for kind in dict.fromkeys(["", *sorted(set(table["kind"]))]):
        subset = table if kind == "" else table[table["kind"] == kind]
        counted = (*(f"named_{way}" for way in WAYS), "reached")
        rows += [_share(what, kind, np.asarray(subset[what], bool)) for what in counted]
    return pd.DataFrame([row for row in rows if row["n"]])


def _matches(
    what: str, kind: str, table: pd.DataFrame, first: str, second: str, shuffles: int, rng: np.random.Generator
) -> dict[str, Any]:
    """How many units have the same name in two columns, beside shuffles of the first."""
    names, other = (np.asarray(table[column], str) for column in (first, second))
    row = _share(what, kind, names == other)
    if not len(table):
        return row
    drawn = (rng.permuted(np.tile(names, (shuffles, 1)), axis=1) == other).mean(1)
    low, high = np.quantile(drawn, RANGE)
    return row | {"chance": float(drawn.mean()), "chance_low": float(low), "chance_high": float(high)}


def _share(what: str, kind: str, hits: np.ndarray) -> dict[str, Any]:
    """How many of some units, with Wilson's interval; without a chance."""
    count, n = int(hits.sum()), len(hits)
    low, high = wilson(count, n) if n else (np.nan, np.nan)
    row = {"what": what, "kind": kind, "count": count, "n": n, "share": count / n if n else np.nan}
    return row | {"low": low, "high": high, "chance": np.nan, "chance_low": np.nan, "chance_high": np.nan}
