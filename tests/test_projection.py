"""r_U: what the classifier sees of training samples that are projected onto W's first principal components."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.commandline import SMALL, lis, made, metrics
from helpers.fakes import FakeClassifier, FakeGenerator, make_context
from helpers.stored import count
from sklearn.decomposition import PCA
from torch import Tensor

from lis.config import MLPConfig
from lis.context import Context
from lis.linking.link import link
from lis.linking.pairs import pairs
from lis.linking.projection import projection

FC_L2 = MLPConfig(hidden=8, max_epochs=2, pc_weight=1.0, components=2)


def _context(root: Path, **overrides: Any) -> Context:
    return make_context(root, **{"link": FC_L2} | overrides)


def _shards(ctx: Context) -> int:
    return count(ctx.store.root, "projection-shard")


def test_r_u_is_what_the_classifier_sees_of_the_generated_image_of_w_u(tmp_path: Path) -> None:
    """Sample by sample, with scikit-learn's PCA of all training codes; neither r nor the features of another code."""
    ctx = _context(tmp_path)
    source = pairs(ctx, "train")
    stored, result = source.tensors("pairs"), projection(ctx).tensors("projection")
    w = stored["w"].double().numpy()
    pca = PCA(2, svd_solver="full").fit(w)
    for code, r in zip(w, result["r"], strict=True):
        w_u = pca.inverse_transform(pca.transform(code[None]))
        image = ctx.generator.synthesize(torch.from_numpy(w_u).float())
        torch.testing.assert_close(ctx.classifier.features(image)[0], r, rtol=1e-4, atol=1e-5)
    assert (result["r"] - stored["r"]).norm() > 0.1 * stored["r"].norm()
    np.testing.assert_allclose(result["mean"], w.mean(0), atol=1e-6)
    np.testing.assert_allclose(
        result["axes"] @ result["axes"].T, np.asarray(pca.components_).T @ pca.components_, atol=1e-6
    )


def test_with_all_components_nothing_is_projected_away(tmp_path: Path) -> None:
    """w_U is w, and r_U is r."""
    ctx = _context(tmp_path, link=replace(FC_L2, components=FakeGenerator().w_dim))
    source = pairs(ctx, "train")
    r = projection(ctx).tensors("projection")["r"]
    torch.testing.assert_close(r, source.tensors("pairs")["r"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("batch_size", "shard_size"), [(1, 16), (50, 7), (9, 1000)])
def test_batches_and_shards_do_not_matter(tmp_path: Path, batch_size: int, shard_size: int) -> None:
    ctx = _context(tmp_path / "a")
    other = _context(tmp_path / "b", batch_size=batch_size, shard_size=shard_size)
    ours, theirs = (projection(c) for c in (ctx, other))
    assert ours.key == theirs.key
    assert _shards(other) == -(-120 // shard_size)
    torch.testing.assert_close(ours.tensors("projection"), theirs.tensors("projection"), rtol=1e-5, atol=1e-5)


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No image is generated twice."""
    expected = projection(_context(tmp_path / "a")).tensors("projection")
    ctx, synthesize, generated = _context(tmp_path / "b"), FakeGenerator.synthesize, [0]
    pairs(ctx, "train")

    def interrupted(self: FakeGenerator, w: Tensor, features: bool = False) -> Any:
        if len(generated) == 10:
            raise KeyboardInterrupt
        generated.append(len(w))
        return synthesize(self, w, features)

    monkeypatch.setattr(FakeGenerator, "synthesize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        projection(ctx)
    done = _shards(ctx)
    assert 0 < done < 8
    generated[:] = [0] * 20
    torch.testing.assert_close(projection(ctx).tensors("projection"), expected)
    assert sum(generated) == 120 - 16 * done


def test_only_fc_l2_with_projected_samples_generates_any(tmp_path: Path) -> None:
    """Neither FC-L1 nor FC-L2 on the same prediction has a use for r_U; FC-L2 makes it once for all its settings."""
    for config in (MLPConfig(hidden=8, max_epochs=1), replace(FC_L2, pc_target="prediction")):
        ctx = _context(tmp_path, link=config)
        link(ctx)
        assert not (ctx.store.root / "projection").exists()
    keys = set()
    for hidden in (8, 9):
        artifact = link(_context(tmp_path, link=replace(FC_L2, hidden=hidden)))
        keys |= set(artifact.manifest["recipe"]["inputs"])
        assert artifact.json("fit")["pc_target"] == "projection"
    assert [path.name for path in (ctx.store.root / "projection").iterdir() if path.name in keys]
    assert len(keys) == 2


def test_an_activation_that_is_not_finite_names_its_training_pair(tmp_path: Path, monkeypatch: Any) -> None:
    """The 38th image that is shown to the classifier, which is pair 37."""
    ctx, features, seen = _context(tmp_path, link=replace(FC_L2, components=1)), FakeClassifier.features, []
    pairs(ctx, "train")

    def blank(self: FakeClassifier, image: Tensor) -> Tensor:
        r = features(self, image)
        first = sum(seen)
        seen.append(len(r))
        return torch.where(torch.arange(first, first + len(r))[:, None] == 37, torch.nan, r)

    monkeypatch.setattr(FakeClassifier, "features", blank)
    with pytest.raises(ValueError, match=r"training pair 37, projected onto 1 .* not finite: .*pc_target=prediction"):
        projection(ctx)


@pytest.mark.parametrize("components", [0, 7])
def test_no_more_components_than_w_has_dimensions(components: int, tmp_path: Path) -> None:
    """Told before any pair is drawn."""
    ctx = _context(tmp_path, link=MLPConfig(pc_weight=1.0, components=components))
    with pytest.raises(ValueError, match=rf"components={components}: expected 1 to 6, .*set link\.components"):
        link(ctx)
    assert not (ctx.store.root / "pairs-train").exists()


@pytest.mark.slow
def test_both_targets_through_the_command_line(tmp_path: Path) -> None:
    """One sweep: the projected images are made once, for the one that wants them, and the links differ."""
    sweep = ("link=fc_l2", "link.pc_target=projection,prediction", "analysis.stages=[link,evaluation]")
    code, output = lis("-m", *SMALL, *sweep, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert code == 0, output
    runs = [tmp_path / "sweep" / str(number) for number in range(2)]
    stages = [[line.split()[0] for line in made(run)] for run in runs]
    assert [stage.count("projection-shard") for stage in stages] == [3, 0]
    assert [stage.count("projection") for stage in stages] == [1, 0]
    ours, theirs = (metrics(run) for run in runs)
    assert ours["mse_w/ratio_random"] != theirs["mse_w/ratio_random"]
    assert max(ours["mse_w/ratio_random"], theirs["mse_w/ratio_random"]) < 0.5
    page = (tmp_path / "sweep" / "report.html").read_text()
    assert "FC-L2, pc_target=projection" in page and "FC-L2, pc_target=prediction" in page
    assert "samples projected onto them" in (runs[0] / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "words"),
    [("link.pc_target=pairs", "expected one of projection, prediction"), ("link.components=99", "the width of w")],
)
def test_bad_settings_fail_before_any_pair_is_drawn(override: str, words: str, tmp_path: Path) -> None:
    code, output = lis(*SMALL, "link=fc_l2", override, cwd=tmp_path)
    assert code == 1, output
    assert override.partition(".")[2] in output and words in output and "Traceback" not in output
    assert not list((tmp_path / "outputs").glob("store/*/*"))
