"""The true displacement of part world: exact for the pose, and warping by it reproduces the colours."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lis.generators.partworld import SETS, PartWorld
from lis.generators.partworld.displacement import displacement
from lis.generators.partworld.drawing import Limb, Oval, shares

NAMES = list(SETS)
POSE = ("x", "y", "scale", "rotation")
TEXTURES = ("fur_texture", "cap_texture", "wing_bars")
COLOURS = ("hue", "lightness", "saturation", "marking", "contrast")


def pair(name: str, changed: Sequence[str], n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Two settings `[n, factors]` that differ in the factors `changed`."""
    figures, rng = SETS[name], torch.Generator().manual_seed(5)
    first, last = (torch.randn(n, len(figures.factor_names), generator=rng).double() for _ in range(2))
    return first, torch.where(torch.tensor([factor in changed for factor in figures.factor_names]), last, first)


def paint(name: str) -> list[str]:
    """The factors that move nothing."""
    return [f for f in SETS[name].factor_names if f in TEXTURES or any(colour in f for colour in COLOURS)]


def parts(name: str) -> list[str]:
    """The factors that change the shapes."""
    return [f for f in SETS[name].factor_names if f not in POSE and f not in paint(name)]


@pytest.mark.parametrize("name", NAMES)
def test_the_pose_moves_every_point_of_the_figure_by_one_similarity(name):
    first, last = pair(name, POSE)
    field = displacement(SETS[name], first, last)
    a, b = SETS[name].values(first), SETS[name].values(last)
    for k in range(len(first)):
        known = ~field[k, ..., 0].isnan()
        assert 0.1 < known.double().mean() < 0.6
        turn = float(b["rotation"][k] - a["rotation"][k])
        ratio = float(b["scale"][k] / a["scale"][k])
        for row, column in known.nonzero()[::37].tolist():
            x, y = ((v + 0.5) / 32 - 1 for v in (column, row))
            dx, dy = x - float(a["x"][k]), y - float(a["y"][k])
            there_x = float(b["x"][k]) + ratio * (dx * math.cos(turn) - dy * math.sin(turn))
            there_y = float(b["y"][k]) + ratio * (dx * math.sin(turn) + dy * math.cos(turn))
            np.testing.assert_allclose(field[k, row, column], [32 * (there_x - x), 32 * (there_y - y)], atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_change_does_not_move(name):
    first, last = pair(name, paint(name))
    field, (_, masks) = displacement(SETS[name], first, last), SETS[name].render(first)
    known = ~field.isnan().any(3)
    assert field[known].abs().max() < 1e-9
    assert not known[masks.sum(1) < 0.5].any()
    assert known[masks.amax(1) > 0.9].double().mean() > 0.97  # not where two layers of one label share a pixel


@pytest.mark.parametrize("kind", ["pose", "parts"])
@pytest.mark.parametrize("name", NAMES)
def test_warping_the_last_picture_reproduces_the_colours_of_the_first(name, kind):
    first, last = pair(name, POSE if kind == "pose" else parts(name), n=2)
    if kind == "parts":  # where paint would not stretch with its part
        columns = [SETS[name].factor_names.index(f) for f in SETS[name].factor_names if f in TEXTURES]
        first[:, columns] = last[:, columns] = -30
    size = 192
    field = displacement(SETS[name], first, last, size)
    before, after = (SETS[name].render(u, size)[0] for u in (first, last))
    place = torch.stack(torch.meshgrid(*2 * [torch.arange(size) + 0.5], indexing="xy"), 2) + field
    warped = F.grid_sample(after, place.nan_to_num() / size * 2 - 1, padding_mode="border", align_corners=False)
    inner = -F.max_pool2d(-_pure(name, first, size), 5, 1, 2)
    around = -F.max_pool2d(-_pure(name, last, size), 5, 1, 2)
    outer = F.grid_sample(around, place.nan_to_num() / size * 2 - 1, align_corners=False)
    clear = (inner > 0.5) & (outer > 0.999) & ~field[..., 0].isnan()[:, None]
    assert clear.double().mean() > 0.05
    assert (after - before).abs().amax(1, keepdim=True)[clear].quantile(0.9) > 0.2
    difference = (warped - before).abs().amax(1, keepdim=True)[clear]
    assert difference.max() < (0.02 if kind == "pose" else 1e-3)  # stripes are interpolated


def _pure(name: str, u: torch.Tensor, size: int) -> torch.Tensor:
    """1 where a pixel belongs to one layer alone, `[n, 1, size, size]`."""
    share = torch.stack(shares(SETS[name].layers(u, size)[2]), 1).amax(1, keepdim=True)
    return (share > 0.999).double()


def test_what_is_covered_afterwards_is_not_known():
    figures = SETS["dogs"]
    first = torch.zeros(1, len(figures.factor_names)).double()
    last = first.clone()
    last[:, figures.factor_names.index("ear_angle")] = -4.0  # hangs over the eye and the head
    head = figures.render(first)[1][0, figures.labels.index("head")] > 0.9
    ear = figures.render(last)[1][0, figures.labels.index("ear")] > 0.9
    field = displacement(figures, first, last)[0]
    assert (head & ear).sum() > 10
    assert field[head & ear].isnan().all()
    assert not field[head & ~(figures.render(last)[1][0, figures.labels.index("ear")] > 0.1)].isnan().any()


def test_a_point_that_leaves_the_frame_is_not_known():
    figures = SETS["birds"]
    first = torch.zeros(1, len(figures.factor_names)).double()
    last = first.clone()
    last[:, 2:4] = 8.0  # large and turned
    field = displacement(figures, first, last)[0]
    place = torch.stack(torch.meshgrid(*2 * [torch.arange(64) + 0.5], indexing="xy"), 2) + field
    known = place[~field.isnan().any(2)]
    assert (known > 0).all() and (known < 64).all()
    body = figures.render(first)[1].sum(1)[0] > 0.9
    assert field[body].isnan().any()


Ends = tuple[float, float, float, float, float, float]
"""x and y of the start and of the end, and both radii."""


def _limb_by_hand(limb: Ends, onto: Ends, x: float, y: float) -> tuple[float, float]:
    """The same share of the axis and the same angle from it, at the same share of the radius."""
    x0, y0, x1, y1, r0, r1 = limb
    t = min(max(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / math.hypot(x1 - x0, y1 - y0) ** 2, 0), 1)
    px, py = x0 + t * (x1 - x0), y0 + t * (y1 - y0)
    reach = math.hypot(x - px, y - py) / (r0 + t * (r1 - r0))
    angle = math.atan2(y - py, x - px) - math.atan2(y1 - y0, x1 - x0)
    u0, v0, u1, v1, q0, q1 = onto
    angle += math.atan2(v1 - v0, u1 - u0)
    reach *= q0 + t * (q1 - q0)
    return u0 + t * (u1 - u0) + reach * math.cos(angle), v0 + t * (v1 - v0) + reach * math.sin(angle)


def _limb(ends: Ends) -> Limb:
    x0, y0, x1, y1, r0, r1 = torch.tensor(ends, dtype=torch.float64)
    return Limb((x0, y0), (x1, y1), r0, r1)


def test_limbs_against_angles_by_hand():
    one, other = (0.1, -0.2, 0.5, 0.3, 0.2, 0.1), (0.0, 0.4, -0.7, 0.1, 0.3, 0.4)
    for x, y in np.random.default_rng(0).uniform(-1, 1, (40, 2)):
        inside = _limb(one).to_shape(torch.tensor(x), torch.tensor(y))
        found = _limb(other).to_figure(*inside)
        np.testing.assert_allclose([float(v) for v in found], _limb_by_hand(one, other, x, y), atol=1e-12)


def test_ovals_keep_their_half_axes():
    turn = torch.tensor(math.pi / 2, dtype=torch.float64)
    one, other = Oval(1.0, 2.0, 3.0, 0.5, turn), Oval(0.0, 0.0, 1.0, 4.0)
    for x, y, expected in ((1.0, 2.0, (0, 0)), (1.0, 5.0, (1, 0)), (0.5, 2.0, (0, 4)), (1.0, 3.5, (0.5, 0))):
        found = other.to_figure(*one.to_shape(torch.tensor(x).double(), torch.tensor(y).double()))
        np.testing.assert_allclose([float(v) for v in found], expected, atol=1e-12)
        back = one.to_figure(*one.to_shape(torch.tensor(x).double(), torch.tensor(y).double()))
        np.testing.assert_allclose([float(v) for v in back], (x, y), atol=1e-12)


def test_the_generator_knows_the_displacement_of_any_style_code():
    generator = PartWorld(["pug"])
    first, last = pair("dogs", ["ear_length"], n=2)
    w, moved = (generator.world.to_w(u.float()) for u in (first, last))
    field = generator.displacement(w, moved)
    assert field.shape == (2, 64, 64, 2)
    torch.testing.assert_close(
        field.double(), displacement(SETS["dogs"], first, last), atol=1e-3, rtol=0, equal_nan=True
    )
