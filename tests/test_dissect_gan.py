"""The stage "dissect_gan": planted units are told by removal, draws match in variance, bad input is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes import FakeClassifier, FakeGenerator, make_context
from helpers.stylegan_xl_fixtures import generator as stylegan_xl
from PIL import Image
from sklearn.metrics import average_precision_score
from torch import Tensor

from lis.api.inputs import Rows
from lis.api.painted import painted
from lis.context import Context
from lis.dissection import dissect_gan as stage_module
from lis.dissection import gan_movies
from lis.dissection.dissect_gan import DissectGanConfig, dissect_gan
from lis.dissection.gan_movies import RADIUS, circle
from lis.dissection.gan_pixels import BRIGHTNESS, exact_iou, pixel_segmenter
from lis.dissection.gan_tables import Agreement, agreement_table, side_effects_table, units_table
from lis.dissection.gan_units import GanUnits, drawn_codes
from lis.dissection.painting import PixelSegmenter, UnitEdit
from lis.dissection.permutation import permutation_test
from lis.dissection.removal import Removal, layer_strata, matched_draw, matched_p, variance_strata
from lis.dissection.upsampling import upsample_activations
from lis.generators.layers import edited_map, requested_layers
from lis.generators.partworld import PartWorld
from lis.images import to_uint8
from lis.report import dissect_gan as dissect_gan_report
from lis.report.atlas import GENERATOR, of_generator, write_atlas
from lis.report.dissect_gan import LOWEST, generator_units, removal_figure, significant
from lis.report.gan_layers import generator_layers, parts_picture
from lis.report.gan_movies import MOVIES, animated_webp, movie_files
from lis.report.source import source
from lis.report.tables import records, where
from lis.store import Artifact

UNITS, SIDE, STEPS = 16, 8, 5


class Planted(FakeGenerator):
    """Units 0 to 3 draw a part at the left, 4 to 7 one at the right; the others vary as much and draw nothing."""

    layer_names = ("first", "units", "last")

    def __init__(self) -> None:
        super().__init__(resolution=SIDE)
        rng = torch.Generator().manual_seed(5)
        self.noise = torch.randn(self.w_dim, (UNITS - 8) * SIDE**2, generator=rng)
        self.calls = 0

    def synthesize(self, w: Tensor, features: bool | Collection[str] = False) -> Any:
        return self.synthesize_edited(w, {}, features)

    def synthesize_edited(self, w: Tensor, edits: Any, features: bool | Collection[str] = False) -> Any:
        """As many of a part's pixels are drawn as units are on: k of 4 pass the thresholds of k pixels of 4."""
        self.calls += 1
        names = requested_layers(features, self.layer_names)
        requested_layers(edits.keys(), self.layer_names)
        row = 1 + (w[:, :1] > 0).long()[:, None, None]
        blob = ((torch.arange(SIDE)[:, None] - row).abs() <= 1).float() * 2
        columns = torch.arange(SIDE)
        left, right = blob * (columns < 3), blob * (columns >= 5)
        size = torch.tensor([1.0] * 4 + [2.0] * 4)[:, None, None]  # of variances below and above those of the others
        noise = (w @ self.noise).view(-1, UNITS - 8, SIDE, SIDE).sign().clamp(min=0) * size
        needed = 0.25 + 0.5 * ((torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 4)
        x = edited_map("units", torch.cat([left.expand(-1, 4, -1, -1), right.expand(-1, 4, -1, -1), noise], 1), edits)
        image = torch.stack([x[:, :4].mean(1) > needed, x[:, 4:8].mean(1) > needed, x[:, 0] < -99], 1) * 2.0 - 1
        maps = {"first": x[:, :2], "units": x, "last": image}
        return image if features is False else (image, {name: maps[name] for name in names})


def segment(image: Tensor) -> Tensor:
    return torch.where(image[:, 0] > 0, 1, torch.where(image[:, 1] > 0, 2, 0))


SETTINGS = DissectGanConfig(
    samples=6, quantile=0.8, permutations=199, edited=2, most=8, draws=199, inserted=4, insertions=130, min_count=5
)


def context(tmp_path: Path, patch: pytest.MonkeyPatch, config: DissectGanConfig = SETTINGS, **settings: Any) -> Context:
    generator = Planted()
    patch.setattr(gan_movies, "STEPS", STEPS)
    segmenter = PixelSegmenter(("left", "right"), segment, "by brightness")
    patch.setattr(stage_module, "pixel_segmenter", lambda _: segmenter)
    ctx = make_context(tmp_path, generator=generator, classifier=FakeClassifier(generator), **settings)
    ctx.config.dissect_gan = config  # pyright: ignore[reportAttributeAccessIssue]
    return ctx


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    with pytest.MonkeyPatch.context() as patch:
        ctx = context(tmp_path_factory.mktemp("planted"), patch)
        return ctx, dissect_gan(ctx)


def test_planted_units_are_the_best_and_their_removal_takes_the_part(run: tuple[Context, Artifact]) -> None:
    _, artifact = run
    agreement = artifact.table("agreement")
    best = {part: set(where(agreement, part=part).nsmallest(4, "rank")["unit"]) for part in ("left", "right")}
    assert best == {"left": {0, 1, 2, 3}, "right": {4, 5, 6, 7}}
    assert (where(agreement, part="left", unit=0)[["iou", "iou_fit"]].to_numpy() > 0.3).all()
    table = artifact.table("removal")
    assert [(row["part"], row["units"]) for row in records(table)] == [
        ("left", 4),
        ("left", 8),
        ("right", 4),
        ("right", 8),
    ]
    four = where(table, units=4)
    assert four["change"].tolist() == [1, 1] and four["control"].between(0.4, 0.6).all() and max(four["q"]) <= 0.05
    assert significant(table)[4] == 2
    curve = where(artifact.table("curves"), part="left")
    assert curve["units"].tolist() == list(range(9)) and curve["change"].iloc[0] == 0


def test_units_are_named_beside_chance(run: tuple[Context, Artifact]) -> None:
    table, chance = run[1].table("units"), run[1].json("facts")["detectors_at_chance"]
    drawing, noise = table.iloc[:8], table.iloc[8:]
    assert drawing["part"].tolist() == ["left"] * 4 + ["right"] * 4
    assert (drawing["iou"] > drawing["control"]).all() and (drawing["control"] > 0.8).all()  # the parts hardly move
    assert (drawing["images_met"] >= 5).all() and (noise["part"] == "").all() and np.isnan(noise["q"].to_numpy()).all()
    assert table["above_chance"].tolist() == (table["q"].to_numpy() <= 0.05).tolist()
    assert 0 <= chance["low"] <= chance["mean"] <= chance["high"] <= UNITS


def four_and_five() -> Agreement:
    """Unit 0 meets the part "four" on four images, unit 1 the part "five" on five, and unit 2 is off in all."""
    maps, parts = torch.zeros(8, 3, 4, 4), torch.zeros(8, 4, 4, dtype=torch.int64)
    maps[:4, 0, 0, 0], maps[:5, 1, 3, 3] = 1, 1
    parts[:4, 0, 0], parts[:5, 3, 3] = 1, 2
    units, level = GanUnits("layer", maps, parts, ("four", "five")), torch.full((3,), 0.5)
    test = permutation_test(maps, level, units.masks, torch.zeros(8).long(), 99, 0)
    return Agreement(units.labels, test.iou, units.agreement(level, level[:, None]), test, units.variance)


def test_a_part_met_on_four_images_names_no_unit() -> None:
    table = units_table("layer", agreement := four_and_five())
    assert agreement.control.iou[0, 0] == 1 and table["part"].tolist() == ["", "five", ""]


def test_average_precision_and_correlation_are_those_of_scikit_learn_and_numpy() -> None:
    rng = torch.Generator().manual_seed(0)
    maps, parts = torch.randn(6, 3, 4, 4, generator=rng), torch.randint(0, 3, (6, 8, 8), generator=rng)
    units = GanUnits("layer", maps, parts, ("left", "right"))
    levels = units.quantiles((0.9, 0.2, 0.5, 0.8))
    test = permutation_test(maps, levels[:, 0], units.masks, torch.zeros(6).long(), 99, 0)
    counts = units.agreement(levels[:, 0].contiguous(), levels[:, 1:].contiguous())
    agreement = Agreement(units.labels, test.iou, counts, test, units.variance)
    enlarged = upsample_activations(maps, (8, 8)).movedim(1, 0).flatten(1).numpy()
    for row in records(agreement_table(agreement)):
        unit, mask = enlarged[row["unit"]], (parts == 1 + units.labels.index(row["part"])).flatten().numpy()
        bins = np.searchsorted(levels[row["unit"], 1:].numpy(), unit)
        assert row["auprc"] == pytest.approx(average_precision_score(mask, bins))
        assert row["pearson"] == pytest.approx(np.corrcoef(unit, mask)[0, 1], abs=1e-6)
        assert row["share"] == pytest.approx(mask.mean())
    labelled = [best for best in records(units_table("layer", agreement)) if best["part"]]
    assert len(labelled) == 2
    for best in labelled:
        (row,) = records(where(agreement_table(agreement), unit=best["unit"], part=best["part"]))
        assert [best[name] for name in ("auprc", "pearson", "share")] == [row["auprc"], row["pearson"], row["share"]]


def test_units_are_counted_by_their_part(run: tuple[Context, Artifact]) -> None:
    histogram, (layer,) = run[1].table("histogram"), records(run[1].table("layers"))
    assert histogram[["layer", "part", "detectors"]].to_numpy().tolist() == [
        ["units", "left", 4],
        ["units", "right", 4],
    ]
    assert (layer["units"], layer["detectors"], layer["parts"], layer["dead"]) == (UNITS, 8, 2, 8)
    chance = run[1].json("facts")["detectors_at_chance"]
    assert (layer["control"], layer["low"], layer["high"]) == (chance["mean"], chance["low"], chance["high"])
    assert sum(histogram["control"]) == pytest.approx(chance["mean"])
    numbers = dissect_gan_report.generator_numbers(run[1])
    assert (numbers["dissect_gan/detectors"], numbers["dissect_gan/control"]) == (8, chance["mean"])


def test_layers_of_a_sweep_stand_beside_each_other(run: tuple[Context, Artifact], tmp_path: Path) -> None:
    jobs: Any = []
    for name in ("layer=one", "layer=two", "none"):
        (folder := tmp_path / name / "tables" / "dissect_gan").mkdir(parents=True)
        for table in ("histogram", "layers") if name != "none" else ():
            run[1].table(table).assign(layer=name[-3:]).to_parquet(folder / f"{table}.parquet")
        jobs.append(SimpleNamespace(folder=tmp_path / name, name=name))
    made = generator_layers(jobs)
    assert made is not None
    assert [row[:3] for row in made.tables[0].rows] == [["layer=one", "one", "16"], ["layer=two", "two", "16"]]
    assert [axis.get_title("left") for axis in made.figures[0].figure.axes] == ["layer=one", "layer=two"]
    assert "a panel for each run" in made.figures[0].caption and generator_layers(jobs[2:]) is None
    nothing = run[1].table("histogram").assign(detectors=0, above_chance=0)
    assert parts_picture("name", nothing, "layer") == []


def test_a_unit_without_a_part_is_dead_only_where_it_is_never_active() -> None:
    table = units_table("layer", four_and_five())
    assert table["dead"].tolist() == [False, False, True] and np.isnan(table["iou"][0])
    made: Any = SimpleNamespace(
        json=lambda *_: {"quantile": 0.99, "layer": "layer"},
        arrays=lambda *_: {"index": np.zeros((3, 5), int)},
        table=lambda *_: table,
    )
    titles = {entry.unit: entry.title for entry in of_generator(made).entries}
    assert titles == {0: "no concept", 1: "five", 2: "dead"}


def test_side_effects_have_a_two_sided_p() -> None:
    base = torch.full((2, 3), 0.5).double()
    draws = torch.linspace(0.4, 0.6, 19).double()[:, None].expand(19, 3)
    best = base.expand(2, 1, 2, 3).clone()
    best[..., 0] = 0.9  # the background grows beyond all draws; the labels stay in their middle
    removal = Removal(base, (4,), best, (4,), draws.expand(2, 1, 19, 3), torch.ones(2, 1, 2))
    rows = records(where(side_effects_table(removal, ("left", "right")), part="left"))
    assert [row["p"] for row in rows] == [pytest.approx(0.1), 1, 1]
    assert np.isnan(rows[1]["q"]) and rows[0]["q"] == pytest.approx(0.2) and rows[2]["q"] == 1


def test_few_draws_say_what_they_can_show(run: tuple[Context, Artifact]) -> None:
    table, facts = run[1].table("removal"), run[1].json("facts")
    nothing = dissect_gan_report._finding(table.assign(q=1.0), facts | {"draws": 19})
    assert nothing.startswith("No removal from units is shown") and "with 19 draws" in nothing
    assert dissect_gan_report._resolution(27, 539) == ""
    assert "takes 27 of 27 tests" in dissect_gan_report._resolution(27, 19)
    assert "none of 180 tests" in dissect_gan_report._resolution(180, 19, 2)


def test_samples_are_checked_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GanUnits, "of", lambda *_: pytest.fail("maps are made"))
    with pytest.raises(ValueError, match=r"quantile=0.999 of 18 maps of 8×8.*raise dissect_gan.samples"):
        dissect_gan(context(tmp_path, monkeypatch, replace(SETTINGS, quantile=0.999)))
    with pytest.raises(ValueError, match=r"permutations=199: 2 samples of each class have 8 orders"):
        dissect_gan(context(tmp_path, monkeypatch, replace(SETTINGS, samples=2)))
    monkeypatch.setattr("lis.memory.budget", lambda _: 18 * 2**10)
    with pytest.raises(ValueError, match=r"maps of units over 36 images take .* GiB.*dissect_gan.samples="):
        dissect_gan(context(tmp_path, monkeypatch))


def test_units_of_the_generator_have_a_page_with_their_images(run: tuple[Context, Artifact], tmp_path: Path) -> None:
    ctx, artifact = run
    top, w = artifact.tensors("top"), drawn_codes(ctx, SETTINGS.samples, SETTINGS.samples)
    image = top["image"][top["index"][0]]
    assert torch.equal(image, to_uint8(ctx.generator.synthesize(w[:5])))  # of equal peaks the first
    assert torch.equal(top["mask"][0], segment(image.float() - 127.5) == 1)
    page, sprite = write_atlas(source(ctx, {"dissect_gan": artifact}), tmp_path)
    text = page.read_text("utf-8")
    assert (page.name, sprite.name) == (GENERATOR, "0.jpg") and "Units of units of the generator" in text
    assert text.count("IoU 1.0 (control 0.") == 8


def test_what_other_parts_lose_is_told(run: tuple[Context, Artifact]) -> None:
    rows = where(run[1].table("side_effects"), part="left", units=4)
    assert rows["label"].tolist() == ["background", "left", "right"]
    background, left, right = rows["change"]
    assert left == 1 and right == 0 and background < 0
    expected = where(run[1].table("removal"), part="left", units=4)["control"].item()
    assert rows["control"].iloc[1] == pytest.approx(expected)


def test_insertion_gains_pixels_where_the_part_is_not(run: tuple[Context, Artifact]) -> None:
    _, artifact = run
    table = where(artifact.table("insertion"), part="left")
    rows = {row["context"]: row for row in records(table)}
    assert sum(row["insertions"] for row in rows.values()) == 130
    assert rows["background"]["gained"] == 1 and rows["background"]["variance"] == 0
    assert rows["left"]["gained"] == 0 and 0.3 < rows["background"]["control"] < 0.7
    gained, control = (artifact.tensors("location")[name] for name in ("gained", "control"))
    assert control.shape == gained.shape and gained.mean() > control.mean()
    assert gained.shape == (2, SIDE, SIDE) and not gained.isnan().any() and gained[0, 7, 7] == 1


def test_results_do_not_depend_on_batches(
    run: tuple[Context, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = dissect_gan(context(tmp_path, monkeypatch, batch_size=4))
    assert again.manifest["files"] == run[1].manifest["files"]


def test_a_killed_run_goes_on(run: tuple[Context, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context(tmp_path, monkeypatch)
    monkeypatch.setattr(stage_module, "insert", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        dissect_gan(ctx)
    before: Any = ctx.generator
    first = before.calls
    monkeypatch.undo()
    with pytest.MonkeyPatch.context() as patch:
        ctx = context(tmp_path, patch)
        after: Any = ctx.generator
        assert dissect_gan(ctx).manifest["files"] == run[1].manifest["files"]
    assert after.calls < first


def test_random_units_have_the_variance_of_the_best() -> None:
    variance = torch.tensor(np.random.default_rng(0).permutation(np.arange(32.0)))
    strata = layer_strata(variance)
    assert strata.bincount().tolist() == [8, 8, 8, 8]
    assert all(variance[strata == k].max() < variance[strata == k + 1].min() for k in range(3))
    assert variance_strata(torch.zeros(5), 2).tolist() == [0, 0, 0, 1, 1]
    units = [int(u) for u in variance.argsort()[[0, 1, 2, 9, 31]]]
    draws = [matched_draw(units, strata, np.random.default_rng(k)) for k in range(400)]
    for drawn in draws:
        assert strata[drawn].sort().values.tolist() == [0, 0, 0, 1, 3] and len(set(drawn)) == 5
    counts = torch.tensor(draws).flatten().bincount(minlength=32) / 400
    assert (counts[strata == 2] == 0).all()
    torch.testing.assert_close(counts[strata == 0], torch.full((8,), 3 / 8), atol=0.09, rtol=0)


def test_p_counts_draws_that_take_as_much() -> None:
    effect, draws = torch.tensor([0.5, torch.nan, -1.0]), torch.tensor([[0.5, 1, 0], [0.4, 1, 0], [0.7, 1, 0]])
    assert matched_p(effect, draws).nan_to_num(9).tolist() == [0.75, 9, 1]


def test_the_section_tells_what_its_tables_hold(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    section = generator_units(source(ctx, {"dissect_gan": artifact}))
    assert section is not None
    assert "2 (4 units)" in section.finding and "of 2 parts of units" in section.finding
    assert "Of 16 units of units" in section.lead and "smallest p" not in section.lead
    assert [figure.name for figure in section.figures] == [
        f"dissect-gan-{name}" for name in ("removal", "effects", "location", "parts", "movies")
    ]
    assert len(section.tables[0].rows) == 4
    table = artifact.table("removal")
    panel = removal_figure(artifact.table("curves"), table).axes[0]
    filled = [line.get_markerfacecolor() for line in panel.lines if line.get_marker() == "o"]
    assert [face != "white" for face in filled] == (where(table, part="left")["q"] <= 0.05).tolist()


@pytest.mark.parametrize(("change", "drawn", "mark"), [(-0.2, -0.2, "o"), (-1.47, -1.47, "o"), (-7.0, LOWEST, "v")])
def test_parts_that_grow_stay_in_the_figure(change: float, drawn: float, mark: str) -> None:
    units = np.arange(5)
    curves = pd.DataFrame({"part": "bright", "units": units, "change": change * units / 4})
    curves = curves.assign(low=curves["change"] - 0.1, high=curves["change"] + 0.1)
    row = {"part": "bright", "units": 4, "change": change, "control": change / 2, "low": change, "high": 0.0, "q": 0.01}
    axis = removal_figure(curves, table := pd.DataFrame([row])).axes[0]
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axis.lines])
    assert axis.get_ylim()[0] < values.min() == drawn
    assert [line.get_marker() for line in axis.lines if line.get_markersize() == 5] == [mark]
    triangles = np.concatenate([line.get_xdata() for line in axis.lines if line.get_marker() == "v"])
    assert triangles.tolist() == ([2, 3, 4, 4, 4] if mark == "v" else [])  # of the curve, the control and the best
    beyond = dissect_gan_report._beyond(curves, table)
    assert ("Below -200 %" in beyond and "-710 %" in beyond) if mark == "v" else beyond == ""


def test_a_part_without_a_pixel_is_named(run: tuple[Context, Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    ctx, artifact = run
    told = generator_units(source(ctx, {"dissect_gan": artifact}))
    assert told is not None and "no pixel" not in told.lead
    frames = {name: artifact.table(name) for name in ("removal", "curves", "side_effects")}
    for table in frames.values():
        table.loc[
            table["part"] == "right", table.columns.intersection(["change", "control", "low", "high", "p", "q"])
        ] = np.nan
    frames["removal"].loc[frames["removal"]["part"] == "right", "baseline"] = 0.0
    read = Artifact.table
    monkeypatch.setattr(Artifact, "table", lambda self, name: frames[name] if name in frames else read(self, name))
    section = generator_units(source(ctx, {"dissect_gan": artifact}))
    assert section is not None
    images = artifact.json("facts")["images"]
    assert f"Of 2 parts the {images} unedited images show no pixel of 1 (right), of which no share can" in section.lead
    assert section.finding.endswith("1 (4 units) and 1 (8 units) of 1 part that the images show, of units")


def test_the_lowest_iou_of_the_segmenter_is_of_parts_that_there_are(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    masks = torch.tensor([[[0, 2], [3, 3]]])
    iou = exact_iou(masks, torch.tensor([[[0, 2], [3, 0]]]), ("left", "right", "top"))
    assert json.dumps(iou, allow_nan=False) == '{"left": null, "right": 1.0, "top": 0.5}'
    facts = artifact.json("facts")
    read = source(ctx, {"dissect_gan": artifact})
    assert "exact masks is at least 0.50 (top)" in dissect_gan_report._lead(read, facts | {"segmenter_iou": iou})
    for nothing in ({}, {"left": None}):
        assert "exact masks" not in dissect_gan_report._lead(read, facts | {"segmenter_iou": nothing})
    told = dissect_gan_report._removal_table(artifact.table("removal"), facts | {"segmenter_iou": iou})
    assert [row[-1] for row in told.rows] == ["–", "–", "1.0", "1.0"]


def test_movies_are_animated(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    files = movie_files(source(ctx, {"dissect_gan": artifact}))
    assert list(files) == [f"dissect-gan-{name}.webp" for name in MOVIES]
    frames = []
    for content in files.values():
        with Image.open(io.BytesIO(content)) as image:
            frames.append(image.n_frames)  # pyright: ignore[reportAttributeAccessIssue]
            assert image.info["loop"] == 0
    assert frames[0] == 9 and all(2 <= n <= STEPS for n in frames[1:])  # equal frames in a row are one
    refused = artifact.tensors("painting_movie")["refused"]
    assert refused.shape == (STEPS, 3) and not refused[-1].any()


def test_a_movie_shows_its_pictures_in_order() -> None:
    pictures = [np.full((32, 32, 3), 60 * k, np.uint8) for k in range(4)]
    with Image.open(io.BytesIO(animated_webp(pictures))) as image:
        seen = []
        for k in range(4):
            image.seek(k)
            seen.append(np.asarray(image.convert("RGB")).mean())
    np.testing.assert_allclose(seen, [0, 60, 120, 180], atol=3)


def test_the_way_of_a_cell_is_a_circle() -> None:
    cells = circle(16, 16)
    rows, columns = cells // 16, cells % 16
    distance = ((rows + 0.5 - 8) ** 2 + (columns + 0.5 - 8) ** 2).sqrt()
    assert len(cells.unique()) == gan_movies.STEPS and (distance - RADIUS * 16).abs().max() < 1


def test_what_cannot_be_dissected_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make_context(tmp_path)
    plain.config.dissect_gan = DissectGanConfig(layer="only")  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match=r"nothing segments the pixels of images of FakeGenerator.*gan=partworld"):
        pixel_segmenter(plain)
    with pytest.raises(ValueError, match="no layer 'b3': expected some of first, units, last"):
        dissect_gan(context(tmp_path, monkeypatch, replace(SETTINGS, layer="b3")))
    with pytest.raises(ValueError, match="layer=first has 2 units: expected 8 or more"):
        dissect_gan(context(tmp_path, monkeypatch, replace(SETTINGS, layer="first")))
    with pytest.raises(ValueError, match="1 image is edited: expected two or more"):
        dissect_gan(context(tmp_path, monkeypatch, replace(SETTINGS, edited=1), class_names=("ant",)))
    with pytest.raises(ValueError, match=r"dissect_gan.edited=7: expected at most dissect_gan.samples=6"):
        dissect_gan(context(tmp_path, monkeypatch, replace(SETTINGS, edited=7)))


SEGMENTER = """
import torch
from lis import PixelSegmenter

def halves(device):
    return PixelSegmenter(["left", "right"], lambda x: 1 + (x[:, 0] < 0).long(), f"by red on {device}")

def other(device):
    return PixelSegmenter(("left", "right"), halves(device).segment, "another one")

def unnamed(device):
    return PixelSegmenter(("left",), halves(device).segment)

def background(device):
    return PixelSegmenter(("left", "background"), halves(device).segment, "word")

def image(device):
    return PixelSegmenter(("left",), lambda x: x, "word")

def high(device):
    return PixelSegmenter(("left",), halves(device).segment, "word")

def number(device):
    return 3

def failing(device):
    raise RuntimeError("no weights here")
"""


@pytest.fixture
def segmenters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module "segmenters_of_a_test" on Python's path."""
    (tmp_path / "segmenters_of_a_test.py").write_text(SEGMENTER)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def segmented(folder: Path, function: str) -> Context:
    generator = Planted()
    ctx = make_context(folder, generator=generator, classifier=FakeClassifier(generator))
    path = f"segmenters_of_a_test.{function}"
    ctx.config.dissect_gan = replace(SETTINGS, segmenter=path)  # pyright: ignore[reportAttributeAccessIssue]
    return ctx


def test_parts_are_seen_by_a_function_of_a_user(segmenters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gan_movies, "STEPS", STEPS)
    artifact = dissect_gan(ctx := segmented(segmenters, "halves"))
    assert artifact.json("facts")["parts"] == ["left", "right"] and artifact.json("facts")["segmenter_iou"] == {}
    assert pixel_segmenter(ctx).fingerprint == "by red on cpu"
    best = where(artifact.table("agreement"), part="left").nsmallest(4, "rank")["unit"]
    assert set(best) == {0, 1, 2, 3}  # red is what they draw
    keys = {dissect_gan.recipe(segmented(segmenters, name), []).key for name in ("halves", "other")}
    assert len(keys) == 2 and artifact.key in keys


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nothing", r"segmenter=segmenters_of_a_test.nothing: .*expected module.function on Python's path"),
        ("failing", "no weights here.*expected module.function"),
        ("number", r"number gives int: expected lis.PixelSegmenter"),
        ("unnamed", r"unnamed has no fingerprint: expected a text that follows its weights"),
        ("background", r"labels=\('left', 'background'\): expected names, each once, without 'background'"),
        ("image", r"gives float32 \[2, 3, 8, 8\]: expected int64 \[2, 8, 8\]"),
        ("high", r"values from 1 to 2: expected 0 \(background\) to 1, the labels being left"),
    ],
)
def test_a_segmenter_that_is_none_is_refused(segmenters: Path, function: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        dissect_gan(segmented(segmenters, function))


def test_brightness_needs_no_segmenter(segmenters: Path) -> None:
    ctx = segmented(segmenters, "halves")
    ctx.config.dissect_gan.concepts = "brightness"  # pyright: ignore[reportAttributeAccessIssue]
    (told,) = stage_module.problems(ctx.config)
    assert told.endswith("test.halves sees parts: expected dissect_gan.concepts=parts, not brightness")


def test_part_world_is_dissected_by_its_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gan_movies, "STEPS", 2)
    world = PartWorld(["pug", "weimaraner"])
    fake = FakeGenerator()
    ctx = make_context(tmp_path, generator=world, classifier=FakeClassifier(fake))
    classes = replace(ctx.config.classes, names=["pug", "weimaraner"], labels=["head"])
    ctx = replace(ctx, config=replace(ctx.config, classes=classes))
    settings = DissectGanConfig(samples=3, permutations=19, edited=1, most=4, draws=19, insertions=4, min_count=2)
    ctx.config.dissect_gan = settings  # pyright: ignore[reportAttributeAccessIssue]
    artifact = dissect_gan(ctx)
    facts = artifact.json("facts")
    assert (facts["layer"], facts["units"], facts["map"], facts["images"]) == ("b16.1", 48, [16, 16], 2)
    assert facts["parts"] == list(world.labels) and facts["segmenter_iou"]["body"] > 0.9
    table = artifact.table("removal")
    assert np.mean(table["change"]) > np.mean(table["control"])
    agreement = where(artifact.table("agreement"), part="body")
    four = agreement.nsmallest(4, "rank")["unit"].tolist()
    w, segment = torch.cat([drawn_codes(ctx, 3, 3)[[0, 3]]]), pixel_segmenter(ctx).segment
    number = world.labels.index("body") + 1
    before = (segment(world.synthesize(w)) == number).double().mean()
    after = (segment(world.synthesize_edited(w, UnitEdit("b16.1", four).edits())) == number).double().mean()
    assert where(table, part="body")["change"].item() == pytest.approx(float(1 - after / before), abs=1e-3)
    assert artifact.tensors("removal_movie")["image"].shape == (5, 2, 3, 64, 64)


def test_the_geometry_of_stylegan_xl_is_dissected_and_painted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes alone: random weights show nothing."""
    monkeypatch.setattr(gan_movies, "STEPS", 2)
    made, layer, names = stylegan_xl("t_stem16_c10"), "L3_36_11", ("class_1", "class_3")
    classifier = FakeClassifier(FakeGenerator(names))
    ctx = make_context(tmp_path, generator=made, classifier=classifier, class_names=names)
    ctx.config.dissect_gan = DissectGanConfig(  # pyright: ignore[reportAttributeAccessIssue]
        "brightness", layer, samples=3, permutations=19, edited=1, most=4, draws=19, insertions=4, min_count=2
    )
    artifact = dissect_gan(ctx)
    facts = artifact.json("facts")
    assert (facts["layer"], facts["units"], facts["map"], facts["images"]) == (layer, 11, [16, 16], 2)
    assert len(artifact.table("agreement")) == 11 * 3 and len(artifact.table("removal")) == 3
    assert artifact.tensors("location")["gained"].shape == (3, 16, 16)
    assert artifact.tensors("painting_movie")["image"].shape == (2, 2, 3, 16, 16)
    w, mask = drawn_codes(ctx, 3, 1), torch.zeros(16, 16)
    mask[:8] = 1
    result = painted(ctx, Rows(w, (2,)), [0, 9], mask, layer, [4.0, 2.0], None, None)
    edits = UnitEdit(layer, [0, 9], torch.tensor([4.0, 2.0])).edits(mask.expand(2, -1, -1))
    expected = made.synthesize_edited(w, edits)
    assert torch.equal(result.after, to_uint8(expected)) and result.labels == BRIGHTNESS
    assert not torch.equal(result.before, result.after) and result.covered.shape == (2, 4)
