"""Which true factor moves a unit, all others held, and which one its pictures show (part world)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.config.fields import number
from lis.context import Context
from lis.linking.evaluation import TrueFactors
from lis.linking.link import link
from lis.linking.pairs import train_pairs, tuning_pairs
from lis.stage import MODELS, stage
from lis.statistics import TIED, wilson
from lis.store import Artifact, Draft
from lis.types import Generator
from lis.units.directions import directions, load_directions
from lis.units.ends import Ends
from lis.units.perturbation import Perturbation
from lis.units.traversal import Truth, first
from lis.units.tuned import long_table
from lis.units.tuning import perturbations, tuning
from lis.units.work import intervention_work


@runtime_checkable
class Settable(TrueFactors, Protocol):
    """A generator whose true factors can be set."""

    def of_factors(self, u: Tensor) -> Tensor:
        """Style codes `w [n, w_dim]` of factors `u [n, factors]`: the inverse of `true_factors`."""
        ...


def validate_intervention(generator: Generator) -> Settable:
    """The generator, as one whose true factors can be set.

    Raises:
        ValueError: they cannot.
    """
    if not isinstance(generator, Settable):
        raise ValueError(
            f"{type(generator).__name__} has no `of_factors`: an intervention sets one true factor and holds all "
            "others, which part world alone allows; use gan=partworld, or leave intervention out of analysis.stages"
        )
    return generator


@dataclass
class InterventionConfig:
    """Interventions on the true factors."""

    samples: int = number(20, low=1)
    """Tuned samples per class in which a factor is changed, at most."""


@stage(
    "intervention",
    version=1,
    inputs=(tuning, link, directions, train_pairs, tuning_pairs),
    config=InterventionConfig,
    models=MODELS,
    check=lambda ctx: validate_intervention(ctx.generator),
    work=intervention_work,
)
def intervention(
    ctx: Context,
    config: InterventionConfig,
    tuned: Artifact,
    linked: Artifact,
    asked: Artifact,
    train: Artifact,
    seeds: Artifact,
    draft: Draft,
) -> None:
    """Part world: the true factor that moves each unit most, all others held, beside the one that its pictures show.

    The effect of a factor on a unit is the mean over samples of r̃ with the factor one standard deviation (over the
    training pairs) above the sample's own, less r̃ with it as much below, in standard deviations of the unit. The factor
    that is read from the pictures is the one that moves most between the first and the last of the unit's tuned images.

    Table "effects", a row per live unit and factor: unit, factor, effect, tied (at least 0.8 of the unit's largest).
    Table "units", a row per tuned unit: unit, factor and effect (largest), read and moved (factor that is read, and its
    mean change in standard deviations), exact (both are the same), tied (the one that is read is tied with the
    largest). Table "agreement", a row per way of counting ("exact", "tied"): counted, share, low, high (Wilson, 95 %),
    chance (share if the factors that are read were dealt out to the units at random), n. Json "facts": samples,
    factors.

    Raises:
        ValueError: the factors of the generator cannot be set; as the stages before.
    """
    world, samples = validate_intervention(ctx.generator), first(seeds.tensors("pairs"), config.samples)
    truth, units = known_factors(ctx, train.tensors("pairs")["w"]), linked.table("units")
    made = load_directions(ctx, linked, asked)
    effect = effects(ctx, world, truth, samples["w"]) / made.live_std
    live = np.flatnonzero(units["status"] == "live")
    table = effect_table(live.tolist(), truth.names, effect.T[live])
    draft.table("effects", table)
    chosen = tuned.table("units")
    chosen = pd.DataFrame(chosen[chosen["tuned"]])
    moved = read_factors(ctx, truth, Ends.of(tuned, made, config.samples), perturbations(chosen))
    numbers = np.array(chosen["unit"], int)
    read = unit_table(numbers, truth.names, effect.T[numbers], moved)
    draft.table("units", read)
    draft.table("agreement", agreement(read, table))
    draft.json("facts", {"samples": len(samples["w"]), "factors": list(truth.names)})


def known_factors(ctx: Context, w: Tensor) -> Truth:
    """The true factors, in standard deviations over `w [n, w_dim]`.

    Raises:
        ValueError: the generator knows none.
    """
    validate_intervention(ctx.generator)
    truth = Truth.of(ctx, w)
    assert truth is not None  # one whose factors can be set knows them
    return truth


@torch.inference_mode()
def effects(ctx: Context, world: Settable, truth: Truth, w: Tensor) -> Tensor:
    """What ±1 standard deviation of each factor does to r: `[factors, units]`, a mean over samples `w [n, w_dim]`.

    A factor that does not vary has none.
    """
    u, at_once = truth.factors(w), ctx.batches()
    step = torch.diag(truth.std.where(truth.std.isfinite(), 0))
    result = []
    for change in ctx.progress.track(step, label="interventions (factors)"):
        ends = torch.cat([u + change, u - change])
        high, low = torch.cat(list(at_once.map(lambda some: ctx.encode(world.of_factors(some)), ends))).chunk(2)
        result.append((high - low).double().mean(0))
    return torch.stack(result).float()


@torch.inference_mode()
def read_factors(ctx: Context, truth: Truth, ends: Ends, units: list[Perturbation]) -> Tensor:
    """Mean change of every factor from the first to the last image of each unit, in its standard deviations.

    Args:
        ctx: the run.
        truth: the factors.
        ends: first and last w of the units in the samples.
        units: the P units.

    Returns:
        `[P, factors]`.
    """
    tracked = ctx.progress.track(units, label="true factors of tuned units")
    return torch.stack([truth.moved(ends(unit)).mean(0) for unit in tracked])


def effect_table(units: Sequence[int], names: tuple[str, ...], effect: Tensor) -> pd.DataFrame:
    """The table "effects" of units with `effect [n, factors]`."""
    columns = {"effect": effect, "tied": tied(effect)}
    return long_table({"unit": units, "factor": names}, columns)


def tied(effect: Tensor) -> Tensor:
    """Which of `effect [n, factors]` are at least `TIED` of the row's largest, in size: `[n, factors]` bool.

    None of a row without effects.

    Example:
        >>> tied(torch.tensor([[1.0, -0.9, 0.5], [0.0, 0.0, 0.0]])).tolist()
        [[True, True, False], [False, False, False]]
    """
    size = effect.abs().nan_to_num(0.0)
    largest = size.amax(-1, keepdim=True)
    return (size >= TIED * largest) & (largest > 0)


def unit_table(units: np.ndarray, names: tuple[str, ...], effect: Tensor, moved: Tensor) -> pd.DataFrame:
    """The table "units" of `intervention`.

    Args:
        units: numbers `[n]`.
        names: of the factors.
        effect: what the factors do to the units, `[n, factors]`.
        moved: what the units' pictures do to the factors, `[n, factors]`.
    """
    by_effect, by_picture = effect.abs().argmax(1, keepdim=True), moved.abs().argmax(1, keepdim=True)
    factor = np.asarray(names)
    return pd.DataFrame(
        {
            "unit": units,
            "factor": factor[by_effect[:, 0]],
            "effect": effect.gather(1, by_effect)[:, 0],
            "read": factor[by_picture[:, 0]],
            "moved": moved.gather(1, by_picture)[:, 0],
            "exact": (by_effect == by_picture)[:, 0],
            "tied": tied(effect).gather(1, by_picture)[:, 0],
        }
    )


def agreement(units: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame:
    """The table "agreement" of `intervention`, from its tables "units" and "effects"."""
    shares = {str(name): np.mean(np.asarray(units["read"]) == name) for name in set(effects["factor"])}
    known = np.isin(effects["unit"], units["unit"]) & np.asarray(effects["tied"])
    chance = {"exact": units["factor"], "tied": np.asarray(effects["factor"])[known]}
    rows = []
    for way, counted in chance.items():
        hits, n = int(np.sum(units[way])), len(units)
        expected = sum(shares[str(name)] for name in counted) / n
        rows.append((way, hits / n, *wilson(hits, n), expected, n))
    return pd.DataFrame(rows, columns=["counted", "share", "low", "high", "chance", "n"])
