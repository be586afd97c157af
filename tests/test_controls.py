"""Random directions: as long as is asked, read between any two positions of w, and a null that holds."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from helpers.links import UNITS, linear, mlp, random
from helpers.perturbed import CLASSES, LABELS
from scipy.stats import false_discovery_control, kstest
from torch import Tensor

from lis.linking.forward import Forward
from lis.linking.linear import LinearLink
from lis.quantify.change import change
from lis.quantify.measures import MEASURES
from lis.statistics import p_control
from lis.units.controls import Controls, control_directions, control_values, positions, signed_distance
from lis.units.directions import Directions
from lis.units.stretch import stretched
from lis.units.tuned import average

STD = torch.tensor([1.0, 2.0, 0.0, 0.5, 4.0])
POSITION = torch.tensor([-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0])


def controls(directions: int = 4, samples: int = 6, seed: int = 0) -> Controls:
    """Made-up trajectories of half of the samples in each class, all at `POSITION`; some labels absent."""
    draw, count = torch.Generator().manual_seed(seed), len(POSITION)
    measures = 0.1 + torch.rand(directions, samples, count, len(LABELS), len(MEASURES), generator=draw)
    measures[..., MEASURES.index("angle")] *= 60
    missing = torch.rand(directions, samples, count, len(LABELS), 1, generator=draw) < 0.1
    probability = torch.rand(directions, samples, count, len(CLASSES), generator=draw)
    return Controls(
        position=POSITION.repeat(directions, samples, 1),
        measures=measures.where(~missing, torch.nan),
        probability=probability,
        prediction=probability.argmax(-1),
        reencoded=torch.randn(directions, len(CLASSES), count, UNITS, generator=draw).half(),
        class_index=torch.arange(samples) * len(CLASSES) // samples,
        sample_index=torch.arange(samples),
        names=tuple(f"random {k}" for k in range(directions)),
        labels=LABELS,
        class_names=CLASSES,
        draws=torch.rand(directions, samples, 2, generator=draw),
    )


@pytest.mark.parametrize("model", [linear(), mlp()], ids=["linear", "mlp"])
def test_random_directions_move_as_far_as_they_are_asked(model: Any) -> None:
    """To both sides, as a mean over the samples; exactly where the link is linear."""
    r, made = random(6, UNITS).relu(), Directions(model)
    wanted = torch.tensor([-2.0, -0.01, 0.5, 2.0])
    found = control_directions(STD, 7, seed=0)
    assert [one.name for one in found] == [f"random {k}" for k in range(7)]
    for one in found:
        assert one.direction is not None and one.relative
        assert one.direction[2] == 0 and float(one.direction.norm()) == pytest.approx(1)
        values = control_values(made, r, one, wanted)
        assert values.sign().equal(wanted.sign())
        w = made.moved(r, one, torch.cat([torch.zeros(1), values]))
        length = (w[:, 1:] - w[:, :1]).norm(dim=2)
        torch.testing.assert_close(length.mean(0), wanted.abs(), rtol=1e-4, atol=1e-6)
        if isinstance(model, LinearLink):
            torch.testing.assert_close(length, wanted.abs().expand(6, -1), rtol=1e-4, atol=1e-6)


def test_random_directions_are_gaussian_in_standard_deviations() -> None:
    """Every unit has the same share of a direction in standardised units; more directions begin with the same."""
    found = control_directions(STD, 400, seed=0)
    standardised = torch.stack([one.direction for one in found if one.direction is not None]) / STD
    live = standardised[:, STD > 0] / standardised[:, STD > 0].norm(dim=1, keepdim=True)
    assert (live.square().mean(0) - 0.25).abs().max() < 0.04 and live.mean(0).abs().max() < 0.08
    few, other = (control_directions(STD, 2, seed=seed) for seed in (0, 1))
    assert few[1].direction is not None and other[1].direction is not None
    torch.testing.assert_close(few[1].direction, found[1].direction)
    assert (few[1].direction - other[1].direction).abs().max() > 0.1
    assert control_directions(STD, 0, seed=0) == []


def test_a_step_that_cannot_be_reached_is_named() -> None:
    bounded, r = Directions(lambda r: r.tanh()), random(3, UNITS)
    with pytest.raises(
        ValueError, match=r"'random 0' moves w by .* at most, expected 9 .*tuning\.control_directions=0"
    ):
        control_values(bounded, r, control_directions(STD, 1, seed=0)[0], torch.tensor([9.0]))


def test_positions_cover_every_unit_and_sample() -> None:
    length = torch.tensor([1.0, 6.0])
    found = positions(6.0, length, 5)
    torch.testing.assert_close(found, -found.flip(0))
    assert len(found) == 11 and found[5] == 0 and float(found[-1]) == pytest.approx(6)
    assert float(found[6]) == pytest.approx(0.25)
    ratios = found[7:] / found[6:-1]
    torch.testing.assert_close(ratios, ratios[:1].expand(4))
    torch.testing.assert_close(positions(0.5 * float(length[0]), length[:1], 2)[2:], torch.tensor([0.0, 0.25, 0.5]))


def test_a_position_is_how_far_w_is_where_it_stopped() -> None:
    """Along a way that stops: the distance that is left of what is asked, the sign that of the way."""
    draw = torch.Generator().manual_seed(0)
    w = torch.randn(300, 3, generator=draw)
    r, index = w @ torch.randn(3, len(STD), generator=draw), torch.zeros(300, dtype=torch.int64)
    live = STD > 0
    forward = Forward.fit(r, w, index, STD.where(live, 1.0), live)[0]
    link = LinearLink.of(torch.linalg.lstsq(r, w).solution.double(), torch.zeros(3).double())
    made, r, asked = Directions(link, "pattern", forward), r[:20], torch.tensor([-50.0, -0.01, 0.0, 0.01, 50.0])
    one = control_directions(STD, 1, seed=0)[0]
    delta, values = made.delta(one), control_values(made, r, one, asked)
    assert delta is not None
    moved = made.moved(r, one, values)
    found = signed_distance(moved, link(r))
    along = ((moved - link(r)[:, None]).double() @ (delta / delta.norm())).float()
    torch.testing.assert_close(found, along, rtol=1e-4, atol=1e-5)
    assert (found[:, [0, -1]].abs() < 50).all() and (found.diff(dim=1) >= 0).all()
    torch.testing.assert_close(found[:, 1:4], asked[1:4].expand(20, 3), rtol=1e-3, atol=1e-5)


def further(distance: Tensor, bound: Tensor, goal: float) -> Tensor:
    """Distances by the factor in [1, 8] further with which they are `goal` together, by bisection."""
    least, most = 1.0, 8.0
    for _ in range(40):
        middle = (least + most) / 2
        short = float((middle * distance).minimum(bound).sum()) < goal
        least, most = (middle, most) if short else (least, middle)
    return (least * distance).minimum(bound)


def slowly_stretched(ends: Tensor, low: Tensor, high: Tensor, class_index: Tensor) -> Tensor:
    """By loops over classes, steps and sides: `ends [S, 2]`, between `low` and `high [S]`."""
    found = ends.clamp(low[:, None], high[:, None])
    for c in class_index.unique():
        rows = class_index == c
        asked, bound = ends[rows], torch.where(ends[rows] < 0, -low[rows, None], high[rows, None])
        bound = bound.minimum(8 * asked.abs())
        by_side = asked.abs().clone()
        for step, sign in product((0, 1), (-1, 1)):
            side = asked[:, step].sign() == sign
            distance = asked[side, step].abs()
            by_side[side, step] = further(distance, bound[side, step], float(distance.sum()))
        together = further(by_side, bound, float(asked.abs().sum()))
        choices = [by_side * asked.sign(), together * asked.sign(), found[rows]]
        length, goal = [float(each.diff(dim=1).abs().sum()) for each in choices], float(asked.diff(dim=1).abs().sum())
        best = min(range(3), key=lambda k: (max(abs(length[k] - goal) - 1e-5 * goal, 0), k))
        found[rows] = choices[best]
    return found


def test_where_w_stops_in_some_samples_it_goes_further_in_others() -> None:
    """So that of every class its mean is that of the unit on either side, if that can be had at all."""
    draw, classes = torch.Generator().manual_seed(0), torch.tensor([0] * 8 + [1] * 4)
    ends = torch.rand(5, 12, 2, generator=draw) * torch.tensor([-1.0, 2.0])
    ends[0, :3, 0] = 0.1  # samples that lie below the range of a unit
    high = 3 + 2 * torch.rand(12, 1, generator=draw)
    high[:4], high[8:10] = 0.4, 0.9
    found = stretched(ends, -high, high, classes)
    for each, asked in zip(found, ends, strict=True):
        slow = slowly_stretched(asked, -high[:, 0], high[:, 0], classes)
        torch.testing.assert_close(each, slow, rtol=1e-4, atol=1e-4)
    assert (found[:, :4] < ends[:, :4]).any() and (found[:, 4:8] >= ends[:, 4:8] - 1e-6).any()
    for rows in (slice(0, 8), slice(8, 12)):
        torch.testing.assert_close(found[1:, rows].mean(1), ends[1:, rows].mean(1), rtol=1e-3, atol=1e-3)
    assert torch.equal(stretched(ends, -9 * high, 9 * high, classes), ends)
    short = stretched(ends[1:], -0.1 * high, 0.1 * high, classes)
    assert torch.equal(short, (8 * ends[1:]).clamp(-0.1 * high, 0.1 * high))


def test_a_null_is_never_shorter_than_without_going_further() -> None:
    """Both ends on one side, where w stops in half of the samples before the last one."""
    ends = torch.tensor([[2.0, 4.0], [2.0, 4.0]])
    high, classes = torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0])
    found = stretched(ends, torch.zeros(2, 1), high, classes)
    assert torch.equal(found, ends.clamp(max=high))  # the first end further out would leave nothing between them
    alone = stretched(ends, torch.zeros(2, 1), torch.tensor([[3.0], [9.0]]), classes)
    assert float(alone.diff(dim=1).mean()) == pytest.approx(2.0) and alone[0].tolist() == [2.0, 3.0]


def test_classes_are_stretched_each_by_itself() -> None:
    """w stops in one class, all whose samples are alike: the other goes no further for that."""
    made = controls(2, 6)
    position = made.position.clone()
    position[:, :3] = position[:, :3].clamp(-1, 1)
    ends = torch.tensor([-1.5, 2.0]).repeat(1, 6, 1)
    null = replace(made, position=position).null(torch.tensor([0]), ends)
    torch.testing.assert_close(null.class_ratio, torch.tensor([[2 / 3.5, 1.0]]))
    assert null.length_ratio.item() == pytest.approx((2 + 3.5) / 7) and null.clipped.item() == pytest.approx(0.5)


def test_a_unit_that_moves_with_w_has_the_null_that_it_should() -> None:
    """Where w stops at another distance in every sample, and a unit is proportional to w: the null is its length."""
    draw = torch.Generator().manual_seed(3)
    made = controls(8, 40, seed=3)
    far = 0.3 + 4 * torch.rand(8, 40, 1, generator=draw)
    position = POSITION.expand(8, 40, -1).maximum(-far).minimum(far)
    by_class = torch.stack([position[:, made.class_index == c].mean(1) for c in (0, 1)], 1)
    made = replace(made, position=position, reencoded=by_class[..., None].expand(8, 2, -1, UNITS).half())
    ends = torch.tensor([-0.6, 1.4]) * (0.5 + torch.rand(1, 40, 1, generator=draw))
    null = made.null(torch.tensor([2]), ends)
    expected = float(ends.diff(dim=2).mean()) * torch.tensor([1.0, -1.0] * 8)
    torch.testing.assert_close(null.own[0], expected, rtol=0.02, atol=0.0)
    torch.testing.assert_close(null.class_ratio, torch.ones(1, 2), rtol=0.02, atol=0.0)


def around_slowly(position: Tensor, end: float) -> tuple[int, int, float]:
    """The positions below and above, and how much of the way between them lies before the end."""
    order = sorted(range(len(position)), key=lambda k: float(position[k]))
    at = position[order].tolist()
    end = min(max(end, at[0]), at[-1])
    k = next(k for k in range(1, len(at)) if at[k] >= end)
    return order[k - 1], order[k], (end - at[k - 1]) / (at[k] - at[k - 1]) if at[k] > at[k - 1] else 0.0


def tuned_slowly(made: Controls, ends: Tensor) -> dict[str, Tensor]:
    """Each direction and its opposite by loops, from the first to the last end of each sample, `ends [S, 2]`.

    The positions that are drawn, and what there is: measures and probability `[2 D, S, 2, …]`, position `[2 D, S, 2]`,
    and mean change of the units, `[2 D, units]`.
    """
    found: dict[str, list[Tensor]] = {"measures": [], "probability": [], "position": [], "own": []}
    for d, sign in product(range(len(made)), (1, -1)):
        images, own = [], torch.zeros(UNITS)
        low, high = made.position[d].amin(1), made.position[d].amax(1)
        far = slowly_stretched(sign * ends, low, high, made.class_index)
        for s, step in product(range(len(ends)), (0, 1)):
            before, after, share = around_slowly(made.position[d, s], float(far[s, step]))
            images.append(after if float(made.draws[d, s, step]) < share else before)
        for c, (step, factor) in product((0, 1), ((0, -1), (1, 1))):
            rows = made.class_index == c
            before, after, share = around_slowly(made.position[d, rows].mean(0), float(far[rows, step].mean()))
            below, above = (made.reencoded[d, c, k].float() for k in (before, after))
            own += factor * (below + share * (above - below)) * int(rows.sum()) / len(ends)
        index = torch.tensor(images).view(-1, 2)
        rows = torch.arange(len(ends))[:, None]
        for name in ("measures", "probability"):
            found[name].append(getattr(made, name)[d][rows, index])
        found["position"].append(sign * made.position[d][rows, index])
        found["own"].append(own)
    return {name: torch.stack(values) for name, values in found.items()}


def uneven(made: Controls) -> Controls:
    """Positions of every sample by themselves: w stops at 3, and one direction comes back once."""
    draw = torch.Generator().manual_seed(2)
    position = made.position * (0.5 + torch.rand(*made.position.shape[:2], 1, generator=draw))
    position = position.clamp(-3, 3)
    position[0, :, -1] = 0.6 * position[0, :, -2]
    return replace(made, position=position)


def test_every_unit_is_held_against_what_directions_do_where_its_w_went() -> None:
    """The means of all units at once against loops over each, where positions differ from sample to sample."""
    made = uneven(controls())
    ends = 3 * torch.rand(3, 6, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([-1.0, 1.0])
    ends[:, 0] = torch.tensor([0.2, 0.9])  # a sample that lies below the range of its units
    unit = torch.tensor([0, 2, 4])
    null = made.null(unit, ends)
    for u in range(3):
        slow = tuned_slowly(made, ends[u])
        effect = average(change(slow["measures"][:, :, 0], slow["measures"][:, :, 1])).effect
        torch.testing.assert_close(null.effect[u], effect, rtol=1e-4, atol=1e-4, equal_nan=True)
        own_class = slow["probability"].gather(3, made.class_index[None, :, None, None].expand(8, -1, 2, 1))[..., 0]
        answer = torch.stack([own_class[:, made.class_index == c].diff(dim=2).mean((1, 2)) for c in (0, 1)], 1)
        torch.testing.assert_close(null.answer[u], answer, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(null.own[u], slow["own"][:, unit[u]], rtol=1e-4, atol=1e-4)
        for p in range(u, 8, 3):  # units in turn
            torch.testing.assert_close(null.typical.measures[p], slow["measures"][p], equal_nan=True)
            assert torch.equal(null.typical.position[p], slow["position"][p])
    torch.testing.assert_close(null.typical.step_norm, null.typical.position.diff(dim=2)[..., 0].abs())
    assert len(null.typical.names) == 8 and null.typical.unit.tolist() == [-1] * 8


def test_at_a_position_the_images_are_its_own() -> None:
    """Whatever is drawn, where both ends are positions: also of the opposite direction."""
    made = controls()
    typical = made.null(torch.tensor([1]), torch.tensor([-1.0, 2.0]).repeat(1, 6, 1)).typical
    for d, (p, first, last) in product(range(4), ((0, 2, 5), (1, 4, 1))):
        found = typical.measures[2 * d + p]
        torch.testing.assert_close(found, made.measures[d][:, [first, last]], equal_nan=True)
        assert torch.equal(typical.prediction[2 * d + p], made.prediction[d][:, [first, last]])


def test_between_two_positions_the_nearer_is_taken_more_often() -> None:
    """So that the mean is that of linear interpolation."""
    made = controls(1, 20000)
    made.measures[...] = POSITION[:, None, None]
    found = made.null(torch.tensor([0]), torch.tensor([-0.75, 2.25]).repeat(1, 20000, 1)).typical.measures[0]
    assert set(found[:, 0].flatten().tolist()) == {-1.0, 0.0}
    assert float(found[:, 0].mean()) == pytest.approx(-0.75, abs=0.01)
    assert float(found[:, 1].mean()) == pytest.approx(2.25, abs=0.03)


def test_a_mean_over_samples_is_interpolated_and_not_rounded() -> None:
    """A unit that moves with w by as much: the null says so exactly, whatever is drawn."""
    made = controls(2, 6)
    made.reencoded[...] = POSITION[:, None]
    ends = torch.tensor([[-0.75, 2.25], [-0.1, 3.3]])[:, None].expand(2, 6, 2)
    null = made.null(torch.tensor([3, 1]), ends)
    torch.testing.assert_close(null.own, torch.tensor([[3.0, -3.0] * 2, [3.4, -3.4] * 2]), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(null.length_ratio, torch.ones(2))
    assert made.null(torch.tensor([3]), torch.zeros(1, 6, 2)).length_ratio.tolist() == [1]  # neither moves


def test_how_far_directions_go_is_told_beside_units() -> None:
    """One that stops half way on one side, and the opposite on the other."""
    made = controls(1, 6)
    short = replace(made, position=POSITION.clamp(max=1).repeat(1, 6, 1))
    null = short.null(torch.tensor([0]), torch.tensor([0.0, 2.0]).repeat(1, 6, 1))
    assert null.length_ratio.item() == pytest.approx((0.5 + 1) / 2)
    assert null.typical.step_norm.tolist() == [[1.0] * 6, [2.0] * 6]


def test_without_random_directions_there_is_no_null() -> None:
    null = controls(0).null(torch.tensor([0]), torch.tensor([-0.3, 0.7]).repeat(1, 6, 1))
    assert null.length_ratio.isnan().all()
    assert null.effect.shape == (1, 0, 3, 5) and null.answer.shape == (1, 0, 2) and null.own.shape == (1, 0)
    assert null.p(torch.ones(1), null.own).isnan().all() and len(null.typical.names) == 0


def test_directions_that_are_treated_as_units_are_alike_within_each_class() -> None:
    """w stops unevenly, in one class sooner: p of their answers is uniform in either, and the null as long."""
    draw, slope = torch.Generator().manual_seed(4), torch.randn(128, generator=torch.Generator().manual_seed(5))
    made, rows = controls(64, 20), torch.arange(20) < 10
    far = (1 + 3 * torch.rand(128, 20, 1, generator=draw)) * torch.where(rows, 0.8, 1.2)[:, None]
    position = POSITION.expand(64, 20, -1).maximum(-far[:64]).minimum(far[:64])
    probability = (0.5 + 0.01 * slope[:64, None, None] * position)[..., None].expand(-1, -1, -1, len(CLASSES))
    ends = torch.tensor([-0.8, 2.0]).expand(64, 20, 2).maximum(-far[64:]).minimum(far[64:])
    null = replace(made, position=position, probability=probability).null(torch.arange(64) % UNITS, ends)
    length = torch.stack([ends[:, some].diff(dim=2)[..., 0].mean(1) for some in (rows, ~rows)], 1)
    p = null.p(0.01 * slope[64:, None] * length, null.answer)
    torch.testing.assert_close(null.class_ratio, torch.ones(64, 2), rtol=0.03, atol=0.0)
    for of_class in p.T:
        assert kstest(of_class.numpy(), "uniform").pvalue > 0.05
    assert null.clipped.mean() > 0.2


def held_out(draw: Any, repeats: int) -> tuple[np.ndarray, list[bool]]:
    """p of 40 units × 30 labels that are random directions themselves, and whether any has q ≤ 0.05."""
    p, any_q = [], []
    for _ in range(repeats):
        values = p_control(draw(40, 30), draw(64, 30)[None].expand(40, -1, -1)).numpy()
        any_q.append(bool((false_discovery_control(values.ravel()) <= 0.05).any()))
        p.append(values[0])  # those of a label share their directions
    return np.concatenate(p), any_q


def test_units_that_are_random_directions_are_called_by_chance_alone() -> None:
    """Uniform p, and any q ≤ 0.05 in at most 5 % of 200 runs: as measured in part world, tails are light."""
    generator = torch.Generator().manual_seed(0)
    p, any_q = held_out(lambda *size: torch.randn(*size, generator=generator), 200)
    assert np.mean(any_q) <= 0.05
    assert kstest(p, "uniform").statistic < 0.03
