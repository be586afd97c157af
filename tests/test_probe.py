"""The linear probe against scikit-learn on all units, plain loops and a true logistic model; its stage and section."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from helpers import findings
from helpers.fakes import NAMES, FakeClassifier, FakeGenerator, make_context
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as reference_log_loss
from sklearn.model_selection import StratifiedKFold
from torch import nn

from lis.classifiers.probe import (
    BINS,
    GRID,
    PATIENCE,
    Coordinates,
    Probed,
    calibrated_bound,
    calibration,
    cross_validated,
    expected_calibration_error,
    fit,
    probe,
    probed,
)
from lis.config import ProbeConfig
from lis.progress import Progress
from lis.report.probe import linear_probe, regularisation, reliability
from lis.report.source import source
from lis.statistics import wilson
from lis.store import Artifact
from lis.streams import Stream
from lis.types import Classifier

pytestmark = pytest.mark.usefixtures("page_style")


def samples(per_class=30, units=8, classes=3, distance=0.8, seed=0):
    """r `[n, units]` with means and scales of their own, and labels `[n]`, class after class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    r = rng.normal(size=(len(labels), units)) + distance * rng.normal(size=(classes, units))[labels]
    return r * rng.lognormal(size=units) + 5 * rng.normal(size=units), labels


def logistic(n=4000, units=4, classes=3, seed=0):
    """Samples of a true logistic model, with its weight and bias; labels in random order."""
    rng = np.random.default_rng(seed)
    weight, bias, r = rng.normal(size=(classes, units)), rng.normal(size=classes), rng.normal(size=(n, units))
    chance = softmax(r @ weight.T + bias, axis=1)
    labels = (rng.random(n)[:, None] > chance.cumsum(1)).sum(1)
    return r, labels, weight, bias


def probabilities(fitted, r):
    return softmax(r @ fitted.weight.T + fitted.bias, axis=1)


@pytest.mark.parametrize(("classes", "units"), [(3, 8), (2, 8), (3, 200), (2, 200)])
def test_probabilities_are_those_of_a_regression_on_all_standardised_units(classes, units):
    distance = 0.8 if units < 90 else 0.08
    r, labels = samples(units=units, classes=classes, distance=distance)
    new = samples(units=units, classes=classes, distance=distance, seed=1)[0]
    fitted = fit(r, labels, 5, Progress())
    assert GRID[0] < fitted.strength < GRID[-1]
    mean, std = r.mean(0), r.std(0)
    model = LogisticRegression(C=fitted.strength, tol=1e-9, max_iter=10_000).fit((r - mean) / std, labels)
    np.testing.assert_allclose(probabilities(fitted, new), model.predict_proba((new - mean) / std), atol=1e-4)


def test_the_span_of_the_samples_loses_nothing():
    r = samples(units=200)[0]
    coordinates = Coordinates.of(r)
    x = (r - r.mean(0)) / r.std(0)
    assert coordinates.x.shape == (90, 90)
    np.testing.assert_allclose(coordinates.x @ coordinates.x.T, x @ x.T, atol=1e-9)
    np.testing.assert_allclose((r - coordinates.mean) @ coordinates.basis, coordinates.x, atol=1e-9)
    weight, bias = coordinates.unfold(coordinates.x[:3], np.arange(3.0))
    np.testing.assert_allclose(r @ weight.T + bias, coordinates.x @ coordinates.x[:3].T + np.arange(3.0), atol=1e-9)


def test_the_path_is_that_of_plain_loops():
    x, labels = samples(distance=0.5)
    rows = list(cross_validated(x, labels, folds=3))
    assert len(rows) > 8
    for c, loss, error, accuracy in rows[::4]:
        losses, rights = [], []
        for kept, held in StratifiedKFold(3).split(x, labels):
            model = LogisticRegression(C=c, tol=1e-7, max_iter=10_000).fit(x[kept], labels[kept])
            losses.append(reference_log_loss(labels[held], model.predict_proba(x[held])))
            rights.append(np.mean(model.predict(x[held]) == labels[held]))
        assert loss == pytest.approx(np.mean(losses), abs=2e-4)
        assert error == pytest.approx(np.std(losses, ddof=1) / np.sqrt(3), abs=2e-4)
        assert accuracy == pytest.approx(np.mean(rights), abs=0.02)


def test_the_path_ends_after_the_best_point_which_is_chosen():
    r, labels = samples(distance=0.5)
    path = fit(r, labels, 5, Progress()).path
    best = int(np.argmin(path["log_loss"]))
    assert path["C"].tolist() == list(GRID[: best + PATIENCE + 1])
    assert np.flatnonzero(path["chosen"]).tolist() == [best]


def test_separable_classes_are_told_apart_without_error():
    r, labels = samples(distance=20)
    fitted = fit(r[::2], labels[::2], 5, Progress())
    assert (probabilities(fitted, r[1::2]).argmax(1) == labels[1::2]).all()
    assert fitted.path["accuracy"].tolist()[-1] == 1
    assert min(fitted.path["log_loss"]) < 1e-3


def test_a_true_logistic_model_is_recovered_and_calibrated():
    r, labels, weight, bias = logistic()
    fitted = fit(r, labels, 5, Progress())
    for found, true in ((fitted.weight, weight), (fitted.bias, bias)):
        np.testing.assert_allclose(found - found.mean(0), true - true.mean(0), atol=0.15)
    new, truth, *_ = logistic(seed=0, n=8000)
    chance = probabilities(fitted, new[4000:])
    right = chance.argmax(1) == truth[4000:]
    assert expected_calibration_error(chance.max(1), right) < calibrated_bound(chance.max(1), np.random.default_rng(0))


def test_dead_units_have_no_say():
    r, labels = samples()
    more = np.column_stack([r, np.full(len(r), 3.0), 2 + 1e-12 * r[:, 0]])
    fitted, plain = (fit(x, labels, 5, Progress()) for x in (more, r))
    assert (fitted.weight[:, -2:] == 0).all()
    np.testing.assert_allclose(fitted.weight[:, :-2], plain.weight, atol=1e-4)
    with pytest.raises(ValueError, match="all 2 units of the classifier are constant over the 90 samples"):
        fit(more[:, [-2, -2]], labels, 5, Progress())


def test_calibration_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    confidence = np.append(rng.uniform(0.3, 1, 200), [1.0, 0.4])
    right = rng.random(202) < confidence**2
    table, error = calibration(confidence, right), 0.0
    for k in range(BINS):
        own = [i for i in range(202) if k / BINS < confidence[i] <= (k + 1) / BINS]
        row = table.iloc[k]
        assert (row["lower"], row["upper"], row["n"]) == pytest.approx((k / BINS, (k + 1) / BINS, len(own)))
        if len(own):
            mean, share = np.mean(confidence[own]), np.mean(right[own])
            assert (row["confidence"], row["accuracy"]) == pytest.approx((mean, share))
            assert (row["low"], row["high"]) == pytest.approx(wilson(int(sum(right[own])), len(own)))
            error += len(own) / 202 * abs(share - mean)
        else:
            assert np.isnan([row[name] for name in ("confidence", "accuracy", "low", "high")]).all()
    assert sum(table["n"]) == 202
    assert expected_calibration_error(confidence, right) == pytest.approx(error)


def test_the_bound_holds_for_calibrated_confidences_and_for_no_others():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.4, 1, 1000)
    bound = calibrated_bound(confidence, rng)
    errors = [expected_calibration_error(confidence, rng.random(1000) < confidence) for _ in range(300)]
    assert np.mean(np.array(errors) < bound) == pytest.approx(0.95, abs=0.04)
    assert expected_calibration_error(confidence, rng.random(1000) < confidence**2) > bound


class Recorder(FakeGenerator):
    """Notes every sample that is asked for, by stream and class."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.asked: dict[tuple[str, int | None], list[int]] = defaultdict(list)
        self.drawn: dict[str, list[torch.Tensor]] = defaultdict(list)
        self.sizes: set[int] = set()
        self.truncations: set[float] = set()

    def sample(self, class_index: int | None, indices: Any, stream: Any, truncation: float = 1.0) -> Any:
        w = super().sample(class_index, indices, stream, truncation)
        self.asked[stream.name, class_index] += indices.tolist()
        self.drawn[stream.name].append(w)
        self.sizes.add(len(indices))
        self.truncations.add(truncation)
        return w


def make(root: Any, generator: Any = None, classifier: Any = None, **settings: Any) -> Any:
    return make_context(root, generator, classifier, **({"probe": ProbeConfig(40, 30, folds=2)} | settings))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Artifact]:
    """A context with hard classes, and its probe."""
    ctx = make(tmp_path_factory.mktemp("probe"), FakeGenerator(spread=1.2))
    return ctx, probe(ctx)


def test_the_artifact_says_what_its_probe_does(finished: tuple[Any, Artifact]) -> None:
    ctx, artifact = finished
    facts, accuracy = artifact.json("probe"), artifact.table("accuracy")
    model = probed(ctx.classifier, artifact)
    w = [ctx.generator.sample(c, torch.arange(30), Stream("probe test", ctx.config.seed)) for c in range(3)]
    logits = model(ctx.generator.synthesize(torch.cat(w))).double()
    right = (logits.argmax(1) == torch.arange(3).repeat_interleave(30)).reshape(3, 30)
    assert accuracy["class"].tolist() == [*NAMES, "all"]
    assert accuracy["accuracy"].tolist() == pytest.approx([*right.double().mean(1).tolist(), float(right.sum()) / 90])
    assert accuracy["n"].tolist() == [30, 30, 30, 90]
    assert accuracy["low"].iloc[3] == wilson(int(right.sum()), 90)[0]
    loss = nn.functional.cross_entropy(logits, torch.arange(3).repeat_interleave(30))
    assert facts["log_loss"] == pytest.approx(float(loss), abs=1e-5)
    assert facts["accuracy"] == accuracy["accuracy"].tolist()[3] < 1
    table = artifact.table("calibration").dropna()
    assert facts["ece"] == pytest.approx((table["n"] * (table["accuracy"] - table["confidence"]).abs()).sum() / 90)
    assert facts["ece"] < 3 * facts["ece_bound"]
    assert [facts[name] for name in ("samples", "test_samples", "units", "folds")] == [120, 90, 16, 2]
    assert facts["C"] == artifact.table("path").query("chosen")["C"].item()


def test_fit_and_test_share_no_sample(tmp_path):
    generator = Recorder()
    artifact = probe(make(tmp_path, generator, batch_size=17, gan__truncation=0.7))
    expected = {("probe training", c): list(range(40)) for c in range(3)}
    assert generator.asked == expected | {("probe test", c): list(range(30)) for c in range(3)}
    training, test = (torch.cat(generator.drawn[f"probe {split}"]) for split in ("training", "test"))
    assert len(torch.cat([training, test]).unique(dim=0)) == 3 * (40 + 30)
    assert max(generator.sizes) == 17 and generator.truncations == {0.7}
    assert artifact.manifest["recipe"]["config"]["truncation"] == 0.7


def test_the_batch_size_changes_nothing(tmp_path):
    generator = FakeGenerator(spread=1.2)
    artifacts = [probe(make(tmp_path / str(size), generator, batch_size=size)) for size in (7, 40)]
    first, second = (artifact.tensors("probe") for artifact in artifacts)
    assert artifacts[0].key == artifacts[1].key
    for name in ("weight", "bias"):
        torch.testing.assert_close(first[name], second[name], atol=1e-3, rtol=1e-3)


def test_classes_keep_the_order_of_the_run(tmp_path, finished):
    generator = FakeGenerator(spread=1.2)
    turned = ("cat", "ant", "bee")
    artifact = probe(make(tmp_path, generator, classes__names=list(turned)))
    model = probed(FakeClassifier(generator), artifact)
    assert model.class_names == turned and artifact.json("probe")["classes"] == list(turned)
    order = [NAMES.index(name) for name in turned]
    expected = finished[1].tensors("probe")["weight"][order]
    torch.testing.assert_close(model.weight, expected, atol=1e-3, rtol=1e-3)
    images = generator.synthesize(generator.means[order] @ generator.basis.T)
    assert model(images).argmax(1).tolist() == [0, 1, 2]


def test_two_of_the_classes_are_enough(tmp_path):
    generator = FakeGenerator()
    artifact = probe(make(tmp_path, generator, classes__names=["cat", "ant"]))
    model = probed(FakeClassifier(generator), artifact)
    images = generator.synthesize(generator.means[[2, 0]] @ generator.basis.T)
    assert model(images).argmax(1).tolist() == [0, 1]
    assert model.head(torch.zeros(5, 16)).shape == (5, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generator": FakeGenerator(conditional=False)}, "draws the class inside: its samples have no labels; take a"),
        ({"classes__names": ["ant", "dodo"]}, "the generator does not know dodo; expected some of ant, bee, cat"),
        ({"classes__names": ["ant"]}, r"classes.names=\[ant\]: a linear probe needs 2 or more classes"),
        ({"classes__names": ["ant", "bee", "ant"]}, "each named once"),
        ({"probe": ProbeConfig(4, 30)}, r"probe.folds=5: expected 2 to 4, the samples per class \(probe.train\)"),
        ({"probe": ProbeConfig(40, 30, folds=1)}, "probe.folds=1: expected 2 to 40"),
    ],
)
def test_what_cannot_be_fitted_is_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        probe(make(tmp_path, **settings))


def test_activations_that_are_not_finite_are_refused(tmp_path):
    generator = FakeGenerator()
    classifier = FakeClassifier(generator)
    seen = iter(range(1000))
    features = classifier.features
    classifier.features = lambda image: (
        features(image) / (next(seen) != 11)
    )  # 6 batches per class, and one image before them that is measured
    with pytest.raises(ValueError, match=r"sample 28 of class 'bee' \(stream 'probe training', seed 0\) is not finite"):
        probe(make(tmp_path, generator, classifier))


class Talkative(FakeClassifier, nn.Module):
    """A module that says more about itself than the Protocol asks for."""

    cam_layer: str | None

    def __init__(self, generator: FakeGenerator) -> None:
        nn.Module.__init__(self)
        self.stem = nn.Conv2d(3, 2, 1)
        super().__init__(generator)
        self.layers["stem"], self.cam_layer = self.stem, "stem"
        self.name, self.weights, self.trained, self.notes = "talkative", "random", True, ("a note",)


def test_a_probed_classifier_is_the_classifier_with_another_head(finished):
    ctx, artifact = finished
    inner = Talkative(ctx.generator)
    model = probed(inner, artifact)
    assert isinstance(model, Classifier)
    assert model.class_names == NAMES and model.units == 16
    assert model.layers == {"stem": inner.stem} and model.cam_layer == "stem"
    assert (model.name, model.weights, model.trained, model.notes) == ("talkative", "random", True, ("a note",))
    assert not hasattr(model, "attribute")
    image = ctx.generator.synthesize(torch.randn(5, 6))
    tensors, r = artifact.tensors("probe"), inner.features(image)
    assert torch.equal(model.features(image), r)
    torch.testing.assert_close(model.head(r), r @ tensors["weight"].T + tensors["bias"])
    assert torch.equal(model(image), model.head(r))
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_the_fingerprint_follows_classifier_probe_and_names(finished):
    classifier, weight, bias = finished[0].classifier, torch.zeros(3, 16), torch.zeros(3)
    models = [
        Probed(classifier, weight, bias, NAMES),
        Probed(classifier, weight + 1, bias, NAMES),
        Probed(classifier, weight, bias + 1, NAMES),
        Probed(classifier, weight, bias, NAMES[::-1]),
        Probed(FakeClassifier(FakeGenerator(spread=0.1)), weight, bias, NAMES),
    ]
    assert len({model.fingerprint for model in models}) == 5
    assert Probed(classifier, weight.clone(), bias, NAMES).fingerprint == models[0].fingerprint


def test_a_probe_of_another_classifier_is_refused(finished):
    other = FakeClassifier(FakeGenerator(), units=12)
    with pytest.raises(ValueError, match=r"weight \[3, 16\] and bias \[3\] for 3 classes and 12 units: expected"):
        probed(other, finished[1])


def view(root: Any, artifacts: dict[str, Artifact]) -> Any:
    return source(findings.make_ctx(root, NAMES), artifacts)


def written(figure: Any) -> str:
    figure.draw_without_rendering()
    return "\n".join(artist.get_text() for artist in figure.findobj(Text))


def test_the_section_appears_exactly_when_there_is_a_probe(tmp_path, finished):
    assert linear_probe(view(tmp_path, {})) is None
    made = linear_probe(view(tmp_path, {"probe": finished[1]}))
    assert made is not None and made.title == "Linear probe"
    assert [picture.name for picture in made.figures] == ["probe-calibration", "probe-regularisation"]


def test_the_section_says_what_the_tables_say(tmp_path, finished):
    artifact = finished[1]
    made = linear_probe(view(tmp_path, {"probe": artifact}))
    assert made is not None
    facts, whole = artifact.json("probe"), artifact.table("accuracy").iloc[3]
    shown = [100 * whole[name] for name in ("accuracy", "low", "high")]
    assert [float(value) for value in re.findall(r"([\d.]+) %", made.lead)][:3] == pytest.approx(shown, abs=0.06)
    error, bound = re.findall(r"error of ([\d.]+).*below ([\d.]+) in 95", made.lead)[0]
    assert (float(error), float(bound)) == pytest.approx((facts["ece"], facts["ece_bound"]), rel=0.06)
    assert [row[0] for row in made.tables[0].rows] == [*NAMES, "all"]
    assert [row[2] for row in made.tables[0].rows] == ["30", "30", "30", "90"]
    assert "120 samples of 16 units" in made.notes[0] and len(made.notes) == 1


def rewritten(artifact: Artifact, path: Any = None, **facts: Any) -> Any:
    """An artifact with another path, and other facts."""

    class Other:
        has = artifact.has

        def table(self, name: str) -> Any:
            return path if name == "path" and path is not None else artifact.table(name)

        def json(self, name: str) -> Any:
            return artifact.json(name) | facts

    return Other()


def test_a_probe_that_is_not_calibrated_or_at_the_end_of_the_grid_is_called_so(tmp_path, finished):
    path = finished[1].table("path")
    cut = path[: int(np.argmin(path["log_loss"])) + 1]
    off = rewritten(finished[1], cut, ece=0.4, ece_bound=0.02)
    made = linear_probe(view(tmp_path, {"probe": off}))
    assert made is not None and "error of 0.40 (more than chance explains: a calibrated probe" in made.lead
    assert made.notes[1] == "The best penalty lies at the end of the grid, perhaps beyond."


def test_the_figures_draw_the_tables(finished):
    calibration, path = finished[1].table("calibration"), finished[1].table("path")
    figure = reliability(calibration)
    filled = calibration.dropna()
    drawn = next(line for line in figure.axes[0].lines if line.get_marker() == "o")
    np.testing.assert_allclose(np.asarray(drawn.get_xydata()), filled[["confidence", "accuracy"]])
    assert [bar.get_bbox().height for bar in figure.axes[1].patches if isinstance(bar, Rectangle)] == list(filled["n"])
    assert "calibrated" in written(figure)
    curve = regularisation(path).axes[0]
    points = path[["C", "log_loss"]].to_numpy()
    np.testing.assert_allclose(np.asarray(curve.lines[0].get_xydata()), points)
    np.testing.assert_allclose(np.asarray(curve.lines[1].get_xydata()), points[path["chosen"]])
    assert "chosen: C = " in written(curve.figure)
