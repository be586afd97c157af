"""Each figure draws what its table says, without pyplot and without a change to matplotlib's settings."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from helpers import findings
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.text import Text

from lis.report import comparison, evaluation, gains, layouts, similarity, true_factors
from lis.report import link as link_module
from lis.report.marks import ONE_SIDED, density, enlarged, facets, matrices, padded, wants_log
from lis.report.schematic import Wiring, schematic
from lis.report.style import DPI, PAIRING, SERIES, WIDE, chart_png, class_colours, jpeg, photo_png, plain, raster, svg
from lis.report.tables import column, where

pytestmark = pytest.mark.usefixtures("page_style")

NAMES: list[str] = list(findings.NAMES)


def texts(figure: Figure) -> str:
    """Everything that is written in a figure, titles and tick labels too."""
    figure.draw_without_rendering()
    return "\n".join(artist.get_text() for artist in figure.findobj(Text) if isinstance(artist, Text))


def dots(axis: Axes, marker: str = "o") -> list[tuple[float, float]]:
    """Positions of an axis' single dots."""
    lines = [line for line in axis.lines if line.get_marker() == marker and len(np.atleast_1d(line.get_xdata())) == 1]
    return [(float(np.ravel(line.get_xdata())[0]), float(np.ravel(line.get_ydata())[0])) for line in lines]


def pixels(image: np.ndarray) -> np.ndarray:
    """`[k, 3, h, w]` as `[k, h, w, 3]`."""
    return image.transpose(0, 2, 3, 1)


def similarity_figure(draws: int = 5) -> Figure:
    """ARI and RSA, beside permutations and random classes."""
    return similarity.similarity_figure(findings.similarity(), findings.permutations(), findings.random_classes(draws))


def wiring(**changes: object) -> Wiring:
    facts = {"generator": "World", "classifier": "Net $x", "link": "LR", "link_detail": "40 → 64", "classes": 3}
    return Wiring(**({"w_dim": 64, "units": 40, "resolution": 16} | facts | changes))  # pyright: ignore[reportArgumentType]


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found = {name: tensor.numpy() for name, tensor in findings.examples(3).items()}
    return pixels(found["image"]), pixels(found["cycled"]), found["class_index"]


def test_figures_leave_no_global_state() -> None:
    before = dict(matplotlib.rcParams)
    raster(similarity_figure())
    assert dict(matplotlib.rcParams) == before
    program = "import sys, lis.report.page, lis.report.comparison; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_schematic_names_the_models_and_sizes(pictures: tuple[np.ndarray, ...]) -> None:
    figure = schematic(
        wiring(in_w="0.19× the MSE", class_kept="90 % keep\ntheir class"), pictures[0][0], pictures[1][0]
    )
    written = texts(figure)
    for expected in ("World", r"Net \$x", "link: LR", "40 → 64", "64 dimensions", "40 units", "0.19× the MSE", "90 %"):
        assert expected in written
    assert b"<svg" in svg(figure)


def test_no_label_of_the_schematic_runs_into_a_model(pictures: tuple[np.ndarray, ...]) -> None:
    told = {"in_w": "10.44× the MSE\nof random pairs", "in_image": "10.44× pixel L2\nof random pairs"}
    figure = schematic(wiring(**told, class_kept="99.9 % keep\ntheir class", rank=25), pictures[0][0], pictures[1][0])
    figure.draw_without_rendering()
    axis = figure.axes[0]
    models = [patch.get_window_extent() for patch in axis.patches if isinstance(patch, Polygon)]
    labels = [text for text in axis.texts if text.get_text() in (*told.values(), "99.9 % keep\ntheir class")]
    assert len(models) == 2 and len(labels) == 3
    assert not any(label.get_window_extent().overlaps(model) for label in labels for model in models)
    assert "25 vary in a class" in texts(figure)
    inside = figure.bbox
    for text in axis.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= inside.width and box.y1 <= inside.height


def test_schematic_of_a_generator_without_classes(pictures: tuple[np.ndarray, ...]) -> None:
    assert "$c$" not in texts(schematic(wiring(classes=0), pictures[0][0], pictures[1][0]))


def test_mosaic_places_every_picture() -> None:
    rows = [np.full((2, 192, 192, 3), 10, np.uint8), np.full((2, 192, 192, 3), 200, np.uint8)]
    whole = layouts.mosaic(rows)
    assert whole.shape == (192 * 2 + 6, 192 * 2 + 6, 3)
    assert (whole[:192, :192] == 10).all() and (whole[-192:, -192:] == 200).all() and (whole[192:198] == 255).all()


@pytest.mark.parametrize("per_class", [1, 2, 12])
def test_reconstructions_show_each_class(per_class: int) -> None:
    found = {name: tensor.numpy() for name, tensor in findings.examples(3, per_class).items()}
    figure = layouts.reconstructions(pixels(found["image"]), pixels(found["cycled"]), found["class_index"], NAMES)
    assert len(figure.axes) == 3
    assert "border collie" in texts(figure)


def test_reconstructions_skip_a_class_without_examples(pictures: tuple[np.ndarray, ...]) -> None:
    image, cycled, index = pictures
    few = index != 1
    figure = layouts.reconstructions(image[few], cycled[few], index[few], NAMES)
    assert "pug" not in texts(figure)


def test_distances_write_the_ratio_of_means() -> None:
    table = findings.samples()
    figure = evaluation.distances(table, dict.fromkeys(findings.METRICS, "mse_of $x"))
    mean = {name: column(where(table, metric="mse_w", pairing=name), "value").mean() for name in PAIRING}
    written = texts(figure)
    assert f"cycle is\n{mean['cycle'] / mean['random']:.2f}×" in written
    assert "MSE in W" in written and "random, same class" in written
    np.testing.assert_allclose(sorted(x for x, _ in dots(figure.axes[0])), sorted(mean.values()))


@pytest.mark.parametrize("n", [1, 3])
def test_distances_of_few_or_equal_values(n: int) -> None:
    table = findings.samples(n=n).assign(value=1.0)
    raster(evaluation.distances(table, dict.fromkeys(findings.METRICS, "")))


def test_density_is_that_of_the_values() -> None:
    values = np.random.default_rng(0).normal(3, 1, 4000)
    position, height = density(values)
    assert abs(position[height.argmax()] - 3) < 0.25 and height.max() == 1
    assert len(density(np.ones(9))[0]) == 0
    assert (density(np.exp(values), log=True)[0] > 0).all()


def test_log_axis_only_for_wide_positive_values() -> None:
    assert wants_log(np.logspace(-3, 3, 50))
    assert not wants_log(np.linspace(1, 5, 50))
    assert not wants_log(np.append(np.logspace(-3, 3, 50), -1.0))
    assert not wants_log(np.empty(0))


def test_enlarged_keeps_large_images() -> None:
    assert enlarged(np.zeros((64, 32, 3), np.uint8)).shape == (192, 96, 3)
    assert enlarged(np.zeros((256, 256, 3), np.uint8)).shape == (256, 256, 3)


def test_components_join_original_and_cycled() -> None:
    table = findings.components()
    figure = evaluation.components(table, findings.offsets(), NAMES)
    segments = np.concatenate([lines.get_segments() for lines in figure.axes[0].collections])  # pyright: ignore[reportAttributeAccessIssue]
    assert segments.shape == (36, 2, 2)
    np.testing.assert_allclose(segments[:, 1], 0.9 * segments[:, 0])
    assert "border collie" in texts(figure)


def test_class_colours_do_not_depend_on_what_is_shown() -> None:
    assert class_colours(NAMES)["pug"] == SERIES[1]
    many = [f"class {k}" for k in range(23)]
    assert set(class_colours(many)) == set(many)


def test_similarity_writes_the_means() -> None:
    table = findings.similarity()
    assert f"{table['ari_w'].mean():.2f}" in texts(similarity_figure())


def test_similarity_stands_beside_its_permutations_and_random_classes() -> None:
    figure = similarity_figure(draws=5)
    clusters, geometry = figure.axes
    assert [len(dots(axis, "_")) for axis in (clusters, geometry)] == [2, 6]  # means of permutations
    diamonds = [line for axis in (clusters, geometry) for line in axis.lines if line.get_marker() == "D"]
    drawn = [line for line in diamonds if len(np.atleast_1d(line.get_xdata()))]
    assert [len(np.atleast_1d(line.get_ydata())) for line in drawn] == [5] * 6
    assert "random classes" in texts(figure) and "random classes" not in texts(similarity_figure(draws=0))


def test_ridge_path_marks_the_chosen_point_and_the_equally_good() -> None:
    path = findings.path(chosen=2)
    figure = link_module.ridge_path(path)
    chosen = path.loc[2]
    assert (chosen["mean_step_norm"], chosen["gcv_mse"]) in dots(figure.axes[0])
    assert "chosen: ridge 1e-05" in texts(figure)
    good = path[path["gcv_mse"] <= link_module.TOLERANCE * path["gcv_mse"].min()]["mean_step_norm"]
    assert link_module.equally_good(path) == (good.min(), good.max())


def test_training_curve_marks_the_best_epoch() -> None:
    figure = link_module.training_curve(findings.curve())
    assert dots(figure.axes[0]) == [(12, 0.2)] and "kept: epoch 12" in texts(figure)


def test_unit_steps_count_and_rank() -> None:
    table = findings.units()
    figure = link_module.unit_steps(table)
    written = texts(figure)
    assert "35 live" in written and "2 near-dead" in written and "3 dead" in written
    live = table[table["status"] == "live"]["step_norm"]
    drawn = [x for x, _ in dots(figure.axes[1])]
    np.testing.assert_allclose(drawn, np.sort(live)[::-1][:20])


@pytest.mark.parametrize("count", [3, 24])
def test_factors_are_ordered_by_what_survives(count: int) -> None:
    within = np.linspace(0.1, 0.9, count)
    table = pd.DataFrame({"factor": [f"f_{k}" for k in range(count)], "r2": within + 0.05, "r2_within": within})
    figure = true_factors.factors(table)
    first = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert first[0] == f"f {count - 1}"
    assert len(figure.axes) == (2 if count > 12 else 1)


def test_class_shares_write_percent() -> None:
    table = findings.kept().rename(columns={"kept": "share"})
    figure = evaluation.class_shares({"Kept": table}, NAMES)
    written = texts(figure)
    assert "85" in written and "border collie" in written


def test_comparison_has_a_panel_per_metric_and_column() -> None:
    parts = [
        findings.samples(scale=scale).assign(link=link, column=column)
        for scale, link in ((1.0, "lr"), (0.9, "other"))
        for column in ("dogs", "birds")
    ]
    figure = comparison.comparison(pd.concat(parts), ["lr", "other"], ["dogs", "birds"], {"lr": "LR", "other": "Other"})
    assert len(figure.axes) == 2 * len(findings.METRICS)
    written = texts(figure)
    assert "dogs" in written and "Other" in written
    drawn = sorted(y for _, y in dots(figure.axes[0]))
    expected = [part.query("metric == 'mse_w' and pairing == 'cycle'")["value"].mean() for part in parts[::2]]
    np.testing.assert_allclose(drawn, sorted(expected))


def test_comparison_shares_a_scale_only_where_units_are_the_same() -> None:
    parts = [
        findings.samples(scale=scale).assign(link="lr", column=column) for column, scale in (("a", 1.0), ("b", 9.0))
    ]
    figure = comparison.comparison(pd.concat(parts), ["lr"], ["a", "b"], {"lr": "LR"}, unshared=["features"])
    limits = [axis.get_ylim() for axis in figure.axes]
    rows = dict(zip(findings.METRICS, zip(limits[::2], limits[1::2], strict=True), strict=True))
    assert rows["mse_w"][0] == rows["mse_w"][1] and rows["features"][0] < rows["features"][1]
    labelled = [axis.yaxis.get_tick_params()["labelleft"] for axis in figure.axes]
    assert labelled == [True, False, True, False, True, True]


@pytest.mark.parametrize(("columns", "turned"), [(2, 0), (5, 30)])
def test_names_of_links_do_not_touch(columns: int, turned: int) -> None:
    names = [f"vit_large_patch16_224.in21k_{k}" for k in range(columns)]
    parts = [findings.samples(n=3).assign(link=link, column=name) for link in ("lr", "fc_l1") for name in names]
    labels = {"lr": "LR", "fc_l1": "FC-L1, hidden=9"}
    figure = comparison.comparison(pd.concat(parts), list(labels), names, labels)
    bottom = figure.axes[-columns:]
    assert {label.get_rotation() for axis in bottom for label in axis.get_xticklabels()} == {turned}
    assert ("vit_large_patch16_224.in21k_1" in texts(figure)) == (columns == 2)


def test_reconstructions_by_setting_places_every_picture() -> None:
    """Rows are examples; a block per setting, in it a column per link."""
    image = np.stack([np.full((192, 192, 3), 10 * k, np.uint8) for k in range(3)])
    blocks = {"Net_a": {"lr": image + 1, "fc_l1": image + 2}, "Net b": {"lr": image + 3}}
    names = ["pug", "pug", "bull terrier"]
    figure = layouts.reconstructions_by_setting(image, names, blocks, {"lr": "LR", "fc_l1": "FC-L1"})
    shown = [np.asarray(axis.images[0].get_array()) for axis in figure.axes]
    step = np.arange(3) * 198 + 96
    assert [block[step][:, 96, 0].tolist() for block in shown] == [[0, 10, 20], [1, 11, 21], [3, 13, 23]]
    assert shown[1][step][:, 96 + 198, 0].tolist() == [2, 12, 22]
    written = texts(figure).splitlines()
    assert written.count("pug") == 1 and {"original", "Net_a", "Net b", "FC-L1"} <= set(written)
    assert written.count("LR") == 2


def test_gains_are_drawn_with_their_sign() -> None:
    table = pd.DataFrame(
        {
            "inner": ["Net", "Net", "Other"],
            "link": ["fc_l1", "fc_l2", "fc_l1"],
            "metric": "mse_w",
            "gain": [0.2, -0.05, 0.01],
            "margin": [0.03, 0.01, np.nan],
        }
    )
    figure = gains.gains_figure(table, {"fc_l1": "FC-L1", "fc_l2": "FC-L2"})
    axis = figure.axes[0]
    assert sorted(round(x, 6) for x, _ in dots(axis)) == [-5, 1, 20]
    low, high = axis.get_xlim()
    assert low < -6 and high > 23
    written = texts(figure)
    assert "← worse" in written and "better →" in written and "−5" in written and "Other" in written


def test_encodings() -> None:
    first, second = (similarity_figure() for _ in range(2))
    assert svg(first) == svg(second) and b"<svg" in svg(first)
    image = raster(first)
    assert image.size == (int(first.get_figwidth() * DPI), int(first.get_figheight() * DPI))
    assert chart_png(image)[:4] == photo_png(image)[:4] == b"\x89PNG" and jpeg(image)[:2] == b"\xff\xd8"
    assert len(chart_png(image)) < len(photo_png(image))


def test_names_are_no_mathematics() -> None:
    assert plain("a_b$c$") == r"a b\$c\$"


@pytest.mark.parametrize(("items", "hidden", "wide"), [(1, 0, 2 / 3), (2, 0, 2 / 3), (3, 0, 1), (4, 2, 1)])
def test_spare_panels_are_hidden_and_few_panels_make_a_narrow_figure(items: int, hidden: int, wide: float) -> None:
    figure, panels = facets(range(items), 3, 2.0, 0.5, x="below", sharex=True)
    assert [item for _, item in panels] == list(range(items))
    assert sum(not axis.get_visible() for axis in figure.axes) == hidden
    assert figure.get_figwidth() == pytest.approx(wide * WIDE)
    assert figure.get_figheight() == 0.5 + 2.0 * -(-items // 3) and figure.get_supxlabel() == "below"


def test_matrices_name_their_rows_at_the_left_alone_and_take_limits_from_their_values() -> None:
    table = pd.DataFrame({"a": ["x", "y"], "b": ["u", "u"], "value": [0.0, 4.0]})
    panels = [(title, table, "value", (0, None), str, ONE_SIDED) for title in ("left", "right")]
    figure = matrices(panels, ("a", ["x", "y"]), ("b", ["u"]), 2.0, beside=2, pad=4, y="from")
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["x", "y"] and not right.get_yticklabels()
    assert left.get_ylabel() == "from" and right.get_title("left") == "right"
    cells: Any = left.images[0].get_array()
    np.testing.assert_allclose(cells[:, 0], [ONE_SIDED(0.0)[:3], ONE_SIDED(1.0)[:3]], atol=0.01)


def test_a_range_of_nothing_or_of_one_value_has_room() -> None:
    assert padded(np.array([np.nan]), 0.1) == pytest.approx((-1.2, 1.2))
    assert padded(np.array([3.0, 3.0]), 0.1) == (2.0, 4.0)
