"""Each figure on tuned units draws what its table says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from helpers import tuned_findings
from helpers.tuned_findings import CLASSES, LABELS
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.stats import norm

from lis.quantify.measures import MEASURES
from lis.report.faithfulness import faithfulness_figure
from lis.report.marks import ONE_SIDED, TWO_SIDED, heat, matrix
from lis.report.pictures import MOST, Block, Row, strip_words, trajectories
from lis.report.relevance import combinations, correlation, over_samples, relevance_figure, upset
from lis.report.sparsity import label_sparsity, unit_sparsity
from lis.report.strips import FRAMED, LEAST, VEILED, thinning
from lis.report.style import MUTED, PAIRING, PARTS, SERIES, class_colours, label_colours, raster, sheet
from lis.report.tables import column, known, records, where
from lis.report.transfer import agreement_figure as class_agreement
from lis.report.transfer import transfer_figure
from lis.report.truth import agreement_figure, measured_and_true
from lis.report.tuning import overlap, ranking
from lis.report.unit_map import branches, clusters_figure, map_figure
from lis.report.unit_statistics import changes
from lis.report.wording import changed, number
from lis.store import Artifact
from lis.units.truth import COMPARED

pytestmark = pytest.mark.usefixtures("page_style")

COLOURS = label_colours(LABELS)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    own, null = tuned_findings.tuned(40, 5), tuned_findings.tuned(25, 5, null=True)
    return tuned_findings.learn(tmp_path_factory.mktemp("tables"), own, null)


@pytest.fixture(scope="module")
def units(artifacts: dict[str, Artifact]) -> Artifact:
    return artifacts["unit_statistics"]


def texts(figure: Figure) -> str:
    """Everything that is written in a figure, titles and tick labels too."""
    figure.draw_without_rendering()
    return "\n".join(artist.get_text() for artist in figure.findobj(Text) if isinstance(artist, Text))


def panel(figure: Figure, title: str) -> Axes:
    """The axes with a title."""
    return next(axis for axis in figure.axes if axis.get_title(loc="left") == title)


def points(axis: Axes, marker: str = "o") -> np.ndarray:
    """Positions `[n, 2]` of all marks of one kind."""
    lines = [line for line in axis.lines if line.get_marker() == marker]
    parts = [np.stack([np.ravel(line.get_xdata()), np.ravel(line.get_ydata())], 1) for line in lines]
    return np.concatenate(parts).astype(float) if parts else np.empty((0, 2))


def written(axis: Axes) -> list[str]:
    """Texts inside the axes."""
    return [text.get_text() for text in axis.texts]


def test_label_colours_are_no_class_colours() -> None:
    assert not set(PARTS) & set(SERIES) and len(set(label_colours(LABELS).values())) == len(LABELS)
    assert label_colours(LABELS[:3]) == {name: COLOURS[name] for name in LABELS[:3]}


def test_a_matrix_is_filled_from_a_long_table() -> None:
    table = pd.DataFrame({"a": ["x", "y"], "b": [1, 2], "value": [0.5, -1.0]})
    found = matrix(table, ("a", ["y", "x"]), ("b", [1, 2]), "value")
    np.testing.assert_array_equal(found, [[np.nan, -1.0], [0.5, np.nan]])


def test_heat_writes_every_number_and_colours_by_it() -> None:
    figure, axes = sheet(3, 2)
    heat(
        axes[0, 0], np.array([[0.0, 1.0], [np.nan, 0.5]]), ["a_b", "c"], ["d", "border_collie"], (0, 1), "{:.1f}".format
    )
    axis = axes[0, 0]
    assert written(axis) == ["0.0", "1.0", "–", "0.5"]
    cells: Any = axis.images[0].get_array()
    np.testing.assert_allclose(cells[0, 1], ONE_SIDED(1.0)[:3])
    assert "border\ncollie" in texts(figure) and "a b" in texts(figure)


def test_heat_colours_by_another_number() -> None:
    _, axes = sheet(3, 2)
    heat(axes[0, 0], np.array([[30.0]]), ["a"], ["b"], (-1, 1), str, TWO_SIDED, shade=np.array([[-1.0]]))
    cells: Any = axes[0, 0].images[0].get_array()
    np.testing.assert_allclose(cells[0, 0], TWO_SIDED(0.0)[:3])
    assert written(axes[0, 0]) == ["30.0"]


def test_ranking_shows_the_first_units_and_how_sure_they_are(units: Artifact) -> None:
    table = where(units.table("ranking"), measure="area")
    figure = ranking(table, COLOURS, most=4)
    axis, rows = panel(figure, "ear"), records(where(table, label="ear"))[:4]
    np.testing.assert_allclose(points(axis), [(row["change"], at) for at, row in enumerate(rows)], rtol=1e-6)
    assert [label.get_text() for label in axis.get_yticklabels()] == [str(row["unit"]) for row in rows]
    segments = [c.get_segments()[0][:, 0].tolist() for c in axis.collections if isinstance(c, LineCollection)]
    np.testing.assert_allclose(segments, [(row["low"], row["high"]) for row in rows], rtol=1e-6)
    filled = [line.get_markerfacecolor() != "white" for line in axis.lines if line.get_marker() == "o"]
    assert filled == [row["larger"] for row in rows]
    assert "eye (too small)" in texts(figure) and axis.title.get_text() == ""


def test_overlap_is_the_mean_over_labels_on_both_sides(units: Artifact) -> None:
    table = units.table("overlap")
    figure = overlap(table, MEASURES, 10)
    mean = column(where(table, measure_a="area", measure_b="angle"), "overlap").mean()
    cells = np.array(written(figure.axes[0])).reshape(5, 5)
    assert cells[0, 4] == cells[4, 0] == f"{mean:.1f}" and cells[2, 2] == "–"


def test_changes_stand_beside_the_normal_curve(units: Artifact) -> None:
    scaled = {name: values.numpy() for name, values in units.tensors("scaled").items()}
    test = units.table("distribution")
    figure = changes({name: scaled[name] for name in MEASURES}, test)
    axis, values = panel(figure, "entropy"), scaled["entropy"]
    area = sum(patch.get_width() * patch.get_height() for patch in axis.patches)  # pyright: ignore[reportAttributeAccessIssue]
    assert area == pytest.approx(1)
    x, y = (np.asarray(data, dtype=float) for data in axis.lines[0].get_data())
    np.testing.assert_allclose(y, norm.pdf(x, values.mean(), values.std()), rtol=1e-5)
    assert f"n = {len(values):,}" in written(axis)[0] and "p < 0.001" in written(axis)[0]


def test_label_sparsity_stands_beside_random_directions(units: Artifact) -> None:
    own, null = (
        known(units.table("label_sparsity"), "sparsity"),
        known(units.table("label_sparsity_control"), "sparsity"),
    )
    figure = label_sparsity(own, null, CLASSES)
    axis = panel(figure, "all measures")
    values = [column(where(own, measure="all", **{"class": name}), "sparsity").mean() for name in CLASSES]
    random = [column(where(null, measure="all", **{"class": name}), "sparsity").mean() for name in CLASSES]
    np.testing.assert_allclose(points(axis)[::-1, 0], values)
    np.testing.assert_allclose(points(axis, "|")[::-1, 0], random)
    assert "random directions" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert not label_sparsity(own, null.head(0), CLASSES).legends


def test_unit_sparsity_has_a_dot_per_label_and_measure(units: Artifact) -> None:
    table = units.table("unit_sparsity")
    colours = {label: COLOURS[label] for label in dict.fromkeys(table["label"])}
    figure = unit_sparsity(table, colours)
    for measure in MEASURES:
        expected = [(row["sparsity"], at) for at, row in enumerate(records(where(table, measure=measure)))]
        np.testing.assert_allclose(points(panel(figure, measure)), expected, rtol=1e-6)
        beside = [row["control"] for row in records(where(table, measure=measure))]
        np.testing.assert_allclose(points(panel(figure, measure), "|")[:, 0], beside, rtol=1e-6)
    assert "tongue" in texts(figure)


def test_the_map_has_every_unit_in_the_colour_of_its_label(units: Artifact) -> None:
    table = units.table("map").merge(units.table("faithfulness")[["unit", "reached"]], on="unit")
    figure = map_figure(table, COLOURS)
    found = {}
    for spots in (c for c in figure.axes[0].collections if isinstance(c, PathCollection)):
        for place in np.asarray(spots.get_offsets()):
            found[tuple(place.round(5))] = to_hex(np.asarray(spots.get_facecolor())[0])
    expected = {(round(row["x"], 5), round(row["y"], 5)): COLOURS[row["label"]] for row in records(table)}
    assert {place: colour for place, colour in found.items() if np.isfinite(place).all()} == expected
    label = str(table["label"].iloc[0])
    assert f"{label} ({len(where(table, label=label, reached=True))})" in texts(figure)
    pale = [c for c in figure.axes[0].collections if isinstance(c, PathCollection) and c.get_alpha() == 0.2]
    assert sum(len(np.asarray(c.get_offsets())) for c in pale) == np.sum(~table["reached"]) > 0


def test_branches_equal_those_of_scipy() -> None:
    merges = linkage(np.random.default_rng(0).normal(size=(9, 3)), "ward")
    drawn: Any = dendrogram(merges, no_plot=True)
    own = branches(merges, drawn["leaves"])
    # scipy draws leaf k at 5 + 10 k.
    theirs = np.stack([np.array(drawn["dcoord"]), (np.array(drawn["icoord"]) - 5) / 10], -1)
    np.testing.assert_allclose(sorted(own[:, 1:3, :].tolist()), sorted(theirs[:, 1:3, :].tolist()))


def test_clusters_are_rows_in_the_order_of_the_tree(units: Artifact) -> None:
    tree, table, places = units.json("tree"), units.table("clusters"), units.table("map")
    figure = clusters_figure(np.array(tree["linkage"]), tree["order"], places, table, COLOURS)
    tree_axis, band, _, cells = figure.axes
    lines = next(c for c in tree_axis.collections if isinstance(c, LineCollection))
    assert len(lines.get_segments()) == len(places) - 1
    colours: Any = band.images[0].get_array()
    leaves = places["label"].to_numpy()[tree["order"]].tolist()
    assert [to_hex(colour) for colour in colours[:, 0]] == [COLOURS[label] for label in leaves]
    order = list(dict.fromkeys(places["cluster"].to_numpy()[tree["order"]].tolist()))
    names = [label.get_text() for label in cells.get_yticklabels()]
    assert [int(name.split(" · ")[0]) for name in names] == order
    labels = [label for label in LABELS if label in table]
    row = records(where(table, cluster=order[0]))[0]
    assert written(cells)[: len(labels)] == [f"{row[label]:.2f}" for label in labels]


def test_relevance_shows_every_unit_and_counts_the_relevant(units: Artifact) -> None:
    table, null = units.table("relevance"), units.table("relevance_control")
    figure = relevance_figure(table, null, CLASSES, 0.15)
    axis = figure.axes[0]
    for at, name in enumerate(reversed(CLASSES)):
        own = where(table, **{"class": name})
        dots = points(axis)
        mine = dots[(dots[:, 1] < at) & (dots[:, 1] > at - 0.3), 0]
        np.testing.assert_allclose(sorted(mine), sorted(own["change"]), rtol=1e-6)
        assert f"{sum(own['relevant'])} relevant" in written(axis)
    lines = [float(np.ravel(line.get_xdata())[0]) for line in axis.lines if line.get_linestyle() == "--"]
    assert lines == [-0.15, 0.15]
    pug = records(where(table, **{"class": "pug"}).nlargest(1, columns="relevance"))[0]
    assert str(pug["unit"]) in written(axis)


def test_relevance_of_units_that_do_nothing() -> None:
    table = pd.DataFrame(
        {"unit": [1, 2], "class": "pug", "change": 0.0, "relevance": 0.0, "relevant": False, "larger": False}
    )
    figure = relevance_figure(table, pd.DataFrame({"class": [], "change": []}), ["pug"], 0.15)
    raster(figure)
    assert "0 relevant" in written(figure.axes[0]) and not figure.legends


def test_combinations_are_exclusive_and_complete() -> None:
    sets = {"a": {1, 2, 3, 7}, "b": {2, 3}, "c": {3, 9, 10}}
    found = dict(combinations(sets))
    slow: dict[frozenset[str], set[int]] = {}
    for unit in (1, 2, 3, 7, 9, 10):
        slow.setdefault(frozenset(name for name in sets if unit in sets[name]), set()).add(unit)
    assert found == slow and len(combinations(sets)[0][1]) == 2


def test_the_set_diagram_counts_units_per_combination() -> None:
    figure = upset({"pug": {1, 2, 3}, "border_collie": set(), "chihuahua": {3, 4}})
    _, bars, totals, members = figure.axes
    assert sorted(patch.get_height() for patch in bars.patches) == [1, 1, 2]  # pyright: ignore[reportAttributeAccessIssue]
    assert [patch.get_width() for patch in totals.patches] == [3, 0, 2]  # pyright: ignore[reportAttributeAccessIssue]
    assert "0 (robust) " in written(totals)
    colours = class_colours(["pug", "border_collie", "chihuahua"])
    marks = {tuple(np.ravel(line.get_xydata())): line.get_color() for line in members.lines}
    shared = next(k for k, (names, _) in enumerate(combinations({"p": {1, 2, 3}, "c": {3, 4}})) if len(names) == 2)
    assert marks[shared, 0] == colours["pug"] and marks[shared, 2] == colours["chihuahua"]
    assert len(set(marks.values())) == 3


def test_many_combinations_are_cut_and_counted() -> None:
    sets = {f"class {k}": {unit for unit in range(1, 64) if unit >> k & 1} for k in range(6)}
    assert "14 of 63 combinations" in texts(upset(sets))


def test_correlation_is_symmetric(units: Artifact) -> None:
    table = units.table("relevance_correlation")
    cells = np.array(written(correlation(table, CLASSES).axes[0])).reshape(3, 3)
    r = records(where(table, class_a="pug", class_b="chihuahua"))[0]["r"]
    assert cells[1, 2] == cells[2, 1] == f"{r:+.2f}".replace("-", "−") and set(np.diag(cells)) == {"–"}


def test_samples_are_dots_around_their_mean(units: Artifact) -> None:
    table = units.table("relevance_seeds")
    unit = table["unit"].tolist()[0]
    figure = over_samples(where(table, unit=unit), CLASSES)
    axis = panel(figure, f"unit {unit}")
    for at, name in enumerate(CLASSES):
        values = column(where(table, unit=unit, **{"class": name}), "change")
        dots = points(axis)
        mine = dots[np.abs(dots[:, 1] - at) < 0.3, 0]
        np.testing.assert_allclose(sorted(mine), sorted([*values, values.mean()]), rtol=1e-6)


def test_transfer_writes_the_change_in_every_class(units: Artifact) -> None:
    table = known(units.table("transfer"), "change")
    figure = transfer_figure(table, CLASSES)
    axis = panel(figure, "angle")
    own = where(table, measure="angle")
    first = records(own)[: len(CLASSES)]
    assert written(axis)[: len(CLASSES)] == [changed("angle", row["change"]) for row in first]
    assert f"{first[0]['label']} · {first[0]['unit']}" in texts(figure)
    cells: Any = axis.images[0].get_array()
    shades = np.array([row["change"] for row in first]) / max(abs(row["change"]) for row in first)
    np.testing.assert_allclose(cells[0], TWO_SIDED((shades + 1) / 2)[:, :3], atol=0.02)


def test_agreement_between_classes_is_the_mean_over_pairs(units: Artifact) -> None:
    table = units.table("agreement")
    labels = list(dict.fromkeys(table["label"]))
    cells = np.array(written(class_agreement(table, labels, MEASURES).axes[0])).reshape(len(labels), 5)
    r = column(where(table, label=labels[1], measure="entropy"), "r")
    assert len(r) == 3 and cells[1, 2] == f"{r.mean():+.2f}".replace("-", "−")


def test_honesty_splits_units_at_the_null(units: Artifact) -> None:
    table = units.table("faithfulness")
    figure = faithfulness_figure(table, 8)
    left, right = figure.axes
    dots = points(left)
    for reached, colour in ((False, MUTED), (True, PAIRING["cycle"])):
        drawn = next(line for line in left.lines if line.get_color() == colour and line.get_marker() == "o")
        expected = where(table, reached=reached)[["reencoded_share", "others"]]
        np.testing.assert_allclose(np.asarray(drawn.get_xydata()), expected, rtol=1e-6)
    np.testing.assert_allclose(dots[-1], table[["reencoded_share", "others"]].mean(), rtol=1e-6)
    beyond = int(np.sum(table["selective"]))  # only what is drawn has an entry
    assert (f"beyond random mixtures, q ≤ 0.05 ({beyond})" in texts(figure)) is (beyond > 0)
    assert f"not beyond random mixtures ({len(table) - beyond})" in texts(figure)
    one = faithfulness_figure(table.assign(selective=table["unit"] == table["unit"].iloc[0]), 8)
    assert "beyond random mixtures, q ≤ 0.05 (1)" in texts(one)
    assert sum(patch.get_height() for patch in right.patches) == len(table)  # pyright: ignore[reportAttributeAccessIssue]
    assert len(faithfulness_figure(table, 1).axes) == 1


def test_measured_and_true_are_on_one_scale(artifacts: dict[str, Artifact]) -> None:
    table, facts = artifacts["truth"].table("units"), artifacts["truth"].table("agreement")
    figure = measured_and_true(table, facts, COLOURS, "area")
    own = where(table, measure="area", label="snout")
    axis = panel(figure, "snout")
    np.testing.assert_allclose(points(axis), own[["true", "measured"]], rtol=1e-6)
    assert axis.get_xlim() == axis.get_ylim()
    row = records(where(facts, measure="area", label="snout"))[0]
    assert f"ρ = {row['spearman']:+.2f}\n{row['overlap']:.0f} of top 10" in written(axis)
    assert "eye (too small)" in texts(figure)


def test_a_label_that_is_never_seen_says_so() -> None:
    row = {"label": "ear", "measure": "area"}
    table = pd.DataFrame([row | {"unit": 1, "measured": np.nan, "true": np.nan}])
    facts = pd.DataFrame([row | {"spearman": np.nan, "overlap": np.nan, "interpreted": False}])
    assert "never seen" in texts(measured_and_true(table, facts, COLOURS, "area"))


def test_truth_has_four_matrices(artifacts: dict[str, Artifact]) -> None:
    table = artifacts["truth"].table("agreement")
    figure = agreement_figure(table, LABELS, COMPARED)
    own = records(where(table, label=LABELS[2], measure="luminance"))[0]
    for axis, name in zip(figure.axes, ("spearman", "overlap", "spearman_seed", "overlap_seed"), strict=True):
        expected = f"{own[name]:+.2f}".replace("-", "−") if "spearman" in name else number(own[name], 2)
        cells = np.array(written(axis)).reshape(len(LABELS), len(COMPARED))
        assert cells[2, COMPARED.index("luminance")] == expected


def row(steps: int, name: str = "unit 3", **changes: Any) -> Row:
    mask = np.zeros((steps, 8, 8), bool)
    mask[:, 2:5, 3:6] = True
    curve = np.linspace(0, -0.6, steps)
    facts: dict[str, Any] = {
        "name": name,
        "detail": "ear\npug",
        "mask": mask,
        "curve": curve,
        "change": "−60 %",
        "colour": "#117733",
    }
    facts["image"] = np.zeros((steps, 16, 16, 3), np.uint8)
    return Row(**(facts | changes))


@pytest.mark.parametrize(("blocks", "steps"), [(1, 5), (3, 5), (2, 9), (2, 1)])
def test_trajectories_have_images_and_a_curve_per_row(blocks: int, steps: int) -> None:
    figure = trajectories(
        [Block(f"title {k}", "r from 0 to 2", [row(steps), row(steps, "unit 4")]) for k in range(blocks)]
    )
    pictures = [axis for axis in figure.axes if axis.images]
    assert len(pictures) == blocks and len(figure.axes) == 3 * blocks
    drawn = min(steps, MOST)
    for axis in pictures:
        assert axis.get_position().width * figure.get_figwidth() / drawn >= LEAST - 0.03  # the line behind the picture
    for axis in figure.axes:
        box = axis.get_position()
        assert box.x0 > 0 and box.x1 < 1 and box.y0 > 0 and box.y1 < 1
    curve = next(axis for axis in figure.axes if not axis.images)
    assert np.linspace(0, -0.6, steps).tolist() in [list(np.ravel(line.get_ydata())) for line in curve.lines]
    assert {"unit 3", "ear\npug", "−60 %", "title 0"} <= set(texts(figure).split("\n")) | {"ear\npug"}
    assert sum(isinstance(c, QuadContourSet) for c in pictures[0].collections) == 2 * 2 * drawn


def test_the_sample_itself_is_framed_and_stays_where_steps_are_left_out() -> None:
    made = row(17, unperturbed=4, beyond=[False] * 16 + [True])
    figure = trajectories([Block("", "", [row(17), made])])
    axis = next(axis for axis in figure.axes if axis.images)
    [patch] = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    at = made.drawn.index(4)
    assert patch.get_xy() == pytest.approx((at / MOST, 0)) and len(made.drawn) == MOST
    pixels: Any = axis.images[0].get_array()
    assert pixels[-20, 20].max() == 0 and pixels[-20, -20].min() > 100
    curve = figure.axes[-1]
    [dashed] = [line for line in curve.lines if line.get_linestyle() == "--" and line.get_color() == made.colour]
    assert np.flatnonzero(np.isfinite(np.asarray(dashed.get_ydata(), float))).tolist() == [15, 16]
    assert strip_words([made]) == f"{thinning(17, MOST)}{FRAMED}{VEILED}".strip() and strip_words([row(3)]) == ""


def test_an_outline_lies_around_its_part() -> None:
    """In the second image of the second row, of 16 × 16 pixels enlarged twelve times, with a mask half as fine."""
    figure = trajectories([Block("", "", [row(3), row(3)])])
    axis = next(axis for axis in figure.axes if axis.images)
    outlines = [c for c in axis.collections if isinstance(c, QuadContourSet)]
    corners = outlines[2 * (3 + 1)].get_paths()[0].vertices
    x, y = np.asarray(corners)[:, 0] - 198, np.asarray(corners)[:, 1] - 198
    np.testing.assert_allclose(
        [x.min(), x.max(), y.min(), y.max()], [3 * 24 - 0.5, 6 * 24 - 0.5, 2 * 24 - 0.5, 5 * 24 - 0.5]
    )


def test_blocks_share_a_scale_and_flips_are_open() -> None:
    flipped = np.array([False, False, True])
    answer = row(3, mask=None, curve=np.array([0.0, 0.2, 0.9]), corner=["0.05", "0.25", "0.95"], flipped=flipped)
    figure = trajectories([Block("", "", [answer, row(3, mask=None, curve=np.array([0.0, np.nan, -0.1]))])])
    curves = [axis for axis in figure.axes if not axis.images]
    assert curves[0].get_ylim() == curves[1].get_ylim() and curves[0].get_ylim()[1] > 0.9
    marks = {line.get_color() if len(np.atleast_1d(line.get_xdata())) == 1 else "" for line in curves[0].lines}
    assert "white" in marks and "0.95" in texts(figure)


def test_a_part_that_is_absent_has_no_outline_and_no_curve() -> None:
    gone = row(3, mask=np.zeros((3, 8, 8), bool), curve=np.full(3, np.nan), change="–")
    figure = trajectories([Block("", "", [gone])])
    raster(figure)
    assert not any(isinstance(c, QuadContourSet) for axis in figure.axes for c in axis.collections)


def test_figures_leave_no_global_state(units: Artifact, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    raster(map_figure(units.table("map").assign(reached=True), COLOURS)).save(tmp_path / "map.png")
    raster(trajectories([Block("", "", [row(3)])]))
    assert dict(matplotlib.rcParams) == before
