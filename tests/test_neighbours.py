"""Filter and dense field: against the reference program, and against loops over pairs of matches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lis.matching.pump import densify, filter_matches
from lis.types import Matches, pixel_grid

FILES = sorted((Path(__file__).parent / "data" / "pump").glob("*.npz"))


def matches_of(table: np.ndarray) -> Matches:
    xy1, xy2, score = (torch.from_numpy(np.ascontiguousarray(x)) for x in (table[:, :2], table[:, 2:4], table[:, 4]))
    return Matches(xy1, xy2, score)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_equal_to_the_reference(file: Path) -> None:
    """Positions of the filtered matches exactly, their scores and the dense field to rounding."""
    with np.load(file) as arrays:
        found = filter_matches(
            matches_of(arrays["corres_exact"]), float(arrays["locality"]), int(arrays["min_cc_size"])
        )
        expected = matches_of(arrays["corres_exact_filtered"])
        assert found.xy1.tolist() == expected.xy1.tolist() and found.xy2.tolist() == expected.xy2.tolist()
        torch.testing.assert_close(found.score, expected.score, rtol=1e-5, atol=0)
        shape = arrays["desc2"].shape[1:]
        field = densify(matches_of(arrays["corres_filtered"]), shape)
        target = (pixel_grid(*shape) + field).reshape(-1, 2)[:: int(arrays["dense_stride"])]
        np.testing.assert_allclose(target, arrays["dense"][:, 2:], rtol=0, atol=1e-4)


def scattered(count: int = 120) -> Matches:
    """Cells of a grid that move by a little, or anywhere."""
    rng = np.random.default_rng(0)
    cells = rng.permutation(20 * 20)[:count]
    xy1 = np.stack([cells % 20, cells // 20], 1) * 4.0 + 2
    xy2 = xy1 + np.where(
        rng.random((count, 1)) < 0.7, rng.integers(-2, 3, (count, 2)), rng.integers(-30, 31, (count, 2))
    )
    return Matches(torch.tensor(xy1).float(), torch.tensor(xy2).float(), torch.arange(count).float())


def components(matches: Matches, reach: float) -> list[set[int]]:
    """By walking from match to match."""
    xy1, xy2, left, found = matches.xy1.tolist(), matches.xy2.tolist(), set(range(len(matches))), []
    while left:
        group, front = set(), {left.pop()}
        while front:
            i = front.pop()
            group.add(i)
            for j in [j for j in left if _linked(xy1[i], xy1[j], xy2[i], xy2[j], reach)]:
                left.remove(j)
                front.add(j)
        found.append(group)
    return found


def _linked(p: list[float], q: list[float], s: list[float], t: list[float], reach: float) -> bool:
    a, b = (q[0] - p[0], q[1] - p[1]), (t[0] - s[0], t[1] - s[1])
    return max(a[0] ** 2 + a[1] ** 2, b[0] ** 2 + b[1] ** 2) <= reach**2 and a[0] * b[0] + a[1] * b[1] > 0


@pytest.mark.parametrize(("locality", "least"), [(2, 5), (1.5, 3), (3, 50), (2, 0)])
def test_filter_is_equal_to_walking_from_match_to_match(locality: float, least: int) -> None:
    matches = scattered()
    groups = components(matches, 4 * locality)
    size = {i: len(group) for group in groups for i in group}
    kept = [i for i in range(len(matches)) if size[i] > least]
    found = filter_matches(matches, locality, least)
    assert found.xy1.tolist() == matches.xy1[kept].tolist() and found.xy2.tolist() == matches.xy2[kept].tolist()
    expected = [i + np.log2(size[i]) for i in kept]
    assert found.score.tolist() == pytest.approx(expected)
    assert 0 < len(kept) <= len(matches) and (least == 0 or len(kept) < len(matches))


def test_a_component_of_just_the_size_is_dropped() -> None:
    xy = torch.tensor([[2.0, 2], [6, 2], [10, 2]])
    line = Matches(xy, xy, torch.zeros(3))
    assert len(filter_matches(line, 2, 2)) == 3 and len(filter_matches(line, 2, 3)) == 0


def test_field_is_linear_between_matches_and_the_mean_of_three_outside() -> None:
    """An affine motion is found exactly inside; at a corner of the picture the three nearest decide."""
    xy1 = torch.tensor([[x, y] for y in (4.0, 11, 17) for x in (5.0, 12, 18)]) + torch.rand(9, 2) * 0.1
    matrix = torch.tensor([[1.1, -0.2], [0.3, 0.9]])
    field = densify(Matches(xy1, xy1 @ matrix.T + 3, torch.ones(9)), (22, 24))
    assert field.shape == (22, 24, 2) and field.dtype == torch.float32
    inside = pixel_grid(22, 24)[6:16, 7:17]
    torch.testing.assert_close(field[6:16, 7:17], inside @ matrix.T + 3 - inside, rtol=1e-5, atol=1e-5)
    corner = xy1.norm(dim=1).argsort()[:3]
    torch.testing.assert_close(field[0, 0], (xy1 @ matrix.T + 3 - xy1)[corner].mean(0))


def test_field_of_few_matches() -> None:
    """None: unknown. Up to three, or more on a line, which have no inside: the mean of the nearest."""
    assert densify(Matches.none(), (3, 4)).isnan().all()
    one = Matches(torch.tensor([[1.0, 1]]), torch.tensor([[3.0, 0]]), torch.ones(1))
    assert densify(one, (3, 4)).reshape(-1, 2).unique(dim=0).tolist() == [[2, -1]]
    line = torch.stack([torch.arange(5) * 4.0, torch.full((5,), 2.0)], 1)
    along = densify(Matches(line, line + torch.tensor([1.0, 2]), torch.ones(5)), (6, 20))
    torch.testing.assert_close(along.reshape(-1, 2).unique(dim=0), torch.tensor([[1.0, 2]]))


def test_nothing_is_filtered_from_nothing() -> None:
    assert len(filter_matches(Matches.none())) == 0
