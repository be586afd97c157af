"""The faces' case (Fig. S4): a generator without classes, and a classifier of something else, trained elsewhere."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from helpers.commandline import ROOT
from hydra import compose, initialize_config_dir
from safetensors.torch import save_file
from torch import Tensor

from lis import build
from lis.classifiers.cut import CutClassifier
from lis.classifiers.networks import check_domain
from lis.classifiers.partnet import WEIGHTS, PartNet, PartNetwork, read_network
from lis.classifiers.preprocessing import Preprocessing
from lis.classifiers.tasks import Task, draw_set
from lis.config import LeastSquaresConfig, conf_folder
from lis.context import Context
from lis.generators.partworld import SETS
from lis.linking.evaluation import evaluation
from lis.linking.link import link
from lis.linking.pairs import pairs, validate_classes
from lis.report.page import write_report
from lis.stages import names, register
from lis.types import Generator
from lis.units.traversal import traversal
from lis.validation import check_config, check_labels, typed

EARS = ("hanging_ears", "erect_ears")
EAR_ANGLE = SETS["dogs"].factor_names.index("ear_angle")
FACELESS = ("gan.conditional=false", "gan.figures=dogs")
SMALL = ("size=smoke", "device=cpu", "evaluation.lpips=false", "pairs.train=150", "shard_size=100")


@pytest.fixture(scope="module")
def network() -> PartNetwork:
    """Whether the ears of a rendered dog are erect: the network that comes with the package, and a head of two."""
    body = PartNet("attributes").network
    image, _, u = draw_set("dogs", 120, torch.Generator().manual_seed(0))
    answer = (u[:, EAR_ANGLE] > 0).float() - 0.5
    with torch.no_grad():
        r = body.features(image)
        scale = r.std(0).clamp(min=1e-3)
        x = torch.cat([(r - r.mean(0)) / scale, torch.ones(len(r), 1)], 1)
        weight = torch.linalg.solve(x.T @ x + 10 * torch.eye(x.shape[1]), x.T @ answer)
        network = PartNetwork(2)
        trained = read_network(WEIGHTS / "partnet_attributes.safetensors")
        network.load_state_dict({name: v for name, v in trained.items() if name.startswith("body.")}, strict=False)
        row = 4 * weight[:-1] / scale
        network.head.weight.copy_(torch.stack([-row, row]))
        bias = 4 * weight[-1] - row @ r.mean(0)
        network.head.bias.copy_(torch.stack([-bias, bias]))
    return network.eval().requires_grad_(False)


def composed(root: Path, *overrides: str) -> Any:
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        return typed(compose("config", [*SMALL, f"store={root / 'store'}", *overrides]))


def context(root: Path, network: PartNetwork, *overrides: str) -> Context:
    """The run of Fig. S4 with a network that is ready."""
    config = composed(root, "+experiment=figS4", *overrides)
    ctx = build.context(config)
    trained: Any = CutClassifier(network, Preprocessing.as_drawn(), EARS, name="partnet", weights="partworld")
    return Context(config, ctx.store, ctx.engine, ctx.generator, trained, ctx.device, ctx.progress)


def test_names_of_classifier_and_classes_agree_and_low_comes_first(tmp_path: Path) -> None:
    config = composed(tmp_path, "+experiment=figS4")
    assert tuple(config.classifier.class_names) == tuple(config.classes.names) == EARS
    ctx = build.context(config)
    assert ctx.generator.num_classes == 0 and isinstance(ctx.generator, Generator)
    validate_classes(ctx.class_names, ctx.generator, ctx.classifier)
    check_labels(config.classes.labels, ctx.generator)
    assert len(Task(config.classifier.attribute).outputs) == 2
    low, high = (SETS["dogs"].values(torch.full((1, 25), u))["ear_angle"].item() for u in (-1.0, 1.0))
    assert low < 0 < high  # in radians: below the horizontal, above it


def test_pairs_are_what_the_classifier_calls_them_and_balanced(network: PartNetwork, tmp_path: Path) -> None:
    ctx = context(tmp_path, network)
    artifact = pairs(ctx, "train")
    table, acceptance = artifact.tensors("pairs"), cast(Any, artifact.table("acceptance"))
    assert table["class_index"].bincount().tolist() == [150, 150]
    assert torch.equal(ctx.classifier.head(table["r"]).argmax(1), table["class_index"])
    index = table["sample_index"]
    assert len(set(index.tolist())) == 300  # one stream: no sample is in both classes
    assert acceptance["drawn"].max() == index.max() + 1 and acceptance["rate"].sum() == pytest.approx(1, abs=0.15)
    angle = ctx.generator.true_factors(table["w"])[:, EAR_ANGLE]  # pyright: ignore[reportAttributeAccessIssue]: part world's
    erect = table["class_index"] == 1
    assert ((angle > 0) == erect).float().mean() > 0.8


class Never(torch.nn.Module):
    """Never says "erect"."""

    def __init__(self, network: PartNetwork) -> None:
        super().__init__()
        self.body, self.last = network.body, torch.nn.Linear(256, 2)
        self.last.load_state_dict({"weight": torch.zeros(2, 256), "bias": torch.tensor([1.0, -1.0])})

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.body(image).mean((2, 3)))


def test_an_answer_that_is_never_given_stops_the_run(network: PartNetwork, tmp_path: Path) -> None:
    never: Any = Never(network)
    with pytest.raises(ValueError, match=r"'erect_ears': the classifier accepts 0\.00% of 500 samples") as error:
        pairs(context(tmp_path, never), "train")
    assert "pairs.accept=any" not in str(error.value)  # which a generator without classes does not have


@pytest.mark.slow
def test_the_strips_show_the_ears(network: PartNetwork, tmp_path: Path) -> None:
    """Over the units that are ranked, "erect" follows the angle of the ears more than any other factor."""
    ctx = context(tmp_path, network, "pairs.train=600", "traversal.samples=8", "link=ridge")
    artifacts = {"pairs/test": pairs(ctx, "test"), "link": link(ctx), "evaluation": evaluation(ctx)}
    artifacts["traversal"] = traversal(ctx)
    ranking: Any = artifacts["traversal"].table("ranking")
    r = ranking.filter(regex="^moved_").corrwith(ranking["toward_erect_ears"])
    assert r.abs().idxmax() == "moved_ear_angle" and r["moved_ear_angle"] > 0.7
    assert ranking["change"].iloc[0] > 0.05
    assert artifacts["evaluation"].table("kept")["kept"].iloc[-1] > 0.8
    page = write_report(ctx, artifacts, tmp_path / "out").read_text()
    assert 'id="single-units"' in page and "erect ears" in page


@pytest.mark.slow
def test_a_checkpoint_of_ones_own_takes_the_same_path(network: PartNetwork, tmp_path: Path) -> None:
    """As FFHQ and a gender classifier would: `classifier=file`, classes by the names of its outputs."""
    save_file(network.state_dict(), tmp_path / "gender.safetensors")
    config = composed(
        tmp_path,
        *FACELESS,
        "classifier=file",
        "classifier.library=partnet",
        "classifier.model=partnet",
        f"classifier.weights={tmp_path / 'gender.safetensors'}",
        "classifier.num_classes=2",
        "classifier.class_names=[female,male]",
        "classes=custom",
        "classes.names=[male,female]",
    )
    ctx = build.context(config)
    artifacts = {"link": link(ctx), "evaluation": evaluation(ctx), "traversal": traversal(ctx)}
    table = pairs(ctx, "test").tensors("pairs")
    assert torch.equal(ctx.classifier.head(table["r"]).argmax(1), 1 - table["class_index"])  # by name, not by place
    assert set(artifacts["traversal"].table("traversal")["class"]) == {"male", "female"}
    assert "female" in write_report(ctx, artifacts, tmp_path / "out").read_text()


def _recipes() -> list[list[str]]:
    """The overrides of the paper's case as the configuration's comment and the experiment's README give them."""
    comment = (conf_folder() / "gan" / "ffhq256.yaml").read_text().replace("#", " ")
    readme = (ROOT / "experiments" / "figS4" / "README.md").read_text().replace("\\\n", " ")
    start = "python -m lis.run gan=ffhq256"
    texts = [text.partition(start)[2] for text in (comment.partition("defaults:")[0], readme)]
    texts = [texts[0], texts[1].partition("```")[0]]
    return [["gan=ffhq256", *text.replace("<path>", "gender.pth").split()] for text in texts]


def test_the_comment_on_faces_named_a_classifier_of_dogs_ears(tmp_path: Path) -> None:
    """The recipe composes, names the paper's models, and passes the checks that need no weights."""
    comment, readme = _recipes()
    assert sorted(comment) == sorted(readme)
    config = composed(tmp_path, *comment)
    check_config(config, names())
    assert config.gan.domain == config.classifier.domain == "faces" and config.gan.num_classes == 0
    assert (config.classifier.library, config.classifier.model) == ("torchvision", "resnet50")
    assert config.classifier.class_names == config.classes.names and config.link == LeastSquaresConfig()
    wrong = composed(tmp_path, "gan=ffhq256", "classifier=attribute", "classes=ears")
    faces: Any = SimpleNamespace(domain=wrong.gan.domain)
    drawn: Any = SimpleNamespace(domain="partworld")
    with pytest.raises(ValueError, match="shows faces and the classifier was trained on partworld"):
        check_domain(wrong.classifier, drawn, faces)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["classifier=attribute", "classes=ears"], r"'hanging_ears'.*gan\.conditional=false gan\.figures=<set>"),
        (["classes=fungi", "gan.figures=dogs"], r"gan\.figures=dogs and classes of fungi"),
        (["gan.figures=cats"], r"gan\.figures=cats: expected one of dogs, fungi, birds"),
    ],
)
def test_what_does_not_fit_together_is_refused(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        build.context(composed(tmp_path, *overrides))
