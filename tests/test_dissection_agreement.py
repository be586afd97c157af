import pytest
import torch
from helpers.dissection_fixtures import fixture
from scipy.stats import pearsonr
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from lis.dissection.agreement import AgreementCounts, concept_iou, label_units
from lis.dissection.quantiles import unit_quantiles
from lis.dissection.upsampling import Upsampling

EDGES = [0.1, 0.3, 0.5, 0.8, 0.9, 0.95, 0.99]


def reference_maps(maps: Tensor, size: int) -> Tensor:
    """Maps enlarged in float32 with the rounding of the reference, whose grid runs from corner to corner.

    In exact arithmetic a pixel of unit 6 of fixture 03 is 4.5e-7 above its threshold; with this rounding it is below.
    """
    h = maps.shape[2]
    scale = size // h
    line = (torch.arange(size, dtype=torch.float32) - (scale - 1) / 2) * (2 / (scale * (h - 1))) - 1
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij")[::-1], -1)
    return F.grid_sample(maps, grid.expand(len(maps), -1, -1, -1), align_corners=True)


def reference_concepts() -> Tensor:
    """Masks `[40, 12, 32, 32]` of fixture 03; its concept 0 is every pixel."""
    seg = fixture("03_iou")["seg"].long()
    masks = torch.stack([(seg == c).any(1) for c in range(12)], 1)
    masks[:, 0] = True
    return masks


def example() -> tuple[Tensor, Tensor]:
    """Maps `[6, 4, 4, 4]`, the last unit dead, and masks `[6, 3, 8, 8]`, the last concept absent."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(6, 4, 4, 4, generator=generator)
    maps[:, 3] = 0
    masks = torch.rand(6, 3, 8, 8, generator=generator) < 0.3
    masks[:, 0] |= F.interpolate(maps[:, :1], 8, mode="nearest")[:, 0] > 0.5
    masks[:, 2] = False
    return maps, masks


def counted(*parts: tuple[Tensor, Tensor]) -> AgreementCounts:
    """Counts of parts of `example`; maps are of the masks' resolution after `clamp`, so that sklearn sees the same."""
    maps, masks = example()
    large = F.interpolate(maps, 8, mode="bilinear", align_corners=False)
    edges = unit_quantiles(large, EDGES)
    counts = AgreementCounts(unit_quantiles(large, 0.8), masks.shape[1], edges, upsampling=Upsampling("clamp"))
    for part in parts:
        counts.add(*part)
    return counts


def test_iou_is_that_of_the_reference() -> None:
    data = fixture("03_iou")
    counts = AgreementCounts(data["level_exact"], 12)
    counts.add(reference_maps(data["acts"], 32), reference_concepts())
    expected = data["iou_concept_by_unit_exact"].T.double()
    live = ~expected.isnan()
    live[10], live[:, 10] = False, False  # a dead unit and an absent concept, of which the reference gives 0 and NaN
    assert torch.equal(counts.intersection[live], data["intersection"].long()[live])
    assert (counts.iou.float() - expected.float())[live].abs().max() <= 1e-7
    assert counts.iou[10].isnan().all() and counts.iou[:, 10].isnan().all()
    assert torch.equal(counts.area_unit, data["area_unit"].long())
    assert torch.equal(counts.area_concept, data["area_concept"].long())


def test_the_enlargement_changes_one_pixel_that_ties_with_its_threshold() -> None:
    data = fixture("03_iou")
    counts = AgreementCounts(data["level_exact"], 12)
    counts.add(data["acts"], reference_concepts())
    assert (counts.area_unit - data["area_unit"].long()).tolist() == [int(u == 6) for u in range(12)]


def test_labels_are_those_of_the_reference_but_for_its_defects() -> None:
    data = fixture("03_iou")
    iou = concept_iou(reference_maps(data["acts"], 32), reference_concepts(), data["level_exact"])
    labels = label_units(iou, ignore=(0,))
    live = torch.arange(12) != 10
    assert torch.equal(labels.best_concept[live], data["best_concept_exact"][live])
    torch.testing.assert_close(labels.best_iou[live].float(), data["best_iou_exact"][live], atol=1e-7, rtol=0)
    assert labels.best_concept[10] == -1 and labels.best_iou[10].isnan() and not labels.detector[10]
    assert int(labels.detector.sum()) == int(data["n_detectors"])
    assert labels.best_concept[labels.detector].unique().tolist() == data["unique_concepts"].tolist()


def test_concepts_on_few_images_label_no_unit() -> None:
    iou = torch.tensor([[0.5, 0.3], [0.5, torch.nan]])
    labels = label_units(iou, images_met=torch.tensor([[4, 5], [4, 9]]))
    assert labels.best_concept.tolist() == [1, -1]
    assert labels.detector.tolist() == [True, False] and labels.best_iou.isnan().tolist() == [False, True]


def test_measures_are_those_of_scipy_and_sklearn() -> None:
    maps, masks = example()
    counts = counted((maps, masks))
    large = F.interpolate(maps, 8, mode="bilinear", align_corners=False)
    edges, thresholds = unit_quantiles(large, EDGES), unit_quantiles(large, 0.8)
    for u in range(3):
        score = large[:, u].flatten()
        binned = torch.tensor([sum(float(x) > float(e) for e in edges[u]) for x in score]).numpy()
        active = score > thresholds[u]
        for c in range(2):
            truth = masks[:, c].flatten()
            union = int((active | truth).sum())
            assert float(counts.iou[u, c]) == pytest.approx(int((active & truth).sum()) / union)
            assert float(counts.pearson[u, c]) == pytest.approx(pearsonr(score, truth.float())[0], abs=1e-5)
            assert float(counts.auprc[u, c]) == pytest.approx(average_precision_score(truth.numpy(), binned))
            assert float(counts.auc[u, c]) == pytest.approx(roc_auc_score(truth.numpy(), binned))
    overlap = ((large > thresholds[:, None, None])[:, :, None] & masks[:, None]).flatten(3).any(3).sum(0)
    assert torch.equal(counts.images_met, overlap)


def test_a_dead_unit_and_an_absent_concept_have_no_measure() -> None:
    counts = counted(example())
    for measure in (counts.iou, counts.pearson):
        assert measure[3].isnan().all() and measure[:, 2].isnan().all() and not measure[:3, :2].isnan().any()
    assert counts.auprc[:, 2].isnan().all() and counts.auc[:, 2].isnan().all()
    share = counts.area_concept[:2] / counts.pixels  # a constant ranks pixels by chance
    torch.testing.assert_close(counts.auprc[3, :2], share.double())
    assert counts.auc[3, :2].tolist() == [0.5, 0.5]


def test_counts_depend_on_no_batch_order_or_shard() -> None:
    maps, masks = example()
    whole = counted((maps, masks))
    single = counted(*((maps[i : i + 1], masks[i : i + 1]) for i in (3, 0, 5, 1, 4, 2)))
    merged = counted((maps[4:], masks[4:]))
    merged.add_tensors(counted((maps[:4], masks[:4])).tensors())
    for counts in (single, merged):
        for name in ("intersection", "images_met", "area_unit", "area_concept", "iou", "auprc", "auc"):
            torch.testing.assert_close(getattr(counts, name), getattr(whole, name), rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(counts.pearson, whole.pearson, rtol=0, atol=1e-12, equal_nan=True)


def test_pearson_does_not_shrink_over_batches() -> None:
    """Over several batches the (co)variance of the published code is too small; here it is that of all pixels."""
    maps = torch.cat([torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)])
    masks = maps > 0.5
    counts = AgreementCounts(torch.tensor([0.5]), 1, upsampling=Upsampling("clamp"))
    for i in range(4):
        counts.add(maps[i : i + 1], masks[i : i + 1])
    assert float(counts.pearson) == pytest.approx(1)


def test_counts_refuse_what_does_not_fit() -> None:
    maps, masks = example()
    with pytest.raises(ValueError, match="expected the same images, 4 units and 3 concepts"):
        counted((maps[:5], masks))
    infinite = maps.clone()
    infinite[0, 1, 0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"units \[1\] are not finite"):
        counted((infinite, masks))
    with pytest.raises(ValueError, match="ascending"):
        AgreementCounts(torch.zeros(1), 1, torch.tensor([[1.0, 0.0]]))
    with pytest.raises(ValueError, match="CURVE_LEVELS"):
        _ = AgreementCounts(torch.zeros(1), 1).auprc


def test_sums_of_other_counts_are_refused() -> None:
    """A shard of other thresholds, edges, borders or concepts; of one without edges, and of one that lacks a sum."""
    maps, masks = example()
    edges = torch.tensor([[0.0, 0.5], [0.0, 0.5], [0.0, 0.5], [0.0, 0.5]])
    counts = AgreementCounts(torch.zeros(4), 3, edges)
    counts.add(maps, masks)
    before = {name: value.clone() for name, value in counts.tensors().items()}
    others = {
        "other thresholds": AgreementCounts(torch.ones(4), 3, edges),
        "other edges": AgreementCounts(torch.zeros(4), 3, edges + 1),
        "other upsampling": AgreementCounts(torch.zeros(4), 3, edges, Upsampling("clamp")),
        r"_positive of shape \[4, 3, 1\]: expected \[4, 3, 3\]": AgreementCounts(torch.zeros(4), 1, edges),
        r"_all of shape \[4, 0\]: expected \[4, 3\]": AgreementCounts(torch.zeros(4), 3),
    }
    for message, other in others.items():
        with pytest.raises(ValueError, match=message):
            counts.add_tensors(other.tensors())
    with pytest.raises(ValueError, match=r"intersection of shape None: expected \[4, 3\]"):
        counts.add_tensors({name: value for name, value in before.items() if name != "intersection"})
    assert all(torch.equal(value, before[name]) for name, value in counts.tensors().items())


def test_a_unit_without_a_label_has_neither_a_name_nor_a_value() -> None:
    labels = label_units(torch.tensor([[0.1, 0.9], [0.5, 0.2], [torch.nan, torch.nan]]))
    values = torch.tensor([[1, 2], [3, 4], [5, 6]])
    assert labels.names(("ear", "eye")).tolist() == ["eye", "ear", ""]
    assert labels.of_best(values, 0).tolist() == [2, 3, 0]
    picked = labels.of_best(values.double())
    assert picked[:2].tolist() == [2, 3] and bool(picked[2].isnan())
