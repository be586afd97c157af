import numpy as np
import pytest
import torch
from torch import Tensor

from lis.dissection import permutation
from lis.dissection.agreement import label_units
from lis.dissection.permutation import permutation_test
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
    groups = [(classes == k).nonzero().flatten() for k in range(3)]
    orders = permutation._derangements([4, 4, 4], 60, np.random.default_rng(3))
    control = torch.empty(60, 3, 2, dtype=torch.float64)
    for r in range(60):
        exchanged = masks.clone()
        for group, order in zip(groups, orders, strict=True):
            exchanged[group] = masks[group[order[r]]]
        control[r] = slow_iou(maps, exchanged)
    observed = slow_iou(maps, masks)
    live = [CENTRE, FOLLOWS]
    torch.testing.assert_close(result.iou[live], observed[live])
    torch.testing.assert_close(result.mean[live], control.mean(0)[live])
    torch.testing.assert_close(result.sd[live], control.std(0, correction=0)[live])
    counted = (1 + (control >= observed).double().sum(0)) / 61
    torch.testing.assert_close(result.p_counted[live], counted[live])


def test_p_below_what_can_be_counted_is_of_the_pooled_control() -> None:
    observed, generator = torch.tensor([3.5, 0.0, 9.0], dtype=torch.float64), torch.Generator().manual_seed(0)
    control = torch.randn(500, 3, dtype=torch.float64, generator=generator) * torch.tensor([1.0, 2.0, 3.0])
    p = permutation._pooled_p(observed, control, torch.tensor([True, True, True]))
    z = (control - control.mean(0)) / control.std(0, correction=0)
    for u in range(3):
        standard = (observed[u] - control[:, u].mean()) / control[:, u].std(correction=0)
        assert float(p[u]) == pytest.approx((1 + int((z >= standard).sum())) / 1501)
    assert permutation._pooled_p(observed, torch.ones(9, 3).double(), torch.ones(3).bool()).isnan().all()


def test_p_is_uniform_where_units_follow_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    maps, masks = torch.rand(30, 40, 4, 4, generator=generator), torch.rand(30, 5, 4, 4, generator=generator) < 0.2
    result = permutation_test(maps, torch.full((40,), 0.8), masks, torch.arange(30) % 2)
    assert 0.4 < float(result.p.mean()) < 0.6
    assert float((result.p < 0.05).double().mean()) < 0.09
    assert int((result.q < SIGNIFICANT).sum()) == 0


def test_derangements_pair_every_image_with_another_and_are_uniform() -> None:
    orders = permutation._derangements([4, 1, 7], 9000, np.random.default_rng(0))
    for n, order in zip((4, 7), (orders[0], orders[2]), strict=True):
        assert torch.equal(order.sort(1).values, torch.arange(n).expand(9000, -1))
        assert (order != torch.arange(n)).all()
    assert torch.equal(orders[1], torch.zeros(9000, 1, dtype=torch.int64))
    different, counts = orders[0].unique(dim=0, return_counts=True)
    assert len(different) == permutation._subfactorial(4) == 9
    assert (counts - 1000).abs().max() < 150


def test_chunks_of_units_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, masks, classes = figures()
    whole = permutation_test(maps, torch.full((3,), 0.5), masks, classes)
    monkeypatch.setattr(permutation, "_AT_ONCE", 1)
    parts = permutation_test(maps, torch.full((3,), 0.5), masks, classes)
    torch.testing.assert_close(vars(parts), vars(whole), rtol=0, atol=0, equal_nan=True)


def test_classes_of_few_images_are_refused() -> None:
    maps, masks, _ = figures(6, 8)
    with pytest.raises(
        ValueError, match=r"\[2, 2, 2\] images have 1 ways to exchange them all: expected at least 1000"
    ):
        permutation_test(maps, torch.full((3,), 0.5), masks, torch.arange(6) % 3)
    with pytest.raises(ValueError, match="have 0 ways"):
        permutation_test(maps, torch.full((3,), 0.5), masks, torch.arange(6))
