"""Directions on the fakes: the stage, every way through it, the choice of λ, and the network's own derivatives."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes import FakeClassifier, FakeGenerator, make_context
from matplotlib.patches import Rectangle
from torch import Tensor

from lis.config import TuningConfig
from lis.context import Context
from lis.linking.link import link
from lis.linking.pairs import pairs
from lis.linking.scatter import FOLDS
from lis.look import Looker
from lis.report.directions import forward_model
from lis.report.metrics import collect_metrics
from lis.report.source import source
from lis.report.wording import share
from lis.units import directions as module
from lis.units.closed import PENALTY
from lis.units.directions import PENALTIES, Directions, around, directions, load_directions, mean_arrival, penalties
from lis.units.perturbation import Perturbation

COLUMNS = ["penalty", "own", "others", "more", "images", "chosen"]


def context(root: Path, along: str, penalty: float | None = None) -> Context:
    tuning = TuningConfig(units=4, seeds=2, control_directions=2, along=along, penalty=penalty)
    return make_context(root, tuning=tuning)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("directions")


def made(ctx: Context) -> Directions:
    return load_directions(ctx, link(ctx), directions(ctx))


def some(ctx: Context) -> Tensor:
    return pairs(ctx, "test").tensors("pairs")["r"][::25]


def live(ctx: Context) -> list[int]:
    table = link(ctx).table("units")
    return table.loc[table["status"] == "live", "unit"].tolist()


@pytest.mark.parametrize("along", ["link", "pattern", "faithful"])
def test_a_unit_is_moved_by_its_delta_until_w_stops(root: Path, along: str) -> None:
    ctx = context(root, along, penalty=0.5 if along == "faithful" else None)
    way, r, unit = made(ctx), some(ctx), live(ctx)[1]
    std = float(way.model.std[unit])
    for asked in (around(unit, std), Perturbation.of_unit(unit, -20 * std, 20 * std)):
        w, delta = way.moved(r, asked, asked.values(3)), way.delta(asked)
        assert delta is not None
        for n in range(len(r)):
            base = way.link(r[n, None])[0]
            for t, value in enumerate(asked.values(3).tolist()):
                change = (value if asked.relative else value - float(r[n, unit])) * delta
                if along != "link":
                    change = change * way.model.stopped(base[None], change[None, None])[0, 0]
                torch.testing.assert_close(w[n, t], base + change.float(), rtol=1e-4, atol=1e-5)
    if along != "link":
        assert float((way.model.gain @ delta)[unit]) == pytest.approx(1.0)
        assert way.beyond(w[:, -1]).all()  # 20 standard deviations


def test_the_stage_says_how_lambda_was_found(root: Path) -> None:
    artifact = directions(context(root, "faithful"))
    table = artifact.table("penalty")
    assert table.columns.tolist() == COLUMNS and table["penalty"].tolist() == list(PENALTIES)
    chosen = table.loc[table["chosen"], "penalty"]
    assert len(chosen) == 1 and artifact.json("directions") == {"along": "faithful", "penalty": chosen.item()}
    given = directions(context(root, "faithful", penalty=0.02))
    assert given.json("directions")["penalty"] == 0.02 and given.table("penalty").empty
    assert given.key != artifact.key


@pytest.mark.parametrize(
    ("own", "others", "chosen"),
    [
        ([1.0, 1.0, 0.95, 0.92, 0.5], [0.6, 0.5, 0.4, 0.45, 0.1], 1.0),  # the least of those that arrive
        ([0.5, 0.7, 0.89, 0.6, 0.4], [0.6, 0.5, 0.4, 0.3, 0.1], 1.0),  # none arrives: most
        ([0.95, 0.8, 0.7, 0.7, 0.7], [0.9, 0.1, 0.1, 0.1, 0.1], 0.1),
    ],
)
def test_the_lambda_with_the_least_leakage_is_chosen_where_the_change_arrives(
    root: Path, monkeypatch: pytest.MonkeyPatch, own: list[float], others: list[float], chosen: float
) -> None:
    ctx, answers = context(root, "faithful", penalty=0.5), iter(zip(own, others, strict=True))

    def known(_: Any) -> tuple[float, float, float]:
        share, leaks = next(answers)
        return 2 * share, leaks * 2 * share, 0.1

    monkeypatch.setattr(module, "means", known)
    table = penalties(ctx, made(ctx), some(ctx))
    np.testing.assert_allclose(table["own"], own)
    np.testing.assert_allclose(table["others"], others)
    assert table.loc[table["chosen"], "penalty"].tolist() == [chosen]
    assert table["images"].tolist() == [2 * min(20, len(live(ctx))) * min(10, len(some(ctx)))] * len(PENALTIES)


def test_what_arrives_of_all_units_for_each_lambda(root: Path) -> None:
    ctx = context(root, "faithful", penalty=0.5)
    way, r = made(ctx), some(ctx)[:3]
    table: pd.DataFrame = penalties(ctx, way, r)
    tried, std = replace(way, penalty=PENALTIES[-1]), way.model.std
    own = []
    for unit in live(ctx):
        asked = around(unit, float(std[unit]))
        w = tried.moved(r, asked, asked.values(2))
        images = ctx.generator.synthesize(w.flatten(0, 1))
        encoded = ctx.classifier.features(images).unflatten(0, w.shape[:2])
        own.append(float(((encoded[:, 1] - encoded[:, 0])[:, unit] / std[unit]).mean()))
    assert table["own"].iloc[-1] == pytest.approx(np.mean(own) / 2, rel=1e-3)


def test_closed_says_what_it_costs_and_its_images_show_the_value(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    ctx = context(root, "closed")
    way = made(ctx)
    assert directions(ctx).json("directions") == {"along": "closed", "penalty": PENALTY}
    test, unit = pairs(ctx, "test").tensors("pairs")["r"], live(ctx)[2]
    std = float(way.model.std[unit])
    r = test[Looker(ctx, ctx.batches())(way.link(test)).r[:, unit] > 0.3 * std][:2]  # which is not off
    asked = replace(Perturbation.of_unit(unit, 0.0, 0.6 * std), relative=True)
    assert way.delta(asked) is None
    told = "passes of generator and classifier for the first value of a unit in a sample"
    assert told not in caplog.text
    with torch.inference_mode(), caplog.at_level(logging.INFO):
        w = way.moved(r, asked, asked.values(2))
        way.moved(r, asked, asked.values(2))
    assert caplog.text.count(told) == 1
    faithful = replace(way, along="faithful", closed=None)
    missing = [
        (Looker(ctx, ctx.batches())(each).r[..., unit].diff(dim=1)[:, 0] / std - 0.6).abs().mean()
        for each in (w, faithful.moved(r, asked, asked.values(2)))
    ]
    assert missing[0] < 0.05 and missing[0] <= missing[1] + 1e-6
    assert way.step_norm(r, asked) == pytest.approx(faithful.step_norm(r, asked))  # what the forward model asks


def test_what_is_not_asked_to_move_stays_though_w_says_nothing_of_it(root: Path) -> None:
    ctx = context(root, "pattern")
    way, r = made(ctx), some(ctx)
    gain, cross = (x.index_fill(0, torch.tensor(0), 0.0) for x in (way.model.gain, way.model.cross))
    mute = replace(way, forward=replace(way.model, gain=gain, cross=cross))
    still = replace(Perturbation.of_unit(0, 0.0, 0.0), relative=True)
    torch.testing.assert_close(mute.moved(r, still, torch.zeros(1))[:, 0], way.link(r))
    assert mute.step_norm(r, replace(still, high=1.0)) == float("inf")
    with pytest.raises(ValueError, match="there is no finite w for unit 0"):
        mute.moved(r, replace(still, high=1.0), torch.ones(1))


@pytest.mark.parametrize("along", ["pattern", "closed"])
def test_too_few_training_pairs_are_refused_before_any_work(tmp_path: Path, along: str) -> None:
    ctx = make_context(tmp_path, tuning=TuningConfig(units=4, seeds=2, along=along), pairs__train=FOLDS)
    with pytest.raises(ValueError, match=rf"pairs.train=5: expected more than 5 .*tuning.along={along}.*along=link"):
        directions(ctx)
    assert not list((tmp_path / "store").glob("pairs*"))


def test_models_without_derivatives_are_refused_before_any_work(tmp_path: Path) -> None:
    class Opaque(FakeClassifier):
        @torch.inference_mode()
        def features(self, image: Tensor) -> Tensor:
            return super().features(image)

    generator = FakeGenerator()
    closed = TuningConfig(units=4, seeds=2, along="closed")
    ctx = make_context(tmp_path, generator, Opaque(generator), tuning=closed)
    with pytest.raises(ValueError, match=r"these models do not give \(reverse mode: .*forward mode: .*along=faithful"):
        directions(ctx)
    assert not list((tmp_path / "store").glob("pairs*"))
    directions.require(make_context(tmp_path, generator, Opaque(generator)))


def test_along_the_link_few_training_pairs_are_enough(tmp_path: Path) -> None:
    ctx = make_context(tmp_path, tuning=TuningConfig(units=4, seeds=2, control_directions=2), pairs__train=FOLDS)
    ctx.config.tuning.along = "link"
    stage, way, r = directions(ctx), made(ctx), some(ctx)
    unit = Perturbation.of_unit(live(ctx)[0], 0.0, 1.0)
    w = way.moved(r, unit, unit.values(2))
    assert w.isfinite().all() and way.beyond(w[:, -1]).isnan().all() and way.live_std.isfinite().any()
    told = mean_arrival(way, unit, w, torch.zeros(*w.shape[:2], len(way.model.std)), 1.0)
    assert np.isnan(told["beyond"]) and share(told["beyond"]) == "–"
    page = forward_model(source(ctx, {"directions": stage}))
    assert page is not None and "too few training pairs" in page.lead and not page.figures
    assert "directions/r2" not in collect_metrics({"directions": stage})


@pytest.mark.parametrize("along", ["pattern", "faithful", "closed"])
def test_a_group_that_w_moves_only_together_is_named(root: Path, along: str) -> None:
    ctx = context(root, along, penalty=None if along == "pattern" else 0.5)
    way, r, (first, other, third) = made(ctx), some(ctx)[:1], live(ctx)[:3]
    std = way.model.std
    gain = way.model.gain.index_copy(0, torch.tensor([other]), -2 * way.model.gain[[first]])
    twins = replace(way.model, gain=gain.index_fill(0, torch.tensor([third]), 0.0))
    tied = replace(way, forward=twins)

    def group(*units: int) -> Perturbation:
        d = torch.zeros(len(std)).index_put((torch.tensor(units),), std[list(units)].float())
        return Perturbation.along(f"units:{'+'.join(map(str, units))}", d, 0.0, 1.0, exact=units)

    told = rf"direction=units:{first}\+{other}: w moves unit {other} only together .*expected units.*along=link"
    for asked, message in ((group(first, other), told), (group(first, third), f"says nothing of unit {third}.*leave")):
        with pytest.raises(ValueError, match=message):
            tied.moved(r, asked, asked.values(2))
        rows = replace(tied, along="link", closed=None)
        assert rows.moved(r, asked, asked.values(2)).isfinite().all()
    alone = Perturbation.of_unit(third, 0.0, 1.0)
    with pytest.raises(ValueError, match=rf"no finite w for unit {third} .*w says nothing of it.*along=link"):
        tied.moved(r, alone, alone.values(2))


@pytest.mark.parametrize("along", ["pattern", "faithful"])
def test_a_step_is_solved_once_for_a_unit_or_direction(root: Path, monkeypatch: pytest.MonkeyPatch, along: str) -> None:
    ctx = context(root, along, penalty=0.5 if along == "faithful" else None)
    way, r, unit, seen = made(ctx), some(ctx), live(ctx)[1], list[Tensor]()
    d = torch.randn(len(way.model.std), generator=torch.Generator().manual_seed(0))
    solve = Directions._solved
    monkeypatch.setattr(Directions, "_solved", lambda *asked: seen.append(solve(*asked)) or seen[-1])
    for asked in (Perturbation.of_unit(unit, -1.0, 1.0), Perturbation.along("d", d, -1.0, 1.0)):
        for high in (1.0, 2.0):
            again = replace(asked, high=high, direction=None if asked.direction is None else asked.direction.clone())
            delta = way.delta(again)
            assert delta is not None and torch.equal(delta, solve(way, asked))
            way.moved(r, again, again.values(2))
            assert way.step_norm(r, again) == pytest.approx((high + 1) * float(delta.norm()))
    assert len(seen) == 2
    replace(way, penalty=3.0).delta(Perturbation.of_unit(unit, 0.0, 1.0))
    assert len(seen) == 3


def test_units_in_turn_are_moved_as_each_is(root: Path) -> None:
    ctx = context(root, "pattern")
    way, r = made(ctx), some(ctx)
    asked = [around(unit, float(way.model.std[unit])) for unit in live(ctx)[:5]]
    together = list(way.moved_in_turn(r, asked, 2))
    assert len(together) == 5
    for each, w in zip(asked, together, strict=True):
        assert torch.equal(w, way.moved(r, each, each.values(2)))


def test_means_for_a_table(root: Path) -> None:
    way = made(context(root, "pattern"))
    unit = Perturbation.of_unit(live(context(root, "pattern"))[0], 0.0, 2.0)
    w, r = torch.zeros(3, 2, way.model.axes.shape[0]), torch.zeros(3, 2, len(way.model.std))
    w[:, 1, 0], r[:, 1, unit.unit] = 3.0, torch.tensor([1.0, 2.0, 3.0])
    told = mean_arrival(way, unit, w, r, 4.0)
    assert told["own"] == pytest.approx(0.5) and told["others"] == 0.0 and told["more"] == 0.0
    assert told["step_norm"] == pytest.approx(3.0)
    assert told["beyond"] == float(way.beyond(w[:, 1]).float().mean())


@pytest.mark.parametrize("along", ["pattern", "faithful"])
def test_the_page_says_how_well_r_follows_from_w(root: Path, along: str) -> None:
    ctx = context(root, along)
    stage = directions(ctx)
    made = forward_model(source(ctx, {"directions": stage}))
    assert made is not None and [each.name for each in made.figures] == ["forward-model"]
    r2, ridges, tried = (stage.table(name) for name in ("units", "ridge", "penalty"))
    mean, best = float(np.nanmean(np.asarray(r2["r2"]))), int(np.nanargmax(r2["r2"]))
    assert f"w tells {share(mean)} of the variance of a unit" in made.lead
    assert f"{len(r2['r2'].dropna())} live units" in made.lead and f"of unit {best})" in made.lead
    numbers = collect_metrics({"directions": stage})
    assert f"tuning.along={along}" in made.lead and numbers["directions/r2"] == pytest.approx(mean)
    left, right = made.figures[0].figure.axes
    assert sum(bar.get_height() for bar in left.patches if isinstance(bar, Rectangle)) == len(r2["r2"].dropna())
    ring = np.asarray(right.lines[-1].get_xydata())
    np.testing.assert_allclose(ring, [[np.argmax(ridges["chosen"]), np.max(ridges["r2"])]])
    assert [len(table.rows) for table in made.tables] == ([len(PENALTIES)] if along == "faithful" else [])
    for table in made.tables:
        ((row, column),) = table.best
        assert float(table.rows[row][column]) == float(tried.loc[tried["chosen"], "penalty"].iloc[0])
