"""Motion of units: known shifts are found, parts told apart, units held against shuffles; nothing breaks a run."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes import NAMES, FakeClassifier, FakeGenerator, make_context, stand_in
from helpers.moving import textured
from helpers.simulated import GPU, simulated_gpu
from torch import Tensor

from lis import build
from lis.config import FlowConfig, MatcherConfig, PairsConfig, PumpConfig, TuningConfig
from lis.context import Context
from lis.generators.layers import requested_layers
from lis.generators.partworld import PartWorld
from lis.generators.partworld.displacement import KINDS as KINDS_OF_CHANGE
from lis.linking.link import link, load_link
from lis.linking.pairs import pairs
from lis.matching.flow import Flow
from lis.motion.local import AGREEMENT, agreement, enlarged, local_motion
from lis.motion.matching import trials
from lis.motion.motion import (
    GLOBAL,
    LOST,
    SHARDS,
    Job,
    MotionConfig,
    chosen,
    followed,
    motion,
    unit_table,
    validate_motion,
)
from lis.motion.tuned import KINDS, effect, known, shuffled, shuffled_p, tuned_table, tuned_units
from lis.report.metrics import collect_metrics
from lis.report.motion import _table as motion_table
from lis.report.motion import motion as motion_section
from lis.report.page import write_report
from lis.report.source import source
from lis.report.tables import records, where
from lis.statistics import benjamini_hochberg
from lis.store import Artifact, Store
from lis.types import Matcher
from lis.units.directions import directions, load_directions
from lis.units.parts import Parts
from lis.units.perturbation import Perturbation
from lis.units.tuning import Block

LABELS = ("left", "right")
SIDE = 40


class Sliding(FakeGenerator):
    """A smooth random texture that w's first two numbers move; all of it moves alike."""

    flat = False
    calls = 0

    def __init__(self, class_names: tuple[str, ...] = NAMES) -> None:
        super().__init__(class_names, resolution=SIDE)
        rng = np.random.default_rng(0)
        self.waves = torch.from_numpy(rng.normal(0, 0.35, (16, 2))).float()
        self.phases = torch.from_numpy(rng.uniform(0, 6.28, (16, 3))).float()

    @staticmethod
    def shift(w: Tensor) -> Tensor:
        """Pixels to the right and down, `[n, 2]`."""
        return 2.5 * torch.tanh(w[:, :2])

    def synthesize(self, w: Tensor, features: bool = False) -> Any:
        """Images `[n, 3, 40, 40]`."""
        Sliding.calls += 1
        at = torch.stack(torch.meshgrid(*2 * [torch.arange(SIDE).float()], indexing="xy"), 2)
        seen = at - self.shift(w)[:, None, None]
        image = torch.cos((seen @ self.waves.T)[..., None] + self.phases).mean(3).permute(0, 3, 1, 2).contiguous() * 3
        image = image.clamp(-1, 1) * (0 if self.flat else 1)
        return (image, {"only": image}) if features else image


class Dissolving(Sliding):
    """No two images show the same thing."""

    def synthesize(self, w: Tensor, features: bool = False) -> Any:
        """Blobs that w chooses."""
        image = torch.cat([textured(SIDE, int(code.double().sum().abs() * 1e6)) for code in w])
        return (image, {"only": image}) if features else image


def masks(maps: dict[str, Tensor]) -> Tensor:
    """The left half is part 1, the right half part 2, in half the size."""
    left = torch.arange(SIDE // 2) < SIDE // 4
    return torch.where(left, 1, 2).expand(len(maps["only"]), SIDE // 2, -1)


@pytest.fixture(scope="module", autouse=True)
def segmenter() -> Iterator[None]:
    """A segmenter that needs no training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lis.units.parts.segmenter", lambda _: SimpleNamespace(key="parts"))
        stand_in(patch, "segmenter", lambda _: SimpleNamespace(key="parts"))
        patch.setattr("lis.units.parts.load_segmenter", lambda *_: SimpleNamespace(labels=LABELS, layers=("only",)))
        patch.setattr("lis.segmentation.segmenter.segment", lambda _, maps: masks(maps))
        yield


def context(root: Path, generator: Any = None, **overrides: Any) -> Context:
    generator = generator or Sliding()
    sizes = {"units": 3, "seeds": 1, "steps": 3, "examples": 2, "shuffles": 50}
    sizes |= {key: overrides.pop(f"motion__{key}") for key in list(sizes) if f"motion__{key}" in overrides}
    return make_context(
        root,
        generator,
        FakeClassifier(generator),
        motion=MotionConfig(**sizes),
        tuning=TuningConfig(units=None, seeds=2, control_directions=0, along="link"),
        pairs=PairsConfig(train=40, test=20, accept="any"),
        matcher=FlowConfig(),
        **{"classes__labels": list(LABELS)} | overrides,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    ctx = context(tmp_path_factory.mktemp("motion"))
    return ctx, motion(ctx)


def test_the_shift_of_every_sample_is_found(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    tracks, model, table = artifact.table("tracks"), load_link(link(ctx)), link(ctx).table("units")
    samples = pairs(ctx, "tuning").tensors("pairs")
    assert len(tracks) == 3 * 3 and set(tracks["reason"]) == {""}
    assert set(tracks["unit"]) == set(table.sort_values("step_norm", ascending=False)["unit"].head(3))
    for row in records(tracks):
        own = (samples["class_index"] == NAMES.index(row["class"])) & (samples["sample_index"] == row["sample_index"])
        ends = samples["r"][own].repeat(2, 1)
        ends[:, int(row["unit"])] = torch.tensor(
            table.loc[row["unit"], ["minimum", "maximum"]].astype(float).to_numpy()
        ).float()
        moved = Sliding.shift(model(ends)).diff(dim=0)[0]
        np.testing.assert_allclose([row["dx"], row["dy"]], moved, atol=0.25)
        assert abs(row["rotation"]) < 1.5 and abs(row["scale"] - 1) < 0.04 and row["shear"] < 0.06
        assert row["figure"] < 0.5


def test_tables_hold_medians_over_samples(run: tuple[Context, Artifact]) -> None:
    artifact = run[1]
    tracks, local = artifact.table("tracks"), artifact.table("local")
    assert len(local) == len(tracks) * len(LABELS)
    for row in records(artifact.table("units")):
        own = where(tracks, name=row["name"])
        assert row["n"] == 3 and row["dx"] == pytest.approx(np.median(own["dx"])) and row["low"] < row["high"]
    for row in records(artifact.table("parts")):
        own = where(local, name=row["name"], label=row["label"])
        assert row["strength"] == pytest.approx(np.median(own["strength"]))


def test_what_is_shown_leads_from_the_first_image_to_the_last(run: tuple[Context, Artifact]) -> None:
    table, shown = run[1].table("examples"), run[1].tensors("examples")
    assert list(table["figure"]) == ["fields"] * 2 + ["trajectories"] * 2
    assert shown["image"].shape == (4, 3, 3, SIDE, SIDE) and shown["local"].shape == (4, 3, SIDE, SIDE, 2)
    tracks = run[1].table("tracks").set_index(["unit", "class", "sample_index"])
    for k, row in enumerate(records(table)):
        track = tracks.loc[(row["unit"], row["class"], row["sample_index"])]
        middle = shown["whole"][k, SIDE // 2 - 4 : SIDE // 2 + 4, SIDE // 2 - 4 : SIDE // 2 + 4].reshape(-1, 2).mean(0)
        np.testing.assert_allclose(middle, [track["dx"], track["dy"]], atol=0.5)


def test_the_report_shows_it(run: tuple[Context, Artifact], tmp_path: Path) -> None:
    ctx, artifact = run
    page = write_report(ctx, {"motion": artifact}, tmp_path)
    assert "What moves" in page.read_text()
    files = {file.name for file in (tmp_path / "figures").iterdir()}
    assert {"motion-fields.png", "motion-paths.png", "motion-units.png", "motion-parts.png"} <= files
    assert len([file for file in files if file.endswith(".gif")]) == 2
    found = collect_metrics({"motion": artifact})
    assert found["motion/aligned"] == 1 and found["motion/local"] < 0.5


def test_figures_that_dissolve_are_lost_and_not_drawn(tmp_path: Path) -> None:
    """All units are: none is left to be measured by."""
    ctx = context(tmp_path, Dissolving())
    artifact = motion(ctx)
    tracks = artifact.table("tracks")
    assert set(tracks["reason"]) == {LOST} and max(tracks["agreement"]) < AGREEMENT
    assert tracks[["dx", "rotation", "figure"]].isna().to_numpy().all() and artifact.table("examples").empty
    section: Any = motion_section(source(ctx, {"motion": artifact}))
    assert section.lead == f"Nothing could be aligned: {LOST}: 9." and not section.figures


def test_agreement_tells_a_figure_from_other_things() -> None:
    """Part world: pairs of a figure in another pose, with other parts or colours agree; a figure and blobs do not."""
    generator, matcher = PartWorld(["pug"]), Flow()
    related = []
    for kind in KINDS_OF_CHANGE:
        tried = trials(generator, kind, 1, 6, 0)
        first, last = (generator.synthesize(w) for w in (tried.w, tried.moved))
        related += [agreement(a, b, matcher(a[None], b[None])[0].field) for a, b in zip(first, last, strict=True)]
    blobs = torch.cat([textured(64, seed) for seed in range(6)])
    other = [agreement(a, b, matcher(a[None], b[None])[0].field) for a, b in zip(first, blobs, strict=True)]
    assert min(related) > AGREEMENT > max(other)


def test_agreement_does_not_see_colours_nor_what_is_not_known() -> None:
    picture, field = textured(64)[0], torch.zeros(64, 64, 2)
    assert agreement(picture, -0.5 * picture, field) == pytest.approx(1, abs=5e-3)
    half = torch.where(torch.arange(64) < 32, picture, textured(64, 5)[0])
    unknown = field.clone()
    unknown[:, 32:] = torch.nan
    assert agreement(picture, half, field) < 0.9 < 0.99 < agreement(picture, half, unknown)
    assert np.isnan(agreement(picture, picture, torch.full((64, 64, 2), torch.nan)))


@pytest.mark.parametrize("more", [{"batch_size": 2}, {"tuning__batch_size": 1}])
def test_batches_do_not_matter(run: tuple[Context, Artifact], tmp_path: Path, more: dict[str, int]) -> None:
    ctx = context(tmp_path, **{key: value for key, value in more.items() if "__" not in key})
    if "tuning__batch_size" in more:
        ctx.config.tuning.batch_size = 1
    other = motion(ctx)
    assert other.key == run[1].key
    ours, theirs = (artifact.table("tracks").select_dtypes("number") for artifact in (other, run[1]))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx, calls = context(tmp_path), []

    def tired(tables: Any, *_: Any) -> Any:
        calls.append(1)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lis.motion.motion.track_table", tired)
        with pytest.raises(KeyboardInterrupt):
            motion(ctx)
    Sliding.calls = 0
    motion(ctx)
    shown, steps, units = 4, 3, 3
    most = shown * steps + units  # what is shown and what arrives of each unit, not the images of the 9 tracks
    assert calls and Sliding.calls <= most


def test_pictures_without_texture_get_a_reason(tmp_path: Path) -> None:
    generator = Sliding()
    blank = context(tmp_path, generator)
    generator.flat, rng = True, torch.Generator().manual_seed(0)
    blank.classifier.features = lambda image: torch.rand(len(image), 16, generator=rng)  # for a link to be had
    artifact = motion(blank)
    tracks = artifact.table("tracks")
    assert tracks[["dx", "rotation", "figure"]].isna().to_numpy().all()
    assert all("texture" in reason for reason in tracks["reason"])
    assert artifact.table("tuned")["q"].isna().to_numpy().all()
    section: Any = motion_section(source(blank, {"motion": artifact}))
    assert section.lead.startswith("Nothing could be aligned: ") and "texture" in section.lead
    assert collect_metrics({"motion": artifact}) == {"motion/aligned": 0.0}
    write_report(blank, {"motion": artifact}, tmp_path / "page")


def test_one_unit_or_one_direction(tmp_path: Path) -> None:
    one = motion(context(tmp_path, unit=2))
    assert set(one.table("tracks")["name"]) == {"unit 2"} and one.table("tuned")["p"].isna().to_numpy().all()
    ctx = context(tmp_path, direction="pc:1")
    artifact = motion(ctx)
    assert set(artifact.table("tracks")["name"]) == {"pc:1"} and set(artifact.table("tracks")["unit"]) == {-1}
    section: Any = motion_section(source(ctx, {"motion": artifact}))
    assert section.lead.startswith("Along pc:1 the figure moves by ")


def test_without_parts_the_whole_picture_counts(tmp_path: Path) -> None:
    artifact = motion(context(tmp_path, classes__labels=[]))
    assert artifact.table("parts").empty and artifact.table("local").empty
    assert len(artifact.table("examples")) == 4 and artifact.table("tracks")["figure"].notna().to_numpy().all()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"motion__seeds": 3}, r"motion\.seeds=3: expected at most tuning\.seeds=2"),
        ({"unit": 16}, "unit=16: expected 0 to 15"),
        ({"direction": "classes:ant-dog"}, "dog"),
    ],
)
def test_bad_input_is_told_first(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    ctx = context(tmp_path, **more)
    with pytest.raises(ValueError, match=message):
        validate_motion(ctx.config, ctx.classifier)


class Layered(Sliding):
    """Three maps; notes which are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []

    def synthesize(self, w: Tensor, features: Any = False) -> Any:
        """Those that are asked for."""
        self.asked.append(features)
        image = super().synthesize(w)
        names = requested_layers(features, ("only", "coarse", "fine"))
        return image if features is False else (image, dict.fromkeys(names, image))


class Distant(Sliding):
    """Lies on the simulated GPU, and so do its images."""

    def synthesize(self, w: Tensor, features: bool = False) -> Any:
        """As they are on the processor, moved."""
        assert w.device == GPU
        image = super().synthesize(w.as_subclass(Tensor)).to(GPU)
        return (image, {"only": image}) if features else image


class Recorded:
    """A matcher that notes where the views lie that it is given."""

    def __init__(self, matcher: Matcher) -> None:
        self.matcher, self.devices = matcher, set()
        self.fingerprint, self.view = matcher.fingerprint, matcher.view
        self.layers: Literal[True] | Collection[str] = matcher.layers

    def __call__(self, view1: Tensor, view2: Tensor) -> Any:
        """What the matcher finds."""
        self.devices |= {view1.device, view2.device}
        return self.matcher(view1, view2)


def job_of(ctx: Context, matcher: Matcher, generator: Any, labels: int = 2, **more: Any) -> tuple[Job, Block]:
    """Job and first block of motion, its inputs made on the processor."""
    parts, linked, samples = Parts.of(ctx), link(ctx), pairs(ctx, "tuning").tensors("pairs")
    there = replace(ctx, generator=generator, **more)
    made = load_directions(ctx, linked, directions(ctx))
    job = Job(there, made, matcher, parts.masks, labels, (linked.key,))
    along = followed(ctx, linked, made, samples["r"])[0]
    return job, Block(NAMES[0], samples["sample_index"][:1], samples["r"][:1], (along,), 3)


@pytest.mark.parametrize("config", [FlowConfig(), PumpConfig(enlarge=1, min_component=20)])
def test_sequences_are_matched_on_the_runs_device_simulated(tmp_path: Path, config: MatcherConfig) -> None:
    """PUMP was given views on the processor, whatever the device; tracks lie there, and are the same."""
    ctx, matcher = context(tmp_path / "cpu"), Recorded(build.matcher(config, SIDE))
    expected = SHARDS.shard(*job_of(ctx, matcher, Sliding())).tensors("tracks")
    assert matcher.devices == {torch.device("cpu")}
    job, block = job_of(ctx, matcher, Distant(), device=GPU, store=Store(tmp_path / "gpu"))
    matcher.devices.clear()
    with simulated_gpu():
        found = SHARDS.shard(job, block).tensors("tracks")
        assert matcher.devices == {GPU}
    assert found.keys() == expected.keys() and expected["figure"].isfinite().all()
    assert all(torch.equal(found[name].nan_to_num(), expected[name].nan_to_num()) for name in found)


@pytest.mark.parametrize(
    ("config", "labels", "asked"),
    [
        (FlowConfig(), 2, ("only",)),
        (FlowConfig(), 0, False),
        (PumpConfig(descriptor="generator", layers=["fine"]), 2, ("fine", "only")),
        (PumpConfig(descriptor="generator"), 2, True),
    ],
)
def test_only_the_maps_that_are_read_are_made(tmp_path: Path, config: MatcherConfig, labels: int, asked: Any) -> None:
    """By the matcher and the segmenter; all were."""
    generator = Layered()
    SHARDS.shard(*job_of(context(tmp_path), build.matcher(config, SIDE), generator, labels))
    assert generator.asked == [asked] * 3


def test_local_motion_against_loops() -> None:
    rng = np.random.default_rng(0)
    field, mask = rng.normal(0, 2, (8, 8, 2)), rng.integers(0, 4, (4, 4))
    field[2:4, :5] = np.nan
    found = local_motion(torch.from_numpy(field).float(), torch.from_numpy(mask), 4)
    everywhere = []
    for label in range(1, 5):
        own = [field[y, x] for y in range(8) for x in range(8) if mask[y // 2, x // 2] == label]
        own = [v for v in own if not np.isnan(v).any()]
        everywhere += own
        expected = np.mean([np.hypot(*v) for v in own]) if own else np.nan
        np.testing.assert_allclose(found.strength[label - 1], expected, rtol=1e-5)
        np.testing.assert_allclose(found.drift[label - 1], np.mean(own, 0) if own else [np.nan] * 2, rtol=1e-4)
    np.testing.assert_allclose(found.figure, np.mean([np.hypot(*v) for v in everywhere]), rtol=1e-5)
    assert enlarged(torch.tensor([[1, 2]]), (2, 4)).tolist() == [[1, 1, 2, 2]] * 2


def test_effects_are_lengths_of_medians() -> None:
    values = np.random.default_rng(0).normal(size=(5, 7, 2))
    values[1, 2] = values[3, :6] = np.nan
    for unit, found in enumerate(effect(values)):
        own = values[unit][~np.isnan(values[unit]).any(1)]
        assert found == pytest.approx(np.linalg.norm(np.median(own, 0)))
    assert np.isnan(effect(np.full((1, 3, 2), np.nan))).all()


def test_a_unit_that_moves_all_samples_alike_stands_out() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, (12, 10, 2))
    values[4] += (2.0, -2.0)
    p = shuffled_p(values, 400, rng)
    assert p[4] == 1 / 401 and benjamini_hochberg(p)[4] < 0.05 and (np.delete(p, 4) > 0.01).all()
    swayed = values + rng.normal(0, 30, (1, 10, 2))  # what a sample does under every unit says nothing of units
    assert shuffled_p(swayed, 200, rng).min() > 0.02


def test_units_that_are_lost_do_not_hide_the_others() -> None:
    """A unit keeps its samples in every shuffle, and is held against those that have a motion there."""
    rng = np.random.default_rng(3)
    values = rng.normal(0, 1, (10, 10, 2))
    values[4] += (4.0, -4.0)
    values[5:] = np.nan
    moved = shuffled(values, known(values), rng)
    assert (known(moved) == known(values)).all()
    np.testing.assert_allclose(np.sort(moved[:5, :, 0], axis=0), np.sort(values[:5, :, 0], axis=0))
    p = shuffled_p(values, 400, rng)
    assert p[4] < 0.01 and np.isnan(p[5:]).all()


def test_p_is_uniform_where_units_are_alike() -> None:
    rng = np.random.default_rng(2)
    p = np.concatenate([shuffled_p(rng.normal(0, 1, (8, 5, 1)), 60, rng) for _ in range(40)])
    assert 0.4 < p.mean() < 0.6 and (p <= 0.1).mean() < 0.2 and p.min() >= 1 / 61


def test_too_few_units_or_samples_have_no_p() -> None:
    rng = np.random.default_rng(0)
    assert np.isnan(shuffled_p(rng.normal(size=(1, 9, 2)), 20, rng)).all()
    values = rng.normal(size=(4, 9, 2))
    values[2, 1:] = np.nan
    assert np.isnan(shuffled_p(values, 20, rng)).tolist() == [False, False, True, False]


def test_the_table_of_tuned_units() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"name": f"unit {u}", "unit": u, "class": c, "sample_index": k, "dx": 5.0 * (u == 3) + rng.normal(),
         "dy": rng.normal(), "rotation": rng.normal(), "scale": 2.0 if u == 1 else np.exp(rng.normal(0, 0.1)),
         "shear": abs(rng.normal())}
        for u in range(6) for c in "ab" for k in range(5)
    ]  # fmt: skip
    table = tuned_table(pd.DataFrame(rows), 300, rng)
    assert list(dict.fromkeys(table["kind"])) == list(KINDS) and len(table) == 24 and set(table["n"]) == {10}
    assert list(tuned_units(table, "translation")["name"])[:1] == ["unit 3"]
    scale = tuned_units(table, "scale")
    assert list(scale["name"]) == ["unit 1"] and scale["strength"].iloc[0] == pytest.approx(np.log(2))


def test_shown_units_take_turns_over_parts() -> None:
    strength = torch.ones(4, 3, 3)
    strength[0, :, 0], strength[1, :, 0], strength[2, :, 1], strength[3, :, 2] = 9.0, 8.0, 3.0, 2.0
    strength[:, :2, 2] = torch.nan  # few samples have it
    rows = chosen(strength.nanmean(2), strength, 3)
    assert [row.index for row in rows if row.figure == "trajectories"] == [0, 2, 1]
    lost = strength.clone()
    lost[0] *= 20
    assert {row.index for row in chosen(lost.nanmean(2), lost, 4)} == {1, 2, 3}
    most = torch.cat([strength, torch.full((6, 3, 3), torch.nan)])  # units that are lost say nothing of the others
    assert [row.index for row in chosen(most.nanmean(2), most, 3) if row.figure == "trajectories"] == [0, 2, 1]
    most[0, :2] = torch.nan
    assert 0 not in {row.index for row in chosen(most.nanmean(2), most, 4)}
    assert not chosen(torch.full((2, 3), torch.nan), torch.full((2, 3, 2), torch.nan), 2)
    assert [row.index for row in chosen(torch.tensor([[1.0], [2.0]]), torch.empty(2, 1, 0), 1)] == [1, 1]


def test_rotations_around_180_degrees_have_a_median_there() -> None:
    """That of the numbers is −170° or 170°, or even 0°."""
    along = [Perturbation.of_unit(3, 0.0, 1.0)]
    tracks = pd.DataFrame({name: [0.0] * 4 for name in (*GLOBAL, "figure")} | {"name": [along[0].label] * 4})
    table = unit_table(along, tracks.assign(rotation=[170.0, -170.0, 178.0, -178.0]))
    assert abs(table["rotation"].item()) == pytest.approx(180, abs=1e-3)
    assert unit_table(along, tracks.assign(rotation=[1.0, 2.0, 4.0, np.nan]))["rotation"].item() == pytest.approx(2)


def test_a_unit_without_motion_has_a_dash() -> None:
    """Not "a factor of – (q –)"."""
    rows = [{"name": "unit 3", "kind": kind, "strength": np.nan, "q": np.nan, "n": 0} for kind in KINDS]
    assert motion_table(pd.DataFrame(rows)).rows == [["unit 3", "–", "–", "–", "–", "0"]]
