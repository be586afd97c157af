"""Every kind of classifier through the real command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.commandline import SMALL, lis, made, metrics
from safetensors.torch import save_file
from torchvision.models import resnet50

TWO = ("classes=custom", "classes.names=[pug,chihuahua]", *SMALL)
TINY = ("pairs.train=20", "pairs.test=12", "similarity.examples=10", "shard_size=50", "hydra.run.dir=run")


def published_ip_irm(path: Path) -> None:
    """A checkpoint in IP-IRM's format, saved from several GPUs, with random weights."""
    children = list(resnet50().children())[:-1]
    state = {f"module.f.{name}": value for name, value in torch.nn.Sequential(*children).state_dict().items()}
    torch.save(state | {"module.g.0.weight": torch.zeros(8, 2048)}, path)


@pytest.mark.slow
def test_ip_irm_gets_a_probe(tmp_path):
    published_ip_irm(tmp_path / "ip_irm.pth")
    code, output = lis(
        "classifier=ip_irm", "classifier.weights=ip_irm.pth", "pairs.accept=any", "probe.train=8", "probe.test=6",
        *TWO, *TINY, "pairs.train=12", "pairs.test=8", "similarity.examples=8", "shard_size=12", cwd=tmp_path,
        timeout=800,
    )  # fmt: skip
    assert code == 0, output
    found = metrics(tmp_path / "run")
    assert 0 <= found["probe/accuracy"] <= 1 and found["probe/ece"] >= 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Linear probe" in page and "IP-IRM" in page
    assert any(line.startswith("probe (") for line in made(tmp_path / "run"))


@pytest.mark.slow
def test_a_users_own_file(tmp_path):
    """A network with two outputs, named by the user, whose raw and averaged weights are a safetensors file."""
    from lis.classifiers.partnet import PartNetwork

    torch.manual_seed(0)
    raw, averaged = PartNetwork(2).state_dict(), PartNetwork(2).state_dict()
    state = {f"net.{k}": v for k, v in raw.items()} | {f"net_ema.module.{k}": v for k, v in averaged.items()}
    save_file(state | {"criterion.weight": torch.ones(2)}, tmp_path / "mine.safetensors")
    code, output = lis(
        "classifier=file", "classifier.library=partnet", "classifier.model=partnet",
        "classifier.weights=mine.safetensors", "classifier.num_classes=2", "classifier.class_names=[pug,chihuahua]",
        "pairs.accept=any", *TWO, *TINY, cwd=tmp_path,
    )  # fmt: skip
    assert code == 0, output
    page = (tmp_path / "run" / "report.html").read_text()
    assert "mine.safetensors" in page
    for words in ("the averaged (EMA) weights under", "what is not the network was left out: criterion.weight"):
        assert words in page and words in output
    assert "images that the classifier was trained on are not known" in output


@pytest.mark.slow
def test_a_timm_model_is_trained_once(tmp_path):
    overrides = (
        "classifier=timm", "classifier.model=mobilenetv3_small_050.lamb_in1k", "pairs.accept=any", *TWO, *TINY,
    )  # fmt: skip
    code, output = lis(*overrides, "analysis=link", cwd=tmp_path)
    assert code == 0, output
    assert metrics(tmp_path / "run")["classifier/bayes"] > 0.9
    assert any(line.startswith("classifier (") for line in made(tmp_path / "run"))
    code, output = lis(*overrides, "link=fc_l1", "link.max_epochs=2", "hydra.run.dir=again", cwd=tmp_path)
    assert code == 0, output
    assert not any(line.startswith("classifier (") for line in made(tmp_path / "again"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["classifier=ip_irm"], "IP-IRM learns without labels"),
        (["classifier=ip_irm", "classifier.probe=false", "classifier.weights=x.pth"], "classifier.probe=true"),
        (["classifier=resnet50", "classifier.weights=nowhere.pth"], "there is no such file"),
        (["classifier=timm", "classifier.model=resnet5o"], "did you mean"),
        (["classifier=attribute", "classifier.attribute=dogs/beak_length"], "expected <set>/<factor>"),
        (["classifier=partnet", "classifier.probe=true", "probe.folds=99"], "probe.folds=99"),
        (["gan=imagenet16", "gan.weights=random"], "shows imagenet and the classifier was trained on partworld"),
        (["classifier.domain=faces"], "shows partworld and the classifier was trained on faces"),
    ],
)
def test_bad_input_is_refused_before_any_work(overrides, message, tmp_path):
    code, output = lis(*overrides, *SMALL, "hydra.run.dir=run", cwd=tmp_path)
    assert code == 1 and message in output
    assert message in json.loads((tmp_path / "run" / "failure.json").read_text())["error"]
    assert not list((tmp_path / "outputs").rglob("manifest.json"))
