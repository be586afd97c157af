"""Strips of single units: against plain loops, on links of every kind, on planted units, and as a section."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes import NAMES, FakeClassifier, FakeGenerator, make_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from torch import Tensor

from lis.config import LeastSquaresConfig, MLPConfig
from lis.context import Context
from lis.images import to_uint8
from lis.linking.forward import Forward
from lis.linking.linear import LinearLink
from lis.linking.link import link, load_link
from lis.linking.mlp import MLPLink
from lis.linking.pairs import pairs
from lis.look import Looker
from lis.report import leaders
from lis.report.layouts import MOST_STEPS, Block
from lis.report.layouts import traversals as strips_figure
from lis.report.page import write_report
from lis.report.source import source
from lis.report.strips import LEAST
from lis.report.traversal import _finding as traversal_heading
from lis.report.traversal import answer_factor, followed, single_units
from lis.report.wording import number
from lis.store import Artifact
from lis.units.directions import Directions
from lis.units.perturbation import Perturbation
from lis.units.traversal import Truth, candidates, first, flipped, rank, selected, traversal, traverse

pytestmark = pytest.mark.usefixtures("page_style")

SIZES = {"traversal__units": 3, "traversal__samples": 4, "traversal__examples": 2, "traversal__steps": 3}
MLP = MLPConfig(hidden=8, max_epochs=2)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(units: int = 5, w_dim: int = 3) -> LinearLink:
    return LinearLink.of(random(units, w_dim, seed=1).double(), random(w_dim, seed=2).double())


def mlp(units: int = 5, w_dim: int = 3) -> MLPLink:
    torch.manual_seed(0)
    return MLPLink(units, w_dim, hidden=4).requires_grad_(False)


class Blind:
    """A generator without truth: the fake one, seen through an object that has no factors."""

    def __init__(self) -> None:
        own = FakeGenerator()
        for name in ("class_names", "num_classes", "w_dim", "resolution", "mean_w", "fingerprint"):
            setattr(self, name, getattr(own, name))
        self.sample, self.synthesize, self.domain = own.sample, own.synthesize, "fake"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    """The stage on the fakes with a linear link."""
    ctx = make_context(tmp_path_factory.mktemp("run"), **SIZES)
    return ctx, traversal(ctx)


@pytest.mark.parametrize("model", [linear(), mlp(), lambda r: (r**2)[..., :3]], ids=["linear", "mlp", "any"])
def test_a_unit_set_to_values_equals_plain_loops(model: Any) -> None:
    r, values = random(4, 5).relu(), torch.tensor([0.0, 0.7, 3.0])
    w = Directions(model).moved(r, Perturbation.of_unit(2, 0, 3), values)
    assert w.shape == (4, 3, 3) and w.dtype == r.dtype
    for sample, step in np.ndindex(4, 3):
        moved = r[sample].clone()
        moved[2] = values[step]
        torch.testing.assert_close(w[sample, step], model(moved[None])[0])
    torch.testing.assert_close(
        Directions(model).moved(r, Perturbation.of_unit(1, 0, 1), r[:1, 1])[0, 0], model(r[:1])[0]
    )


def test_the_first_samples_of_each_class() -> None:
    samples = {"class_index": torch.tensor([0, 0, 0, 1, 2, 2]), "x": torch.arange(6)}
    assert first(samples, 2)["x"].tolist() == [0, 1, 3, 4, 5]


def test_tuned_images_and_answers_equal_plain_loops(tmp_path: Path) -> None:
    """And do not depend on the batches: 12 images in batches of 7."""
    ctx = make_context(tmp_path)
    r, values = random(4, 16).relu(), torch.tensor([0.0, 0.5, 2.0])
    model = linear(16, 6)
    unit = Perturbation.of_unit(3, 0, 2)
    w, look = traverse(Looker(ctx, ctx.batches(), image=to_uint8), Directions(model), r, unit, values)
    torch.testing.assert_close(w, Directions(model).moved(r, unit, values))
    for sample, step in np.ndindex(4, 3):
        image = ctx.generator.synthesize(w[sample, step][None])
        logits = ctx.classifier.head(ctx.classifier.features(image))[0].double()
        torch.testing.assert_close(look.softmax[sample, step], (logits.exp() / logits.exp().sum()).float())
        assert (look.image[sample, step] - (127.5 * (image[0] + 1))).abs().max() <= 0.5001
        assert look.prediction[sample, step] == logits.argmax()
        start = ctx.classifier.head(ctx.classifier.features(ctx.generator.synthesize(w[sample, :1])))[0].argmax()
        assert flipped(look.prediction)[sample, step] == (logits.argmax() != start)
    assert look.image.dtype == torch.uint8 and look.image.shape == (4, 3, 3, 8, 8)


def test_a_link_that_fails_is_named(tmp_path: Path) -> None:
    looker = Looker.tuned(make_context(tmp_path))
    with pytest.raises(ValueError, match=r"no finite w for unit 3 between 0 and 2: .*link=ridge"):
        traverse(
            looker,
            Directions(lambda r: r[..., :6] / 0),
            random(4, 16),
            Perturbation.of_unit(3, 0, 2),
            torch.tensor([0.0, 2.0]),
        )


def test_truth_in_standard_deviations(tmp_path: Path) -> None:
    """A factor that does not vary over the samples never moves."""
    generator = FakeGenerator()
    u = random(50, 4) * torch.tensor([1.0, 5.0, 0.2, 0.0])
    truth = Truth.of(make_context(tmp_path, generator), u @ generator.basis.T)
    assert truth is not None
    steps = torch.tensor([[[0.0, 0, 0, 0], [9, 9, 9, 9], [1, 2, 3, 0]], [[1, 1, 1, 1], [0, 0, 0, 0], [1, -4, 1, 1]]])
    expected = (steps[:, 2] - steps[:, 0])[:, :3] / u[:, :3].std(0, correction=0)
    moved = truth.moved(steps @ generator.basis.T)
    torch.testing.assert_close(moved[:, :3], expected, rtol=1e-4, atol=1e-5)
    assert (moved[:, 3] == 0).all()
    names, change = truth.largest(moved[:, :3])
    assert names == ["factor 2", "factor 1"]
    torch.testing.assert_close(change, torch.stack([expected[0, 2], expected[1, 1]]), rtol=1e-4, atol=1e-5)


def test_candidates_are_live_and_ordered_by_their_step() -> None:
    units: Any = pd.DataFrame({"unit": range(5), "minimum": [0.0, 1, 0, 0, 0], "maximum": [1.0, 2, 3, 4, 9]})
    units["status"] = ["live", "live", "live", "live", "near-dead"]
    model, r = linear(), random(6, 5).relu()
    table = candidates(units, Directions(model), r, 3)
    step = (units["maximum"] - units["minimum"]) * model.coef.norm(dim=1).numpy()
    expected = step[:4].sort_values(ascending=False)[:3]
    assert table["unit"].tolist() == expected.index.tolist()
    np.testing.assert_allclose(table["step_norm"], expected, rtol=1e-5)
    curved = candidates(units, Directions(mlp()), r, 4).set_index("unit")["step_norm"]
    ends = [r.clone().index_fill_(1, torch.tensor([2]), v) for v in (0.0, 3.0)]
    np.testing.assert_allclose(curved[2], (mlp()(ends[1]) - mlp()(ends[0])).norm(dim=1).mean(), rtol=1e-5)
    with pytest.raises(ValueError, match="no unit of the classifier is live"):
        candidates(units[units["status"] == "dead"], Directions(model), r, 3)


def test_the_step_of_a_linear_link_is_that_of_its_table(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    known = link(ctx).table("units").set_index("unit")["step_norm"]
    ranking = artifact.table("ranking")
    np.testing.assert_allclose(ranking["step_norm"], known[ranking["unit"]], rtol=1e-4)


def test_ranking_finds_a_planted_unit(tmp_path: Path) -> None:
    """Unit 1 moves w from one class mean to another, unit 0 as far where no class is, unit 2 half as far."""
    generator = FakeGenerator()
    ctx = make_context(tmp_path, generator)
    outside = torch.linalg.qr(torch.cat([generator.basis, random(6, 2)], 1))[0][:, 4:]
    across = generator.mean_w[1] - generator.mean_w[0]
    rows = [outside[:, 0] * across.norm(), across, across / 2]
    model = LinearLink.of(torch.stack(rows).double(), generator.mean_w[0].double())
    units = pd.DataFrame({"unit": [0, 1, 2], "minimum": 0.0, "maximum": 1.0, "step_norm": 1.0})
    samples = {"r": torch.zeros(3, 3), "class_index": torch.arange(3)}
    live, index = torch.ones(16, dtype=torch.bool), torch.zeros(40, dtype=torch.int64)
    forward = Forward.fit(random(40, 16), random(40, 6, seed=1), index, torch.ones(16), live)[0]
    made = Directions(model, forward=forward)
    ranking: Any = rank(Looker.tuned(ctx), made, samples, units, Truth.of(ctx, generator.mean_w))
    w = made.moved(samples["r"], Perturbation.of_unit(1, 0.0, 1.0), torch.tensor([0.0, 1.0]))
    change = Looker.tuned(ctx)(w).r.diff(dim=1)[:, 0, 1]  # σ is 1
    assert ranking["own"][0] == pytest.approx(float(change.mean()), rel=1e-5)
    assert ranking["unit"].tolist()[0] == 1 and ranking["change"].is_monotonic_decreasing
    top = ranking.iloc[0]
    assert top["flipped"] == 1 and top["change_ant"] < 0 < top["toward_bee"]
    row = ranking.set_index("unit").loc[0]
    assert row["change"] < 0.05 and row.filter(like="moved_").abs().max() < 1e-3
    std = generator.means.std(0, correction=0)
    np.testing.assert_allclose(
        top.filter(like="moved_").astype(float), (generator.means[1] - generator.means[0]) / std, rtol=1e-3
    )


def test_the_ranking_equals_plain_loops(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    samples, model = first(pairs(ctx, "test").tensors("pairs"), 4), load_link(link(ctx))
    ranking: Any = artifact.table("ranking")
    assert len(ranking) == 16 and ranking["selected"].sum() == 3
    lost = ranking["others"] >= ranking["own"].abs()
    order = [*ranking.index[~lost], *ranking.index[lost]]
    assert set(ranking.index[ranking["selected"]]) == set(order[:3])
    row = ranking.iloc[1]
    changes, flips = {name: [] for name in NAMES}, 0
    for r, c in zip(samples["r"], samples["class_index"].tolist(), strict=True):
        ends = []
        for value in (row["minimum"], row["maximum"]):
            moved = r.clone()
            moved[int(row["unit"])] = value
            ends.append(ctx.classifier.head(ctx.classifier.features(ctx.generator.synthesize(model(moved[None]))))[0])
        changes[NAMES[c]].append(float(ends[1].softmax(0)[c] - ends[0].softmax(0)[c]))
        flips += int(ends[0].argmax() != ends[1].argmax())
    means = {name: np.mean(values) for name, values in changes.items()}
    np.testing.assert_allclose([row[f"change_{name}"] for name in NAMES], list(means.values()), atol=1e-5)
    assert row["change"] == pytest.approx(np.mean(np.abs(list(means.values()))), abs=1e-5)
    assert row["flipped"] == pytest.approx(flips / 12)


def test_traversals_belong_to_their_rows(run: tuple[Context, Artifact]) -> None:
    """Images, values, probabilities and factors of the table's rows, in the order of the images."""
    ctx, artifact = run
    image, table = artifact.tensors("traversal")["image"], cast(Any, artifact.table("traversal"))
    ranking: Any = artifact.table("ranking").set_index("unit")
    samples, model = first(pairs(ctx, "test").tensors("pairs"), 2), load_link(link(ctx))
    assert image.shape == (3, 6, 3, 3, 8, 8) and len(table) == 54
    assert table["unit"].unique().tolist() == ranking.index[ranking["selected"]].tolist()
    for k, row in table.iloc[::7].iterrows():
        unit, example, step = np.unravel_index(int(k), (3, 6, 3))  # pyright: ignore[reportArgumentType]: an integer index
        assert (row["step"], row["class"]) == (step, NAMES[samples["class_index"][example]])
        assert row["sample_index"] == samples["sample_index"][example]
        low, high = ranking.loc[row["unit"], ["minimum", "maximum"]]
        assert row["value"] == pytest.approx(low + (high - low) * step / 2, abs=1e-5)
        moved = samples["r"][example].clone()
        assert row["activation"] == moved[row["unit"]] and row["step_beyond"] in (0, 1)
        moved[row["unit"]] = row["value"]
        drawn = ctx.generator.synthesize(model(moved[None]))
        assert (image[unit, example, step] - (127.5 * (drawn[0] + 1))).abs().max() <= 0.51
        p = ctx.classifier.head(ctx.classifier.features(drawn)).softmax(1)[0]
        np.testing.assert_allclose([row[f"probability_{name}"] for name in NAMES], p, atol=1e-5)
        assert row["probability"] == row[f"probability_{row['class']}"]
        assert row["prediction"] == NAMES[int(p.argmax())]
    traversed = table.groupby(["unit", "class", "sample_index"], sort=False)
    assert (table["flipped"] == (table["prediction"] != traversed["prediction"].transform("first"))).all()
    assert (traversed["factor"].nunique() == 1).all() and table["factor_change"].abs().min() > 0


def test_a_second_call_reads_what_the_first_made(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    assert traversal(ctx).manifest["created"] == artifact.manifest["created"]


def test_batches_do_not_matter(run: tuple[Context, Artifact], tmp_path: Path) -> None:
    other = traversal(make_context(tmp_path, batch_size=50, **SIZES))
    assert other.key == run[1].key
    pd.testing.assert_frame_equal(other.table("ranking"), run[1].table("ranking"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("kind", [LeastSquaresConfig(), MLP], ids=["linear", "mlp"])
def test_every_link_and_generator_ends_in_a_section(tmp_path: Path, kind: Any, conditional: bool) -> None:
    ctx = make_context(tmp_path, FakeGenerator(conditional=conditional), link=kind, **SIZES)
    artifacts = {"link": link(ctx), "traversal": traversal(ctx)}
    page = write_report(ctx, artifacts, tmp_path / "out").read_text()
    assert 'id="single-units"' in page and (tmp_path / "out" / "figures" / "traversals.png").exists()
    assert (tmp_path / "out" / "tables" / "traversal" / "ranking.parquet").exists()


@pytest.mark.parametrize("name", ["samples", "examples"])
def test_more_samples_than_pairs_are_refused(tmp_path: Path, name: str) -> None:
    ctx = make_context(tmp_path, **SIZES | {f"traversal__{name}": 21})
    with pytest.raises(ValueError, match=r"is 21: expected at most pairs\.test=20"):
        traversal(ctx)
    assert not (tmp_path / "store" / "pairs-test").exists()


def texts(figure: Figure) -> list[str]:
    return [artist.get_text() for artist in figure.findobj(Text) if isinstance(artist, Text)]


def test_the_section_states_what_the_tables_hold(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    section = single_units(source(ctx, {"traversal": artifact}))
    assert section is not None
    ranking, table = artifact.table("ranking"), artifact.table("traversal")
    top, last = ranking.iloc[0], table[table["step"] == 2]
    assert f"Unit {top['unit']} moves the classifier most" in section.lead
    assert f"changes by {number(top['change'], 2)}" in section.lead
    assert f"for {round(12 * top['flipped'])} of 12 samples" in section.lead
    assert f"it flips on {last['flipped'].sum()} of 18 traversals" in section.lead
    assert "16 live units" in section.notes[0] and "r = " in section.notes[1]
    moved = top.filter(like="moved_").astype(float)
    factor = str(moved.abs().idxmax())
    label = f"{factor.removeprefix('moved_')} {moved[factor]:+.1f} sd".replace("-", "−")
    arrives = section.tables[1]
    assert list(arrives.rows[0])[:3] == [str(top["unit"]), number(top["own"], 2), number(top["others"], 2)]
    assert "by its row of the link" in section.notes[2]
    rows = section.tables[0].rows
    assert rows[0][section.tables[0].columns.index("moves most")] == label and len(rows) == 3
    assert f"unit {top['unit']} · {label}" in texts(section.figures[0].figure)


def test_a_generator_without_truth_has_no_factors(tmp_path: Path) -> None:
    generator: Any = Blind()
    ctx = make_context(tmp_path, generator, FakeClassifier(FakeGenerator()), **SIZES)
    artifact = traversal(ctx)
    section = single_units(source(ctx, {"traversal": artifact}))
    assert section is not None and len(section.notes) == 2  # how they were found, which way they were moved
    assert not any(
        "factor" in name or "moved" in name for name in [*artifact.table("ranking"), *artifact.table("traversal")]
    )
    assert section.tables[0].columns[-1] == "answer flips"
    assert f"unit {artifact.table('ranking')['unit'][0]}" in texts(section.figures[0].figure)


def test_no_artifact_no_section(tmp_path: Path) -> None:
    assert single_units(source(make_context(tmp_path), {})) is None


def test_which_factor_a_class_follows() -> None:
    table: Any = pd.DataFrame({"moved_x": [1.0, -1, 2, 0], "moved_y": [1.0, 1, 1, 1], "moved_z": [1.0, 0, 0, 1]})
    table = table.assign(toward_a=[-0.2, 0.2, -0.4, 0.0], toward_b=[0.1, 0.0, 0.0, 0.3], toward_c=0.0)
    found = followed(table)
    assert found["a"] == ("x", pytest.approx(-1)) and "c" not in found
    assert found["b"] == ("z", pytest.approx(np.corrcoef([1, 0, 0, 1], [0.1, 0, 0, 0.3])[0, 1]))
    assert followed(table[:2]) == {} and followed(table.filter(like="toward")) == {}
    assert answer_factor(table) is None
    assert answer_factor(table.drop(columns="toward_b")) == "x" and answer_factor(table[:2]) is None


def test_the_factor_that_all_answers_follow_stands_beside_each_unit(tmp_path: Path) -> None:
    """Two classes: what one wins the other loses."""
    generator = FakeGenerator(class_names=("ant", "bee"))
    ctx = make_context(tmp_path, generator, class_names=("ant", "bee"), **SIZES)
    artifact = traversal(ctx)
    factor, top = answer_factor(artifact.table("ranking")), artifact.table("ranking").iloc[0]
    section = single_units(source(ctx, {"traversal": artifact}))
    assert section is not None and factor is not None
    written = f"{top[f'moved_{factor}']:+.1f} sd".replace("-", "−")
    assert section.tables[0].columns[-1] == factor and section.tables[0].rows[0][-1] == written
    assert any(text.startswith(f"{factor} {written}, Δp = ") for text in texts(section.figures[0].figure))


def block(rows: int, steps: int, flip: int | None = None) -> Block:
    image = np.zeros((rows, steps, 8, 8, 3), np.uint8)
    probability = np.linspace(0.9, 0.1, steps)[None].repeat(rows, 0)
    flipped = np.zeros((rows, steps), bool)
    if flip is not None:
        flipped[:, flip:] = True
    return Block("unit 7", "Δp = 0.80", image, ["a"] * (rows - 1) + ["b_c"], probability, flipped, (0.0, 2.5))


@pytest.mark.parametrize(("units", "steps"), [(1, 5), (3, 5), (2, 9)])
def test_the_figure_has_a_curve_per_row(units: int, steps: int) -> None:
    figure = strips_figure([block(2, steps, flip=2)] * units, ["a", "b_c"])
    assert len(figure.axes) == units * 3
    for axis in figure.axes:
        if axis.images:
            assert axis.get_position().width * figure.get_figwidth() / min(steps, MOST_STEPS) >= LEAST - 0.03
    curve = next(axis for axis in figure.axes if not axis.images)
    line, *dots = [line for line in curve.lines if len(np.atleast_1d(line.get_xdata())) != 2]
    np.testing.assert_allclose(np.asarray(line.get_ydata()), np.linspace(0.9, 0.1, steps))
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [k >= 2 for k in range(steps)]
    assert {"−0.80", "b c", "unit 7", "r = 0", "2.5"} <= set(texts(figure))


def test_the_sample_itself_is_framed_and_what_lies_beyond_is_veiled() -> None:
    coloured = np.zeros((2, 9, 8, 8, 3), np.uint8)
    coloured[..., 0] = 200
    beyond = np.arange(9)[None].repeat(2, 0) > 6
    made = replace(block(2, 9), image=coloured, unperturbed=[1, None], beyond=beyond)
    axis = next(axis for axis in strips_figure([made], ["a", "b_c"]).axes if axis.images)
    few = made.drawn(0)
    assert 1 in few and len(few) == MOST_STEPS == 7
    [patch] = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    assert patch.get_xy() == pytest.approx((few.index(1) / 7, 0.5)) and patch.get_width() == pytest.approx(1 / 7)
    pixels: Any = axis.images[0].get_array()
    side = pixels.shape[1] / 7
    seen = [pixels[20, int((k + 0.5) * side)] for k in range(7)]
    assert [int(np.ptp(pixel.astype(int))) == 0 for pixel in seen] == [step > 6 for step in few]


def test_units_that_are_outmoved_are_shown_last() -> None:
    table = pd.DataFrame({"own": [0.1, 2.0, -3.0, 1.0], "others": [0.5, 0.5, 0.5, 1.1]})
    assert selected(table, 1).tolist() == [False, True, False, False]
    assert selected(table, 3).tolist() == [True, True, True, False]


def test_images_lie_inside_the_sheet() -> None:
    figure = strips_figure([block(6, 5)] * 5, ["a", "b_c"])
    for axis in figure.axes:
        box = axis.get_position()
        assert box.x0 > 0 and box.x1 < 1 and box.y0 > 0 and box.y1 < 1


def test_the_heading_is_of_a_unit_that_moves_more_than_the_others_or_says_that_none_does(tmp_path: Path) -> None:
    bare = source(make_context(tmp_path), {})
    table = pd.DataFrame({"unit": [4, 7], "change": [0.5, 0.4], "own": [0.1, 2.0], "others": [0.5, 0.5]})
    assert traversal_heading(table, bare) == "Unit 7 moves the probability of a sample's class by 0.40"
    told = traversal_heading(table.assign(moved_hue=[0.0, -2.0]), bare)
    assert told.endswith("by 0.40 and the hue by −2.0 sd")
    lost = table.assign(others=3.0)
    assert traversal_heading(lost, bare) == "In every unit shown the other units move more than itself"


@pytest.mark.parametrize(("called", "told"), [(True, "Unit 7, which is not reached, moves"), (False, "Unit 7 moves")])
def test_the_heading_says_of_a_unit_that_it_is_not_reached(
    called: bool, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unit 4 is, but the others outmove it; whether unit 7 is, counts only where it could be called."""
    monkeypatch.setattr(leaders, "callable_units", lambda _: called)
    faithfulness = pd.DataFrame({"unit": [4, 7], "reached": [True, False]})
    run: Any = SimpleNamespace(has=lambda *_: True, table=lambda *_: faithfulness)
    table = pd.DataFrame({"unit": [4, 7], "change": [0.5, 0.4], "own": [0.1, 2.0], "others": [0.5, 0.5]})
    assert traversal_heading(table, run).startswith(told)
