"""The stage "dissect": a planted unit is named, what cannot be scored is refused, page and atlas are whole."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.commandline import ROOT
from helpers.fakes import make_context
from PIL import Image
from torch import Tensor, nn

from lis.classifiers.cut import CutClassifier
from lis.classifiers.preprocessing import Preprocessing
from lis.context import Context
from lis.dissection.concepts import COLOURS
from lis.dissection.dissect import DissectConfig, dissect, require_images
from lis.generators.partworld import PartWorld
from lis.linking.pairs import pairs
from lis.report.atlas import SPRITE, ranked, sprite
from lis.report.tables import records, where
from lis.store import Artifact

CLASSES = ["pug", "weimaraner"]


class Planted(nn.Module):
    """Unit 0 is the darkness of a pixel, unit 1 never changes, unit 2 is the redness."""

    def __init__(self) -> None:
        super().__init__()
        self.detect = nn.Conv2d(3, 3, 1, bias=False)
        self.fc = nn.Linear(3, 2)
        with torch.no_grad():
            self.detect.weight.copy_(torch.tensor([[-1.0, -1, -1], [0, 0, 0], [1, -1, -1]])[..., None, None])

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.detect(image).relu_().mean((2, 3)))


def planted() -> CutClassifier:
    torch.manual_seed(0)
    model = CutClassifier(Planted(), Preprocessing.as_drawn(64), tuple(CLASSES), name="planted", weights="random")
    return model.eval().requires_grad_(False)


def context(tmp_path: Path, samples: int = 12, layer: str | None = "detect") -> Context:
    world = PartWorld(CLASSES)
    ctx = make_context(tmp_path, generator=world, classifier=planted())
    classes = replace(ctx.config.classes, names=CLASSES, labels=["head", "eye"])
    settings = DissectConfig(layer=layer, samples=samples, permutations=99)
    config = replace(ctx.config, classes=classes)
    config.dissect = settings  # pyright: ignore[reportAttributeAccessIssue]
    config.pairs.train = config.pairs.test = 12
    config.pairs.accept = "any"
    return replace(ctx, config=config)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return dissect(context(tmp_path_factory.mktemp("dissect")))


def test_planted_units_are_named_and_a_dead_one_is_not(run: Artifact) -> None:
    dark, dead, _ = records(run.table("units"))
    assert dark["concept"] == "black" and dark["iou"] > 3 * dark["control"] and dark["q"] <= 0.05
    assert (
        dead["dead"] and dead["concept"] == "" and np.isnan([dead[x] for x in ("iou", "control", "q", "auprc")]).all()
    )
    (layer,) = records(run.table("layers"))
    assert (layer["units"], layer["dead"]) == (3, 1) and layer["detectors"] == len(
        where(run.table("units"), detector=True)
    )


def test_scores_are_those_of_the_test_pairs_by_thresholds_of_the_train_pairs(run: Artifact, tmp_path: Path) -> None:
    """Pixel by pixel: the map of unit 0 is as large as the image, so that nothing is enlarged."""
    ctx = context(tmp_path)
    darkness, black = {}, {}
    for split in ("train", "test"):
        image = ctx.generator.synthesize(pairs(ctx, split).tensors("pairs")["w"]).double().numpy()
        darkness[split] = np.maximum(-image.sum(1), 0)
        palette = np.array([*COLOURS.values()])[:, :, None, None]
        nearest = ((((image + 1) * 127.5)[:, None] - palette) ** 2).sum(2).argmin(1)
        black[split] = nearest == list(COLOURS).index("black")
    threshold = np.quantile(darkness["train"], 0.99, method="hazen")
    active = darkness["test"] > threshold
    iou = (active & black["test"]).sum() / (active | black["test"]).sum()
    (row,) = records(where(run.table("agreement"), unit=0, concept="black"))
    assert row["iou"] == pytest.approx(iou, abs=2e-3)
    assert records(run.table("units"))[0]["threshold"] == pytest.approx(threshold, rel=1e-5)


def test_top_images_are_those_of_the_largest_maxima(run: Artifact, tmp_path: Path) -> None:
    top, ctx = run.tensors("top"), context(tmp_path)
    image = ctx.generator.synthesize(pairs(ctx, "test").tensors("pairs")["w"])
    peak = (-image.sum(1)).flatten(1).amax(1)
    chosen = top["index"][0].tolist()
    assert len(set(chosen)) == 5 and torch.equal(peak[chosen], peak.topk(5).values)
    assert not top["mask"][1].any() and top["mask"].shape == (3, 5, 64, 64)


def test_a_layer_that_cannot_be_dissected_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"layer='detects' is no module.*detect"):
        dissect(context(tmp_path, layer="detects"))
    with pytest.raises(ValueError, match=r"names no last map of its convolutions.*dissect\.layer"):
        dissect(context(tmp_path, layer=None))
    with pytest.raises(ValueError, match=r"gives \[\d+, 2\]: expected a map"):
        dissect(context(tmp_path, layer="fc"))


def test_a_classifier_that_sees_no_picture_is_refused(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    reader = SimpleNamespace(features_of_style=lambda w: w)
    with pytest.raises(ValueError, match="reads the style codes behind images"):
        dissect.require(replace(ctx, classifier=reader))  # pyright: ignore[reportArgumentType]


def test_too_few_images_for_the_quantile_are_refused() -> None:
    require_images(torch.zeros(32, 1, 4, 4), 0.99)
    with pytest.raises(ValueError, match=r"quantile=0.99 of 31 maps of 4×4: .* so 32 images in all"):
        require_images(torch.zeros(31, 1, 4, 4), 0.99)
    with pytest.raises(ValueError, match=r"so ∞ images"):
        require_images(torch.zeros(31, 1, 4, 4), 1.0)


def test_the_command_writes_the_section_and_an_atlas_of_all_units(tmp_path: Path) -> None:
    arguments = ["analysis=dissect", "size=smoke", "threads=1", "dissect.permutations=19", "dissect.samples=8"]
    names = ["classes.names=[pug,weimaraner]", "dissect.layer=body.2", "pairs.train=8", "pairs.test=8"]
    command = [
        sys.executable,
        "-m",
        "lis.run",
        *arguments,
        *names,
        f"store={tmp_path}/store",
        f"hydra.run.dir={tmp_path}",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    page, atlas = ((tmp_path / f"{name}.html").read_text() for name in ("report", "atlas"))
    units = pd.read_parquet(tmp_path / "tables" / "dissect" / "units.parquet")
    assert 'href="atlas.html"' in page and "have IoU &gt; 0.04" in page
    data = re.search(r'id="data">(.*?)</script>', atlas)
    assert data and {entry["unit"] for entry in json.loads(data[1])} == {*units["unit"]}
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", atlas)
    with Image.open(tmp_path / "atlas" / "0.jpg") as image:
        assert image.size == (5 * 64, min(SPRITE, len(units)) * 64)


def test_units_are_marked_in_their_images_and_ordered_by_iou() -> None:
    top = {
        "image": np.full((1, 4, 4, 3), 200, np.uint8),
        "index": np.zeros((2, 1), np.int64),
        "mask": np.zeros((2, 1, 4, 4), bool),
    }
    top["mask"][1] = True
    drawn = sprite(top, [1, 0])
    assert drawn.shape == (8, 4, 3) and (drawn[:4] == 200).all() and (drawn[4:] == 100).all()
    assert ranked(pd.DataFrame({"unit": [0, 1, 2], "iou": [np.nan, 0.1, 0.3]}))["unit"].tolist() == [2, 1, 0]
