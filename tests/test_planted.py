"""Planted units: what they are, that a classifier may read style codes, and how they are scored."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes import FakeGenerator, make_context
from helpers.findings import make_ctx
from helpers.tuned_findings import make
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

import lis
from lis.api.inputs import as_pictures, encoded
from lis.boundary.adversarial import adversarial
from lis.boundary.gradcam import validate_cam
from lis.classifiers.factors import covariance, determination, load_factor_network, standard
from lis.classifiers.planted import (
    KINDS,
    Planting,
    ReadFromImages,
    ReadFromStyle,
    discriminant,
    draw,
    keyed_noise,
    planted,
    standardised,
)
from lis.classifiers.probe import Probed
from lis.generators.partworld import SETS, PartWorld
from lis.generators.partworld.world import world
from lis.linking.forward import Forward
from lis.look import Looker
from lis.memory import Batches
from lis.quantify.change import change
from lis.quantify.measures import MEASURES
from lis.report.planted import planted as section
from lis.report.planted import planted_numbers
from lis.report.source import source
from lis.store import Draft
from lis.streams import Stream
from lis.types import Classifier, ReadsStyle, encode
from lis.units.images import validate_run
from lis.units.jacobians import Jacobians
from lis.units.planted import planted as planted_stage
from lis.units.scoring import (
    SPARSITIES,
    WAYS,
    correlations,
    has_effect,
    name_table,
    named,
    order,
    random_change,
    reached_table,
    unit_table,
)

DOGS = tuple(SETS["dogs"].classes)


@pytest.fixture(scope="module")
def generator() -> PartWorld:
    return PartWorld(DOGS)


@pytest.fixture(scope="module")
def of_style(generator: PartWorld) -> ReadFromStyle:
    model = planted(generator, per_kind=30, seed=3)
    assert isinstance(model, ReadFromStyle)
    return model


def codes(generator: PartWorld, per_class: int = 4) -> Tensor:
    stream = Stream("test pairs")
    return torch.cat([generator.sample(c, torch.arange(per_class), stream) for c in range(len(DOGS))])


@pytest.mark.parametrize("hard", [False, True])
def test_every_unit_is_the_softplus_of_its_mixture(hard: bool) -> None:
    """One unit and one style code at a time."""
    generator = PartWorld(DOGS, hard=hard)
    model, w = planted(generator, per_kind=1), codes(generator, 1)
    r, mean, std = encode(model, generator, w), *standard(generator.world)
    assert r.shape == (5, 6) and (r >= 0).all()
    for row in range(5):
        u = (generator.true_factors(w[row, None])[0] - mean) / std
        for unit in range(5):
            x = sum(float(a) * float(b) for a, b in zip(model.planting.weights[unit], u, strict=True))
            assert float(r[row, unit]) == pytest.approx(math.log1p(math.exp(x)), rel=1e-4)


def test_mixtures_have_their_factors_and_variance_one(generator: PartWorld) -> None:
    planting = Planting.of(generator.world, 60, seed=1)
    counts = planting.count.reshape(6, 60)
    assert [set(row.tolist()) for row in counts] == [{1}, {2}, {4}, {8}, {25}, {0}]
    assert planting.kind[::60] == KINDS and planting.noise.tolist() == list(range(300, 360))
    sizes = planting.weights.abs()
    assert (
        sizes[60:300].amax(1) / sizes[60:300].where(sizes[60:300] > 0, torch.inf).amin(1) <= 1.25 / 0.75 + 1e-5
    ).all()
    singles = [planting.factor_names.index(name) for name in planting.factor[:60]]
    assert sorted(np.bincount(singles, minlength=25)) == [2] * 15 + [3] * 10 and planting.factor[-1] == ""
    assert {float(x) for x in planting.weights[:60].sum(1).sign()} == {-1.0, 1.0}
    u = standardised(generator.world, draw(generator.world, 1500, Stream("test pairs")))
    np.testing.assert_allclose((u @ planting.weights[:300].T).var(0), 1, atol=0.08)
    assert torch.equal(Planting.of(generator.world, 60, seed=1).weights, planting.weights)
    assert not torch.equal(Planting.of(generator.world, 60, seed=2).weights, planting.weights)


def test_the_covariance_is_that_of_many_figures() -> None:
    for name in SETS:
        u = draw(world(name), 2000, Stream("test pairs")).double()
        np.testing.assert_allclose(covariance(world(name)), np.cov(u.T, bias=True), atol=0.06)
        np.testing.assert_allclose(standard(world(name))[0], u.mean(0), atol=0.05)


def test_noise_is_normal_the_same_for_the_same_input_and_unrelated_to_it() -> None:
    read = torch.randn(3000, 5, generator=torch.Generator().manual_seed(0))
    noise = keyed_noise(read, 4)
    assert torch.equal(keyed_noise(read[7:9], 4), noise[7:9]) and torch.equal(keyed_noise(read, 2), noise[:, :2])
    assert abs(float(noise.mean())) < 0.05 and abs(float(noise.std()) - 1) < 0.05
    related = np.corrcoef(torch.cat([read, read.abs(), noise], 1).T)[:10, 10:]
    assert np.abs(related).max() < 0.08  # 4.4 standard errors
    assert np.abs(np.corrcoef(noise.T)[np.triu_indices(4, 1)]).max() < 0.08
    assert keyed_noise(read[:0], 3).shape == (0, 3)
    near = read[:1].repeat(2, 1)
    near[1, 0] = torch.nextafter(near[1, 0], torch.tensor(9.0))
    assert not (keyed_noise(near, 4)[0] == keyed_noise(near, 4)[1]).any()


def test_the_noise_of_a_picture_is_that_of_its_eight_bits(generator: PartWorld) -> None:
    model = planted(generator, "image", per_kind=2)
    assert isinstance(model, ReadFromImages) and not isinstance(model, ReadsStyle) and isinstance(model, Classifier)
    image = generator.synthesize(codes(generator, 1))
    noise = model.features(image)[:, -2:]
    assert torch.equal(model.features(image[2:3])[:, -2:], noise[2:3])
    rounded = (image.add(1).mul(127.5).round() / 127.5 - 1).clamp(-1, 1)
    assert torch.equal(model.features(rounded)[:, -2:], noise)
    assert not (model.features(-image)[:, -2:] == noise).any()
    x = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[:, 0].sum(), x)
    assert gradient.abs().sum() > 0  # pixel attacks are possible
    with pytest.raises(ValueError, match=r"images \[n, 3, 64, 64\], got \(5, 3, 32, 32\)"):
        model.features(image[..., ::2, ::2])


def test_the_head_is_linear_discriminant_analysis() -> None:
    rng = torch.Generator().manual_seed(0)
    r = torch.randn(3, 400, 4, generator=rng) + 2 * torch.randn(3, 1, 4, generator=rng)
    weight, bias = discriminant(r)
    labels = np.repeat(np.arange(3), 400)
    reference = LinearDiscriminantAnalysis(solver="lsqr").fit(r.flatten(0, 1).numpy(), labels)
    expected = reference.decision_function(r.flatten(0, 1).numpy())
    ours = (r.flatten(0, 1) @ weight.T + bias).numpy()
    apart = [x - x.mean(1, keepdims=True) for x in (ours, expected)]
    np.testing.assert_allclose(apart[0], apart[1], rtol=0.05, atol=0.15)  # the ridge is 1 %


def test_samples_of_a_class_are_accepted(generator: PartWorld, of_style: ReadFromStyle) -> None:
    w, label = codes(generator, 100), torch.arange(5).repeat_interleave(100)
    right = of_style.head(encode(of_style, generator, w)).argmax(1) == label
    assert right.float().mean() > 0.9 and of_style.class_names == DOGS
    assert not of_style.head_weight[:, of_style.planting.noise].any()


def test_a_set_that_no_network_sees_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lis.classifiers.factors.WEIGHTS", tmp_path)
    with pytest.raises(ValueError, match=r"no network sees the factors of birds, expected classes of none; use"):
        load_factor_network(world("birds"))


@pytest.mark.parametrize(("name", "hard"), [*((name, False) for name in SETS), ("dogs", True)])
def test_the_network_sees_the_factors(name: str, hard: bool) -> None:
    """Of the hard world too: its pictures are the same, and its w alone differ."""
    here = world(name, hard)
    generator, network = PartWorld(list(here.class_names), hard=hard), load_factor_network(here)
    u = draw(here, 60 // len(here.class_names), Stream("test pairs"))
    pictures = here.figures.render(u)[0], generator.synthesize(here.to_w(u))
    for image in pictures:
        r2 = determination(network(image), standardised(here, u))
        assert r2.median() > 0.85, dict(zip(here.figures.factor_names, r2.tolist(), strict=True))
    torch.testing.assert_close(network(pictures[0][3:4]), network(pictures[0])[3:4], rtol=0, atol=1e-6)


def test_only_part_world_has_planted_units(generator: PartWorld) -> None:
    other: Any = FakeGenerator()
    with pytest.raises(ValueError, match=r"classifier=planted with FakeGenerator.*use gan=partworld"):
        planted(other)
    with pytest.raises(ValueError, match=r"classifier.read=pixels: expected one of w, image"):
        planted(generator, "pixels")
    with pytest.raises(ValueError, match=r"classifier=planted with StyleGANXL"):
        lis.study("gan.weights=random", "gan.resolution=16", gan="file", classifier="planted", size="smoke")


def test_equal_settings_have_equal_fingerprints(
    generator: PartWorld, of_style: ReadFromStyle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lis.classifiers.planted._FITTED", 10)  # what the head is fitted to follows from the settings
    assert planted(generator, per_kind=30, seed=3).fingerprint == of_style.fingerprint
    others = [
        planted(generator, per_kind=30),
        planted(generator, per_kind=31, seed=3),
        planted(generator, "image", per_kind=30, seed=3),
        planted(PartWorld(DOGS, hard=True), per_kind=30, seed=3),
        planted(PartWorld(["toucan"]), per_kind=30, seed=3),
    ]
    assert len({model.fingerprint for model in [of_style, *others]}) == 6


def test_whoever_reads_images_is_given_r_of_style_codes(
    tmp_path: Path, generator: PartWorld, of_style: ReadFromStyle
) -> None:
    """The loop, the context and a probe, with the images that are looked at beside."""
    ctx = make_context(tmp_path, generator, of_style, class_names=DOGS[:2])
    w = codes(generator, 1)
    r = of_style.features_of_style(w)
    assert isinstance(of_style, ReadsStyle) and isinstance(of_style, Classifier)
    look = Looker(ctx, ctx.batches(), image=lambda image: image)(w)
    assert torch.equal(look.r, r) and torch.equal(ctx.encode(w), r)
    assert torch.equal(look.image, generator.synthesize(w))
    probe = Probed(of_style, torch.zeros(2, of_style.units), torch.zeros(2), DOGS[:2])
    assert torch.equal(encode(probe, generator, w), r)


def test_what_needs_pictures_refuses_a_classifier_that_sees_none(
    tmp_path: Path, generator: PartWorld, of_style: ReadFromStyle
) -> None:
    ctx = make_context(tmp_path, generator, of_style, class_names=DOGS)
    image = -torch.ones(1, 3, 64, 64)
    told = "ReadFromStyle reads the style codes behind images.*use classifier.read=image"
    with pytest.raises(ValueError, match=told):
        of_style.features(image)
    with pytest.raises(ValueError, match=told):
        validate_cam(of_style)
    with pytest.raises(ValueError, match=told):
        encoded(ctx, as_pictures(image, 64))
    with pytest.raises(ValueError, match=told):
        adversarial.require(ctx)
    with pytest.raises(ValueError, match=told):
        validate_run(ctx)


@pytest.mark.parametrize("read", ["w", "image"])
def test_planted_units_have_derivatives_in_both_modes_and_noise_has_none(generator: PartWorld, read: str) -> None:
    model, w = planted(generator, read, per_kind=2), codes(generator, 12)
    with torch.inference_mode():
        r, live = encode(model, generator, w), torch.ones(12, dtype=torch.bool)
    forward = Forward.fit(r, w, torch.arange(5).repeat_interleave(12), r.std(0), live)[0]
    gains = []
    for mode in (True, False):
        jacobians = Jacobians(lambda w: encode(model, generator, w), forward, Batches(30), torch.device("cpu"))
        jacobians.forwards = mode
        gains.append(jacobians(w[:1]).gain[0])
        assert jacobians.forwards == mode and jacobians.noise.tolist() == [
            kind == "noise" for kind in model.planting.kind
        ]
    torch.testing.assert_close(gains[0], gains[1], rtol=1e-3, atol=1e-3)
    assert not gains[0][10:].any() and gains[0][:10].any(1).all()


def test_random_change_is_the_standard_deviation_of_what_adds_up() -> None:
    rng = np.random.default_rng(0)
    measures = torch.from_numpy(rng.normal(size=(4000, 1, 5)))
    measures[..., 0] = measures[..., 0].exp2()  # log₂ of its ratio has variance 2
    measures[..., 1] = 1.0
    np.testing.assert_allclose(random_change(measures, rng)[0], [1, 0, 1, 1, 1], atol=0.05)
    measures[0] = torch.nan
    assert random_change(measures, rng).isfinite().all()
    few = measures[1:5]  # each with all others
    squares = [change(few[a], few[b]).square() for a in range(4) for b in range(4) if a != b]
    torch.testing.assert_close(random_change(few, rng), torch.stack(squares).mean(0).sqrt() / math.sqrt(2))


def test_correlations_equal_least_squares() -> None:
    """The multiple correlation with an angle is that of a regression on cosine and sine."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(-90, 90, 200)
    r = np.stack([np.cos(np.deg2rad(2 * angle) - 1) + rng.normal(size=200), rng.normal(size=200)], 1)
    measures = np.stack([2 ** r[:, 0], *rng.normal(size=(3, 200)), angle], 1)[:, None]
    measures[:20, :, 2] = np.nan
    told = correlations(torch.from_numpy(r), torch.from_numpy(measures)).numpy()
    assert told.shape == (2, 1, 5) and told[0, 0, 0] == pytest.approx(1)
    x = np.stack([np.ones(200), np.cos(np.deg2rad(2 * angle)), np.sin(np.deg2rad(2 * angle))], 1)
    for unit in range(2):
        fitted = x @ np.linalg.lstsq(x, r[:, unit])[0]
        assert told[unit, 0, 4] == pytest.approx(np.corrcoef(fitted, r[:, unit])[0, 1], abs=1e-5)
        for k in (1, 2, 3):
            known = ~np.isnan(measures[:, 0, k])
            expected = np.corrcoef(measures[known, 0, k], r[known, unit])[0, 1]
            assert told[unit, 0, k] == pytest.approx(expected, abs=1e-5)


CELLS = [("ear", "area"), ("ear", "angle"), ("eye", "area"), ("eye", "angle")]


def test_a_name_is_right_within_a_fifth_of_the_largest_true_effect() -> None:
    effect = torch.tensor([[[0.1, torch.nan], [-3.0, 0.2]], [[2.0, 0.1], [0.0, 1.9]]])
    true = torch.tensor([[[-1.0, 0.1], [0.8, torch.nan]], [[0.7, 0.1], [0.0, 1.0]]])
    table = name_table(effect, true, CELLS)
    assert table["label"].tolist() == ["eye", "ear"] and table["measure"].tolist() == ["area", "area"]
    assert table["right"].tolist() == [True, False] and table["effect"].tolist() == [-3.0, 2.0]
    assert table["true_label"].tolist() == ["ear", "eye"] and table["true_measure"].tolist() == ["area", "angle"]
    assert has_effect(true).tolist() == [True, True] and has_effect(true / 2.1).tolist() == [False, False]


def test_the_share_that_is_named_right_stands_beside_correlations() -> None:
    rows = [
        (unit, factor, way, right, scored)
        for way, hits in (("std", (1, 1, 1, 0)), ("range", (1, 0, 0, 0)), ("correlation", (1, 0, 0, 1)))
        for unit, (factor, right, scored) in enumerate(
            zip("aabc", map(bool, hits), (True, True, True, False), strict=True)
        )
    ]
    names = pd.DataFrame(rows, columns=["unit", "factor", "way", "right", "scored"])
    table: Any = named(names, np.random.default_rng(0)).set_index("way")
    assert table["n"].tolist() == [3, 3, 3] and table["factors"].tolist() == [2, 2, 2]
    assert table.loc["std", "share"] == 1 and table.loc["std", "gain"] == pytest.approx(2 / 3)
    assert (table.loc["std", "gain_low"], table.loc["std", "gain_high"]) == (0.5, 1.0)
    assert table.loc["correlation", ["gain", "gain_low", "gain_high"]].tolist() == [0, 0, 0]
    assert named(names.assign(scored=False), np.random.default_rng(0)).empty


def test_fewer_factors_are_sparser(generator: PartWorld) -> None:
    planting = Planting.of(generator.world, 5, seed=0)
    units = list(range(30))
    moves = {"factors": planting.weights, "parts": torch.full((30, 2, 5), torch.nan), "correlation": -planting.weights}
    table = unit_table(planting, units, moves)
    np.testing.assert_array_equal(table["sparsity_factors"], table["sparsity_correlation"])  # NaN of noise
    assert table["sparsity_factors"][:5].tolist() == [1.0] * 5 and table["kind"].tolist()[::5] == list(KINDS)
    told: Any = order(table, np.random.default_rng(0)).set_index("sparsity")
    assert told.loc["factors", "spearman"] > 0.95 and told.loc["factors", "n"] == 25
    assert told.loc["factors", "gain"] == 0 and math.isnan(told.loc["parts", "spearman"])
    assert told.loc["factors", "low"] <= told.loc["factors", "spearman"] <= told.loc["factors", "high"]


def test_how_many_of_each_kind_are_reached(generator: PartWorld) -> None:
    planting, units = Planting.of(generator.world, 50, seed=0), [*range(100), *range(250, 300)]
    reached = np.arange(150) < 50
    reached[[110, 120]] = True
    told: Any = reached_table(planting, units, reached).set_index("kind")
    assert told.index.tolist() == ["single", "two", "noise"] and told["n"].tolist() == [50] * 3
    assert told["reached"].tolist() == [50, 0, 2] and told["share"].tolist() == [1, 0, 0.04]
    assert told.loc["noise", "high"] == pytest.approx(0.135, abs=1e-3)
    assert reached_table(planting, [], reached[:0]).empty


@pytest.mark.parametrize("directions", [64, 4, 0])
def test_of_too_few_random_directions_nothing_is_called_reached(
    directions: int, generator: PartWorld, tmp_path: Path
) -> None:
    """Neither on the page nor as a number: q cannot fall to 0.05."""
    planting, right = Planting.of(generator.world, 4, seed=0), np.arange(4) < 3
    units = unit_table(planting, list(range(24)), dict.fromkeys(SPARSITIES, planting.weights))
    names = [
        pd.DataFrame({"unit": range(4), "factor": list("aabc"), "way": way, "right": right, "scored": True})
        for way in WAYS
    ]

    def build(draft: Draft) -> None:
        rng = np.random.default_rng(0)
        draft.table("named", named(pd.concat(names, ignore_index=True), rng))
        draft.table("order", order(units, rng))
        draft.table("units", units)
        draft.table("reached", reached_table(planting, list(range(24)), np.arange(24) < 21))
        draft.table("reading", pd.DataFrame({"factor": [], "rendered": [], "generated": []}))
        control = {"directions": directions, "smallest": 1 / (directions + 1)}
        draft.json("control", control | {"tails": {"reached": {"decided": directions == 64}}})
        draft.json("facts", {"accuracy": 0.9, "bayes": 0.95, "new": 500})

    artifact = make(tmp_path, "planted", build)
    made, numbers = section(source(make_ctx(tmp_path), {"planted": artifact})), planted_numbers(artifact)
    assert made is not None and len(made.tables) == 2 + (directions == 64)
    assert ("4 units that are noise 25 %" in made.lead) == (directions == 64)
    assert (f"too few random directions ({directions})" in made.lead) == (directions < 64)
    assert [name for name in numbers if "reached" in name] == [f"planted/reached/{kind}" for kind in KINDS] * (
        directions == 64
    )


@pytest.mark.slow
@pytest.mark.parametrize(("read", "along"), [("w", "pattern"), ("image", "pattern"), ("w", "closed")])
def test_a_run_scores_its_units(read: str, along: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lis.units.planted.NEW", 10)
    study = lis.study(
        classifier="planted",
        classes="dogs",
        size="smoke",
        store=str(tmp_path),
        **{"classifier.read": read, "classifier.per_kind": 2, "tuning.units": 12, "tuning.along": along},
        **{
            "tuning.control_directions": 4 if read == "w" else 0,
            "tuning.seeds": 1,
            "planted.images": 10,
            "pairs.accept": "any",
        },
    )
    artifact = study.stage("planted")
    names, units = artifact.table("names"), artifact.table("units")
    assert len(names) == 6 and set(names["way"]) == {"std", "range", "correlation"}
    assert units["kind"].value_counts().to_dict() == dict.fromkeys(KINDS, 2)
    assert set(names["factor"]) == set(study.context.classifier.planting.factor[:2])  # pyright: ignore
    effects = artifact.table("effects")
    labels = artifact.json("facts")["labels"]
    assert len(effects) == 25 * len(labels) * len(MEASURES) and artifact.json("facts")["samples"] == 5
    assert len(artifact.table("reading")) == (25 if read == "image" else 0)
    assert artifact.table("order")["n"].tolist() == [10] * 3
    reached, tested = artifact.table("reached"), KINDS if read == "w" else ()
    assert reached["kind"].tolist() == list(tested) and reached["n"].tolist() == [2] * len(tested)
    assert 0.5 < artifact.json("facts")["accuracy"] <= 1 and artifact.json("facts")["bayes"] > 0.9
    made = section(source(study.context, {"planted": planted_stage(study.context)}))
    assert made is not None and made.title == "Planted units" and len(made.notes) == (2 if read == "image" else 1)
    assert f"too few random directions ({4 if tested else 0})" in made.lead and len(made.tables) == 2
