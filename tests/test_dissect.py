"""The stage "dissect": a planted unit is named, what cannot be scored is refused, page and atlas are whole."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes import make_context
from helpers.painted import QUICK
from PIL import ExifTags, Image
from torch import Tensor, nn
from torch.nn import functional as F

from lis.api.dissection import dissected
from lis.classifiers.cut import CutClassifier
from lis.classifiers.preprocessing import Preprocessing
from lis.config import FewShotConfig
from lis.context import Context
from lis.dissection.activations import record_activations
from lis.dissection.annotated import validate_pictures
from lis.dissection.concepts import COLOURS, colour_masks, concept_set
from lis.dissection.dissect import DissectConfig, control_bytes, dissect, named_modules, require_images
from lis.dissection.dissect_shards import permuted_rows
from lis.dissection.permutation import permutation_test
from lis.dissection.scenes import FolderScenes, PairScenes, SceneBatch, scenes_of
from lis.dissection.user_pictures import picture_names
from lis.generators.partworld import PartWorld
from lis.images import to_uint8
from lis.job import check_models
from lis.linking.pairs import pairs
from lis.report.tables import records, where
from lis.segmentation.segmenter import segmenter
from lis.stage import closure
from lis.store import Artifact

CLASSES = ["pug", "weimaraner"]


class Planted(nn.Module):
    """Unit 0 is the darkness of a pixel, unit 1 never changes, unit 2 is the redness; "halved" is half as large."""

    def __init__(self) -> None:
        super().__init__()
        self.detect = nn.Conv2d(3, 3, 1, bias=False)
        self.halved = nn.Conv2d(3, 3, 2, stride=2, bias=False)
        self.fc = nn.Linear(3, 2)
        with torch.no_grad():
            self.detect.weight.copy_(torch.tensor([[-1.0, -1, -1], [0, 0, 0], [1, -1, -1]])[..., None, None])

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.detect(image).relu_().mean((2, 3)) + 0 * self.halved(image).mean((2, 3)))


def planted() -> CutClassifier:
    torch.manual_seed(0)
    model = CutClassifier(Planted(), Preprocessing.as_drawn(64), tuple(CLASSES), name="planted", weights="random")
    return model.eval().requires_grad_(False)


def context(tmp_path: Path, samples: int = 12, layers: tuple[str, ...] = ("detect",)) -> Context:
    world = PartWorld(CLASSES)
    ctx = make_context(tmp_path, generator=world, classifier=planted())
    classes = replace(ctx.config.classes, names=CLASSES, labels=["head", "eye"])
    settings = DissectConfig(layers=list(layers), samples=samples, permutations=299)
    config = replace(ctx.config, classes=classes)
    config.dissect = settings  # pyright: ignore[reportAttributeAccessIssue]
    config.pairs.train = config.pairs.test = 12
    config.pairs.accept = "any"
    return replace(ctx, config=config)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the store of all tests that do not need one of their own."""
    return tmp_path_factory.mktemp("dissect")


@pytest.fixture(scope="module")
def run(root: Path) -> Artifact:
    return dissect(context(root))


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


def test_scores_are_those_of_the_test_pairs_by_thresholds_of_the_train_pairs(run: Artifact, root: Path) -> None:
    """Pixel by pixel: the map of unit 0 is as large as the image, so that nothing is enlarged."""
    ctx = context(root)
    darkness, black = {}, {}
    for split in ("train", "test"):
        image = ctx.generator.synthesize(pairs(ctx, split).tensors("pairs")["w"])
        darkness[split] = -image.double().numpy().sum(1)  # not of the ReLU that works in place behind the layer
        black[split] = colour_masks(image, 64)[:, COLOURS.index("black")].numpy()
    threshold = np.quantile(darkness["train"], 0.99, method="hazen")
    counted = records(run.table("units"))[0]["threshold"]
    assert counted == pytest.approx(threshold, rel=8e-3)  # the width of a bin
    active = darkness["test"] > counted
    iou = (active & black["test"]).sum() / (active | black["test"]).sum()
    (row,) = records(where(run.table("agreement"), unit=0, concept="black"))
    assert row["iou"] == pytest.approx(iou, abs=1e-5)
    r = np.corrcoef(darkness["test"].ravel(), black["test"].ravel())[0, 1]
    assert row["pearson"] == pytest.approx(r, abs=1e-6)


def test_a_killed_run_goes_on_with_the_same_result_for_any_batch_and_shard(
    run: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = context(tmp_path)
    ctx = replace(ctx, config=replace(ctx.config, batch_size=4, shard_size=6))
    asked, batch = list[tuple[str, int]](), PairScenes.batch
    train = pairs(ctx, "train").tensors("pairs")["w"]

    def counted(half: PairScenes, rows: Tensor) -> SceneBatch:
        asked.append(("fit" if torch.equal(half.w, train) else "score", int(rows[0])))
        if asked[-1] == ("score", 12) and asked.count(asked[-1]) == 1:
            raise KeyboardInterrupt
        return batch(half, rows)

    monkeypatch.setattr(PairScenes, "batch", counted)
    with pytest.raises(KeyboardInterrupt):
        dissect(ctx)
    assert asked[-1] == ("score", 12)
    asked.clear()
    asked.append(("score", 12))  # not killed again
    again = dissect(ctx)
    assert {each for each in asked if each[0] == "fit"} == {("fit", 0)}  # only the image that tells the shapes
    assert asked[1:].index(("score", 12)) < asked[1:].index(("score", 0))  # 0 and 6 only for control and pictures
    assert again.key == run.key
    for name in ("units", "agreement", "histogram", "layers"):
        one, two = (artifact.table(name) for artifact in (run, again))
        pd.testing.assert_frame_equal(one, two, check_exact=False, rtol=1e-9)
        exact = [column for column in one if column != "pearson"]
        pd.testing.assert_frame_equal(one.filter(exact), two.filter(exact), check_exact=True)
    for name, tensor in run.tensors("top").items():
        assert torch.equal(tensor, again.tensors("top")[name]), name


def test_layers_are_dissected_in_one_pass_each_as_by_itself(run: Artifact, root: Path) -> None:
    both = dissect(context(root, layers=("detect", "halved")))
    units = both.table("units")
    assert units["layer"].tolist() == ["detect"] * 3 + ["halved"] * 3 and both.table("layers")["units"].tolist() == [
        3,
        3,
    ]
    pd.testing.assert_frame_equal(where(units, layer="detect"), run.table("units"))
    single, top = run.tensors("top"), both.tensors("top")
    assert torch.equal(top["image"][top["index"][:3]], single["image"][single["index"]])
    assert torch.equal(top["mask"][:3], single["mask"])
    with pytest.raises(ValueError, match="detect more than once"):
        dissect(context(root, layers=("detect", "detect")))


def test_the_control_is_of_a_bounded_number_of_images_as_many_of_each_class() -> None:
    classes = torch.tensor([2, 0, 0, 0, 1, 1, 2, 2, 3])
    assert permuted_rows(classes, 6).tolist() == [1, 2, 4, 5, 0, 6]
    assert permuted_rows(classes, 100).tolist() == [1, 2, 3, 4, 5, 0, 6, 7]  # 3 has a single image
    assert permuted_rows(classes, 4).tolist() == [1, 2, 4, 5]
    assert permuted_rows(torch.arange(4), 100).tolist() == []


def test_detectors_at_chance_stand_beside_those_of_each_concept(run: Artifact) -> None:
    (layer,) = records(run.table("layers"))
    histogram, units = run.table("histogram"), run.table("units")
    for criterion, name in (("detectors", "detector"), ("above_chance", "above_chance")):
        assert histogram[criterion].sum() == layer[criterion] == np.count_nonzero(units[name])
    assert np.sum(histogram["control"]) == pytest.approx(layer["control"])
    (black,) = records(where(histogram, concept="black"))
    assert black["detectors"] >= 1 and "background" not in set(histogram["concept"])


def test_what_is_held_against_the_control_is_of_the_same_images(run: Artifact, root: Path) -> None:
    """Four images of each class are permuted of twelve that are scored: recomputed on these eight."""
    ctx = context(root)
    ctx.config.dissect.permuted = 8  # pyright: ignore[reportAttributeAccessIssue]
    made = dissect(ctx)
    assert (made.json("facts")["images"], made.json("facts")["permuted_images"]) == (24, 8)
    scenes = scenes_of(ctx, 12, pairs(ctx, "train"), pairs(ctx, "test"))
    rows = permuted_rows(scenes.score.class_index, 8)
    batch, concepts = scenes.score.batch(rows), concept_set(scenes.labels, scenes.factor_names)
    maps = record_activations(ctx.classifier.features, named_modules(ctx, ["detect"]), batch.image)["detect"]
    masks = concepts.masks(batch.visible, batch.parts, 64, batch.factors)
    thresholds = torch.tensor(made.table("units")["threshold"].tolist())
    test = permutation_test(maps, thresholds, masks, batch.class_index, 19, ignore=[concepts.names.index("background")])
    same = made.table("agreement").pivot(index="unit", columns="concept", values="same_images_iou")
    np.testing.assert_allclose(same[list(concepts.names)], test.iou.numpy(), rtol=1e-6)
    (layer,) = records(made.table("layers"))
    assert layer["same_images_detectors"] == int(test.observed_detectors.sum())
    assert layer["detectors"] == records(run.table("layers"))[0]["detectors"]  # of all that are scored, as before
    iou = run.table("agreement")["iou"].to_numpy()
    np.testing.assert_array_equal(made.table("agreement")["iou"].to_numpy(), iou)
    assert not np.allclose(made.table("agreement")["same_images_iou"], iou, equal_nan=True)
    everything = run.table("agreement")
    np.testing.assert_allclose(everything["same_images_iou"], everything["iou"])  # all 24 are permuted


def test_top_images_are_those_of_the_largest_maxima(run: Artifact, root: Path) -> None:
    top, ctx = run.tensors("top"), context(root)
    image = ctx.generator.synthesize(pairs(ctx, "test").tensors("pairs")["w"])
    peak = (-image.sum(1)).flatten(1).amax(1)
    expected = to_uint8(image[peak.topk(5).indices])
    assert torch.equal(top["image"][top["index"][0]], expected)
    assert not top["mask"][1].any() and top["mask"].shape == (3, 5, 64, 64)


def test_a_layer_that_cannot_be_dissected_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match=r"layers='detects': expected a layer.*detect"):
        dissect(context(root, layers=("detects",)))
    with pytest.raises(ValueError, match=r"names no last map of its convolutions.*dissect\.layer"):
        dissect(context(root, layers=()))
    with pytest.raises(ValueError, match=r"gives \[\d+, 2\]: expected a map"):
        dissect(context(root, layers=("fc",)))


def folder(path: Path, masks: int = 64, count: int = 20) -> Context:
    """Pictures in two folders inside: a small red patch at another position in each, with its mask."""
    rng = np.random.default_rng(0)
    for k in range(count):
        image, mask = rng.integers(90, 110, (64, 64, 3)).astype(np.uint8), np.zeros((masks, masks), np.uint8)
        y, x = rng.integers(0, 56, 2)
        image[y : y + 8, x : x + 8] = rng.integers([200, 0, 0], [256, 30, 30], (8, 8, 3))
        mask[y : y + 8, x : x + 8] = 1
        for root, name, array in (("pictures", f"{k}.png", image), ("masks", f"{k}.mask.png", mask)):
            (path / root / f"class {k % 2}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path / root / f"class {k % 2}" / name)
    ctx = context(path, layers=("detect",))
    classes = replace(ctx.config.classes, labels=["patch", "whisker"])
    labels = replace(ctx.config.labels, folder=str(path / "masks"))
    return replace(ctx, config=replace(ctx.config, classes=classes, labels=labels, images=str(path / "pictures")))


def test_pictures_of_a_folder_are_dissected_without_a_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = folder(tmp_path)
    monkeypatch.setattr(PartWorld, "sample", None)
    assert [each.name for each in closure(["dissect"], ctx)] == ["dissect"]
    run = dissect(ctx)
    facts, red = run.json("facts"), records(run.table("units"))[2]
    assert (facts["masks"], facts["threshold_images"], facts["images"]) == ("folder", 10, 10)
    assert facts["classes"] == ["class 0", "class 1"]
    assert red["concept"] in ("patch", "red") and red["iou"] > 0.4 and red["iou"] > 3 * red["control"]
    agreement = where(run.table("agreement"), unit=2)
    assert np.isnan(records(where(agreement, concept="whisker"))[0]["iou"])  # no pixel of it
    assert "whisker" in facts["absent"] and np.isnan(
        records(where(run.table("histogram"), concept="whisker"))[0]["low"]
    )
    analysis = replace(ctx.config.analysis, stages=["dissect"])
    check_models(replace(ctx, config=replace(ctx.config, analysis=analysis)))  # the generator has no such labels


def test_a_folder_is_listed_once_in_a_run_and_anew_in_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx, listed = folder(tmp_path), list[list[str]]()

    def names(*folders: Path) -> list[str]:
        listed.append(picture_names(*folders))
        return listed[-1]

    monkeypatch.setattr("lis.dissection.annotated.picture_names", names)
    first = dissect(ctx)
    control_bytes(ctx)
    assert len(listed) == 1
    for k in (0, 2):
        shutil.copy(tmp_path / "pictures" / "class 0" / f"{k}.png", tmp_path / "pictures" / "class 0" / f"{k}b.png")
        shutil.copy(tmp_path / "masks" / "class 0" / f"{k}.mask.png", tmp_path / "masks" / "class 0" / f"{k}b.mask.png")
    assert [run.json("facts")["images"] for run in (first, dissect(ctx))] == [10, 11]
    assert [len(each) for each in listed] == [20, 22]


def test_too_few_pictures_of_a_class_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = folder(tmp_path, count=4)
    monkeypatch.setattr(FolderScenes, "batch", None)
    with pytest.raises(ValueError, match=r"no class has two scored images.*four pictures of a class"):
        dissect(ctx)
    with pytest.raises(ValueError, match=r"classes of \[3, 3\] images have 36 orders .* at least 299"):
        dissect(folder(tmp_path, count=12))


def test_a_control_that_finds_no_room_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lis.memory.budget", lambda _: 10**6)
    with pytest.raises(ValueError, match=r"dissect.permutations=299: the control takes 0.2 GiB, expected"):
        dissect(context(tmp_path))
    assert not [*tmp_path.rglob("*.safetensors")]


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mask\.png.*32.*expected.*64"):
        dissect(folder(tmp_path, masks=32))


def test_pictures_that_are_turned_are_told_and_need_masks_that_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As a phone stores them. A mask that lies as the file does is refused; where it is square, nothing can tell."""
    config = folder(tmp_path).config
    exif, stored = Image.Exif(), Image.fromarray(np.full((64, 97, 3), 90, np.uint8))
    exif[ExifTags.Base.Orientation] = 6
    picture, mask = (
        tmp_path / root / "class 0" / name for root, name in (("pictures", "0.png"), ("masks", "0.mask.png"))
    )
    stored.crop((0, 0, 64, 64)).save(picture, exif=exif)
    validate_pictures(config)
    assert "1 × picture: turned as its EXIF data say (its mask is not turned" in caplog.text
    stored.save(picture, exif=exif)
    upright = np.zeros((97, 64), np.uint8)
    Image.fromarray(np.rot90(upright)).save(mask)
    with pytest.raises(
        ValueError, match=r"97 × 64 pixels: expected 64 × 97.*turned as its EXIF data say.*turn the mask"
    ):
        validate_pictures(config)
    stored.save(picture)
    validate_pictures(config)
    stored.save(picture, exif=exif)
    Image.fromarray(upright).save(mask)
    assert validate_pictures(config)[0].load(8)[1].mask.shape == (64, 64)
    Image.fromarray(upright[:50]).save(mask)
    with pytest.raises(ValueError, match=r"64 × 50 pixels: expected 64 × 97, the size of its image$"):
        validate_pictures(config)


def test_a_classifier_that_sees_no_picture_is_refused(root: Path) -> None:
    ctx = context(root)
    reader = SimpleNamespace(features_of_style=lambda w: w)
    with pytest.raises(ValueError, match="reads the style codes behind images"):
        dissect.require(replace(ctx, classifier=reader))  # pyright: ignore[reportArgumentType]


def test_too_few_images_for_the_quantile_are_refused() -> None:
    require_images(32, 4, 4, 0.99)
    with pytest.raises(ValueError, match=r"quantile=0.99 of 31 maps of 4×4: .* so 32 images in all"):
        require_images(31, 4, 4, 0.99)
    with pytest.raises(ValueError, match=r"so ∞ images"):
        require_images(31, 4, 4, 1.0)


def test_what_cannot_be_scored_is_refused_before_the_pairs_are_made(tmp_path: Path) -> None:
    ctx = context(tmp_path, layers=("halved",))
    ctx.config.dissect.quantile = 0.99999  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match=r"quantile=0.99999 of 24 maps of 32×32: .* so 489 images in all"):
        dissect.require(ctx)
    ctx = context(tmp_path, layers=("halved",))
    ctx.classifier.network.halved.forward = lambda x: F.pixel_unshuffle(x, 2)[:, :3]  # pyright: ignore
    with pytest.raises(ValueError, match=r"'halved'.*cannot be followed through pixel_.*dissect.placement=even"):
        dissect.require(ctx)
    ctx.config.dissect.placement = "even"  # pyright: ignore[reportAttributeAccessIssue]
    dissect.require(ctx)


def learning(root: Path) -> Context:
    """A run whose parts are found by a segmenter that learns for a moment."""
    ctx = context(root)
    ctx.config.dissect.masks = "segmenter"  # pyright: ignore[reportAttributeAccessIssue]
    ctx.config.segmenter = FewShotConfig(**{**QUICK, "epochs": 30})
    return ctx


def test_masks_of_the_few_shot_segmenter_say_nearly_the_same_as_exact_ones(
    run: Artifact, root: Path, tmp_path: Path
) -> None:
    ctx = learning(root)
    learned, key = dissect(ctx), segmenter(ctx).key
    assert (run.json("facts")["masks"], learned.json("facts")["masks"]) == ("exact", "segmenter")
    assert key in learned.manifest["recipe"]["inputs"] and key not in run.manifest["recipe"]["inputs"]
    iou = {
        kind: [where(artifact.table("agreement"), kind=kind)["iou"].dropna().to_numpy() for artifact in (run, learned)]
        for kind in ("part", "colour", "factor")
    }
    for kind in ("colour", "factor"):
        assert len(iou[kind][0]) and (iou[kind][0] == iou[kind][1]).all()
    exact, near = iou["part"]
    assert exact.max() > 0.05 and (exact != near).any() and np.abs(exact - near).max() < 0.04
    ctx = learning(tmp_path)
    again = dissect(replace(ctx, config=replace(ctx.config, batch_size=5, shard_size=7)))
    one, two = (artifact.table("agreement").filter(["unit", "concept", "iou"]) for artifact in (learned, again))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_masks_of_a_segmenter_that_has_nothing_to_find_are_refused(root: Path, tmp_path: Path) -> None:
    ctx = context(root)
    ctx.config.dissect.masks = "segmenter"  # pyright: ignore[reportAttributeAccessIssue]
    nothing = replace(ctx, config=replace(ctx.config, classes=replace(ctx.config.classes, labels=[])))
    with pytest.raises(ValueError, match=r"masks=segmenter: expected parts that it finds, classes.labels=\[…\]"):
        dissect.require(nothing)
    ctx = folder(tmp_path)
    ctx.config.dissect.masks = "segmenter"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match=r"masks=segmenter: expected auto, since the pictures of images"):
        dissect.require(ctx)


def test_the_result_in_python_tells_units_at_chance_and_shows_images(run: Artifact, root: Path) -> None:
    result = dissected(context(root, layers=()), "detect")
    pd.testing.assert_frame_equal(result.units, run.table("units"))
    assert "detect, 3 units" in repr(result) and "at chance" in repr(result)
    image, top = result.images(0), run.tensors("top")
    bright = top["mask"][0][:, None].expand_as(image)
    assert torch.equal(image[bright], top["image"][top["index"][0]][bright])
    assert result._repr_html_().count("<img") == 15
    with pytest.raises(ValueError, match=r"images\(3, layer=None\).*detect: 0 to 2"):
        result.images(3)
    both = dissected(context(root, layers=("detect", "halved")), None)
    with pytest.raises(ValueError, match="expected a layer too, one of detect, halved"):
        both.images(0)
