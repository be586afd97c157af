"""Are planted detectors named right, unplanted channels left at chance, and planted critical units the most important?

    python experiments/bau_detectors/measure.py OUT.json --sets dogs fungi birds --noise 0.1 0.25 0.5 1 --seeds 0 1 2

The functions of `lis.dissection` on the channels of `classifier=detectors`, in the order of the stages: thresholds of
one half of the images, scores of the other, importance of the first. The seed is that of the channels and of the
images. What channels answer to without noise is computed once for each set and seed.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from lis.classifiers.detectors import MAP, DetectorNetwork, Detectors, detectors
from lis.dissection.ablation import importance_order, unit_class_importance
from lis.dissection.agreement import MIN_IMAGES, AgreementCounts, label_units
from lis.dissection.concepts import concept_set
from lis.dissection.permutation import permutation_test
from lis.dissection.quantiles import unit_quantiles
from lis.generators.partworld import PartWorld
from lis.generators.partworld.world import SETS
from lis.labels.labelled import exact_masks
from lis.statistics import SIGNIFICANT, q_values, wilson
from lis.streams import Stream

SAMPLES, LEVEL = 40, 0.99


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", nargs="+", default=["dogs"])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.1, 0.25, 0.5, 1.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=SAMPLES, help="per class, of each half")
    parser.add_argument("--level", type=float, default=LEVEL, help="quantile that is each channel's threshold")
    options = parser.parse_args()
    cells = json.loads(options.out.read_text()) if options.out.exists() else {}
    for seed, figures in product(options.seeds, options.sets):
        generator = PartWorld(tuple(SETS[figures].classes))
        halves = [Half.of(generator, stream, seed, options.samples) for stream in ("train pairs", "test pairs")]
        for noise in options.noise:
            cells[f"{figures} | {noise:g} | {seed}"] = measure(generator, halves, noise, seed, options.level)
            options.out.write_text(json.dumps(cells, indent=1) + "\n")
    print(table(cells))


@dataclass(frozen=True)
class Half:
    """Images of every class, and what they hold."""

    image: Tensor
    evidence: Tensor
    parts: Tensor
    factors: Tensor
    """`[n, factors]`, true ones."""
    class_index: Tensor

    @classmethod
    def of(cls, generator: PartWorld, stream: str, seed: int, samples: int) -> Half:
        """The first samples of a stream."""
        classes = range(generator.num_classes)
        w = torch.cat([generator.sample(c, torch.arange(samples), Stream(stream, seed)) for c in classes])
        network = cast(DetectorNetwork, detectors(generator, per_part=1, unplanted=0).network)
        columns = [(x := generator.synthesize(some), network.evidence(x)) for some in w.split(50)]
        image, evidence = (torch.cat(column) for column in zip(*columns, strict=True))
        parts = exact_masks(generator, w, generator.labels, generator.resolution).long()
        y = torch.tensor([*classes]).repeat_interleave(samples)
        return cls(image, evidence, parts, generator.true_factors(w), y)

    def maps(self, network: DetectorNetwork) -> Tensor:
        """`[n, channels, 32, 32]`."""
        rows = torch.arange(len(self.image)).split(50)
        return torch.cat([network.maps(self.evidence[some], self.image[some]) for some in rows])


def measure(generator: PartWorld, halves: list[Half], noise: float, seed: int, level: float) -> dict[str, Any]:
    """Counts `[right, of]` of one cell, what is named wrong and how, and the accuracy of the classifier."""
    classifier, (fit, score) = detectors(generator, noise=noise, seed=seed), halves
    network = cast(DetectorNetwork, classifier.network)
    maps = [half.maps(network) for half in halves]
    concepts = concept_set(generator.labels, generator.factor_names)
    masks = concepts.masks(score.image, score.parts, MAP, score.factors > fit.factors.median(0).values)
    thresholds = unit_quantiles(maps[0], level)
    counts = AgreementCounts(thresholds, len(concepts.names))
    counts.add(maps[1], masks)
    ignored = [concepts.names.index("background")]
    labels = label_units(counts.iou, images_met=counts.images_met, min_images=MIN_IMAGES, ignore=ignored)
    test = permutation_test(maps[1], thresholds, masks, score.class_index, seed=seed, ignore=ignored)
    q = q_values(labels.of_best(test.p_label))[0].numpy()
    stands_out = label_units(test.excess, images_met=counts.images_met, min_images=MIN_IMAGES, ignore=ignored)
    above = q_values(stands_out.of_best(test.p_label))[0].numpy() <= SIGNIFICANT
    detector, label_above = labels.detector.numpy(), q <= SIGNIFICANT
    kind, target = (np.array(each) for each in (classifier.planting.kind, classifier.planting.target))
    concept = labels.names(concepts.names)
    correlated = label_units(counts.pearson, images_met=counts.images_met, min_images=MIN_IMAGES, ignore=ignored)
    by = {"named by Pearson's r": correlated, "named by excess over chance": stands_out}
    by = {name: each.names(concepts.names) for name, each in by.items()}
    part, unplanted = kind == "part", kind == "unplanted"
    others = np.random.default_rng(0).permutation(target[part])
    among_parts = np.array(generator.labels)[counts.iou[:, : len(generator.labels)].argmax(1).numpy()]
    wrong = wrongly(target[part], concept[part])
    return {
        "named": counted(concept[part] == target[part]),
        "named among parts": counted(among_parts[part] == target[part]),
        "named at chance": counted(concept[part] == others),
        **{name: counted(each[part] == target[part]) for name, each in by.items()},
        "detectors": counted((detector & label_above)[part]),
        "planted above": counted(above[part]),
        "unplanted below": counted(~label_above[unplanted]),
        "unplanted, none above": counted(~above[unplanted]),
        "unplanted IoU below 0.04": counted(~detector[unplanted]),
        "wrong": dict(wrong),
        **{f"wrong, {name}": dict(wrongly(target[part], each[part])) for name, each in by.items()},
        **importance(classifier, maps[0].mean((2, 3)), fit.class_index),
    }


def wrongly(target: np.ndarray, named: np.ndarray) -> Counter[str]:
    """What is named wrong, and how."""
    return Counter(f"{a} → {b}" for a, b in zip(target, named, strict=True) if a != b)


def importance(classifier: Detectors, r: Tensor, y: Tensor) -> dict[str, list[int] | float]:
    """Classes whose planted unit is the most important, and the accuracy without any ablation."""
    ablated = unit_class_importance(lambda r, _: classifier.head(r), r, y, torch.zeros(r.shape[1]))
    first = importance_order(ablated)[:, 0].tolist()
    names = classifier.class_names
    right = [unit == classifier.planting.critical(name) for unit, name in zip(first, names, strict=True)]
    return {
        "critical": counted(np.array(right)),
        "accuracy": float((classifier.head(r).argmax(1) == y).double().mean()),
    }


def counted(right: np.ndarray) -> list[int]:
    """How many, and of how many."""
    return [int(right.sum()), len(right)]


def table(cells: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row per cell, then per set and noise over all seeds; 95 % Wilson intervals of the shares."""
    names = ["named", "named by Pearson's r", "named by excess over chance", "named among parts", "named at chance"]
    names += ["detectors", "planted above", "unplanted below", "unplanted, none above", "critical"]
    lines = ["| set, noise, seed | " + " | ".join([*names, "accuracy"]) + " |", "|---" * (len(names) + 2) + "|"]
    rows = {name: [cell] for name, cell in cells.items()}
    for name, cell in cells.items():
        rows.setdefault(f"{name.rpartition(' | ')[0]} | all", []).append(cell)
    for name, several in rows.items():
        shares = [share([cell[each] for cell in several]) for each in names]
        accuracy = np.mean([cell["accuracy"] for cell in several])
        lines.append(f"| {name.replace(' | ', ', ')} | " + " | ".join([*shares, f"{accuracy:.2f}"]) + " |")
    return "\n".join(lines)


def share(counts: list) -> str:
    """Of all together, with its interval."""
    right, of = (sum(column) for column in zip(*counts, strict=True))
    low, high = wilson(right, of)
    return f"{right}/{of} = {right / of:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    main()
