"""Are planted detectors named right, unplanted channels left at chance, and planted critical units the most important?

    python experiments/bau_detectors/measure.py OUT.json --sets dogs --noise 0.1 0.25 0.5 1 --seeds 0 1 2 [settings]

Every cell is a run of the stage `dissect` and of `lis.dissection.ablation` with `classifier=detectors` of that noise;
the seed is that of the channels and of the images. OUT.json is written after each cell; cells in it are not repeated.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path

import numpy as np
import torch

import lis
from lis.classifiers.detectors import Detectors
from lis.context import Context
from lis.dissection.ablation import importance_order, unit_class_importance
from lis.dissection.dissect import dissect
from lis.linking.pairs import pairs
from lis.statistics import wilson

SAMPLES, PERMUTED = 50, 200


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", nargs="+", default=["dogs"])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.1, 0.25, 0.5, 1.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=SAMPLES, help="per class, for thresholds and for scores")
    parser.add_argument("settings", nargs="*", help="as for python -m lis.run")
    options = parser.parse_intermixed_args()
    cells = json.loads(options.out.read_text()) if options.out.exists() else {}
    for seed, figures, noise in product(options.seeds, options.sets, options.noise):
        name = f"{figures} | {noise:g} | {seed}"
        if name not in cells:
            cells[name] = measure(figures, noise, seed, options.samples, options.settings)
            options.out.write_text(json.dumps(cells, indent=1) + "\n")
    print(table(cells))


def measure(figures: str, noise: float, seed: int, samples: int, settings: list[str]) -> dict[str, list[int] | float]:
    """Counts `[right, of]` of one cell, and the accuracy of the classifier."""
    ctx = lis.study(
        "analysis=dissect",
        f"classes={figures}",
        "classifier=detectors",
        f"classifier.noise={noise}",
        f"classifier.seed={seed}",
        f"seed={seed}",
        "pairs.accept=any",
        f"pairs.train={samples}",
        f"pairs.test={samples}",
        f"dissect.samples={samples}",
        f"dissect.permuted={PERMUTED}",
        *settings,
    ).context
    assert isinstance(ctx.classifier, Detectors)
    kind, target = (np.array(each) for each in (ctx.classifier.planting.kind, ctx.classifier.planting.target))
    units = dissect(ctx).table("units")
    concept, above, detector = (units[name].to_numpy() for name in ("concept", "above_chance", "detector"))
    part, unplanted = kind == "part", kind == "unplanted"
    others = np.random.default_rng(0).permutation(target[part])
    return {
        "named": counted(concept[part] == target[part]),
        "detectors": counted((detector & above)[part]),
        "named at chance": counted(concept[part] == others),
        "unplanted below": counted(~above[unplanted].astype(bool)),
        "unplanted IoU below 0.04": counted(~detector[unplanted].astype(bool)),
        **importance(ctx, ctx.classifier),
    }


def importance(ctx: Context, classifier: Detectors) -> dict[str, list[int] | float]:
    """Classes whose planted unit is the most important, and the accuracy without any ablation."""
    train = pairs(ctx, "train").tensors("pairs")
    r, y = train["r"], train["class_index"]
    columns = [classifier.class_names.index(name) for name in ctx.class_names]
    ablated = unit_class_importance(lambda r, _: classifier.head(r)[:, columns], r, y, torch.zeros(r.shape[1]))
    first = importance_order(ablated)[:, 0].tolist()
    right = [unit == classifier.planting.critical(name) for unit, name in zip(first, ctx.class_names, strict=True)]
    accuracy = (classifier.head(r)[:, columns].argmax(1) == y).double().mean()
    return {"critical": counted(np.array(right)), "accuracy": float(accuracy)}


def counted(right: np.ndarray) -> list[int]:
    """How many, and of how many."""
    return [int(right.sum()), len(right)]


def table(cells: dict[str, dict[str, list[int] | float]]) -> str:
    """Markdown: a row per cell, then per noise over all seeds and sets; 95 % Wilson intervals of the shares."""
    names = ["named", "named at chance", "detectors", "unplanted below", "unplanted IoU below 0.04", "critical"]
    lines = ["| set, noise, seed | " + " | ".join([*names, "accuracy"]) + " |", "|---" * (len(names) + 2) + "|"]
    rows = {name: {each: [cell] for each in names} for name, cell in cells.items()}
    by_noise = dict.fromkeys(name.split(" | ")[1] for name in cells)
    for noise in by_noise:
        rows[f"all, {noise}"] = {each: [c for n, c in cells.items() if n.split(" | ")[1] == noise] for each in names}
    for name, columns in rows.items():
        shares = [share([cell[each] for cell in column]) for each, column in columns.items()]
        accuracy = np.mean([cell["accuracy"] for cell in columns["named"]])
        lines.append(f"| {name.replace(' | ', ', ')} | " + " | ".join([*shares, f"{accuracy:.2f}"]) + " |")
    return "\n".join(lines)


def share(counts: list) -> str:
    """Of all together, with its interval."""
    right, of = (sum(column) for column in zip(*counts, strict=True))
    low, high = wilson(right, of)
    return f"{right}/{of} = {right / of:.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    main()
