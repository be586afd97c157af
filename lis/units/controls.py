"""Random directions beside units: tuned once each, and read from where w of any unit begins to where it ends (§3.3).

A random direction is a control for a unit only where it moves w as far, and as far to either side of a sample: effects
saturate, and units start near their minimum. So each is tuned as a trajectory, from f(r) to both sides, and what it
does between any two positions on it is looked up. Positions are what w *did* and not what was asked of it, of units as
of directions: w may stop, or move less than a forward model says. Where it stops in some samples of a class, it goes
further in others, to the same side where it can, so that it moves as far on average over the class, and not in every
sample. What such a control tests is whether a unit does *more than a random mixture of units*, not whether it does
anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from scipy.optimize import root_scalar
from torch import Tensor
from torch.nn.functional import embedding_bag

from lis.quantify.averages import axis_of
from lis.quantify.change import change
from lis.quantify.measures import MEASURES
from lis.statistics import ControlTest, control_test
from lis.store import Artifact
from lis.streams import Stream
from lis.units.directions import Directions
from lis.units.perturbation import Perturbation
from lis.units.stretch import EXACT, lengths, stretched
from lis.units.tuned import Tuned

MIRRORED = 2
"""Controls that a trajectory gives: its direction and the opposite one, which are no two independent draws."""
NEAREST = 0.25
"""The smallest step of a trajectory over ‖Δw‖ of the shortest unit."""
WIDEST = 32.0
"""The largest step of a trajectory over the smallest, at most: below it a change is as good as proportional."""
_DOUBLINGS = 60


@dataclass(frozen=True)
class Controls:
    """D random directions, each a trajectory of N positions in W that S samples are moved to.

    What lies between two is rounded to one of them at random, the nearer the more often, for each sample by itself: the
    mean over samples is that of linear interpolation, while a sample keeps the noise of an image. An average of two
    images would have less of it than those of a unit, and a null of such averages would call noise an effect. Where w
    of some samples stops before it is as far as a unit's, others of the class go further (`stretched`).
    """

    position: Tensor
    """Signed distance of w from f(r), as realised, `[D, S, N]` float32; of each sample in any order, with
    ties where w has stopped; 0 is among them."""
    measures: Tensor
    """`[D, S, N, K, M]` float32, NaN where a label is absent."""
    probability: Tensor
    """`[D, S, N, C]` float32: softmax over all classes that the classifier knows, of those of the run."""
    prediction: Tensor
    """`[D, S, N]` int64: index into the classifier's classes."""
    reencoded: Tensor
    """`[D, C, N, units]` float16: mean over the samples of a class of the image's own activations, less that at 0, in
    the units' standard deviations; 0 for units that are not live."""
    class_index: Tensor
    """`[S]` int64, ascending."""
    sample_index: Tensor
    """`[S]` int64."""
    names: tuple[str, ...]
    labels: tuple[str, ...]
    class_names: tuple[str, ...]
    draws: Tensor
    """Uniform draws to round by: `[D, S, 2]`, of the first and of the last step."""

    @classmethod
    def of(cls, artifact: Artifact, rng: np.random.Generator) -> Self:
        """The random directions of the artifact of `lis.units.tuning`."""
        facts, tensors = artifact.json("facts"), artifact.tensors("control")
        return cls(
            **tensors,
            names=tuple(facts["names"]["control"]),
            labels=tuple(facts["labels"]),
            class_names=tuple(facts["class_names"]),
            draws=torch.from_numpy(rng.random((*tensors["position"].shape[:2], 2), dtype=np.float32)),
        )

    def __len__(self) -> int:
        """How many directions."""
        return len(self.measures)

    def null(self, unit: Tensor, ends: Tensor) -> Null:
        """What every direction and its opposite do between the positions that each unit takes each sample to.

        Args:
            unit: numbers `[U]`.
            ends: signed distance of w from f(r) at the first and at the last step, `[U, S, 2]`; the sign is that of the
                way from the first to the last.
        """
        size, parts = (len(unit), 0), [self._beside(d, unit, ends) for d in range(len(self))]
        shapes = ((len(self.labels), len(MEASURES)), (len(self.class_names),), (), (len(self.class_names),), ())
        columns = zip(*parts, strict=True) if parts else ([torch.empty(*size, *shape)] for shape in shapes)
        effect, answer, own, length, clipped = (torch.cat(list(column), 1) for column in columns)
        length, of_unit = length.mean(1), self._by_class(lengths(ends))
        ratio = _ratio(length, of_unit)
        whole = _ratio(length.nansum(1), of_unit.nansum(1)) if parts else ratio.mean(1)
        return Null(effect, answer, own, whole, ratio, clipped.mean(1), self._typical(ends))

    def _beside(self, d: int, unit: Tensor, ends: Tensor) -> tuple[Tensor, ...]:
        """Of one direction and its opposite: effects `[U, 2, K, M]`, changes of the answer `[U, 2, C]` and of the units
        themselves `[U, 2]`, mean lengths `[U, 2, C]`, and shares of samples in which w stops `[U, 2]`.
        """
        both = self._stretched(d, torch.stack([ends, -ends], 1))
        rounded = self._around(d, both.movedim(2, 0)).rounded(self.draws[d, :, None, None])
        nodes = self._ascending[0][d]
        stops = ((both != 0) & ((both <= nodes[:, :1]) | (both >= nodes[:, -1:]))).any(-1).float().mean(2)
        return *self._changes(d, rounded), self._own(d, unit, both), self._by_class(lengths(both)), stops

    def _own(self, d: int, unit: Tensor, ends: Tensor) -> Tensor:
        """Mean change of the units themselves, `[U, 2]` in their standard deviations, between ends `[U, 2, S, 2]`.

        The mean of each class, which has no noise of an image to be kept, between the two positions around the mean end
        of its samples: positions of single samples are no guide to it, since w stops earlier in some than in others.
        """
        rows = [(self.class_index == c).nonzero()[:, 0] for c in self.class_index.unique()]
        nodes = torch.stack([self.position[d, some].mean(0) for some in rows]).sort(dim=-1, stable=True)
        mean_ends = torch.stack([ends[:, :, some].mean(2) for some in rows])
        at, mean = _between_nodes(*nodes, mean_ends), self.reencoded[d, self.class_index.unique()].float()
        index = torch.arange(len(rows))[:, None, None, None]
        lower, upper = (mean[index, steps, unit[:, None, None]] for steps in (at.lower, at.upper))
        change = torch.lerp(lower, upper, at.share).diff(dim=-1)[..., 0]
        size = torch.tensor([len(some) for some in rows])[:, None, None]
        return (change * size).sum(0) / len(self.class_index)

    def _by_class(self, values: Tensor) -> Tensor:
        """Mean over the samples of each class, `[…, C]` of `[…, S]`; NaN for a class without samples."""
        return torch.stack([values[..., self.class_index == c].mean(-1) for c in range(len(self.class_names))], -1)

    @cached_property
    def _ascending(self) -> tuple[Tensor, Tensor]:
        """Positions of each direction and sample in order, and the index of each, `[D, S, N]`."""
        ordered = self.position.sort(dim=-1, stable=True)
        return ordered.values, ordered.indices

    def _stretched(self, direction: int | Tensor, ends: Tensor) -> Tensor:
        """`stretched` ends of one direction, `[…, S, 2]`, or of P, `[P, S, 2]`."""
        nodes = self._ascending[0][direction]
        return stretched(ends, nodes[..., :1], nodes[..., -1:], self.class_index)

    def _around(self, direction: int | Tensor, ends: Tensor) -> Around:
        """The positions around ends of one direction, `[S, …]`, or of P, `[P, S, …]`."""
        nodes, index = self._ascending
        return _between_nodes(nodes[direction], index[direction], ends)

    def _typical(self, ends: Tensor) -> Tuned:
        """Every direction and its opposite in two steps, with the ends of units in turn; what arrives is not known."""
        samples, count = len(self.class_index), MIRRORED * len(self)
        direction, unit = torch.arange(count) // MIRRORED, torch.arange(count) % len(ends)
        sign = torch.tensor([1.0, -1.0]).repeat(len(self))[:, None, None]
        within = self._stretched(direction, sign * ends[unit])
        steps = self._around(direction, within).rounded(self.draws[direction])
        index = (direction[:, None, None], torch.arange(samples)[None, :, None], steps)
        position, unknown = sign * self.position[index], torch.full((count, samples), torch.nan)
        return Tuned(
            names=tuple(f"{name}{end}" for name in self.names for end in ("", " reversed")),
            unit=torch.full((count,), -1),
            value=position.mean(1),
            measures=self.measures[index],
            probability=self.probability[index],
            prediction=self.prediction[index],
            position=position,
            reencoded_share=unknown,
            own=unknown,
            others=unknown,
            more=unknown,
            beyond=unknown,
            step_norm=lengths(position),
            class_index=self.class_index,
            sample_index=self.sample_index,
            labels=self.labels,
            class_names=self.class_names,
        )

    def _changes(self, d: int, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Of one direction and its opposite: effects `[U, 2, K, M]` and changes of the answer `[U, 2, C]`.

        What changes between any two positions is computed once, and summed over samples for all units.

        Args:
            d: the direction.
            steps: indices of the first and the last position, `[S, U, 2, 2]`.
        """
        samples, positions, table = len(self.class_index), self.position.shape[2], self._between(d)
        first, last = steps.movedim(0, 2).flatten(0, 1).unbind(-1)
        index = (torch.arange(samples) * positions + first) * positions + last
        starts = torch.tensor([int((self.class_index < c).sum()) for c in range(len(self.class_names))])
        bags = (torch.arange(len(index))[:, None] * samples + starts).flatten()
        sums = embedding_bag(index.flatten(), table, bags, mode="sum")
        sums = sums.reshape(-1, 2, len(starts), sums.shape[-1])
        return self._effect(sums[..., :-1].sum(2)), sums[..., -1] / self.class_index.bincount(minlength=len(starts))

    def _between(self, d: int) -> Tensor:
        """For each sample and pair of positions, what is summed over samples: `[S · N · N, columns]`.

        Of each label the linear changes, cosine and sine of the doubled angle, and which are known; then the change of
        the probability of the sample's own class.
        """
        measures = self.measures[d]
        positions = measures.shape[1]
        pairs = (len(measures), positions, positions, *measures.shape[2:])
        changes = change(measures[:, :, None].expand(pairs), measures[:, None].expand(pairs)).flatten(0, 2)
        doubled = torch.deg2rad(2 * changes[..., -1:])
        parts = [changes[..., :-1], doubled.cos(), doubled.sin()]
        columns = torch.cat([*(part.nan_to_num(0.0) for part in parts), (~changes.isnan()).float()], -1).flatten(1)
        p = self.probability[d].gather(2, self.class_index[:, None, None].expand(-1, positions, 1))[..., 0]
        return torch.cat([columns, (p[:, None] - p[:, :, None]).reshape(-1, 1)], 1)

    def _effect(self, sums: Tensor) -> Tensor:
        """As `Average.effect`, `[..., K, M]`, of the sums of `_between`."""
        linear = len(MEASURES) - 1
        sums = sums.unflatten(-1, (len(self.labels), linear + 2 + len(MEASURES)))
        values, counts = sums[..., : linear + 2], sums[..., linear + 2 :]
        x, y = (values[..., linear + k] / counts[..., -1] for k in (0, 1))
        angle, resultant = axis_of(x, y)
        return torch.cat([values[..., :linear] / counts[..., :linear], (resultant * angle)[..., None]], -1)


@dataclass(frozen=True)
class Around:
    """The two positions of a trajectory around each of some ends."""

    lower: Tensor
    """Index of the one below."""
    upper: Tensor
    """Index of the one above."""
    share: Tensor
    """How much of the way from the lower to the upper one lies before the end, in [0, 1]."""

    def rounded(self, draws: Tensor) -> Tensor:
        """Index of one of the two, by uniform draws: the nearer the more often."""
        return torch.where(draws < self.share, self.upper, self.lower)


def _between_nodes(nodes: Tensor, index: Tensor, ends: Tensor) -> Around:
    """The nodes `[…, N]`, ascending, that lie around ends `[…, …]`, as `index [..., N]` numbers them."""
    flat = ends.flatten(nodes.dim() - 1)
    upper = torch.searchsorted(nodes, flat).clamp(1, nodes.shape[-1] - 1)
    low, high = nodes.gather(-1, upper - 1), nodes.gather(-1, upper)
    share = ((flat - low) / (high - low)).nan_to_num(0.0).clamp(0, 1)  # beyond a tie it is infinite
    lower, upper = (index.gather(-1, at).reshape(ends.shape) for at in (upper - 1, upper))
    return Around(lower, upper, share.reshape(ends.shape))


@dataclass(frozen=True)
class Null:
    """What D random directions and their opposites do between the positions that each of U units takes samples to."""

    effect: Tensor
    """Mean changes `[U, 2 D, K, M]` float32, as `lis.quantify.averages.Average.effect`."""
    answer: Tensor
    """Mean change of the probability of the samples' own class, `[U, 2 D, C]`."""
    own: Tensor
    """Mean change of the unit itself, in its standard deviations, `[U, 2 D]`."""
    length_ratio: Tensor
    """How far the directions move w over how far the unit does, as a mean over directions and samples, `[U]`: below 1
    where w stops before in too many samples; NaN without any."""
    class_ratio: Tensor
    """The same within each class, `[U, C]`; NaN for a class without samples."""
    clipped: Tensor
    """In which share of samples and directions w stops before an end, `[U]`; NaN without any."""
    typical: Tuned
    """The 2 D, each with the positions of a unit, the units taken in turn."""

    @classmethod
    def of(cls, artifact: Artifact, tuned: Tuned, rng: np.random.Generator) -> Null:
        """Of the artifact of `lis.units.tuning`, for its tuned units; `rng` rounds positions."""
        return Controls.of(artifact, rng).null(tuned.unit, tuned.position[..., [0, -1]])

    def control_test(self, observed: Tensor, control: Tensor) -> ControlTest:
        """A family of tests: what units do, `[U, …]`, beside what all directions do for each, `[U, 2 D, …]`."""
        return control_test(observed, control, MIRRORED)

    def p(self, observed: Tensor, control: Tensor) -> Tensor:
        """p of `control_test`, `[U, …]`."""
        return self.control_test(observed, control).p


def positions(far: float, length: Tensor, count: int) -> Tensor:
    """Where trajectories have their positions: `count` lengths in equal ratios to both sides of 0, `[2 count + 1]`.

    Args:
        far: the farthest, above 0.
        length: ‖Δw‖ of each unit, `[U]`.
        count: how many to each side, 2 or more.

    Example:
        >>> positions(8.0, torch.tensor([2.0, 8.0]), 3).tolist()
        [-8.0, -2.0, -0.5, 0.0, 0.5, 2.0, 8.0]
    """
    near = max(NEAREST * float(length.min()), far / WIDEST)
    side = torch.from_numpy(np.geomspace(min(near, far), far, count)).float()
    return torch.cat([-side.flip(0), torch.zeros(1), side])


def signed_distance(w: Tensor, base: Tensor) -> Tensor:
    """How far w lies from where a sample starts, with the sign of the way from the first to the last step.

    Args:
        w: `[..., n, steps, w_dim]`.
        base: f(r), `[n, w_dim]`.

    Returns:
        `[..., n, steps]`; 0 where the first step is the last.

    Example:
        >>> signed_distance(torch.tensor([[[-1.0, 0.0], [0.0, 0.0], [2.0, 0.0]]]), torch.zeros(1, 2)).tolist()
        [[-1.0, 0.0, 2.0]]
    """
    away, along = w - base[:, None], w[..., -1:, :] - w[..., :1, :]
    return away.norm(dim=-1) * (away * along).sum(-1).sign()


def _ratio(length: Tensor, of_unit: Tensor) -> Tensor:
    """Of two lengths, 1 where neither is one."""
    return torch.where(of_unit > 0, length / of_unit, 1 + length)


def control_directions(std: Tensor, count: int, seed: int) -> list[Perturbation]:
    """`count` random directions in R, counted from each sample: d ∝ g ⊙ σ.

    With g standard normal (stream "null directions"), so that none stands out in standardised units.

    Args:
        std: standard deviation of each unit, `[units]`; 0 for units that are left out.
        count: how many.
        seed: of the run.
    """
    draws = Stream("null directions", seed).normal(None, torch.arange(count), len(std)).to(std) * std
    return [Perturbation.along(f"random {k}", draw, 0.0, 1.0, relative=True) for k, draw in enumerate(draws)]


@torch.inference_mode()
def control_values(made: Directions, r: Tensor, direction: Perturbation, position: Tensor) -> Tensor:
    """How far along d samples go so that w moves by each of a number of distances, `[N]` float32.

    Args:
        made: which way a direction is moved.
        r: samples `[n, units]`, over which the distance is a mean where it differs.
        direction: d.
        position: distances `[N]`, negative to the other side.

    Raises:
        ValueError: no step along d is as long, or w says nothing of d.
    """
    return torch.tensor([_value(made, r, direction, p) for p in position.tolist()])


def _value(made: Directions, r: Tensor, direction: Perturbation, position: float) -> float:
    sign = -1.0 if position < 0 else 1.0

    def step(length: float) -> float:
        return made.step_norm(r, replace(direction, high=sign * length))

    return sign * _length_of_step(step, abs(position), direction.name)


def _length_of_step(step: Callable[[float], float], requested: float, name: str) -> float:
    """The length whose `step` is the requested one: at once where it is proportional, else by Brent's method."""
    first = step(1.0)
    if first == torch.inf:
        raise ValueError(f"w says nothing of direction {name!r}: expected units that w expresses; use other units")
    length = requested / first if first > 0 else 1.0
    if abs(step(length) - requested) <= EXACT * requested:
        return length
    for _ in range(_DOUBLINGS):
        if step(length) >= requested:
            return float(root_scalar(lambda s: step(s) - requested, bracket=(0.0, length), rtol=EXACT).root)
        length *= 2
    raise ValueError(
        f"direction {name!r} moves w by {step(length):g} at most, expected {requested:g} as for a unit: fit another "
        "link (link=ridge), or set tuning.control_directions=0"
    )
