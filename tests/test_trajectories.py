"""The way to a counterfactual: pictures, measures, distances and boundaries, and the truth about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.commandline import SMALL, lis
from helpers.fakes import NAMES, FakeGenerator
from helpers.fakes_units import BRIGHT, DARK, LABELS, FakeSegmenter
from test_counterfactuals import context, frame
from torch import Tensor

from lis.boundary import trajectories as stage
from lis.boundary.boundary_truth import boundary_truth, validate_bayes
from lis.boundary.counterfactuals import counterfactuals
from lis.boundary.trajectories import trajectories
from lis.context import Context
from lis.linking.link import link, load_link
from lis.linking.pairs import pairs
from lis.linking.region import Region
from lis.quantify.change import change
from lis.quantify.measures import MEASURES, measure
from lis.report.source import source
from lis.report.trajectories import across_the_boundary
from lis.segmentation.segmenter import Masks
from lis.store import Artifact
from lis.units.parts import Parts


def masks(maps: dict[str, Tensor]) -> Tensor:
    """Bright and dark pixels of the generator's only map."""
    red = maps["only"][:, 0]
    return torch.where(red > BRIGHT, 1, torch.where(red < DARK, 2, 0))


def use_masks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        stage.Parts, "of", classmethod(lambda cls, ctx: Parts(LABELS, Masks(FakeSegmenter()), ("fake-parts",)))
    )


class Known(FakeGenerator):
    """Knows that its classes are round Gaussians in the factors."""

    def log_posterior(self, w: Tensor) -> Tensor:
        distance = torch.cdist(self.true_factors(w), self.means).square()
        return (-distance / (2 * self.spread**2)).log_softmax(1)

    def class_factors(self, class_index: int) -> Tensor:
        return self.means[class_index]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    with pytest.MonkeyPatch.context() as patch:
        use_masks(patch)
        ctx = context(tmp_path_factory.mktemp("run"), generator=Known(), trajectories=3)
        return ctx, trajectories(ctx)


def image_at(ctx: Context, artifact: Artifact, row: int, t: float) -> Tensor:
    """The image at a point of a path, from the counterfactuals of the whole run."""
    told = frame(artifact, "trajectories").iloc[row]
    table = frame(counterfactuals(ctx), "counterfactuals")
    keys = ["origin", "target", "sample_index"]
    place = table[keys].to_numpy().tolist().index(told[keys].tolist())
    tensors = counterfactuals(ctx).tensors("counterfactuals")
    moved = (tensors["r"][place] + t * tensors["shift"][place]).clamp(min=0)
    return ctx.generator.synthesize(load_link(link(ctx))(moved[None]))


def test_a_trajectory_is_of_a_pair_each(run: tuple[Context, Artifact]) -> None:
    table = frame(run[1], "trajectories")
    assert list(zip(table["origin"], table["target"], strict=True)) == [
        (NAMES[k], NAMES[(k + 1) % 3]) for k in range(3)
    ]
    assert run[1].json("facts")["failed"] == [] and run[1].json("facts")["labels"] == list(LABELS)
    assert run[1].json("facts")["left_out"].keys() == {"lpips", "moco"}
    assert (table["after_answer"] == table["target"]).all() and (table["before_answer"] != table["target"]).all()


def test_every_step_equals_plain_loops(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    tensors, steps, measures = artifact.tensors("trajectories"), frame(artifact, "steps"), frame(artifact, "measures")
    assert tensors["position"].tolist() == pytest.approx(np.linspace(0, 2, 7))
    train = pairs(ctx, "train").tensors("pairs")
    region = Region.around(train["w"], train["class_index"])
    for row in range(3):
        first = image_at(ctx, artifact, row, 0.0)
        first_measures = measure(masks({"only": first}), first, 2)
        target = int(frame(artifact, "trajectories")["target_index"][row])
        for step, t in enumerate(tensors["position"].tolist()):
            image = image_at(ctx, artifact, row, t)
            p = ctx.classifier.head(ctx.classifier.features(image)).softmax(1)[0]
            own: Any = steps[(steps["trajectory"] == row) & (steps["step"] == step)].iloc[0]
            assert own["probability"] == pytest.approx(float(p[target]), abs=1e-4)
            assert own["prediction"] == ctx.classifier.class_names[int(p.argmax())]
            distance = region.distance(tensors["w"][row, step])
            assert own["beyond"] == bool(distance >= region.bound * (1 - 1e-4))
            assert own["mse"] == pytest.approx(float((image - first).square().mean()), abs=1e-5)
            there = measure(masks({"only": image}), image, 2)
            found: Any = measures[(measures["trajectory"] == row) & (measures["step"] == step)]
            np.testing.assert_allclose(found["measured"], there.flatten(), rtol=1e-3, atol=1e-4)
            since = change(first_measures, there)[0, :, :4]
            np.testing.assert_allclose(found["change"].to_numpy().reshape(2, 5)[:, :4], since, rtol=1e-2, atol=1e-3)
    assert steps.groupby("trajectory")["mse_normalised"].max().tolist() == pytest.approx([1, 1, 1])
    assert measures["normalised"].abs().max() == pytest.approx(1)


def test_without_labels_nothing_is_measured_and_no_panel_is_empty(tmp_path: Path) -> None:
    """Fig. 7C of a class set that names no parts: pictures, distances and the probability."""
    ctx = context(tmp_path, classes__labels=[], trajectories=2)
    artifact = trajectories(ctx)
    tables = [frame(artifact, name) for name in ("measures", "around", "jumps")]
    assert len(frame(artifact, "steps")) == 2 * 7 and all(table.empty for table in tables)
    assert artifact.tensors("trajectories")["measures"].shape == (2, 7, 0, 5)
    section: Any = across_the_boundary(source(ctx, {"trajectories": artifact}))
    assert len(section.figures) == 4 and not section.tables
    for picture in section.figures:
        assert all(axis.has_data() or axis.patches or axis.texts for axis in picture.figure.axes)
        assert "part" not in picture.caption
    assert [axis.get_title(loc="left") for axis in section.figures[-1].figure.axes[2:]] == [
        "image distance, probability"
    ]


def test_the_two_images_beside_the_boundary(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    around, table = artifact.tensors("around"), frame(artifact, "trajectories")
    width = around["position"].diff(dim=1)[:, 0]
    assert (width > 0).all() and (width <= 2e-3 + 1e-6).all()  # a thousandth of a path to t = 2
    target = torch.tensor(np.array(table["target_index"]))
    assert (around["prediction"][:, 0] != target).all() and around["prediction"][:, 1].equal(target)
    whole = frame(counterfactuals(ctx), "counterfactuals")
    first: Any = whole.drop_duplicates(["origin", "target"]).iloc[:3]
    np.testing.assert_allclose(table["boundary"], first["boundary"], atol=2e-3)
    told = frame(artifact, "around")
    np.testing.assert_allclose(told["before"], around["measures"][:, 0].flatten(), rtol=1e-5)
    assert told["change"].abs().max() < frame(artifact, "measures")["change"].abs().max()


def test_kinks_are_of_the_step_that_crosses(run: tuple[Context, Artifact]) -> None:
    artifact, keys = run[1], ["trajectory", "label", "measure"]
    table = frame(artifact, "jumps")
    boundary, known = frame(artifact, "trajectories")["boundary"], 0
    curves = frame(artifact, "measures").groupby(keys)
    for key, own in curves:
        steps = np.diff(own["change"])
        jump = steps[int(np.searchsorted(own["position"], boundary[key[0]])) - 1]
        found = table[(table[keys] == pd.Series(key, index=keys)).all(axis=1)].iloc[0]
        if np.isnan(jump):
            assert np.isnan(found["jump"]) and np.isnan(found["score"])
            continue
        known += 1
        assert found["jump"] == pytest.approx(jump, abs=1e-4)
        assert found["score"] == pytest.approx(abs(jump) / np.nanmean(np.abs(steps)), rel=1e-2)
    assert known > 5 and len(table) == 3 * 2 * len(MEASURES)
    assert table[table["rank"] == 1].groupby("trajectory").size().isin([1]).all()


@pytest.mark.usefixtures("no_tensor_is_an_index")
def test_a_single_pair_with_a_single_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_masks(monkeypatch)
    ctx = context(tmp_path, generator=Known(), pairs=["ant-bee"], samples=1)
    artifact, truth = trajectories(ctx), boundary_truth(ctx)
    table, steps = frame(artifact, "trajectories"), frame(artifact, "steps")
    assert table[["origin", "target", "after_answer"]].to_numpy().tolist() == [["ant", "bee", "bee"]]
    assert table["before_answer"][0] != "bee" and len(steps) == 7 and steps["prediction"].iloc[-1] == "bee"
    boundaries = frame(truth, "boundaries")
    assert len(boundaries) == 1 and boundaries["bayes_before"][0] in NAMES and boundaries["bayes_after"][0] in NAMES


def test_without_a_boundary_there_is_nothing_to_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_masks(monkeypatch)
    ctx = context(tmp_path, optimizer="published", learning_rate=1e-6, max_steps=1, start=0.0, pairs=["ant-bee"])
    with pytest.raises(ValueError, match=r"no counterfactual among 3 has a boundary \(3 of 3 searches fail"):
        trajectories(ctx)


def test_where_bayes_changes_its_mind(run: tuple[Context, Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    use_masks(monkeypatch)
    ctx, shown = run
    generator = validate_bayes(ctx.generator)
    artifact = boundary_truth(ctx)
    table, tensors = frame(counterfactuals(ctx), "counterfactuals"), counterfactuals(ctx).tensors("counterfactuals")
    kept = np.flatnonzero(table["boundary"].notna())
    boundaries = frame(artifact, "boundaries")
    assert len(boundaries) == len(kept)
    model, changes = load_link(link(ctx)), list[Tensor]()
    for (_, found), row in zip(boundaries.iterrows(), kept, strict=True):
        grid = torch.linspace(0, 2, 2001)
        moved = (tensors["r"][row] + grid[:, None] * tensors["shift"][row]).clamp(min=0)
        posterior = generator.log_posterior(model(moved)).exp()
        target = NAMES.index(found["target"])
        inside = (posterior.argmax(1) == target).nonzero()[:, 0]
        if len(inside) and int(inside[0]):
            assert found["bayes"] == pytest.approx(float(grid[inside[0]]), abs=3e-3)
            assert found["gap"] == pytest.approx(found["bayes"] - found["classifier"])
        else:
            assert np.isnan(found["bayes"])
        ends = [NAMES[int(posterior[place].argmax())] for place in (0, 1000)]
        assert [found["bayes_before"], found["bayes_after"]] == ends
        at = posterior[int((grid - found["classifier"]).abs().argmin()), target]
        assert found["posterior"] == pytest.approx(float(at), abs=0.02)
        changes.append(generator.true_factors(model(moved[[0, 1000]])).diff(dim=0)[0])
    factors = frame(artifact, "factors")
    first = factors[(factors["origin"] == "ant") & (factors["target"] == "bee")]
    own = [k for k, row in enumerate(kept) if tuple(table.loc[row, ["origin", "target"]]) == ("ant", "bee")]
    np.testing.assert_allclose(first["change"], torch.stack([changes[k] for k in own]).mean(0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(first["difference"], generator.class_factors(1) - generator.class_factors(0), rtol=1e-5)
    told = artifact.json("summary")
    assert told["n"] == len(kept)
    assert told["bayes_reached"] == pytest.approx((boundaries["bayes_after"] == boundaries["target"]).mean())
    paths = frame(artifact, "posterior_paths")
    steps = frame(shown, "steps")
    np.testing.assert_allclose(paths["classifier_probability"], steps["probability"], rtol=1e-5)
    assert len(frame(artifact, "factor_paths")) == 3 * 7 * len(generator.factor_names)


def test_the_truth_is_asked_only_where_it_is_known() -> None:
    with pytest.raises(ValueError, match="FakeGenerator does not know the probability of its classes"):
        validate_bayes(FakeGenerator())


@pytest.mark.slow
def test_a_run_of_all_stages_ends_in_a_page(tmp_path: Path) -> None:
    stages = "counterfactuals,trajectories,initialisations,sparse_counterfactuals,boundary_truth"
    wanted = ["classes.names=[pug,chihuahua]", f"analysis.stages=[{stages}]", "hydra.run.dir=run"]
    code, output = lis("analysis=counterfactuals", *SMALL, *wanted, cwd=tmp_path)
    assert code == 0, output
    assert (tmp_path / "run" / "report.html").stat().st_size > 50_000
