"""Each figure on the decision boundary draws what its tables say."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import boundary_findings as made
from helpers.tuned_findings import CLASSES, LABELS
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from lis.quantify.measures import MEASURES
from lis.report.adversarial import COLUMNS, Contrast, contrasts, gains, sizes
from lis.report.boundary_truth import boundaries, factors, posteriors
from lis.report.counterfactuals import reached, trade_off
from lis.report.evolution import MOST_NAMED, TARGET, WITHIN, Course, evolution
from lis.report.gan_counterfactuals import part_changes
from lis.report.gradcam import Bar, Heatmap, gradcam_figure
from lis.report.initialisations import direction_sparsity, pair_matrices
from lis.report.style import SERIES, class_colours, label_colours
from lis.report.tables import column, known, records, where
from lis.report.trajectories import OTHER, Crossing, crossings
from lis.store import Artifact

pytestmark = pytest.mark.usefixtures("page_style")

COLOURS = label_colours(LABELS)
FRAMES = class_colours(CLASSES)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    return made.all_artifacts(tmp_path_factory.mktemp("boundary"))


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    return [artist.get_text() for artist in figure.findobj(Text) if isinstance(artist, Text)]


def data(line: Any) -> np.ndarray:
    return np.stack([np.ravel(line.get_xdata()), np.ravel(line.get_ydata())], 1).astype(float)


def noise(*size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (*size, 16, 16, 3), np.uint8)


def test_a_crossing_has_the_frames_of_its_answers_and_the_probabilities() -> None:
    answers = ["pug", "border_collie", "someone", "chihuahua"]
    row = Crossing("pug", "chihuahua", noise(4), np.array([0.0, 0.254, 0.5, 0.996]), answers, boundary=2)
    figure = crossings([row], ["original", "b", "c", "d"], FRAMES)
    frames = [p for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    expected = [FRAMES["pug"], FRAMES["border_collie"], OTHER, FRAMES["chihuahua"]]
    assert [to_hex(p.get_edgecolor()) for p in frames] == expected
    written = texts(figure)
    assert [text for text in written if text in ("0.00", "0.25", "0.50", "1.00")] == ["0.00", "0.25", "0.50", "1.00"]
    assert "original" in written and "→ chihuahua" in written and "another class" in written
    lines = [data(line) for line in figure.axes[0].lines]
    assert len(lines) == 1 and (lines[0][:, 0] == 2).all()
    assert not crossings([Crossing("a", "b", noise(2), np.zeros(2), ["pug"] * 2)], [], FRAMES).axes[0].lines


def test_an_evolution_has_a_line_per_label_and_the_boundary_in_every_panel() -> None:
    position = np.linspace(0, 2, 17)
    p = 1 / (1 + np.exp(-9 * (position - 0.8)))
    noise_alone = 0.6 * np.random.default_rng(0).normal(0, 1, 17)
    curves = {"ear": position / 2, "leg": np.where(position > 0.8, -1.0, 0.0), "tongue": noise_alone}
    curves["leg"][3] = np.nan
    course = Course(
        title="pug → chihuahua",
        position=position,
        boundary=0.8,
        image=noise(3),
        mask=np.ones((3, 8, 8), int),
        beyond=np.array([False, False, True]),
        pictured=position[[0, 8, 16]],
        frames=["#111111", "#222222", "#222222"],
        probability=p,
        distances={"mse": position / 2},
        measures=dict.fromkeys(MEASURES, curves),
    )
    figure = evolution(course, COLOURS)
    panels = figure.axes[2:]
    assert [axis.get_title(loc="left") for axis in panels] == ["image distance, probability", *MEASURES]
    assert all(any((data(line)[:, 0] == 0.8).all() for line in axis.lines) for axis in panels)
    first = {line.get_color(): data(line) for line in panels[0].lines}
    np.testing.assert_array_equal(first[TARGET], np.stack([position, p], 1))
    area = {line.get_color(): data(line)[:, 1] for line in panels[1].lines}
    for label, colour in (("ear", COLOURS["ear"]), ("leg", COLOURS["leg"]), ("tongue", WITHIN)):
        np.testing.assert_array_equal(area[colour], curves[label])
    assert COLOURS["tongue"] not in area and course.named == {measure: ["ear", "leg"] for measure in MEASURES}
    low, high = panels[1].get_ylim()
    assert low < -1 and high > 1 and max(-low, high) < 1.3  # the scale is that of what changes
    assert {"ear", "leg", "MSE", "p(target)"} <= set(texts(figure))
    assert not {"snout", "tongue"} & set(texts(figure))
    pixels: Any = figure.axes[0].images[0].get_array()
    side = pixels.shape[1] // 3
    colourful = [float(np.ptp(part.astype(float), axis=2).max()) for part in np.split(pixels[:side, : 3 * side], 3, 1)]
    assert min(colourful[:2]) > 0 and colourful[2] == 0


def test_at_most_five_lines_of_a_panel_are_named() -> None:
    position = np.linspace(0, 1, 21)
    noise_of = [np.random.default_rng(k).normal(0, 0.02, 21) for k in range(7)]
    curves = {f"part {k}": (1 + k) * position + noise for k, noise in enumerate(noise_of)}
    empty = np.empty(0)
    course = Course("", position, 0.5, noise(1), empty, empty, empty, [], position, {}, {"area": curves})
    assert len(course.named["area"]) == MOST_NAMED == 5 and "part 0" not in course.named["area"]


def test_without_parts_no_panel_of_parts_is_drawn() -> None:
    position = np.linspace(0, 2, 5)
    course = Course(
        title="pug → chihuahua",
        position=position,
        boundary=0.8,
        image=noise(3),
        mask=np.zeros((3, 1, 1), int),
        beyond=np.zeros(3, dtype=bool),
        pictured=position[[0, 2, 4]],
        frames=["#111111"] * 3,
        probability=position / 2,
        distances={},
        measures={"area": {}, "luminance": {"ear": np.full(5, np.nan)}},
    )
    pictures, _, *panels = evolution(course, {}).axes
    assert [axis.get_title(loc="left") for axis in panels] == ["image distance, probability"]
    height, width = pictures.images[0].get_size()
    assert width > 2.9 * height  # no second line of masks
    one = evolution(replace(course, measures={**course.measures, "area": {"ear": position}}), COLOURS)
    assert [axis.get_title(loc="left") for axis in one.axes[3:]] == ["area"]


def test_without_parts_gradcam_has_no_bars() -> None:
    figure = gradcam_figure([Heatmap("pug\n→ chihuahua", noise(2), np.ones((2, 4, 4)), [])], ["one", "two"])
    assert len(figure.axes) == 1


def test_gradcam_has_bars_and_marks_and_grey_pictures_without_heat() -> None:
    bars = [Bar("leg: area", 0.8, 0.1, COLOURS["leg"]), Bar("ear: angle", 0.5, 0.4, COLOURS["ear"])]
    heat = np.zeros((2, 4, 4))
    heat[1, :2] = 3.0
    figure = gradcam_figure(
        [Heatmap("pug\n→ chihuahua", noise(2), heat, bars), Heatmap("b", noise(2), 0 * heat, [])], ["one", "two"]
    )
    left, right, grey, none = figure.axes
    np.testing.assert_allclose([p.get_width() for p in right.patches], [0.8, 0.5])  # pyright: ignore
    marks = [data(line)[0, 0] for line in right.lines if len(set(data(line)[:, 0])) == 1]
    assert {0.1, 0.4} <= set(marks)
    told = [text.get_text() for text in left.texts if "grey" in text.get_text()]
    assert len(told) == 1 and "speaks for the target" in told[0]  # in the first picture, which has no heat
    pixels: Any = grey.images[0].get_array()
    assert (pixels[..., 0] == pixels[..., 1]).all()
    shown: Any = left.images[0].get_array()
    assert not (shown[..., 0] == shown[..., 2]).all()
    assert "no part is interpreted" in [text.get_text() for text in none.texts]


def test_every_start_is_a_dot_in_the_colour_of_its_target(artifacts: dict[str, Artifact]) -> None:
    table = artifacts["initialisations"].table("sparsity")
    figure = direction_sparsity(table, CLASSES)
    assert [axis.get_title(loc="left") for axis in figure.axes[:3]] == ["border collie", "pug", "chihuahua"]
    own = where(table, origin="pug", sample_index=1)
    axis = figure.axes[4]
    found = {line.get_color(): data(line)[:, 1] for line in axis.lines if line.get_marker() == "o"}
    for target in ("border_collie", "chihuahua"):
        np.testing.assert_allclose(found[FRAMES[target]], column(where(own, target=target), "sparsity"))


def test_pairs_are_matrices(artifacts: dict[str, Artifact]) -> None:
    pairs, agreement = (artifacts["initialisations"].table(name) for name in ("pair_sparsity", "agreement"))
    figure = pair_matrices(pairs, agreement, CLASSES)
    cells = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    mean = records(where(pairs, origin="border_collie", target="pug"))[0]["mean"]
    cosine = column(where(agreement, origin="border_collie", target="pug"), "cosine").mean()
    assert cells[0][1] == f"{mean:.2f}" and cells[1][1] == f"{cosine:.2f}" and cells[0][0] == "–"
    table = artifacts["counterfactuals"].table("pairs")
    first = records(table)[0]
    cells = [[text.get_text() for text in axis.texts] for axis in reached(table, CLASSES).axes]
    assert cells[0][1] == f"{100 * first['rate']:.0f}" and cells[1][1] == f"{first['steps']:,.0f}"


def test_the_trade_off_runs_over_the_units_moved(artifacts: dict[str, Artifact]) -> None:
    table = artifacts["sparse_counterfactuals"].table("summary")
    left, right = trade_off(table.iloc[::-1]).axes
    np.testing.assert_allclose(data(left.lines[0])[:, 1], table["units"])
    assert [label.get_text() for label in left.get_xticklabels()] == ["0", "0.10", "1.0", "10"]
    colours = {line.get_color(): data(line) for line in right.lines if len(data(line)) == 4}
    np.testing.assert_allclose(colours[SERIES[0]], table[["units", "rate"]])
    np.testing.assert_allclose(colours[SERIES[2]], table[["units", "probability"]])


def test_both_boundaries_are_dots_and_those_never_crossed_are_counted(artifacts: dict[str, Artifact]) -> None:
    table = artifacts["boundary_truth"].table("boundaries")
    left, right = boundaries(table, made.END).axes
    both = known(table, "bayes")
    dots = [data(line) for line in left.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots[0], both[["classifier", "bayes"]])
    assert len(dots[1]) == len(table) - len(both)
    assert f"never on the path: {len(dots[1])}" in [text.get_text() for text in left.texts]
    assert sum(bar.get_height() for bar in right.patches) == len(table)  # pyright: ignore[reportAttributeAccessIssue]


def test_posteriors_and_factors_are_those_of_the_tables(artifacts: dict[str, Artifact]) -> None:
    truth = artifacts["boundary_truth"]
    paths, moved = truth.table("posterior_paths"), truth.table("factors")
    figure = posteriors(paths, {("border_collie", "pug", 0): 0.7})
    first = where(paths, origin="border_collie", target="pug")
    lines = [data(line) for line in figure.axes[0].lines]
    np.testing.assert_allclose(lines[0][:, 1], first["classifier_probability"])
    np.testing.assert_allclose(lines[1][:, 1], first["bayes_probability"])
    assert (lines[2][:, 0] == 0.7).all() and len(figure.axes[1].lines) == 2
    axis = factors(moved, [("border_collie", "pug")], most=3).axes[0]
    own = where(moved, origin="border_collie", target="pug").set_index("factor")
    names = [label.get_text().replace(" ", "_") for label in axis.get_yticklabels()]
    widths = [bar.get_width() for bar in axis.patches]  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_allclose(widths, [*own["difference"][names], *own["change"][names]])
    assert np.abs(widths[3:]).tolist() == sorted(np.abs(widths[3:]), reverse=True)  # half of the difference


def test_contrasts_write_by_how_much_differences_are_multiplied() -> None:
    difference = np.zeros((2, 16, 16, 3))
    difference[0], difference[1] = 0.5, -0.05
    row = Contrast("pug\n→ chihuahua", "p", noise(4), difference)
    assert gains([row]) == (2.0, 20.0)
    assert gains([Contrast("a", "", noise(4), 0 * difference)]) == (1.0, 1.0)
    figure = contrasts([row])
    heads = [text.get_text() for text in figure.axes[0].texts][: len(COLUMNS)]
    assert heads == [
        "original",
        "counterfactual",
        "its change × 2",
        "steps in pixels",
        "their change × 20",
        COLUMNS[-1],
    ]
    pixels: Any = figure.axes[0].images[0].get_array()
    side = (pixels.shape[1] + 6) // len(COLUMNS)
    assert pixels[50, 2 * side + 50].tolist() == [255] * 3 and pixels[50, 4 * side + 50].tolist() == [0] * 3


def test_sizes_are_dots_and_their_median_ratio(artifacts: dict[str, Artifact]) -> None:
    table = artifacts["adversarial"].table("adversarial")
    left, right = sizes(table).axes
    np.testing.assert_allclose(data(left.lines[0]), table[["mse_counterfactual", "mse_adversarial"]])
    ratio = np.median(table["mse_counterfactual"] / table["mse_adversarial"])
    assert left.texts[0].get_text() == f"median ratio {ratio:.0f}"
    assert sum(bar.get_height() for bar in right.patches) == 2 * len(table)  # pyright: ignore[reportAttributeAccessIssue]


def test_changes_of_parts_are_written_with_their_units() -> None:
    values = np.array([[1.0, -0.2, 0.1, 0.0, 30.0], [np.nan, 0.1, 0.2, 0.3, -60.0]])
    figure = part_changes({"a": values, "b": -values, "c": 0 * values}, ["ear", "leg"])
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert cells[:5] == ["+100 %", "−20 %", "+0.10 bit", "0.00", "+30°"] and cells[5] == "–"
    assert [axis.get_title(loc="left") for axis in figure.axes if axis.get_visible()] == ["a", "b", "c"]
    shades: Any = figure.axes[0].images[0].get_array()
    other: Any = figure.axes[1].images[0].get_array()
    assert not np.allclose(shades[0, 0], other[0, 0])


def test_heads_of_matrices_do_not_run_into_each_other() -> None:
    names = ["border_collie", "pug", "chihuahua", "schnauzer", "weimaraner"]
    table = pd.DataFrame({"origin": names[:4], "target": names[1:], "mean": 0.5, "cosine": 0.5, "shared": 0.5})
    figure = pair_matrices(table, table, names)
    figure.draw_without_rendering()
    for axis in figure.axes:
        boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert figure.axes[0].get_yticklabels()[0].get_fontsize() == 8.5
