"""Whether the null of random directions holds: others, tuned as units are, must be called by chance alone.

    python experiments/controls/measure.py [--along pattern] [--directions 64] [--held-out 160] [key=value …]

Twice as many directions as asked for are tuned as controls (trajectories), and others as units are: w of every sample
is asked to go as far as for a unit that is drawn at random, and where it really went they are held against the
controls. Each time so many of the controls and half of the others are drawn, and q is computed as for units. Prints how
far controls go beside them, and how heavy the tails of the null are; a table of how often any is called; how often p is
below a bound, over what it should be; and Kolmogorov and Smirnov's p for every label and measure. Further settings as
on the command line. Then, with --heads: how much of the size of a head new samples show, over random halves of the
samples.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import kstwo
from torch import Tensor

import lis
from lis.context import Context
from lis.linking.link import link
from lis.look import Looker
from lis.quantify.change import change
from lis.quantify.measures import MEASURES
from lis.segmentation.segmenter import Masks, load_segmenter, segmenter
from lis.statistics import RESAMPLES, SIGNIFICANT, control_test, p_control, q_values
from lis.units.controls import MIRRORED, Controls, Null, control_directions, signed_distance
from lis.units.directions import Directions, directions, load_directions
from lis.units.perturbation import Perturbation
from lis.units.ranking import halves, top
from lis.units.tuned import Tuned, average
from lis.units.tuning import perturbations, tuning
from lis.units.unit_statistics import selectivity

BOUNDS = (0.5, 0.2, 0.1, 0.05, 0.01, 0.001)


@dataclass(frozen=True)
class HeldOut:
    """What H directions do that are tuned as units are, and the null where their w went."""

    effect: Tensor
    """`[H, K, M]`."""
    answer: Tensor
    """`[H, C]`."""
    own: Tensor
    """Change of the unit whose steps each has, in its standard deviations, `[H]`."""
    null: Null
    labels: tuple[str, ...]

    @property
    def all(self) -> tuple[Tensor, Tensor]:
        """Indices of all of them, and of all directions."""
        return torch.arange(len(self.own)), torch.arange(self.null.own.shape[1] // MIRRORED)

    def families(self, some: Tensor, directions: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Some of them `[h]` and some of the directions beside these, by what is called."""

        def beside(values: Tensor) -> Tensor:
            return values.unflatten(1, (-1, MIRRORED))[some][:, directions].flatten(1, 2)

        effect, random = self.effect[some], beside(self.null.effect)
        return {
            "larger": (effect, random),
            "relevant": (self.answer[some], beside(self.null.answer)),
            "selective": (selectivity(effect), selectivity(random)),
            "reached": (self.own[some], beside(self.null.own)),
        }


def held_out(ctx: Context, count: int, known: int) -> HeldOut:
    """`count` directions after the first `known` ones, which are the controls."""
    artifact, linked, parts = tuning(ctx), link(ctx), segmenter(ctx)
    tuned, made = Tuned.of(artifact), load_directions(ctx, linked, directions(ctx))
    std, segments = made.live_std, load_segmenter(ctx, parts)
    looker, r = Looker.tuned(ctx, Masks(segments), segments.labels), artifact.tensors("seeds")["r"]
    drawn = torch.from_numpy(np.random.default_rng(1).integers(len(tuned.unit), size=count))
    units = perturbations(artifact.table("units").set_index("unit", drop=False).loc[tuned.unit[drawn].tolist()])
    effects, answers, own, went = [], [], [], []
    others = control_directions(std.where(std.isfinite(), 0.0), known + count, ctx.config.seed)[known:]
    for k, direction in enumerate(ctx.progress.track(others, label="held-out directions")):
        w, unit = moved(made, direction, units[k], r), units[k].unit
        went.append(signed_distance(w, made.link(r)))
        look = looker(w)
        effects.append(average(change(look.measures[:, 0], look.measures[:, 1])[None]).effect[0])
        p = look.probability.gather(2, tuned.class_index[:, None, None].expand(-1, 2, 1))[..., 0].diff(dim=1)[:, 0]
        answers.append(torch.stack([p[rows].mean() for rows in tuned.rows]))
        own.append((look.r[:, 1, unit] - look.r[:, 0, unit]).mean() / std[unit])
    null = Controls.of(artifact, np.random.default_rng(2)).null(tuned.unit[drawn], torch.stack(went))
    index = tuned.interpreted_index
    null = replace(null, effect=null.effect[:, :, index])
    labels = tuple(tuned.interpreted_labels)
    return HeldOut(torch.stack(effects)[:, index], torch.stack(answers), torch.stack(own), null, labels)


@torch.inference_mode()
def moved(made: Directions, direction: Perturbation, unit: Perturbation, r: Tensor) -> Tensor:
    """w `[S, 2, w_dim]` of samples that are asked to go as far along a direction as they are for a unit."""
    delta, of_unit = made.delta(direction), made.delta(unit)
    if delta is None or of_unit is None:
        raise ValueError("w moves otherwise from sample to sample: expected a linear link; use link=lr")
    asked = unit.shift(r, unit.values(2)) * float(of_unit.norm() / delta.norm())
    return made.moved(r, direction, asked)


def resampled(held: HeldOut, count: int, resamples: int) -> None:
    """How often any is called, and how often p is below a bound."""
    rng, known = np.random.default_rng(0), held.null.own.shape[1] // MIRRORED
    called: dict[str, list[bool]] = {}
    found: dict[str, list[Tensor]] = {}
    tails: dict[str, list[dict[str, float]]] = {}
    for _ in range(resamples):
        some = torch.from_numpy(rng.permutation(len(held.own))[: len(held.own) // 2])
        for name, family in held.families(some, torch.from_numpy(rng.permutation(known)[:count])).items():
            test = control_test(*family, MIRRORED)
            p = test.p
            called.setdefault(name, []).append(bool((q_values(p)[0] <= SIGNIFICANT).any()))
            found.setdefault(name, []).append(p.flatten())
            tails.setdefault(name, []).append(test.facts)
    null = held.null
    print(f"length of controls over that of held-out directions: {float(null.length_ratio.mean()):.3f}")
    by_class = " ".join(f"{float(ratio):.3f}" for ratio in null.class_ratio.mean(0))
    print(f"the same by class: {by_class}; stopped before an end: {float(null.clipped.mean()):.1%}")
    for name, values in tails.items():
        variation, counted = (np.mean([value[key] for value in values]) for key in ("variation", "counted"))
        print(f"cv² of the tail of {name}: {variation:.2f}; p only counted in {counted:.0%} of columns")
    print(f"| called, {count} directions | any q ≤ 0.05 | {' | '.join(f'p ≤ {bound:g}' for bound in BOUNDS)} |")
    print("|" + "---|" * (2 + len(BOUNDS)))
    for name, values in found.items():
        p = torch.cat(values)
        p = p[~p.isnan()]
        shares = " | ".join(f"{float((p <= bound).double().mean()) / bound:.2f}" for bound in BOUNDS)
        print(f"| {name} | {np.mean(called[name]):.1%} | {shares} |")


def uniform(held: HeldOut) -> None:
    """Kolmogorov and Smirnov's p of every column of each family, with the size of two samples: the null is one too."""
    known = held.null.own.shape[1] // MIRRORED
    p = {name: p_control(*family, MIRRORED).numpy() for name, family in held.families(*held.all).items()}
    print(f"\n| KS p, {known} directions | {' | '.join(MEASURES)} |\n|" + "---|" * (1 + len(MEASURES)))
    for k, label in enumerate(held.labels):
        row = (f"{_ks(p['larger'][:, k, m], known):.2f}" for m in range(len(MEASURES)))
        print(f"| {label} | {' | '.join(row)} |")
    for name in ("relevant", "selective", "reached"):
        columns = p[name].reshape(len(p[name]), -1).T
        print(f"KS p of {name}: {' '.join(f'{_ks(column, known):.2f}' for column in columns)}")


def _ks(p: np.ndarray, known: int) -> float:
    p = np.sort(p[~np.isnan(p)])
    n, rank = len(p), np.arange(1, len(p) + 1) / len(p)
    return float(kstwo.sf(max((rank - p).max(), (p - rank + 1 / len(p)).max()), n * known // (n + known)))


def heads(ctx: Context, most: int = 10, repeats: int = 100) -> None:
    """What new samples show of heads, over the other half's estimate and over the size that they were chosen for.

    All samples are drawn into two halves: one is new, the other is split once more, as `crossfit` does. In brackets
    95 % bootstrap intervals over units.
    """
    tuned = Tuned.of(tuning(ctx))
    index, sums = tuned.interpreted_index, np.zeros((3, len(tuned.unit), len(MEASURES)))
    for k in range(repeats):
        rng = np.random.default_rng(k)
        new = halves(tuned.class_index, rng)
        old = (~new).nonzero()[:, 0]
        first = halves(tuned.class_index[old], rng)
        there = average(tuned.change[:, new]).effect
        for chooses, estimates in ((old[first], old[~first]), (old[~first], old[first])):
            mean, other = (average(tuned.change[:, rows]) for rows in (chooses, estimates))
            head = top(mean.ranked.movedim(0, -1), most).movedim(-1, 0) & ~other.effect.isnan() & ~there.isnan()
            for row, values in enumerate((mean.effect, other.effect, there)):
                signed = (mean.effect.sign() * values).where(head, 0.0)
                sums[row] += signed[:, index].sum(1).numpy()
    print(f"| {len(old)} samples | {' | '.join(MEASURES)} |\n|" + "---|" * (1 + len(MEASURES)))
    draws = np.random.default_rng(0).integers(len(tuned.unit), size=(RESAMPLES, len(tuned.unit)))
    for name, row in (("cross-fitted", 1), ("as a half chose them", 0)):
        ratio = sums[2].sum(0) / sums[row].sum(0)
        low, high = np.quantile(sums[2][draws].sum(1) / sums[row][draws].sum(1), (0.025, 0.975), axis=0)
        cells = (f"{x:.2f} [{a:.2f}, {b:.2f}]" for x, a, b in zip(ratio, low, high, strict=True))
        print(f"| new samples / {name} | {' | '.join(cells)} |")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--along", default="pattern")
    parser.add_argument("--directions", type=int, default=64)
    parser.add_argument("--held-out", type=int, default=160)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--heads", action="store_true", help="only what is left of heads")
    parser.add_argument("settings", nargs="*")
    given = parser.parse_args()
    count = 0 if given.heads else 2 * given.directions
    study = lis.study(f"tuning.along={given.along}", f"tuning.control_directions={count}", *given.settings)
    if given.heads:
        return heads(study.context)
    held = held_out(study.context, given.held_out, count)
    resampled(held, given.directions, given.resamples)
    uniform(held)


if __name__ == "__main__":
    main()
