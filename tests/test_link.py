"""The link stage: every kind of link is fitted, stored, loaded, and described."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.fakes import stand_in

from lis.config import LeastSquaresConfig, MLPConfig, RidgeConfig
from lis.linking.linear import LeastSquares
from lis.linking.link import jackknife, link, load_link, unit_table
from lis.progress import Progress
from lis.store import Recipe, Store

LINKS = {
    "lr": LeastSquaresConfig(),
    "ridge": RidgeConfig(steps=5),
    "fc_l1": MLPConfig(hidden=8, max_epochs=2),
    "fc_l2": MLPConfig(hidden=8, max_epochs=2, pc_weight=1.0, components=2, pc_target="prediction"),
}


def data(n=120):
    rng = torch.Generator().manual_seed(0)
    r = torch.randn(n, 7, generator=rng).relu()
    r[:, 4] = 0
    return r, r @ torch.randn(7, 3, generator=rng) + torch.randn(n, 3, generator=rng)


def write_pairs(draft):
    draft.tensors("pairs", dict(zip("rw", data(), strict=True)))


@pytest.fixture
def context(tmp_path, monkeypatch):
    stand_in(monkeypatch, "pairs/train", lambda ctx: ctx.store.make(Recipe("train", 1, {}), write_pairs))
    store, cpu = Store(tmp_path), torch.device("cpu")

    def make(config, seed=0):
        config = SimpleNamespace(link=config, seed=seed)
        generator = SimpleNamespace(w_dim=3)
        return SimpleNamespace(config=config, store=store, device=cpu, progress=Progress(), generator=generator)

    return make


@pytest.mark.parametrize("kind", LINKS)
def test_a_link_is_stored_and_loads_as_it_was_fitted(kind, context):
    artifact = link(context(LINKS[kind]))
    loaded, r = load_link(artifact), data()[0]
    assert artifact.json("link")["kind"] == artifact.json("fit")["kind"] == kind
    assert artifact.json("link")["dims"] == {"units": 7, "w_dim": 3}
    assert loaded(r).shape == (120, 3)
    assert loaded(r).dtype == torch.float32
    assert not loaded.training
    again = load_link(link(context(LINKS[kind])))
    assert torch.equal(again(r), loaded(r))
    for name, value in artifact.tensors("link").items():
        assert torch.equal(loaded.state_dict()[name], value)


@pytest.mark.parametrize("kind", ["lr", "ridge"])
def test_linear_links_have_a_path_and_steps_with_intervals(kind, context):
    artifact = link(context(LINKS[kind]))
    path, units, facts = artifact.table("path"), artifact.table("units"), artifact.json("fit")
    assert path["chosen"].tolist().count(True) == 1
    assert path["ridge"].to_numpy()[path["chosen"].argmax()] == facts["ridge"]
    assert (facts["ridge"] == 0) == (kind == "lr")
    if kind == "ridge":
        assert path["gcv_mse"].argmin() == path["chosen"].argmax()
        assert len(path) == 5
    loaded, r = load_link(artifact), data()[0].double()
    steps = (r.amax(0) - r.amin(0)) * loaded.get_buffer("coef").norm(dim=1)
    np.testing.assert_allclose(units["step_norm"], steps, rtol=1e-6, atol=1e-12)
    assert (units["step_norm_low"].to_numpy() <= units["step_norm"].to_numpy()).all()
    assert (units["step_norm_high"].to_numpy() >= units["step_norm"].to_numpy()).all()
    assert units["status"].tolist() == ["live"] * 4 + ["dead"] + ["live"] * 2
    assert (facts["samples"], facts["dead"], facts["near_dead"], facts["rank"]) == (120, 1, 0, 6)
    mse = (loaded(r) - data()[1].double()).square().mean()
    assert facts["mse"] == pytest.approx(float(mse), rel=1e-5)


@pytest.mark.parametrize(("kind", "decompositions"), [("lr", 2), ("ridge", 1)])
def test_no_matrix_is_decomposed_twice(kind, decompositions, context, monkeypatch):
    eigh, calls = torch.linalg.eigh, []
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: calls.append(len(matrix)) or eigh(matrix))
    link(context(LINKS[kind]))
    assert calls == decompositions * [6]


def test_trained_links_have_a_curve_and_no_steps(context):
    artifact = link(context(LINKS["fc_l2"]))
    assert list(artifact.table("curve")) == ["epoch", "train_loss", "validation_loss"]
    assert np.isnan(artifact.table("units")["step_norm"].to_numpy()).all()
    assert not artifact.has("path")


def test_seed_and_settings_make_another_link(context):
    keys = {link(context(config)).key for config in LINKS.values()} | {link(context(LINKS["lr"], seed=1)).key}
    assert len(keys) == 5


def test_a_table_without_blocks_has_no_interval():
    moments, blocked = LeastSquares(), LeastSquares(3)
    for part in (moments, blocked):
        part.update(*data())
    link = moments.solve(0.1)
    table, known = unit_table(moments, link, ridge=0.1), jackknife(blocked, link, 0.1)
    assert np.isnan(table["step_norm_low"].to_numpy()).all()
    np.testing.assert_allclose(table["step_norm"], known.step_norm)
    np.testing.assert_allclose(unit_table(blocked, link, ridge=0.1)["step_norm_high"], known.high)


def test_refused_settings_name_their_key(context):
    with pytest.raises(ValueError, match=r"set link\.validation"):
        link(context(MLPConfig(validation=0.0)))
    with pytest.raises(ValueError, match=r"set link\.steps"):
        link(context(RidgeConfig(smallest=2.0, largest=1.0)))
    with pytest.raises(ValueError, match=r"set link\.components"):
        link(context(MLPConfig(pc_weight=1.0, components=4, max_epochs=1)))
