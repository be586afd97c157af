"""Matchers on part world against true displacements: the trials, the numbers, and what the default matcher reaches."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes import make_context

from lis import build
from lis.config import FlowConfig, MatcherConfig, PumpConfig
from lis.context import Context
from lis.generators.partworld import PartWorld
from lis.generators.partworld.displacement import KINDS, kind_of
from lis.matching.affine import apply
from lis.motion.matchers import STILL, matchers, run_name
from lis.motion.matching import (
    MOVED,
    MatchingConfig,
    _row,
    accuracy_table,
    end_point,
    matching,
    nearest_affine,
    recovered_table,
    trials,
    validate_matching,
)
from lis.motion.motion import MotionConfig
from lis.report.metrics import collect_metrics
from lis.report.page import write_report
from lis.report.tables import records, where
from lis.store import Artifact
from lis.streams import Stream
from lis.types import pixel_grid


def context(root: Path, samples: int = 12, names: list[str] | None = None, **overrides: Any) -> Context:
    """Pugs of part world; the classifier is never asked."""
    generator: Any = PartWorld(["pug"])
    return make_context(
        root,
        generator,
        object(),
        class_names=("pug",),
        matching=MatchingConfig(samples=samples, matchers=["flow"] if names is None else names),
        motion=MotionConfig(units=1, seeds=1, steps=4),
        matcher=FlowConfig(),
        **overrides,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    ctx = context(tmp_path_factory.mktemp("matching"))
    return ctx, matching(ctx)


@pytest.mark.parametrize("kind", KINDS)
def test_trials_differ_in_one_kind_of_factor(kind: str) -> None:
    generator = PartWorld(["pug"])
    found = trials(generator, kind, 1, 3, 0)
    before, after = generator.true_factors(found.w), generator.true_factors(found.moved)
    changed = ((before - after).abs() > 1e-4).any(0).tolist()
    assert changed == [kind_of(name) == kind for name in generator.factor_names]
    more = trials(generator, kind, 1, 5, 0)
    torch.testing.assert_close(more.w[:3], found.w)
    known = ~found.field.isnan().any(3)
    assert (found.field[known].abs().max() > 1) == (kind != "colours")
    between = found.between(3)
    torch.testing.assert_close(between[:, 1], (found.w + found.moved) / 2)


@pytest.mark.parametrize(
    ("config", "asked"),
    [(FlowConfig(), False), (PumpConfig(descriptor="generator", layers=["b32.1"], enlarge=1), ("b32.1",))],
)
def test_only_the_maps_that_the_matcher_reads_are_made(
    config: MatcherConfig, asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, seen = PartWorld(["pug"]), []

    def synthesize(w: Any, features: Any = False) -> Any:
        seen.append(features)
        return PartWorld.synthesize(generator, w, features)

    monkeypatch.setattr(generator, "synthesize", synthesize)
    _row(generator, build.matcher(config, 64), trials(generator, "pose", 1, 1, 0), 0, 3, "pair")
    assert seen == [asked]


def test_the_nearest_affine_map_is_found() -> None:
    matrix = torch.tensor([[1.1, 0.2, 3.0], [-0.1, 0.9, -2.0]]).double()
    at = pixel_grid(6, 7)
    field = apply(matrix, at) - at
    field[2] = torch.nan
    torch.testing.assert_close(nearest_affine(field), matrix, atol=1e-5, rtol=0)
    assert nearest_affine(torch.full((3, 3, 2), torch.nan)).isnan().all()


def test_end_point_errors_against_loops() -> None:
    rng = np.random.default_rng(0)
    field, true = (torch.from_numpy(rng.normal(0, 4, (5, 6, 2))) for _ in range(2))
    true[1], field[3, 3] = torch.nan, torch.nan
    errors, near, n = [], 0, 0
    for y in range(5):
        for x in range(6):
            if np.isnan(float(true[y, x, 0])):
                continue
            n += 1
            away = np.hypot(*(field[y, x] - true[y, x]).tolist())
            errors += [] if np.isnan(away) else [away]
            near += away <= 4
    found = end_point(field, true)
    assert found["error"] == pytest.approx(np.mean(errors)) and found["within"] == pytest.approx(near / n)


def test_tables_against_plain_means() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"matcher": m, "kind": k, "way": w, "error": np.nan if p == 3 else rng.exponential(), "within": 0.5, "moved": 2,
         "seconds": 0.1} | {n: rng.normal() for name in MOVED for n in (name, f"true_{name}")}
        for m in ("a", "b") for k in ("pose", "parts") for w in ("pair", "sequence") for p in range(5)
    ]  # fmt: skip
    pairs = pd.DataFrame(rows)
    table = accuracy_table(pairs)
    own = [row["error"] for row in rows if row["matcher"] == "b" and row["kind"] == "parts" and row["way"] == "pair"]
    found = records(where(table, matcher="b", kind="parts"))[0]
    assert found["error"] == pytest.approx(np.nanmean(own)) and (found["pairs"], found["failed"]) == (5, 1)
    poses = where(pairs, matcher="a", kind="pose", way="sequence")
    true, got = poses["true_dx"].to_numpy(dtype=float), poses["dx"].to_numpy(dtype=float)
    r2 = records(where(recovered_table(pairs), matcher="a", way="sequence", what="dx"))[0]
    assert r2["r2"] == pytest.approx(1 - np.sum((got - true) ** 2) / np.sum((true - true.mean()) ** 2)) and r2["n"] == 5


def test_saying_that_nothing_moves_errs_by_what_moves(run: tuple[Context, Artifact]) -> None:
    still = where(run[1].table("pairs"), matcher=STILL)
    np.testing.assert_allclose(still["error"], still["moved"], rtol=1e-5)
    assert still["dx"].isna().to_numpy().all() and still["reason"].str.contains("matches").to_numpy().all()
    assert set(still["way"]) == {"pair"} and len(still) == 36


def test_the_default_matcher_recovers_poses(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    assert run_name(ctx, matchers(ctx)) == "flow" == artifact.json("facts")["matcher"]
    poses = where(artifact.table("recovered"), matcher="flow")
    assert len(poses) == 2 * len(MOVED) and set(poses["n"]) == {12}
    assert poses["r2"].to_numpy(dtype=float).min() >= 0.95
    table = {row["kind"]: row for row in records(where(artifact.table("accuracy"), matcher="flow"))}
    still = {row["kind"]: row for row in records(where(artifact.table("accuracy"), matcher=STILL))}
    assert table["pose"]["error"] < 0.5 and table["pose"]["within"] > 0.98
    assert table["parts"]["error"] < 0.7 * still["parts"]["error"] and table["parts"]["within"] > 0.85
    assert table["colours"]["error"] < 1


def test_the_report_shows_it(run: tuple[Context, Artifact], tmp_path: Path) -> None:
    ctx, artifact = run
    artifacts = {"matching": artifact}
    reported: Any = SimpleNamespace(**{**vars(ctx), "class_names": ("pug",), "classifier": SimpleNamespace(units=1)})
    page = write_report(reported, artifacts, tmp_path).read_text()
    assert "Matchers against the truth" in page and "flow, the matcher of this run" in page
    assert {"matching-errors.png", "matching-poses.png"} <= {file.name for file in (tmp_path / "figures").iterdir()}
    found = collect_metrics(artifacts)
    assert found["matching/pose/within"] > 0.98 and found["matching/r2/rotation"] >= 0.95


def test_shards_are_read_again(run: tuple[Context, Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError

    ctx = context(run[0].store.root.parent)
    monkeypatch.setattr("lis.motion.matching.trials", never)
    assert matching(ctx).key == run[1].key


def test_what_cannot_be_tried_is_told_first(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"FakeGenerator does not know how far a point moves.*gan=partworld"):
        validate_matching(make_context(tmp_path, matching=MatchingConfig(samples=1)))
    with pytest.raises(ValueError, match=r"matching\.matchers: unknown 'eyes', expected some of flow, pump_patches"):
        validate_matching(context(tmp_path, names=["eyes"]))


def test_every_part_factor_moves_something_and_no_colour_does() -> None:
    generator = PartWorld(["pug"])
    w = generator.sample(1, torch.arange(1), Stream("matching"))
    for place, name in enumerate(generator.factor_names):
        u = generator.true_factors(w)
        u[:, place] += 1.5
        field = generator.displacement(w, generator.world.to_w(u))
        largest = float(field[~field.isnan()].abs().max())
        assert (largest > 0.05) == (kind_of(name) != "colours"), (name, largest)
