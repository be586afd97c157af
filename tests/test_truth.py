"""Measured beside true change: on a generator whose segmenter is never wrong, and on part world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from helpers.fakes_units import LABELS, FakeGenerator, tuning_context, use_fake_segmenter
from torch import Tensor

from lis.config import MLPConfig
from lis.context import Context
from lis.generators.partworld import PartWorld
from lis.linking.link import link, load_link
from lis.quantify.change import change
from lis.quantify.measures import MEASURES, measure
from lis.store import Artifact
from lis.streams import Stream
from lis.units.closed import Closed
from lis.units.directions import directions, load_directions
from lis.units.ends import Ends
from lis.units.truth import COMPARED, true_measures, truth
from lis.units.tuned import Tuned
from lis.units.tuning import perturbations, tuning


class Drawing(FakeGenerator):
    """Its true parts are those that the fake segmenter finds, in another order, and one more."""

    labels: tuple[str, ...] = ("dark", "nowhere", "bright")

    def render(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Image and cover."""
        image = self.synthesize(w)
        red = image[:, 0]
        return image, torch.stack([red < -0.15, torch.zeros_like(red) > 0, red > 0.15], 1).float()


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_segmenter(monkeypatch)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    with pytest.MonkeyPatch.context() as patch:
        use_fake_segmenter(patch)
        ctx = tuning_context(tmp_path_factory.mktemp("run"), Drawing(), tuning__units=12)
        return ctx, truth(ctx)


def test_a_segmenter_that_is_never_wrong_agrees(run: tuple[Context, Artifact]) -> None:
    artifact = run[1]
    units, agreement = artifact.table("units"), cast(Any, artifact.table("agreement"))
    assert len(units) == 12 * 2 * 7 and len(agreement) == 2 * 7
    assert set(agreement["label"]) == set(LABELS) and agreement["interpreted"].all()
    np.testing.assert_allclose(units["measured"], units["true"], rtol=1e-3, atol=1e-4)
    area: Any = agreement[agreement["measure"] == "area"]
    np.testing.assert_allclose(area["spearman"], 1)
    assert (area["overlap"] == 10).all() and (area["units"] == 12).all() and (area["seeds"] == 9).all()
    assert set(artifact.json("summary")) == set(COMPARED)
    assert artifact.json("summary")["area"] == pytest.approx({"spearman": 1.0, "overlap": 10.0})


def test_true_changes_equal_plain_loops(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    tuned, model = Tuned.of(tuning(ctx)), load_link(link(ctx))
    r = tuning(ctx).tensors("seeds")["r"]
    found: Any = artifact.table("units").set_index(["unit", "label", "measure"])["true"]
    for p in (0, 5, 11):
        changes = []
        for s in range(9):
            ends = []
            for value in (tuned.value[p, 0], tuned.value[p, -1]):
                moved = r[s].clone()
                moved[tuned.unit[p]] = value
                image = ctx.generator.synthesize(model(moved[None]))
                mask = torch.where(image[:, 0] > 0.15, 1, torch.where(image[:, 0] < -0.15, 2, 0))
                ends.append(measure(mask, image, 2)[0])
            changes.append(change(*ends))
        mean = torch.stack(changes).nanmean(0)
        for k, label in enumerate(LABELS):
            for m, name in enumerate(MEASURES[:3]):
                value = found[(int(tuned.unit[p]), label, name)]
                assert value == pytest.approx(mean[k, m].item(), rel=1e-2, abs=1e-4, nan_ok=True)


def test_a_segmenter_that_is_wrong_does_not(tmp_path: Path) -> None:
    class Other(Drawing):
        def __init__(self) -> None:
            super().__init__()
            self.fingerprint = "other"

        def render(self, w: Tensor) -> tuple[Tensor, Tensor]:
            return super().render(w.flip(1))

    agreement: Any = truth(tuning_context(tmp_path, Other(), tuning__units=12)).table("agreement")
    assert agreement.loc[agreement["measure"] == "area", "spearman"].max() < 0.9


@pytest.mark.parametrize("more", [{"tuning__unit_block": 5, "batch_size": 3}, {"tuning__unit_block": 50}])
def test_blocks_and_batches_do_not_matter(run: tuple[Context, Artifact], tmp_path: Path, more: dict[str, int]) -> None:
    other = truth(tuning_context(tmp_path, Drawing(), tuning__units=12, **more))
    assert other.key == run[1].key
    for name in ("agreement", "units"):
        ours, theirs = other.table(name), run[1].table(name)
        assert list(ours) == list(theirs)
        numbers = ours.select_dtypes("number").columns
        np.testing.assert_allclose(ours[numbers], theirs[numbers], rtol=1e-3, atol=1e-4)


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    class Tired(Drawing):
        calls = 0

        def render(self, w: Tensor) -> tuple[Tensor, Tensor]:
            Tired.calls += 1
            if Tired.calls == 20:
                raise KeyboardInterrupt
            return super().render(w)

    ctx = tuning_context(tmp_path, Tired(), tuning__units=12)
    with pytest.raises(KeyboardInterrupt):
        truth(ctx)
    done = Tired.calls
    truth(ctx)
    second = Tired.calls - done
    Tired.calls = 100
    truth(tuning_context(tmp_path / "fresh", Tired(), tuning__units=12))
    assert second < Tired.calls - 100


def test_along_closed_nothing_is_moved_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = tuning_context(tmp_path, Drawing(), tuning__units=3, tuning__seeds=2, tuning__along="closed")
    artifact, way = tuning(ctx), load_directions(ctx, link(ctx), directions(ctx))
    units = perturbations(artifact.table("units").query("tuned"))
    with torch.inference_mode():
        moved = way.moved_each(artifact.tensors("seeds")["r"], units, torch.stack([unit.values(2) for unit in units]))

    def twice(*_: object) -> None:
        raise AssertionError("moved again")

    monkeypatch.setattr(Closed, "moved", twice)
    ends, some = Ends.of(artifact, way), Ends.of(artifact, way, 1)
    for unit, w in zip(units, moved, strict=True):
        torch.testing.assert_close(ends(unit), w, rtol=1e-4, atol=1e-5)
        assert torch.equal(some(unit), ends(unit)[::2])  # the first of each class
    norm = torch.stack([(ends(unit)[:, 1] - ends(unit)[:, 0]).norm(dim=1) for unit in units])
    assert torch.equal(norm, Tuned.of(artifact).step_norm)
    assert len(truth(ctx).table("units")) == 3 * 2 * 7
    for other in (replace(units[0], high=units[0].high + 1), replace(units[0], unit=10**6)):
        with pytest.raises(
            ValueError, match=rf"unit {other.unit} from .* was not tuned along closed, expected one of the"
        ):
            ends(other)


def test_the_truth_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"FakeGenerator has no `render`.*gan=partworld"):
        truth(tuning_context(tmp_path))


def test_the_labels_must_be_known(tmp_path: Path) -> None:
    generator = Drawing()
    generator.labels = ("cap", "stem")
    with pytest.raises(ValueError, match=r"labels \(bright, dark\) are none of .*: expected some of cap, stem"):
        truth(tuning_context(tmp_path, generator))
    generator.labels = ("dark", "stem", "cap")
    assert set(truth(tuning_context(tmp_path, generator)).table("agreement")["label"]) == {"dark"}


@pytest.mark.parametrize("more", [{"link": MLPConfig(hidden=4, max_epochs=2)}, {"class_names": ("bee",)}])
def test_few_units_and_any_link(tmp_path: Path, more: dict[str, Any]) -> None:
    table = truth(tuning_context(tmp_path, Drawing(), tuning__units=2, tuning__seeds=1, **more)).table("agreement")
    assert all(np.isnan(table["spearman"])) and set(table["units"]) == {2}


def test_part_worlds_truth() -> None:
    """A pixel belongs to what covers most of it."""
    generator = PartWorld(["agaric", "bolete"])
    w = generator.sample(0, torch.arange(3), Stream("tuning"))
    found = true_measures(generator, w)
    image, cover = generator.render(w)
    for n in range(3):
        for k in range(len(generator.labels)):
            inside = np.zeros((64, 64), dtype=bool)
            for y, x in np.ndindex(64, 64):
                shares = [1 - float(cover[n, :, y, x].sum()), *cover[n, :, y, x].tolist()]
                inside[y, x] = int(np.argmax(shares)) == k + 1
            assert found[n, k, 0].item() == pytest.approx(inside.mean() or float("nan"), abs=1e-6, nan_ok=True)
            luma = (image[n].permute(1, 2, 0).numpy()[inside] + 1) / 2 @ np.array([0.2126, 0.7152, 0.0722])
            assert found[n, k, 1].item() == pytest.approx(luma.mean(), abs=1e-5)
