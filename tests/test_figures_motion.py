"""The figures of motion draw what they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import rgb_to_hsv, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.quiver import Quiver
from matplotlib.text import Text

from lis.motion.matching import MOVED, recovered_table
from lis.report.fields import FieldRow, PathRow, fields, hues, paths, wheel
from lis.report.matching import errors, recovered
from lis.report.motion import _finding as motion_heading
from lis.report.motion import ellipse, movement, parts, surest_first, unit_colours
from lis.report.style import SERIES, raster, sheet

pytestmark = pytest.mark.usefixtures("page_style")

SIDE = 64
IMAGE = np.full((SIDE, SIDE, 3), 120, np.uint8)
FIGURE = np.zeros((SIDE, SIDE), bool)
FIGURE[16:48, 16:48] = True


def field(dx: float, dy: float) -> np.ndarray:
    return np.broadcast_to(np.array([dx, dy]), (SIDE, SIDE, 2)).copy()


def row(whole: np.ndarray, local: np.ndarray) -> FieldRow:
    return FieldRow("unit 3", "pug", FIGURE, IMAGE, IMAGE, IMAGE, whole, local)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def places(line: Line2D) -> np.ndarray:
    """Where a line's marks lie along the horizontal axis."""
    return np.ravel(line.get_xdata()).astype(float)


def test_hue_is_the_direction() -> None:
    found = rgb_to_hsv(hues(np.array([[1.0, 0], [0, -1], [-1, 0], [0, 1]])))[:, 0]
    np.testing.assert_allclose(found, [0, 0.25, 0.5, 0.75], atol=1e-6)  # right, up, left, down
    figure, _ = sheet(3, 3)
    axis = wheel(figure)
    bars = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    assert len(bars) >= 72
    for bar in bars[:72:9]:
        angle = bar.get_x() + bar.get_width() / 2  # as the polar axes count, counter-clockwise
        expected = hues(np.array([[np.cos(angle), -np.sin(angle)]]))[0]
        assert to_hex(bar.get_facecolor()) == to_hex(expected)


def test_arrows_begin_on_the_figure_and_point_along_the_field() -> None:
    whole = field(3.0, -4.0)
    whole[:, 40:] = np.nan
    figure = fields([row(whole, field(0.0, 0.1))])
    arrows = [artist for artist in figure.axes[2].get_children() if isinstance(artist, Quiver)]
    assert len(arrows) == 2  # a white one below
    start = (np.asarray(arrows[1].XY) + 0.5) / 192 * SIDE - 0.5
    assert start.min() >= 16 - 1 and start[:, 0].max() < 40 and start[:, 1].max() < 48 and len(start) > 20
    np.testing.assert_allclose(np.asarray(arrows[1].V) / np.asarray(arrows[1].U), -4 / 3, rtol=1e-6)
    assert any(text.startswith("up to 5.0 px") for text in texts(figure))
    assert "nothing moves" in texts(figure)
    assert not [artist for artist in figure.axes[4].get_children() if isinstance(artist, Quiver)]


def test_only_the_longest_arrows_are_drawn() -> None:
    local = field(0.0, 0.0)
    local[..., 0] = 1 + np.arange(SIDE) / 8
    figure = fields([row(field(0, 0), local)])
    arrows = [artist for artist in figure.axes[4].get_children() if isinstance(artist, Quiver)][1]
    start = (np.asarray(arrows.XY)[:, 0] + 0.5) / 192 * SIDE - 0.5
    assert start.min() > 24


def test_a_field_that_is_not_known_says_so() -> None:
    figure = fields([row(field(np.nan, np.nan), field(np.nan, np.nan))])
    assert texts(figure).count("not known") == 2
    raster(figure)


@pytest.mark.parametrize("rows", [1, 3])
def test_paths_lead_step_by_step(rows: int) -> None:
    local = np.stack([field(0, 0), field(2, 1), field(4, 2)])
    local[1, :, :24] = 60.0  # lost on the way
    figure = paths([PathRow("unit 3", "pug", FIGURE, IMAGE, IMAGE, local, np.array([0.0, 1, 2]))] * rows)
    pieces = [artist for artist in figure.axes[2].get_children() if isinstance(artist, LineCollection)]
    assert len(pieces) == 2
    first, second = (np.array(piece.get_segments()) for piece in pieces)
    np.testing.assert_allclose(first[:, 1], second[:, 0])
    np.testing.assert_allclose((second[:, 1] - first[:, 0]) * SIDE / 192, np.broadcast_to([4, 2], (len(first), 2)))
    assert (first[:, 0, 0] / 192 * SIDE).min() >= 23.5
    raster(figure)


def tuned(q: dict[str, float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"name": name, "unit": 0, "kind": kind, "strength": 1.0, "p": value, "q": value, "n": 5}
            for name, value in q.items()
            for kind in ("translation", "rotation", "scale", "shear")
        ]
    )


def tracks(names: list[str]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(0, 1, 6 * len(names)) for name in ("dx", "dy", "rotation", "shear")}
    return pd.DataFrame({"name": np.repeat(names, 6), "scale": 1.0} | columns)


def test_tuned_units_have_a_colour() -> None:
    table = tuned({"unit 1": 0.2, "unit 2": 0.04, "unit 3": 0.001})
    assert unit_colours(table) == {"unit 3": SERIES[0], "unit 2": SERIES[1]}
    figure = movement(tracks(["unit 1", "unit 2", "unit 3"]), table)
    assert {"unit 2", "unit 3", "other units"} == set(figure.axes[0].get_legend_handles_labels()[1])
    low, high = figure.axes[0].get_ylim()
    assert low > high  # down is down
    raster(figure)


def test_the_ellipse_is_one_standard_deviation() -> None:
    rng = np.random.default_rng(0)
    turn = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    xy = rng.normal(0, 1, (4000, 2)) * (3, 1) @ turn.T + (5, -2)
    found = ellipse(xy, "#000000")
    np.testing.assert_allclose([found.width, found.height], [6, 2], rtol=0.06)
    assert found.angle % 180 == pytest.approx(np.degrees(0.5), abs=2)
    np.testing.assert_allclose(found.center, (5, -2), atol=0.1)


def test_failed_samples_leave_room_for_the_others() -> None:
    table = tracks(["unit 1", "unit 2"])
    table.loc[:5, ["dx", "dy", "rotation", "scale"]] = np.nan
    raster(movement(table, tuned({"unit 1": np.nan, "unit 2": np.nan})))


def test_parts_are_written_into_their_cells() -> None:
    table = pd.DataFrame({"name": ["unit 1"] * 2, "label": ["ear", "leg"], "strength": [1.25, np.nan]})
    written = texts(parts(table, ["leg", "ear"]))
    assert "1.3" in written or "1.2" in written
    assert "–" in written


def test_matchers_are_drawn_pair_by_pair() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"matcher": name, "kind": kind, "way": way, "error": 0.1 + rng.exponential()}
        | {column: rng.normal() for what in MOVED for column in (what, f"true_{what}")}
        for name in ("flow", "pump_daisy")
        for kind in ("pose", "parts", "colours")
        for way in ("pair", "sequence")
        for _ in range(7)
    ]
    pairs = pd.DataFrame(rows)
    figure = errors(pairs, ("pose", "parts", "colours"), 4.0)
    for axis in figure.axes:
        dots = [line for line in axis.lines if line.get_marker() == "o"]
        assert [len(places(line)) for line in dots] == [7, 7]
        bars = [places(line)[0] for line in axis.lines if line.get_marker() == "|"]
        np.testing.assert_allclose(bars, [places(line).mean() for line in dots])
    poses = recovered(pairs, recovered_table(pairs), "flow")
    assert len(poses.axes) == 4 and all(len(axis.lines) == 3 for axis in poses.axes)
    raster(figure)
    raster(poses)


def test_the_heading_counts_units_that_move_the_whole_figure_or_says_that_none_does() -> None:
    kinds = ("translation", "rotation", "scale", "shear")
    rows = [{"name": f"unit {k}", "kind": kind, "strength": 1.0, "q": 0.5} for k in range(3) for kind in kinds]
    table = pd.DataFrame(rows)
    assert motion_heading(table) == "None of 3 units moves the whole figure alike in all samples"
    one = table.assign(q=table["q"].mask((table["name"] == "unit 1") & (table["kind"] == "scale"), 0.01))
    assert motion_heading(one) == "1 of 3 units moves the whole figure alike in all samples"
    assert motion_heading(table.assign(q=0.01)) == "3 of 3 units move the whole figure alike in all samples"
    assert motion_heading(table.assign(q=np.nan)) == ""


def test_units_with_the_surest_movement_come_first() -> None:
    table = pd.DataFrame({"name": ["unit 1", "unit 2", "unit 3", "unit 2"]})
    tuned = pd.DataFrame({"name": ["unit 1", "unit 2", "unit 2"], "q": [0.5, np.nan, 0.01]})
    assert surest_first(table, tuned)["name"].tolist() == ["unit 2", "unit 2", "unit 1", "unit 3"]
