"""The evaluation stage: every number against plain loops over single samples."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes import NAMES, FakeClassifier, FakeGenerator, make_config, make_context
from helpers.findings import make_artifacts, make_ctx
from sklearn.metrics import r2_score
from torch import Tensor

from lis.context import Context
from lis.linking.distances import PixelL2
from lis.linking.evaluation import (
    PAIRINGS,
    Samples,
    evaluation,
    measure,
    partners,
    tour,
    validate_evaluation,
    within_class_tour,
)
from lis.linking.link import link, load_link
from lis.linking.pairs import pairs
from lis.report.evaluation import explained, nothing_explained
from lis.report.page import abstract
from lis.report.source import source
from lis.store import Artifact, Recipe, Store
from lis.streams import Stream


def _narrow(root: Path, **overrides: Any) -> Context:
    """Fewer features than dimensions of w: the cycle is not perfect."""
    generator = FakeGenerator(spread=1.0)
    return make_context(root, generator, FakeClassifier(generator, units=6), **overrides)


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return _narrow(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def artifact(ctx: Context) -> Artifact:
    return evaluation(ctx)


@pytest.fixture(scope="module")
def cycled(ctx: Context, artifact: Artifact) -> dict[str, Tensor]:
    """Test pairs, w̃ and the images, all at once."""
    assert artifact.path.is_dir()
    test = pairs(ctx, "test").tensors("pairs")
    w_cycled = load_link(link(ctx))(test["r"]).detach()
    images = {"image": ctx.generator.synthesize(test["w"]), "image_cycled": ctx.generator.synthesize(w_cycled)}
    return test | {"w_cycled": w_cycled} | images


def _loop(ctx: Context, cycled: dict[str, Tensor], metric: str, k: int, partner: int | None) -> float:
    """One metric of one sample: against its cycled self, or against a partner's original."""
    a, b, tensors = k, k if partner is None else partner, cycled
    w = tensors["w_cycled"] if partner is None else tensors["w"]
    image = tensors["image_cycled"] if partner is None else tensors["image"]
    if metric == "mse_w":
        return float(np.mean([(float(x) - float(y)) ** 2 for x, y in zip(tensors["w"][a], w[b], strict=True)]))
    if metric == "pixel_l2":
        return float(np.mean((tensors["image"][a].double().numpy() - image[b].double().numpy()) ** 2))
    features = [ctx.classifier.features(x[None])[0].double().numpy() for x in (tensors["image"][a], image[b])]
    return float(np.sqrt(((features[0] - features[1]) ** 2).sum()))


@pytest.mark.parametrize("metric", ["mse_w", "pixel_l2", "features"])
@pytest.mark.parametrize("pairing", ["cycle", "random", "within-class"])
def test_samples_are_measured(
    ctx: Context, artifact: Artifact, cycled: dict[str, Tensor], metric: str, pairing: str
) -> None:
    stream, classes = Stream("baselines", ctx.config.seed), cycled["class_index"]
    partner = {
        "cycle": [None] * 60,
        "random": partners(tour(60, stream.rng())).tolist(),
        "within-class": partners(within_class_tour(classes, stream), classes).tolist(),
    }[pairing]
    table = artifact.table("samples")
    table = table[(table["metric"] == metric) & (table["pairing"] == pairing)]
    assert table["class"].tolist() == [NAMES[c] for c in classes]
    assert table["sample_index"].tolist() == cycled["sample_index"].tolist()
    expected = [_loop(ctx, cycled, metric, k, partner[k]) for k in range(60)]
    np.testing.assert_allclose(table["value"], expected, rtol=1e-3, atol=1e-5)


def _rows(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The rows by their first column."""
    return {str(row[table.columns[0]]): dict(row) for row in table.to_dict("records")}


def test_summary_is_made_of_the_samples(artifact: Artifact) -> None:
    samples, summary = artifact.table("samples"), _rows(artifact.table("summary"))
    assert list(summary) == ["mse_w", "pixel_l2", "features"]
    for metric, row in summary.items():
        own = samples[samples["metric"] == metric]
        mean = {name: own["value"][own["pairing"] == name].mean() for name in PAIRINGS}
        assert row["cycle"] == pytest.approx(mean["cycle"], rel=1e-5)
        assert row["ratio_random"] == pytest.approx(mean["cycle"] / mean["random"], rel=1e-5)
        assert row["ratio_within_class"] == pytest.approx(mean["cycle"] / mean["within-class"], rel=1e-5)
        assert row["cycle_low"] < row["cycle"] < row["cycle_high"]
        assert row["n"] == 60
        assert row["unit"]
    assert summary["mse_w"]["ratio_random"] < 1
    assert summary["mse_w"]["p_random"] < 0.01


def test_kept_is_what_the_classifier_says(ctx: Context, artifact: Artifact, cycled: dict[str, Tensor]) -> None:
    called = ctx.classifier.head(ctx.classifier.features(cycled["image_cycled"])).argmax(1)
    kept = _rows(artifact.table("kept"))
    for c, name in enumerate(NAMES):
        own = cycled["class_index"] == c
        assert kept[name]["kept"] == pytest.approx(float((called[own] == c).float().mean()))
    assert kept["all"]["n"] == 60


def test_components_show_the_same_samples_before_and_after(
    ctx: Context, artifact: Artifact, cycled: dict[str, Tensor]
) -> None:
    table, offsets = artifact.table("components"), artifact.table("offsets")
    assert len(table) == 60 * 6
    train = pairs(ctx, "train").tensors("pairs")["w"].double()
    centred = (cycled["w"].double() - train.mean(0)).square().sum(1)
    original, moved = (table[name].to_numpy().reshape(6, 60) for name in ("original", "cycled"))
    np.testing.assert_allclose((original**2).sum(0), centred, rtol=1e-4)
    std = float(torch.linalg.eigvalsh(torch.cov(train.T))[-1].sqrt())
    assert offsets["offset"].tolist()[0] == pytest.approx((moved - original)[0].mean() / std, abs=1e-5)
    assert sum(offsets["explained"].tolist()) == pytest.approx(1)


def test_factors_are_scored(ctx: Context, artifact: Artifact, cycled: dict[str, Tensor]) -> None:
    generator = ctx.generator
    assert isinstance(generator, FakeGenerator)
    table = artifact.table("factors")
    true, found = (generator.true_factors(cycled[name]).numpy() for name in ("w", "w_cycled"))
    assert table["factor"].tolist() == list(generator.factor_names)
    np.testing.assert_allclose(table["r2"], r2_score(true, found, multioutput="raw_values"), rtol=1e-4)


def test_examples_are_the_first_of_each_class(artifact: Artifact, cycled: dict[str, Tensor]) -> None:
    examples, first = artifact.tensors("examples"), [0, 1, 20, 21, 40, 41]
    assert examples["class_index"].tolist() == [0, 0, 1, 1, 2, 2]
    assert examples["sample_index"].tolist() == cycled["sample_index"][first].tolist()
    for name, original in (("image", "image"), ("cycled", "image_cycled")):
        assert examples[name].dtype == torch.uint8
        torch.testing.assert_close(examples[name].float() / 127.5 - 1, cycled[original][first], atol=0.005, rtol=0)


def test_batches_do_not_matter(tmp_path: Path, artifact: Artifact) -> None:
    other = evaluation(_narrow(tmp_path, batch_size=100, shard_size=50))
    assert other.key == artifact.key
    pd.testing.assert_frame_equal(artifact.table("samples"), other.table("samples"), rtol=1e-3, atol=1e-5)
    pd.testing.assert_frame_equal(artifact.table("kept"), other.table("kept"))


def test_a_perfect_link_gives_back_the_image(tmp_path: Path) -> None:
    artifact = evaluation(make_context(tmp_path))
    assert max(artifact.table("summary")["ratio_random"].tolist()) < 1e-2
    assert min(artifact.table("kept")["kept"].tolist()) == 1
    assert min(artifact.table("factors")["r2_within"].tolist()) > 0.999
    examples = artifact.tensors("examples")
    assert (examples["image"].int() - examples["cycled"].int()).abs().max() <= 1


class _NoTruth:
    """A generator without classes that does not know its factors."""

    def __init__(self) -> None:
        self._inside = FakeGenerator(conditional=False, spread=1.0)

    def __getattr__(self, name: str) -> Any:
        if name in ("true_factors", "factor_names"):
            raise AttributeError(name)
        return getattr(self._inside, name)


def test_without_classes_the_prediction_is_the_class(tmp_path: Path) -> None:
    generator = FakeGenerator(conditional=False, spread=1.0)
    artifact = evaluation(make_context(tmp_path, _NoTruth(), FakeClassifier(generator)))
    assert artifact.table("kept")["class"].tolist() == [*NAMES, "all"]
    assert not artifact.has("factors")


def test_metrics_are_left_out_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """A missing file is said in the log and in the artifact; the metric is absent, not zero."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    generator = FakeGenerator(resolution=32)
    ctx = make_context(tmp_path, generator, evaluation__lpips=True, evaluation__examples=0)
    with caplog.at_level(logging.WARNING):
        artifact = evaluation(ctx)
    assert "LPIPS is left out: its weights alexnet-owt-7be5be79.pth are missing" in caplog.text
    assert set(artifact.json("left_out")) == {"lpips", "moco"}
    assert "lpips" not in set(artifact.table("summary")["metric"]) | set(artifact.table("samples")["metric"])
    assert artifact.tensors("examples")["image"].shape == (0, 3, 32, 32)


class _Limited(PixelL2):
    """A costly distance that is computed on 12 samples at most."""

    name, limit = "limited", 12


def test_a_costly_metric_is_computed_on_the_first_samples_of_each_class(ctx: Context) -> None:
    test = pairs(ctx, "test").tensors("pairs")
    samples = Samples(test["w"], test["r"], test["w"] + 0.1, test["class_index"])
    values = measure(ctx, samples, [PixelL2(), _Limited()]).values
    some = torch.tensor([0, 1, 2, 3, 20, 21, 22, 23, 40, 41, 42, 43])
    for pairing in ("cycle", "random", "within-class"):
        found = values["limited"][pairing]
        assert (~found.isnan()).nonzero()[:, 0].tolist() == some.tolist()
        torch.testing.assert_close(found[some], values["pixel_l2"][pairing][some])


def test_only_single_batches_of_images_are_drawn(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images per sample and a few more; never many at once."""
    test = pairs(ctx, "test").tensors("pairs")
    samples = Samples(test["w"], test["r"], test["w"], test["class_index"])
    sizes, synthesize = [], FakeGenerator.synthesize
    monkeypatch.setattr(
        FakeGenerator, "synthesize", lambda self, w, features=False: (sizes.append(len(w)), synthesize(self, w))[1]
    )
    measure(ctx, samples, [PixelL2()])
    assert max(sizes) <= ctx.config.batch_size + 3
    assert sum(sizes) <= 3 * 60 + 2 * len(sizes)


class _Deaf(FakeClassifier):
    """Units that have nothing to do with w."""

    def features(self, image: Tensor) -> Tensor:
        return (1e5 * super().features(image)).sin()


@pytest.mark.parametrize("deaf", [True, False])
def test_a_link_that_explains_nothing_is_called_that_at_the_top(tmp_path: Path, deaf: bool) -> None:
    """R² of w as scikit-learn has it, up to the few pairs that stand for the variance."""
    generator = FakeGenerator(spread=1.0)
    classifier = (_Deaf if deaf else FakeClassifier)(generator)
    ctx = make_context(tmp_path, generator, classifier, pairs__accept="any")
    artifact, test = evaluation(ctx), pairs(ctx, "test").tensors("pairs")
    r2 = r2_score(test["w"], load_link(link(ctx))(test["r"]).detach(), multioutput="variance_weighted")
    assert explained(artifact.table("summary")) == pytest.approx(r2, abs=0.15)
    text = abstract(source(make_ctx(tmp_path), {"evaluation": artifact}))
    assert ("This link explains nothing: on new samples R² of w is" in text) == deaf == (r2 < 0.1)


@pytest.mark.parametrize(
    ("random", "within", "words"),
    [
        (0.46, 0.1, "This link explains nothing: on new samples R² of w is 0.080"),
        (0.2, 0.46, "Beyond the class this link explains nothing: within classes R² of w is 0.080"),
        (0.2, 0.4, ""),
    ],
)
def test_what_a_link_explains_beyond_the_class_is_told(
    tmp_path: Path, random: float, within: float, words: str
) -> None:
    made = make_artifacts(tmp_path)["evaluation"]
    summary = made.table("summary").assign(ratio_random=random, ratio_within_class=within)
    recipe = Recipe("evaluation", 1, {"r": random, "within": within})
    changed = Store(tmp_path).make(recipe, lambda draft: draft.table("summary", summary))
    text = nothing_explained(source(make_ctx(tmp_path), {"evaluation": changed}))
    assert text.startswith(words) and bool(text) == bool(words)
    assert nothing_explained(source(make_ctx(tmp_path), {})) == ""


def test_bad_evaluation_settings_are_found_early(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pairs\.test=1"):
        validate_evaluation(make_config(tmp_path, pairs__test=1), FakeGenerator())
    path = tmp_path / "moco.pth"
    path.write_text("nothing")
    with pytest.raises(ValueError, match=r"moco\.pth"):
        validate_evaluation(make_config(tmp_path, evaluation__moco=str(path)), FakeGenerator())
