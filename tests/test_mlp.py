"""The fully connected links: losses against plain formulas, and the training loop on a small problem."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from lis.linking.mlp import MLPFit, l1_loss, l2_loss
from lis.linking.training import Batches, Settings, TrainingPairs
from lis.streams import Stream

SMALL = {"hidden": 32, "max_epochs": 25, "batch_size": 50, "learning_rate": 1e-2}


def training(n=400, seed=0):
    """w is a kinked function of r, which no linear link can follow; unit 2 is dead."""
    rng = torch.Generator().manual_seed(seed)
    r = torch.randn(n, 6, generator=rng) * 5 + 3
    r[:, 2] = 0.5
    w = torch.stack([r[:, 0].abs(), (r[:, 1] - r[:, 3]).clamp(min=0), r[:, 4]], 1) * 10 + 100
    return TrainingPairs.of(r, w, r_projected=0.8 * r + 1)


def test_losses_equal_the_plain_formulas():
    rng = np.random.default_rng(0)
    predicted, w, projected = rng.normal(size=(3, 5, 4))
    basis = np.linalg.qr(rng.normal(size=(4, 2)))[0]
    first = np.mean([sum((p - t) ** 2) for p, t in zip(predicted, w, strict=True)])
    second = np.mean([sum((p @ basis - t @ basis) ** 2) for p, t in zip(projected, w, strict=True)])
    assert float(l1_loss(*map(torch.from_numpy, (predicted, w)))) == pytest.approx(first)
    tensors = map(torch.from_numpy, (predicted, w, projected, basis))
    assert float(l2_loss(*tensors, weight=0.7)) == pytest.approx(first + 0.7 * second)


@pytest.mark.parametrize(("pc_weight", "target"), [(0.0, None), (0.3, "projection"), (0.3, "prediction")])
def test_fc_l2_trains_on_what_the_link_makes_of_projected_samples(pc_weight, target):
    """The loss of the first epoch at the weights that it ends with, by loops: ‖f(r) − w‖² + λ Σₖ (Uₖ·(f(r_U) − w))²."""
    fit = MLPFit(hidden=4, max_epochs=1, pc_weight=pc_weight, pc_target=target or "projection", components=2)
    pairs, r_projected = training(50), torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    fitted = fit.fit(replace(pairs, r_projected=r_projected), Settings())
    held_out = fit._split(50, Stream("link fit", 0))[0].tolist()
    axes = np.asarray(PCA(2, svd_solver="full").fit(pairs.w.double().numpy()).components_)
    total = 0.0
    for row in held_out:
        w = pairs.w[row].double().numpy()
        predicted = fitted.link(pairs.r[row]).double().numpy()
        projected = fitted.link(r_projected[row]).double().numpy() if target == "projection" else predicted
        total += sum((predicted - w) ** 2) + pc_weight * sum(float(axis @ (projected - w)) ** 2 for axis in axes)
    assert fitted.tables["curve"]["validation_loss"].item() == pytest.approx(total / len(held_out), rel=1e-5)
    assert fitted.facts["pc_target"] == target


@pytest.mark.parametrize("pc_target", ["projection", "prediction"])
@pytest.mark.parametrize("pc_weight", [0.0, 1.0])
def test_a_trained_link_beats_the_linear_one(pc_weight, pc_target):
    pairs, new = training(), training(200, seed=1)
    pairs = replace(pairs, r_projected=pairs.r)  # nothing is lost by the projection
    fitted = MLPFit(**SMALL, pc_weight=pc_weight, pc_target=pc_target, components=2).fit(pairs, Settings())
    error, linear = ((link(new.r) - new.w).square().mean() for link in (fitted.link, pairs.moments.solve()))
    assert error < 0.2 * linear
    assert fitted.kind == ("fc_l2" if pc_weight else "fc_l1")
    assert not fitted.link.training
    assert not any(parameter.requires_grad for parameter in fitted.link.parameters())


def test_the_best_epoch_is_restored_and_the_fit_stops_when_patience_ends():
    pairs, settings = training(), Settings(seed=3)
    fit = MLPFit(**{**SMALL, "learning_rate": 5e-2}, patience=3)
    fitted = fit.fit(pairs, settings)
    curve, facts = fitted.tables["curve"], fitted.facts
    assert curve["epoch"].tolist() == list(range(facts["epochs"]))
    assert facts["best_epoch"] == curve["validation_loss"].idxmin()
    assert facts["epochs"] == min(25, facts["best_epoch"] + 1 + 3)
    shorter = MLPFit(**{**SMALL, "learning_rate": 5e-2, "max_epochs": facts["best_epoch"] + 1}).fit(pairs, settings)
    assert equal(fitted.link, shorter.link)


def test_the_seed_decides_and_the_global_random_state_does_not():
    pairs, fit = training(100), MLPFit(**{**SMALL, "max_epochs": 2})
    first = fit.fit(pairs, Settings(seed=0)).link
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    assert equal(first, fit.fit(pairs, Settings(seed=0)).link)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not equal(first, fit.fit(pairs, Settings(seed=1)).link)


def test_nothing_is_written_and_nothing_is_logged(tmp_path, monkeypatch, caplog, capsys):
    monkeypatch.chdir(tmp_path)
    MLPFit(**{**SMALL, "max_epochs": 1}).fit(training(60), Settings())
    assert not list(tmp_path.iterdir())
    assert not caplog.records
    assert capsys.readouterr() == ("", "")


def test_a_dead_unit_has_no_say():
    fitted = MLPFit(**{**SMALL, "max_epochs": 1}).fit(training(60), Settings())
    r = training(5).r
    changed = r.clone()
    changed[:, 2] = 99
    assert torch.equal(fitted.link(r), fitted.link(changed))


def test_batches_hold_every_sample_once_in_a_new_order():
    values = torch.arange(12.0)[:, None]
    batches = Batches((values, values + 100), rows=torch.arange(1, 11), size=4, seed=0)
    epochs = [torch.cat([r for r, _ in batches])[:, 0].tolist() for _ in range(2)]
    assert len(batches) == len(list(batches)) == 3
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(1, 11))
    assert epochs[0] != epochs[1]
    assert all(torch.equal(w, r + 100) for r, w in batches)


def test_bad_settings_are_refused():
    for validation in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"validation={validation}"):
            MLPFit(validation=validation)
    with pytest.raises(ValueError, match="1 training pairs"):
        MLPFit().fit(training(1), Settings())
    with pytest.raises(ValueError, match=r"pc_target='pairs': expected one of projection, prediction"):
        MLPFit(pc_target="pairs")
    with pytest.raises(ValueError, match=r"components=4: expected 1 to 3, .*set link\.components"):
        MLPFit(pc_weight=1.0, components=4).fit(training(9), Settings())
    with pytest.raises(ValueError, match=r"no activations of projected samples: .*pc_target=prediction"):
        MLPFit(pc_weight=1.0, components=2).fit(replace(training(9), r_projected=None), Settings())


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
