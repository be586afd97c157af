import numpy as np
import pytest
import torch
from helpers.dissection_fixtures import fixture
from torch import Tensor

from lis.dissection.quantiles import QuantileSketch, unit_quantiles

LEVELS = [0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.995, 0.999, 1.0]
MAX_RANK_ERROR = 4.8e-4
"""Of the sketch of the reference."""


def stream() -> Tensor:
    """Rows of skewed, symmetric, rectified and constant units, `[20000, 4]`."""
    x = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0))
    return torch.stack([x[:, 0].exp(), x[:, 1], (x[:, 2] - 1).relu(), torch.full((20_000,), 1.3)], 1)


def sketch_of(*parts: Tensor) -> QuantileSketch:
    sketch = QuantileSketch(parts[0].shape[1])
    for part in parts:
        sketch.add(part)
    return sketch


def slow_hazen(values: list[float], q: float) -> float:
    values, n = sorted(values), len(values)
    index = min(max(q * n - 0.5, 0.0), n - 1.0)
    low = int(index)
    return values[low] + (index - low) * (values[min(low + 1, n - 1)] - values[low])


def test_exact_quantiles_are_those_of_the_reference() -> None:
    data = fixture("01_quantiles_acts")
    assert torch.equal(torch.tensor(LEVELS), data["q"])
    torch.testing.assert_close(unit_quantiles(data["acts"], LEVELS), data["quantiles"], atol=1e-6, rtol=0)


def test_a_level_in_float32_is_the_one_that_it_holds() -> None:
    """0.999 in float32 is 1.3e-8 more, which is 1.2e-5 of the fixture's values: no error of the quantile."""
    data = fixture("01_quantiles_acts")
    rounded = unit_quantiles(data["acts"].double(), data["q"][8])
    ordered = data["acts"].double().sort(0).values
    more = len(ordered) * (float(data["q"][8]) - 0.999) * (ordered[2997] - ordered[2996])
    torch.testing.assert_close(rounded, data["quantiles"][:, 8] + more, atol=1e-6, rtol=0)
    assert 1.2e-5 < float(more.max()) < 1.3e-5


def test_exact_quantiles_are_hazens() -> None:
    maps = torch.randn(3, 2, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    result = unit_quantiles(maps, LEVELS)
    for u in range(2):
        values = maps[:, u].flatten().tolist()
        assert result[u].tolist() == pytest.approx([slow_hazen(values, q) for q in LEVELS])
    numpy = np.quantile(maps.movedim(1, 0).flatten(1).numpy(), 0.99, axis=1, method="hazen")
    assert unit_quantiles(maps, 0.99).tolist() == pytest.approx(numpy.tolist())


def test_a_sketch_is_nearer_in_rank_than_that_of_the_reference() -> None:
    values = stream()[:, :2]
    ordered = values.T.sort(1).values.contiguous()
    rank = torch.searchsorted(ordered, sketch_of(values).quantile(LEVELS)) / len(values)
    assert (rank - torch.tensor(LEVELS)).abs().max() < MAX_RANK_ERROR


def test_a_sketch_is_within_a_bin_of_the_exact_quantile() -> None:
    data = fixture("01_quantiles_acts")
    for values in (stream(), data["acts"], -stream(), 1e-6 * stream()):
        exact = unit_quantiles(values, LEVELS)
        torch.testing.assert_close(sketch_of(values).quantile(LEVELS), exact, rtol=0.008, atol=1e-9)


def test_the_ends_zero_and_constants_are_exact() -> None:
    values = stream()
    sketch = sketch_of(values)
    ends = torch.stack([values.amin(0), values.amax(0)], 1)
    assert torch.equal(sketch.quantile([0.0, 1.0]), ends)
    assert float(sketch.quantile(0.5)[2]) == 0
    assert torch.equal(sketch.quantile(LEVELS)[3], torch.full((len(LEVELS),), 1.3))


def test_a_sketch_depends_on_no_batch_order_or_shard() -> None:
    values = stream()
    whole = sketch_of(values)
    shuffled = values[torch.randperm(len(values), generator=torch.Generator().manual_seed(1))]
    batches = sketch_of(*shuffled.split(777))
    shards = [sketch_of(shard) for shard in (values[15_000:], values[:15_000])]
    shards[0].add_tensors(shards[1].tensors())
    maps = sketch_of(values.reshape(100, 10, 20, 4).movedim(3, 1))
    for sketch in (batches, shards[0], maps):
        assert torch.equal(sketch.counts, whole.counts)
        assert torch.equal(sketch.quantile(LEVELS), whole.quantile(LEVELS))


def test_what_has_no_quantile_is_refused() -> None:
    sketch = QuantileSketch(2)
    with pytest.raises(ValueError, match="no activations"):
        sketch.quantile(0.5)
    for bad in (torch.nan, torch.inf, 2.0**24):
        with pytest.raises(ValueError, match="expected finite ones below"):
            sketch.add(torch.tensor([[0.0, bad]]))
    with pytest.raises(ValueError, match=r"expected \[n, 2"):
        sketch.add(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="expected numbers in"):
        unit_quantiles(torch.zeros(1, 1), 1.5)
