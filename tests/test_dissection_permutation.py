import numpy as np
import pytest
import torch
from torch import Tensor

from lis.dissection import permutation
from lis.dissection.agreement import AgreementCounts, label_units
from lis.dissection.concepts import ConceptSet
from lis.dissection.dissect_tables import Scores, histogram_table, layers_table, units_table
from lis.dissection.permutation import permutation_test
from lis.report.tables import records
from lis.statistics import SIGNIFICANT

CENTRE, FOLLOWS, DEAD = range(3)


def figures(images: int = 24, size: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Figures that stand in the centre of every image, with a part whose position varies.

    Returns:
        Maps `[images, 3, size, size]` of a unit that fires in the centre, one that follows the part, and a dead one;
        masks `[images, 2, size, size]` of the figure and of the part; three classes, `[images]`.
    """
    rng = np.random.default_rng(0)
    maps, masks = torch.zeros(images, 3, size, size), torch.zeros(images, 2, size, size, dtype=torch.bool)
    for i in range(images):
        grow = int(rng.integers(3))
        masks[i, 0, 4 - grow : 12, 4:12] = True
        y, x = rng.integers(size - 4, size=2)
        masks[i, 1, y : y + 4, x : x + 4] = True
        maps[i, FOLLOWS, y : y + 3, x : x + 3] = 1
    maps[:, CENTRE, 4:12, 4:12] = 1
    return maps, masks, torch.arange(images) % 3


def slow_iou(maps: Tensor, masks: Tensor) -> Tensor:
    """IoU `[units, concepts]` of maps > 0.5 and masks of the same resolution."""
    active = (maps > 0.5)[:, :, None]
    union = (active | masks[:, None]).sum((0, 3, 4))
    return (active & masks[:, None]).sum((0, 3, 4)) / union.double()


def test_a_unit_in_the_centre_is_a_detector_but_not_above_chance() -> None:
    maps, masks, classes = figures()
    result = permutation_test(maps, torch.full((3,), 0.5), masks, classes)
    assert label_units(result.iou).detector[[CENTRE, FOLLOWS]].all()
    assert float(result.iou[CENTRE, 0]) > 0.5 and float(result.q[CENTRE, 0]) > SIGNIFICANT
    assert float(result.mean[CENTRE, 0]) == pytest.approx(float(result.iou[CENTRE, 0]), abs=0.01)
    assert float(result.q[FOLLOWS, 1]) < SIGNIFICANT
    assert float(result.iou[FOLLOWS, 1]) > result.mean[FOLLOWS, 1] + 5 * result.sd[FOLLOWS, 1]
    for field in (result.iou, result.mean, result.sd, result.p_counted, result.p, result.q):
        assert field[DEAD].isnan().all() and not field[:DEAD].isnan().any()


def test_the_control_is_that_of_masks_exchanged_one_by_one() -> None:
    maps, masks, classes = figures(12, 12)
    result = permutation_test(maps, torch.full((3,), 0.5), masks, classes, permutations=60, seed=3)
    control = torch.stack([slow_iou(maps, masks[rows]) for rows in exchanged_rows(classes)])
    observed = slow_iou(maps, masks)
    live = [CENTRE, FOLLOWS]
    torch.testing.assert_close(result.iou[live], observed[live])
    torch.testing.assert_close(result.mean[live], control.mean(0)[live])
    torch.testing.assert_close(result.sd[live], control.std(0, correction=0)[live])
    counted = (1 + (control >= observed).double().sum(0)) / 61
    torch.testing.assert_close(result.p_counted[live], counted[live])


@pytest.mark.parametrize("ignore", [[], [0]])
def test_a_label_is_held_against_the_best_concept_of_every_permutation(ignore: list[int]) -> None:
    maps, masks, classes = figures(12, 12)
    maps[:, CENTRE] = maps[:, FOLLOWS].roll(1, 0) + maps[:, CENTRE]
    arguments = maps, torch.full((3,), 0.5), masks, classes, 60, 3
    result = permutation_test(*arguments, ignore=ignore)
    control = torch.stack([slow_iou(maps, masks[rows]) for rows in exchanged_rows(classes)])
    observed = slow_iou(maps, masks)
    for unit in (CENTRE, FOLLOWS):
        z = {c: standardised(control[:, unit, c], observed[unit, c]) for c in (0, 1) if c not in ignore}
        for c, (_, standard) in z.items():
            reached = [any(float(others[r]) >= standard - 1e-9 for others, _ in z.values()) for r in range(60)]
            assert float(result.p_label[unit, c]) == pytest.approx((1 + sum(reached)) / 61)
            assert float(result.excess[unit, c]) == pytest.approx(standard)
    assert result.p_label[:, ignore].isnan().all() and result.p_label[DEAD].isnan().all()


def exchanged_rows(classes: Tensor) -> list[Tensor]:
    """The images whose masks each image has in the 60 permutations of seed 3."""
    rng, rows = np.random.default_rng(3), torch.arange(len(classes)).repeat(60, 1)
    for k in classes.unique():
        group = (classes == k).nonzero().flatten()
        rows[:, group] = group[permutation._orders(len(group), 60, rng)]
    return list(rows)


def standardised(control: Tensor, observed: Tensor) -> tuple[Tensor, float]:
    """Of both by the mean and standard deviation of all of them."""
    values = [*control.tolist(), float(observed)]
    mean, sd = float(np.mean(values)), float(np.std(values))
    return (control - mean) / sd, (float(observed) - mean) / sd


def test_p_below_what_can_be_counted_is_of_the_pooled_control() -> None:
    observed, generator = torch.tensor([3.5, 0.0, 9.0], dtype=torch.float64), torch.Generator().manual_seed(0)
    control = torch.randn(500, 3, dtype=torch.float64, generator=generator) * torch.tensor([1.0, 2.0, 3.0])
    p = permutation._pooled_p(observed, control, torch.tensor([True, True, True]))
    z = [standardised(control[:, u], observed[u]) for u in range(3)]
    pool = torch.cat([of_control for of_control, _ in z])
    for u, (_, standard) in enumerate(z):
        assert float(p[u]) == pytest.approx((1 + int((pool >= standard).sum())) / 1501)
    assert permutation._pooled_p(observed, torch.ones(9, 3).double(), torch.ones(3).bool()).isnan().all()


@pytest.mark.parametrize("permutations", [19, 99, 500])
def test_p_is_uniform_where_units_follow_nothing(permutations: int) -> None:
    generator = torch.Generator().manual_seed(0)
    maps, masks = torch.rand(30, 200, 4, 4, generator=generator), torch.rand(30, 5, 4, 4, generator=generator) < 0.2
    result = permutation_test(maps, torch.full((200,), 0.8), masks, torch.arange(30) % 2, permutations)
    assert 0.45 < float(result.p.mean()) < 0.56
    assert float((result.p <= 0.05).double().mean()) < BOUND
    assert int((result.q < SIGNIFICANT).sum()) == 0


BOUND = 0.05 + 2 * (0.05 * 0.95 / 300) ** 0.5
"""A share of 300 units with p ≤ 0.05 that an exact test exceeds once in 40 times."""


def followers_of_nothing(images: int = 60, units: int = 300, concepts: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    """Maps, masks and classes of units that are active, and concepts that are there, in a tenth of the images."""
    rng = np.random.default_rng(0)
    busy = torch.from_numpy(rng.random((images, units, 1, 1)) < 0.1)
    maps = torch.from_numpy(rng.random((images, units, 4, 4))) * busy
    present = torch.from_numpy(rng.random((images, concepts, 1, 1)) < 0.1)
    masks = torch.from_numpy(rng.random((images, concepts, 4, 4)) < 0.5) & present
    return maps, masks, torch.arange(images) % 2


@pytest.mark.parametrize("permutations", [19, 99, 200])
def test_labels_of_units_that_follow_nothing_are_at_chance_where_concepts_are_rare_too(permutations: int) -> None:
    maps, masks, classes = followers_of_nothing()
    result = permutation_test(maps, torch.full((300,), 0.5), masks, classes, permutations)
    label = label_units(result.iou).best_concept
    assert float((result.p_label[torch.arange(300), label] <= 0.05).double().mean()) <= 0.05
    smallest = result.p_label.nan_to_num(1).amin(1)  # of the concept that would be chosen to have it
    assert 0.02 < float((smallest <= 0.05).double().mean()) < BOUND


def test_a_concept_whose_control_does_not_vary_labels_no_unit_above_chance() -> None:
    """It is on the same pixels of all images; another one, which a unit follows, is tested beside it."""
    maps, masks, classes = figures()
    masks[:, 0] = False
    masks[:, 0, 4:12, 4:12] = True
    result = permutation_test(maps, torch.full((3,), 0.5), masks, classes, permutations=99)
    assert result.sd[:DEAD, 0].max() == 0 and (result.p_label[:DEAD, 0] == 1).all()
    assert float(result.p_label[FOLLOWS, 1]) == 0.01


def test_detectors_and_those_at_chance_are_of_the_same_images_and_rule() -> None:
    maps, masks, classes = followers_of_nothing(40, 30, 8)
    result = permutation_test(maps, torch.full((30,), 0.5), masks, classes, 60, 3, min_iou=0.02)
    tables = [slow_detectors(maps, masks[rows], 0.02) for rows in [torch.arange(40), *exchanged_rows(classes)]]
    assert result.observed_detectors.tolist() == tables[0] and result.detectors.tolist() == tables[1:]
    low, high = result.detectors.sum(1).double().quantile(torch.tensor([0.005, 0.995], dtype=torch.float64)).tolist()
    assert low <= int(result.observed_detectors.sum()) <= high
    assert high < int(label_units(result.iou, 0.02).detector.sum())  # most pairs meet on fewer than 5 images


def slow_detectors(maps: Tensor, masks: Tensor, min_iou: float) -> list[int]:
    """Units of each concept: that of the highest IoU among those that the unit overlaps with on 5 images or more."""
    iou, counts = slow_iou(maps, masks), [0] * masks.shape[1]
    met = ((maps > 0.5)[:, :, None] & masks[:, None]).flatten(3).any(3).sum(0)
    for of_unit, images in zip(iou.tolist(), met.tolist(), strict=True):
        candidates = [(value, -c) for c, value in enumerate(of_unit) if images[c] >= 5 and value > min_iou]
        if candidates:
            counts[-max(candidates)[1]] += 1
    return counts


def test_orders_are_uniform_and_leave_nothing_out() -> None:
    rng = np.random.default_rng(0)
    for n in (3, 1, 7):
        assert torch.equal(permutation._orders(n, 6000, rng).sort(1).values, torch.arange(n).expand(6000, -1))
    different, counts = permutation._orders(3, 6000, rng).unique(dim=0, return_counts=True)
    assert len(different) == 6
    assert (counts - 1000).abs().max() < 120


def test_chunks_of_units_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, masks, classes = figures()
    whole = permutation_test(maps, torch.full((3,), 0.5), masks, classes)
    monkeypatch.setattr(permutation, "_AT_ONCE", 1)
    parts = permutation_test(maps, torch.full((3,), 0.5), masks, classes)
    torch.testing.assert_close(vars(parts), vars(whole), rtol=0, atol=0, equal_nan=True)


def test_classes_of_few_images_are_refused() -> None:
    maps, masks, _ = figures(6, 8)
    with pytest.raises(ValueError, match=r"\[2, 2, 2\] images have 8 orders within them: expected at least 1000"):
        permutation_test(maps, torch.full((3,), 0.5), masks, torch.arange(6) % 3)
    with pytest.raises(ValueError, match="no class has two scored images"):
        permutation_test(maps, torch.full((3,), 0.5), masks, torch.arange(6))


def test_a_unit_of_a_fixed_place_agrees_with_what_stands_out_over_chance() -> None:
    """Its highest IoU is with a mask that is the same in all images, as a quadrant is, and is as high at chance."""
    maps, masks, classes = figures(30)
    fixed, absent = torch.zeros_like(masks), torch.zeros_like(masks[:, :1])
    fixed[:, 0, 2:14, 2:14] = True
    maps[:, FOLLOWS] += maps[:, CENTRE]  # it fires in the centre too
    masks = torch.cat([fixed[:, :1], masks[:, 1:], absent], 1)
    counts = AgreementCounts(torch.full((3,), 0.5), 3)
    counts.add(maps, masks)
    test = permutation_test(maps, counts.thresholds, masks, classes, 299)
    concepts = ConceptSet(("upper left", "ear", "spot"), ("quadrant", "part", "part"), (), ())
    labels = (label_units(values, images_met=counts.images_met) for values in (counts.iou, test.excess, counts.pearson))
    counts._positive, counts._all = torch.ones(3, 1, 3), torch.ones(3, 1)  # average precision is another matter
    counts.edges = torch.zeros(3, 0)
    scores = Scores("layer", concepts, counts, test, *labels)
    centre, follows, dead = records(units_table([scores]))
    assert (follows["concept"], follows["specific"], follows["above_chance"]) == ("upper left", "ear", True)
    assert follows["p"] == 1 and follows["specific_q"] < 0.02 and follows["specific_iou"] < follows["iou"]
    assert (centre["concept"], centre["above_chance"]) == ("upper left", False)
    assert (dead["specific"], dead["correlated"], dead["above_chance"]) == ("", "", False)
    (layer,) = records(layers_table([scores]))
    assert (layer["detectors"], layer["above_chance"], layer["both"]) == (2, 1, 0)
    quadrant, ear, spot = records(histogram_table([scores]))
    assert (quadrant["detectors"], quadrant["above_chance"]) == (2, 0)
    assert (ear["detectors"], ear["above_chance"]) == (0, 1)
    assert np.isnan([spot[name] for name in ("detectors", "control", "above_chance")]).all()  # it has no pixel
