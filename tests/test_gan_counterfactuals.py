"""Counterfactuals in the generator: against plain loops, whatever the blocks, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes_units import LABELS, NAMES, FakeGenerator, look, tuning_context, use_fake_segmenter

from lis.boundary.gan_counterfactuals import (
    GanCounterfactualsConfig,
    gan_counterfactuals,
    validate_counterparts,
    with_largest_change,
)
from lis.boundary.gan_paths import _over_samples
from lis.context import Context
from lis.linking.link import link, load_link
from lis.linking.pairs import pairs
from lis.quantify.averages import Average
from lis.quantify.change import change
from lis.quantify.measures import MEASURES
from lis.report.tables import column, records, where
from lis.store import Artifact
from lis.streams import Stream

CONFIG = GanCounterfactualsConfig(samples=3, steps=5, examples=2, units=3)


def context(root: Path, generator: Any = None, **overrides: Any) -> Context:
    return tuning_context(root, generator, view__steps=4, gan_counterfactuals=CONFIG, **overrides)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    with pytest.MonkeyPatch.context() as patch:
        use_fake_segmenter(patch)
        ctx = context(tmp_path_factory.mktemp("run"))
        return ctx, gan_counterfactuals(ctx)


def slow_way(ctx: Context, row: dict[str, Any]) -> tuple[torch.Tensor, list[Any]]:
    """One way, image by image: w at every step, and what is read off it."""
    origin, target = (NAMES.index(row[name]) for name in ("origin", "target"))
    index, generator = torch.tensor([row["sample_index"]]), ctx.generator
    first = generator.sample(origin, index, Stream("test pairs"))[0]
    z = first - generator.mean_w[origin]  # of the fakes
    codes = [first + t * (generator.mean_w[target] + z - first) for t in np.linspace(0, 1, 5)]
    return torch.stack(codes), [look(ctx, w.float()) for w in codes]


def test_every_number_equals_plain_loops(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    table, paths = artifact.table("samples"), artifact.tensors("paths")
    assert len(table) == 3 * 2 * 3 and paths["position"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    for k in (0, 7, 17):
        row = records(table)[k]
        w, seen = slow_way(ctx, row)
        measures, probability, r = (torch.stack([one[part] for one in seen]) for part in range(3))
        torch.testing.assert_close(paths["measures"][k], measures, rtol=1e-3, atol=1e-4, equal_nan=True)
        torch.testing.assert_close(paths["probability"][k], probability, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(paths["shift"][k], r[-1] - r[0], rtol=1e-3, atol=1e-4)
        assert row["probability"] == pytest.approx(float(probability[-1, NAMES.index(row["target"])]), abs=1e-4)
        assert row["arrived"] == (NAMES[int(probability[-1].argmax())] == row["target"])
        assert row["w_distance"] == pytest.approx(float((w[-1] - w[0]).norm()), rel=1e-4)
    assert column(table, "arrived").mean() > 0.8 and len(column(table, "boundary")) > 0.8 * len(table)


def test_parts_and_units_are_means_over_the_ways_of_a_pair(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    rows = np.flatnonzero((artifact.table("samples")[["origin", "target"]] == ["bee", "ant"]).all(axis=1))
    paths, pair = artifact.tensors("paths"), {"origin": "bee", "target": "ant"}
    moved = change(paths["measures"][rows, 0], paths["measures"][rows, -1])
    measures = where(artifact.table("measures"), **pair)
    for k, label in enumerate(LABELS):
        for m, measure in enumerate(MEASURES):
            row = records(where(measures, label=label, measure=measure))[0]
            assert row["n"] == int((~moved[:, k, m].isnan()).sum())
            expected = Average.of(moved[:, k]).value[m] if measure == "angle" else moved[:, k, m].nanmean()
            np.testing.assert_allclose(row["change"], expected.item(), rtol=1e-4, atol=1e-6)
    units, mean = where(artifact.table("units"), **pair), paths["shift"][rows].mean(0)
    order = mean.abs().argsort(descending=True, stable=True)
    assert units["unit"].tolist() == order.tolist() and units["rank"].tolist() == list(range(1, 17))
    np.testing.assert_allclose(units["change"], mean[order], rtol=1e-4, atol=1e-6)
    std = link(ctx).table("units")["std"].to_numpy()[order]
    np.testing.assert_allclose(units["standard"], mean[order].numpy() / std, rtol=1e-3, atol=1e-5)
    same = (paths["shift"][rows].sign() == mean.sign()).float().mean(0)[order]
    np.testing.assert_allclose(units["agree"], same, rtol=1e-5)


def test_quartiles_of_angles_lie_around_their_mean() -> None:
    """Of axes around 90°, whose numbers lie at both ends."""
    change = torch.zeros(8, 1, 5)
    change[:, 0, 4] = torch.tensor([80.0, 84, 86, 89, -89, -86, -84, -80])
    average, columns = _over_samples(change)
    assert abs(average.value[0, 4].item()) == pytest.approx(90, abs=0.1) and average.resultant > 0.97
    low, high = columns["low"][0, 4].item(), columns["high"][0, 4].item()
    assert high - low == pytest.approx(9, abs=0.1) and low < average.value[0, 4] < high
    assert columns["n"].tolist() == [[8] * 5] and columns["resultant"][0, :4].isnan().all()


def test_shown_are_a_typical_way_and_its_units_tuned(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    shown, samples, tuned = (artifact.table(name) for name in ("examples", "samples", "tuned"))
    assert shown[["origin", "target"]].to_numpy().tolist() == [["ant", "bee"], ["bee", "cat"]]
    paths, images = artifact.tensors("paths"), artifact.tensors("examples")
    for k, row in enumerate(records(shown)):
        good = where(samples, origin=row["origin"], target=row["target"], arrived=True).index.tolist()
        shift = paths["shift"][good]
        assert row["row"] == good[int((shift - shift.mean(0)).norm(dim=1).argmin())]
        torch.testing.assert_close(images["measures"][k], paths["measures"][row["row"]], equal_nan=True)
    assert images["image"].shape == (2, 5, 3, 8, 8) and len(tuned) == 2 * 3
    first = records(tuned)[3]
    assert (
        first["example"] == 1
        and first["unit"] == where(artifact.table("units"), origin="bee", target="cat")["unit"].iloc[0]
    )
    _, seen = slow_way(ctx, records(samples)[records(shown)[1]["row"]])
    r = seen[0][2].clone()
    r[first["unit"]] = first["maximum"]
    _, probability, _ = look(ctx, load_link(link(ctx))(r[None])[0])
    torch.testing.assert_close(artifact.tensors("tuned")["probability"][3, -1], probability, rtol=1e-3, atol=1e-4)
    for name in ("examples", "tuned"):
        drawn = artifact.tensors(name)
        assert drawn["beyond"].shape == drawn["prediction"].shape and set(drawn["beyond"].unique().tolist()) <= {0, 1}
    for row in records(tuned):
        assert row["shift"] == float(paths["shift"][records(shown)[row["example"]]["row"], row["unit"]])


def test_any_blocks_give_the_same(
    tmp_path: Path, run: tuple[Context, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_fake_segmenter(monkeypatch)
    other = gan_counterfactuals(context(tmp_path, tuning__seed_block=1, batch_size=3))
    for name in ("samples", "measures", "units", "examples"):
        pd.testing.assert_frame_equal(other.table(name), run[1].table(name), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other.tensors("paths"), run[1].tensors("paths"), rtol=1e-4, atol=1e-5, equal_nan=True)


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_segmenter(monkeypatch)
    generator, made = FakeGenerator(), list[str]()
    ctx = context(tmp_path, generator)
    pairs(ctx, "test")
    whole = generator.counterpart

    def dies(*arguments: Any) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append("a block")
        return whole(*arguments)

    monkeypatch.setattr(generator, "counterpart", dies)
    with pytest.raises(KeyboardInterrupt):
        gan_counterfactuals(ctx)
    calls = []
    monkeypatch.setattr(generator, "counterpart", lambda *a: calls.append(a) or whole(*a))
    gan_counterfactuals(ctx)
    # 6 pairs of classes in blocks of 2 of 3 samples are 12 blocks; 2 are there, and 2 ways are shown.
    assert len(calls) == 12 - 2 + 2


def test_what_a_unit_changes_most_is_told() -> None:
    measures = torch.full((2, 2, 2, 5), 0.5)
    measures[0, 1, 1, MEASURES.index("luminance")] = 0.25
    measures[1, 1, 0, MEASURES.index("area")] = 0.75
    measures[1, 1, 0, MEASURES.index("angle")] = 60.0
    table = with_largest_change(pd.DataFrame({"unit": [4, 7]}), measures, ("ear", "eye"))
    assert table["label"].tolist() == ["eye", "ear"] and table["measure"].tolist() == ["luminance", "area"]
    assert table["measured"].tolist() == pytest.approx([-0.5, np.log2(1.5)])
    still = with_largest_change(pd.DataFrame({"unit": [4]}), torch.full((1, 2, 2, 5), 0.5), ("ear", "eye"))
    assert still["label"].tolist() == [""] and np.isnan(still["measured"].to_numpy()).all()


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="FakeGenerator has no classes: the same z in another class needs"):
        validate_counterparts(context(tmp_path, FakeGenerator(conditional=False)))
    bare = SimpleNamespace(num_classes=2, class_names=("ant", "bee"))
    with pytest.raises(ValueError, match="SimpleNamespace has no `counterpart`"):
        validate_counterparts(SimpleNamespace(generator=bare, config=context(tmp_path).config))  # pyright: ignore
    with pytest.raises(ValueError, match=r"classes.names is \['ant'\]: expected two classes or more"):
        validate_counterparts(context(tmp_path, class_names=("ant",)))
    with pytest.raises(ValueError, match=r"gan_counterfactuals.samples=3: expected at most pairs.test=2"):
        validate_counterparts(context(tmp_path, pairs__test=2))
