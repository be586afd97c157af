"""Part world: exact masks, exact factors, and generators that are faithful to the renderer."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from lis.generators.partworld import SETS, PartWorld, world
from lis.generators.partworld.drawing import Layer, composite, visible
from lis.generators.partworld.training import fidelity, fit_loss
from lis.generators.partworld.world import set_of
from lis.streams import Stream
from lis.types import Generator

NAMES = list(SETS)


def factors(name: str, n: int = 6, scale: float = 1.0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(3)
    return scale * torch.randn(n, len(SETS[name].factor_names), generator=rng)


def generator(name: str, **options) -> PartWorld:
    return PartWorld([next(iter(SETS[name].classes))], **options)


@pytest.mark.parametrize("name", NAMES)
def test_render_is_within_range_and_masks_share_each_pixel(name):
    image, masks = SETS[name].render(factors(name, scale=3.0))
    assert image.shape == (6, 3, 64, 64)
    assert masks.shape == (6, len(SETS[name].labels), 64, 64)
    assert image.min() >= -1 and image.max() <= 1
    assert masks.min() >= 0 and masks.sum(1).max() <= 1 + 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_details_add_up_to_labels(name):
    u = factors(name)
    labels, details = SETS[name].render(u)[1], SETS[name].render(u, by_detail=True)[1]
    assert torch.allclose(labels.sum(1), details.sum(1), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_figures_fill_about_a_third_of_the_frame(name):
    here = world(name)
    u = torch.cat([here.factors_of(factors(name, 100), c) for c in range(len(here.class_names))])
    assert 0.23 < here.figures.render(u)[1].sum(1).mean() < 0.40


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_does_not_depend_on_its_batch(name):
    u = factors(name)
    assert torch.allclose(SETS[name].render(u)[0][2:3], SETS[name].render(u[2:3])[0], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_render_is_differentiable_in_every_factor(name):
    u = factors(name, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: SETS[name].render(x, size=6)[0], (u,), atol=1e-4, rtol=1e-3)
    image, masks = SETS[name].render(u)
    slope = torch.autograd.grad((image**2).sum() + masks[:, 0].sum(), u)[0]
    assert (slope.abs().sum(0) > 0).all(), "some factor does not change the picture"


def test_painters_order_against_a_loop():
    rng = np.random.default_rng(0)
    alphas, colours = rng.random((3, 4, 4)), rng.random((3, 3))
    layers = [
        Layer(label, torch.tensor(a)[None], torch.tensor(c).view(1, 3, 1, 1))
        for label, a, c in zip(("low", "high", "low"), alphas, colours, strict=True)
    ]
    image, masks = composite(torch.full((1, 3, 4, 4), 0.5).double(), layers), visible(layers, ("low", "high"))
    for i, j in np.ndindex(4, 4):
        pixel, shares = np.full(3, 0.5), []
        for k in range(3):
            pixel = pixel * (1 - alphas[k, i, j]) + colours[k] * alphas[k, i, j]
            shares.append(alphas[k, i, j] * np.prod([1 - alphas[m, i, j] for m in range(k + 1, 3)]))
        np.testing.assert_allclose(image[0, :, i, j], pixel, rtol=1e-12)
        np.testing.assert_allclose(masks[0, :, i, j], [shares[0] + shares[2], shares[1]], rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hard", [False, True])
def test_every_w_has_exact_factors(name, hard):
    here, u = world(name, hard), factors(name, 50, 2.0)
    identity = here.basis.T @ here.basis
    assert torch.allclose(identity, torch.eye(len(identity)), atol=1e-6)
    w = here.to_w(u)
    assert torch.allclose(here.to_factors(w), u, atol=1e-5)
    outside = torch.randn(50, 64) @ (torch.eye(64) - here.basis @ here.basis.T)
    assert torch.allclose(here.to_factors(w + outside), u, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_hard_mode_is_not_linear(name):
    here, u = world(name, hard=True), world(name).factors_of(factors(name, 2000), 0)
    ones = torch.cat([u, torch.ones(len(u), 1)], 1)
    w = here.to_w(u)
    residual = w - ones @ torch.linalg.lstsq(ones, w).solution
    assert residual.square().sum() / (w - w.mean(0)).square().sum() > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_bayes_class_against_scipy(name):
    here, u = world(name), world(name).factors_of(factors(name, 20), 1)
    columns = []
    for mean, spread in zip(here.means.double(), here.scales.double(), strict=True):
        covariance: Any = (spread @ spread.T).numpy()  # scipy's own annotation admits a number only
        columns.append(multivariate_normal(mean.tolist(), covariance).logpdf(u.numpy()))
    plain = np.stack(columns, 1)
    posterior = plain - np.log(np.exp(plain).sum(1, keepdims=True))
    np.testing.assert_allclose(here.log_posterior(u), posterior, atol=2e-3)
    assert (here.bayes_class(u).numpy() == plain.argmax(1)).all()


@pytest.mark.parametrize("name", NAMES)
def test_classes_overlap_and_can_be_told_apart(name):
    here = world(name)
    classes = torch.arange(len(here.class_names)).repeat_interleave(500)
    right = here.bayes_class(here.factors_of(factors(name, len(classes)), classes)) == classes
    assert 0.95 < right.float().mean() < 0.999


@pytest.mark.parametrize("name", NAMES)
def test_generator_keeps_its_contract(name):
    model = generator(name)
    assert isinstance(model, Generator)
    assert sum(p.numel() for p in model.network.parameters()) <= 700_000
    w = model.sample(1, torch.arange(4), Stream("train pairs"))
    image, maps = model.synthesize(w, features=True)
    assert torch.equal(model.synthesize(w), image)
    assert [m.shape[-1] for m in maps.values()] == [4, 4, 8, 8, 16, 16, 32, 32, 64, 64]
    assert torch.allclose(model.sample(1, torch.tensor([3]), Stream("train pairs"))[0], w[3], atol=1e-5)


def test_an_image_is_the_same_to_the_bit_with_any_number_of_threads():
    model = generator("dogs")
    w = model.sample(1, torch.arange(1), Stream("train pairs"))
    images = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            images.append(model.synthesize(w))
        finally:
            torch.set_num_threads(1)
    assert torch.equal(*images)


def test_truncation_moves_w_towards_the_mean_of_its_class():
    model, k, stream = generator("fungi"), torch.arange(5), Stream("train pairs")
    full, half, none = (model.sample(2, k, stream, psi) for psi in (1.0, 0.5, 0.0))
    assert torch.allclose(none, model.mean_w[2].expand(5, -1))
    assert torch.allclose(half, model.mean_w[2] + 0.5 * (full - model.mean_w[2]), atol=1e-6)
    assert torch.allclose(generator("fungi", truncation=0.5).sample(2, k, stream), half)


def test_counterparts_share_z():
    made, stream, k = PartWorld(["pug"]), Stream("train pairs"), torch.arange(5)
    codes = {0: made.sample(0, k, stream), 2: made.counterpart(0, k, stream, 2)}
    z = [
        torch.linalg.solve(made.world.scales[c], (made.true_factors(w) - made.world.means[c])[..., None])
        for c, w in codes.items()
    ]
    torch.testing.assert_close(z[0], z[1], atol=1e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="class 5: expected 0 to 4"):
        made.counterpart(0, k, stream, 5)


def test_hard_mode_shows_the_same_pictures():
    plain, hard = generator("dogs"), generator("dogs", hard=True)
    k, stream = torch.arange(3), Stream("train pairs")
    a, b = (model.sample(0, k, stream) for model in (plain, hard))
    assert (a - b).abs().max() > 0.1
    assert torch.allclose(plain.synthesize(a), hard.synthesize(b), atol=1e-3)
    assert plain.fingerprint != hard.fingerprint


def test_fingerprint_follows_the_world(monkeypatch):
    before = generator("fungi").fingerprint
    assert before == generator("fungi").fingerprint
    assert len({before, *(generator("fungi", **o).fingerprint for o in ({"hard": True}, {"conditional": False}))}) == 3
    here = world("fungi", False)  # as PartWorld asks for it
    monkeypatch.setattr(here, "figures", dataclasses.replace(here.figures, separation=1.1))
    assert generator("fungi").fingerprint != before


def test_class_free_generator_draws_all_classes_inside():
    model = generator("birds", conditional=False)
    assert model.num_classes == 0 and model.class_names == () and model.mean_w.shape == (1, 64)
    w = model.sample(None, torch.arange(300), Stream("train pairs"))
    found = model.world.bayes_class(model.true_factors(w)).bincount(minlength=6)
    assert found.min() > 25
    with pytest.raises(ValueError, match="class 0"):
        model.sample(0, torch.arange(2), Stream("train pairs"))


def test_classes_choose_their_set():
    assert set_of(["pug", "weimaraner"]) == "dogs"
    with pytest.raises(ValueError, match=r"'poodle'.*border_collie"):
        set_of(["pug", "poodle"])
    with pytest.raises(ValueError, match="one set of part world, got birds, dogs"):
        set_of(["pug", "toucan"])


def test_figures_choose_the_set_where_only_the_classifier_knows_the_classes():
    ours = PartWorld(["hanging_ears", "erect_ears"], conditional=False, figures="dogs")
    theirs = generator("dogs", conditional=False)
    assert ours.num_classes == 0 and ours.labels == SETS["dogs"].labels
    assert ours.fingerprint == theirs.fingerprint != generator("fungi", conditional=False).fingerprint
    k = torch.arange(3)
    assert torch.equal(ours.sample(None, k, Stream("test pairs")), theirs.sample(None, k, Stream("test pairs")))


def test_figures_that_the_classes_are_from_change_nothing():
    assert generator("birds", figures="birds").fingerprint == generator("birds").fingerprint


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["pug"], {"figures": "cats"}, "gan.figures=cats: expected one of dogs, fungi, birds, or null"),
        (["pug"], {"figures": "cats", "conditional": False}, "gan.figures=cats: expected one of"),
        (
            ["pug"],
            {"figures": "birds"},
            r"figures=birds and classes of dogs \(pug\): .*classes=birds.*conditional=false",
        ),
        (
            ["erect_ears"],
            {"figures": "dogs"},
            r"'erect_ears'.*border_collie.*gan\.conditional=false gan\.figures=<set>",
        ),
        (["erect_ears"], {"conditional": False}, r"'erect_ears'.*gan\.conditional=false gan\.figures=<set>"),
    ],
)
def test_a_set_that_does_not_fit_is_refused(names, options, message):
    with pytest.raises(ValueError, match=message):
        PartWorld(names, **options)


@pytest.mark.parametrize("name", NAMES)
def test_generated_pictures_are_faithful_in_every_part(name):
    psnr = fidelity(generator(name).network, world(name), n=192, seed=7)
    assert psnr["all"] >= 36
    parts = [*SETS[name].labels, *(["detail spot"] if name == "fungi" else [])]
    assert min(psnr[part] for part in parts) >= 26, psnr


def test_fit_loss_against_loops():
    rng = np.random.default_rng(0)
    a, b, m = rng.random((1, 3, 8, 8)), rng.random((1, 3, 8, 8)), 1 + rng.random((1, 1, 8, 8))
    d = a - b
    plain = np.mean(m * np.abs(d)) + 2 * np.mean(m * d**2)
    plain += 0.5 * (np.mean(np.abs(d[..., 1:] - d[..., :-1])) + np.mean(np.abs(d[..., 1:, :] - d[..., :-1, :])))
    cells = [d[0, c, i : i + 4, j : j + 4].mean() for c in range(3) for i in (0, 4) for j in (0, 4)]
    plain += 0.5 * np.mean(np.abs(cells))
    loss = fit_loss(*(torch.tensor(x) for x in (a, b, m)))
    np.testing.assert_allclose(loss, plain, rtol=1e-12)
