"""PUMP against the reference program's matches, and against the plain method on the whole volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.pump_reference import final_volume, forward, plain_match
from torch import Tensor
from torch.nn import functional as F

from lis.matching import pump, pyramid
from lis.matching.pump import match
from lis.matching.pyramid import Rule, climb
from lis.types import Matches

FILES = sorted((Path(__file__).parent / "data" / "pump").glob("*.npz"))
Arrays = dict[str, np.ndarray]


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def arrays(request: pytest.FixtureRequest) -> Arrays:
    with np.load(request.param) as file:
        return dict(file)


def descriptors(arrays: Arrays) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(arrays["desc1_grid"]), torch.from_numpy(arrays["desc2"])


def random_pair(grid: tuple[int, int], size: tuple[int, int], channels: int = 6, n: int = 1) -> tuple[Tensor, Tensor]:
    """Unit descriptors, `[n, channels, *grid]` and `[n, channels, *size]`; those of image 2 are smooth."""
    rng = torch.Generator().manual_seed(sum(grid) + sum(size))
    cells = torch.randn(n, channels, *grid, generator=rng)
    coarse = torch.randn(n, channels, (size[0] + 2) // 3, (size[1] + 2) // 3, generator=rng)
    pixels = F.interpolate(coarse, size, mode="bilinear") + 0.2 * torch.randn(n, channels, *size, generator=rng)
    return F.normalize(cells), F.normalize(pixels)


def rows(matches: Matches) -> Tensor:
    return torch.cat([matches.xy1, matches.xy2, matches.score[:, None]], 1)


def assert_same(found: Matches, expected: Tensor | np.ndarray) -> None:
    """The same positions in the same order, scores to 1e-5."""
    expected = torch.as_tensor(expected)[:, :5]
    assert rows(found)[:, :4].tolist() == expected[:, :4].tolist()
    torch.testing.assert_close(found.score, expected[:, 4], rtol=1e-5, atol=0)


def test_there_are_fixtures() -> None:
    assert len(FILES) == 4


def test_matches_are_those_of_the_reference(arrays: Arrays) -> None:
    assert (arrays["nlpow"], arrays["border"], arrays["min_shape"]) == (1.5, 0.9, 5)
    found = match(*descriptors(arrays))
    assert isinstance(found, Matches) and len(found) > 100
    assert_same(found, arrays["corres_exact"])


def test_levels_are_those_of_the_reference(arrays: Arrays) -> None:
    """Sizes, and the sums of all values on the way up."""
    cells, pixels = descriptors(arrays)
    weight = F.pad(torch.ones(cells.shape[1:]), (0, 1, 0, 1))
    pooled = pyramid.correlate(F.pad(cells, (0, 1, 0, 1))[None].flatten(2), pixels[None], 1.5).pooled.whole
    levels, _ = climb(pooled.unflatten(3, weight.shape), weight, Rule(1.5, 0.9, 5, 99))
    shapes = [[*level.value.shape[3:], *level.value.shape[1:3]] for level in levels]
    assert shapes == arrays["level_shapes"][1:].tolist()
    sums = [float(level.value.sum(dtype=torch.float64)) for level in levels]
    np.testing.assert_allclose(sums, arrays["level_sums"][1:], rtol=1e-5)


@pytest.mark.parametrize("file", FILES[:1], ids=lambda file: file.stem)
def test_the_plain_method_is_that_of_the_reference(file: Path) -> None:
    with np.load(file) as arrays:
        cells, pixels = descriptors(arrays)
        sums = [float(level.sum(dtype=torch.float64)) for level in forward(cells, pixels)]
        np.testing.assert_allclose(sums, arrays["level_sums"], rtol=1e-5)
        one = final_volume(cells, pixels)[cells.shape[1] // 2, cells.shape[2] // 2]
        torch.testing.assert_close(one, torch.from_numpy(arrays["final_corr_slice"]), rtol=1e-5, atol=1e-7)


SHAPES = [
    ((4, 4), (16, 16)),
    ((5, 3), (21, 14)),
    ((3, 6), (13, 23)),
    ((7, 7), (29, 30)),
    ((1, 1), (9, 8)),
    ((2, 3), (5, 9)),
]
"""Grids and images, also with odd sides and sides that are no multiple of 4; the last has no second level."""


@pytest.mark.parametrize(("grid", "size"), SHAPES)
def test_equal_to_the_plain_method(grid: tuple[int, int], size: tuple[int, int]) -> None:
    cells, pixels = random_pair(grid, size)
    found = match(cells[0], pixels[0])
    assert isinstance(found, Matches) and len(found)
    assert_same(found, plain_match(cells[0], pixels[0]))


@pytest.mark.parametrize(("power", "border"), [(1.0, 0.9), (2.0, 0.0), (1.5, 1.0)])
def test_settings_mean_what_they_mean_in_the_plain_method(power: float, border: float) -> None:
    cells, pixels = random_pair((6, 5), (25, 22))
    found = match(cells[0], pixels[0], power=power, border=border)
    assert isinstance(found, Matches)
    assert_same(found, plain_match(cells[0], pixels[0], power, border))
    assert rows(found)[:, 4].tolist() != rows(match(cells[0], pixels[0]))[: len(found), 4].tolist()  # type: ignore[arg-type]


def test_without_levels_the_correlation_decides() -> None:
    cells, pixels = random_pair((4, 5), (17, 20))
    found = match(cells[0], pixels[0], levels=0)
    assert isinstance(found, Matches)
    volume = torch.einsum("cij,ckl->ijkl", cells[0], pixels[0]).clamp(min=0) ** 1.5
    for (x1, y1, x2, y2), score in zip(rows(found)[:, :4].int().tolist(), found.score, strict=True):
        assert score.item() == pytest.approx(float(volume[y1 // 4, x1 // 4].max()), rel=1e-5)
        assert score.item() == pytest.approx(float(volume[y1 // 4, x1 // 4, y2, x2]), rel=1e-5)


def test_a_batch_equals_its_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    cells, pixels = random_pair((6, 5), (25, 22), n=5)
    alone = [match(*pair) for pair in zip(cells, pixels, strict=True)]
    for largest in (pump._LARGEST, 2 * 25 * 22 * 30 // 4 + 1):  # all at once, then two at a time
        monkeypatch.setattr(pump, "_LARGEST", largest)
        together = match(cells, pixels)
        assert isinstance(together, list) and len(together) == 5
        for one, other in zip(together, alone, strict=True):
            assert isinstance(other, Matches)
            assert_same(one, rows(other))


@pytest.mark.parametrize("lines", [1, 2, 5])
def test_bands_change_nothing(lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for grid, size in SHAPES:
        cells, pixels = random_pair(grid, size)
        whole = match(cells[0], pixels[0])
        count = (grid[0] + 1) * (grid[1] + 1)
        with monkeypatch.context() as patch:
            patch.setattr(pyramid, "_BAND_BYTES", 8 * size[1] * count * lines)
            banded = match(cells[0], pixels[0])
        assert isinstance(whole, Matches) and isinstance(banded, Matches)
        assert_same(banded, rows(whole))


def test_a_picture_matches_itself() -> None:
    """Every cell finds its own pixel."""
    _, pixels = random_pair((1, 1), (32, 40), channels=16)
    found = match(pixels[0][:, 2::4, 2::4], pixels[0])
    assert isinstance(found, Matches) and len(found) == 80
    assert found.xy1.tolist() == found.xy2.tolist()


def test_descriptors_of_nothing_match_nothing() -> None:
    """All zero, as where there is no texture; and not finite."""
    for value in (0.0, torch.nan):
        found = match(torch.full((4, 3, 3), value), torch.full((4, 12, 12), value))
        assert isinstance(found, Matches) and len(found) == 0


def test_of_equally_good_cells_the_first_is_taken() -> None:
    """Two cells with the same descriptor and one pixel that both choose."""
    cells, pixels = torch.zeros(2, 1, 2), torch.zeros(2, 4, 8)
    cells[0], pixels[0, 1, 6] = 1, 1
    found = match(cells, pixels, levels=0)
    assert isinstance(found, Matches)
    assert rows(found).tolist() == [[2, 2, 6, 1, 1]]


@pytest.mark.parametrize(
    ("shapes", "settings", "message"),
    [
        (((3, 4, 4), (3, 16, 16)), {"stride": 8}, "stride=8: expected 4"),
        (((3, 4, 4), (2, 16, 16)), {}, r"shapes \(3, 4, 4\) and \(2, 16, 16\): expected .* equal n and channels"),
        (((4, 4), (16, 16)), {}, r"shapes \(4, 4\) and \(16, 16\)"),
        (((1, 3, 4, 4), (3, 16, 16)), {}, "equal n and channels"),
        (((3, 4, 4), (3, 1, 16)), {}, "2 × 2 pixels or more"),
        (((3, 4, 4), (3, 16, 16)), {"power": 0}, "power=0, .*expected a power above 0"),
        (((3, 4, 4), (3, 16, 16)), {"border": 2}, "border=2"),
        (((3, 4, 4), (3, 16, 16)), {"min_shape": 1}, "min_shape=1"),
        (((3, 4, 4), (3, 16, 16)), {"levels": -1}, "levels=-1"),
    ],
)
def test_what_does_not_fit_is_told(shapes: tuple[tuple[int, ...], ...], settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        match(*(torch.rand(shape) for shape in shapes), **settings)
