"""What arrives of a unit along every way of moving it, and whether that is what the unit responds to.

    python experiments/directions/measure.py OUT.json classes=dogs classifier=partnet [more settings, as for lis.run]

Of some live units on some test samples, tuned by ±1 standard deviation and from minimum to maximum: own, others, more,
‖Δw‖ and how often w is stopped, with 95 % intervals over units. Where the true factors are known, over all live units:
how often the factor that Δw moves most is the one whose own ±1 standard deviation moves the unit most.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import lis
from lis.linking.link import link
from lis.linking.pairs import pairs
from lis.look import Looker
from lis.statistics import TIED, wilson
from lis.units.arrival import Arrival
from lis.units.closed import PENALTY, Closed
from lis.units.directions import Directions, around, directions, load_directions
from lis.units.intervention import effects, validate_intervention
from lis.units.perturbation import Perturbation
from lis.units.traversal import Truth
from lis.units.unit import of_unit

WAYS = {
    "link": {"along": "link"},
    "pattern": {"along": "pattern"},
    "faithful, λ 1e-3": {"along": "faithful", "penalty": 1e-3},
    "faithful, λ 0.01": {"along": "faithful", "penalty": 0.01},
    "faithful, λ 0.1": {"along": "faithful", "penalty": 0.1},
    "faithful, λ 1": {"along": "faithful", "penalty": 1.0},
    "faithful, λ 10": {"along": "faithful", "penalty": 10.0},
    "closed": {"along": "closed", "penalty": PENALTY},
}
RESAMPLES = 2000


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("settings", nargs="*", help="as for python -m lis.run")
    parser.add_argument("--units", type=int, default=40)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--truth", type=int, default=40, help="samples whose true factors are moved, of part world")
    parser.add_argument("--others", action="store_true", help="other units and samples than those of the first draw")
    parser.add_argument("--gan", help="class of a generator of one's own, as fashion.FashionGenerator")
    parser.add_argument("--classifier", help="class of a classifier of one's own")
    quick = [name for name in WAYS if name != "closed"]
    parser.add_argument("--ways", nargs="*", default=quick, help="some of " + ", ".join(WAYS) + " (which takes hours)")
    options = parser.parse_intermixed_args()
    own = {"gan": options.gan, "classifier": options.classifier}
    models = {kind: made(target) for kind, target in own.items() if target}
    turn = int(options.others)
    result = measure(options.settings, models, options.ways, options.units, options.samples, turn, options.truth)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print_table(result)


def made(target: str):
    """A model of one's own, of the class `module.Class`."""
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)()


def measure(
    settings: list[str], models: dict, ways: list[str], units: int, samples: int, turn: int = 0, truths: int = 40
) -> dict:
    """All cells of one generator, classifier and class set; of each `turn` the units and samples are others."""
    ctx = lis.study(*settings, **models).context
    linked, made = link(ctx), load_directions(ctx, link(ctx), directions(ctx))
    table, model = linked.table("units"), made.model
    test = pairs(ctx, "test").tensors("pairs")
    draw = torch.Generator().manual_seed(0)
    live = model.live.nonzero()[:, 0]
    chosen = live[torch.randperm(len(live), generator=draw)[turn * units :][:units]].tolist()
    r = test["r"][torch.randperm(len(test["r"]), generator=draw)[turn * samples :][:samples]]
    ranges = {u: of_unit(table, u)[0] for u in chosen}
    asked = {"±1 sd": {u: around(u, float(model.std[u])) for u in chosen}, "min → max": ranges}
    moved, truth = intervention(ctx, test["w"], truths)
    cells, right = {}, {}
    for name in ways:
        way = replace(made, **WAYS[name])
        if way.along == "closed":
            way = replace(way, closed=Closed.of(ctx, model, way.penalty))
        codes = {}
        for question, moves in asked.items():
            each = ctx.progress.track(moves.items(), len(moves), name)
            codes[question] = {unit: way.moved(r, move, move.values(2)) for unit, move in each}
            cells[f"{name} | {question}"] = cell(ctx, way, codes[question], moves)
            print(name, question, cells[f"{name} | {question}"], file=sys.stderr, flush=True)
        if truth:
            units_w = codes["±1 sd"] if way.along == "closed" else all_units(way, r)
            right[name] = responds(units_w, truth, moved)
            print(name, right[name], file=sys.stderr, flush=True)
    told = made.forward is not None and {
        "r2": float(np.nanmean(directions(ctx).table("units")["r2"].to_numpy(float))),
        "rank": model.axes.shape[1],
        "live": len(live),
        "units": len(chosen),
        "samples": len(r),
    }
    return {"settings": settings, "model": told, "cells": cells, "right": right}


@torch.inference_mode()
def cell(ctx, way: Directions, codes: dict[int, Tensor], moves: dict[int, Perturbation]) -> dict[str, list[float]]:
    """Means over units, each of its samples' mean, with their 95 % bootstrap intervals; of w `[samples, 2, w_dim]`."""
    std, looker = way.model.std.where(way.model.live, torch.inf), Looker(ctx, ctx.tuned_batches())
    rows = []
    for unit, asked in moves.items():
        w = codes[unit]
        encoded = looker(w).r
        arrival = Arrival.of(asked, encoded[:, 0], encoded[:, -1], std.to(encoded), float(std[unit]))
        numbers = [getattr(arrival, name).mean() for name in ("reencoded_share", "own", "others", "more")]
        rows.append(
            [
                *map(float, numbers),
                float((w[:, 1] - w[:, 0]).norm(dim=1).mean()),
                float(way.beyond(w[:, 1]).float().mean()),
            ]
        )
    values = np.array(rows)
    names = ("share", "own", "others", "more", "step_norm", "beyond")
    draws = values[np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))].mean(1)
    result = {name: interval(values[:, k].mean(), draws[:, k]) for k, name in enumerate(names)}
    own, others = names.index("own"), names.index("others")
    result["others_per_own"] = interval(
        values[:, others].mean() / values[:, own].mean(), draws[:, others] / draws[:, own]
    )
    return result


def interval(mean: float, draws: np.ndarray) -> list[float]:
    """The mean with its 95 % interval."""
    return [float(mean), *map(float, np.quantile(draws, [0.025, 0.975]))]


def intervention(ctx, w: Tensor, samples: int) -> tuple[Tensor, Truth | None]:
    """What ±1 standard deviation of each true factor does to each unit, `[factors, units]` in activations."""
    truth = Truth.of(ctx, w)
    if truth is None:
        return torch.empty(0), None
    some = w[torch.randperm(len(w), generator=torch.Generator().manual_seed(1))[:samples]]
    return effects(ctx, validate_intervention(ctx.generator), truth, some), truth


def all_units(way: Directions, r: Tensor) -> dict[int, Tensor]:
    """w of every live unit by ±1 standard deviation, `[samples, 2, w_dim]`."""
    moves = {unit: around(unit, float(way.model.std[unit])) for unit in way.model.live.nonzero()[:, 0].tolist()}
    return {unit: way.moved(r, asked, asked.values(2)) for unit, asked in moves.items()}


def responds(codes: dict[int, Tensor], truth: Truth, effect: Tensor) -> dict:
    """Whether the factor that Δw moves most is the one that moves the unit most; of w `[samples, 2, w_dim]` by unit."""
    exact = tied = 0
    for unit, w in codes.items():
        moved = truth.moved(w).mean(0).abs()
        size = effect[:, unit].abs()
        named = int(moved.argmax())
        exact += named == int(size.argmax())
        tied += bool(size[named] >= TIED * size.max())
    n = len(codes)
    return {name: [k / n, *wilson(k, n)] for name, k in (("exact", exact), ("tied", tied))} | {"n": n}


def print_table(result: dict) -> None:
    """Markdown."""
    print(f"{' '.join(result['settings'])}: {result['model']}\n")
    print("| way | asked | own (sd) | own / asked | others / own | more | ‖Δw‖ | stopped | factor exact | with ties |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for key, numbers in result["cells"].items():
        name, question = key.split(" | ")
        columns = [name, question, told(numbers["own"], "{:.2f}"), f"{numbers['share'][0]:.2f}"]
        columns += [told(numbers["others_per_own"], "{:.2f}"), told(numbers["more"], "{:.1%}")]
        columns += [f"{numbers['step_norm'][0]:.1f}", f"{numbers['beyond'][0]:.0%}"]
        right = result["right"].get(name) if question == "±1 sd" else None
        columns += [told(right[what], "{:.0%}") if right else "" for what in ("exact", "tied")]
        print("| " + " | ".join(columns) + " |")


def told(values: list[float], form: str) -> str:
    """A mean and its interval."""
    mean, low, high = (form.format(value) for value in values)
    return f"{mean} ({low}–{high})"


if __name__ == "__main__":
    main()
