"""The few-shot segmenter: its networks against plain formulas, its training on painted figures, its stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.painted import LABELS, Painted, painted_context
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import lis.labels
from lis.context import Context
from lis.job import check_models
from lis.labels.export import export
from lis.labels.labelled import draw, exact
from lis.linking.training import Settings
from lis.segmentation.networks import (
    NETWORKS,
    FewShotSegmenter,
    Projection,
    Stack,
    Standardisation,
    five,
    read_layers,
    resized,
    three,
)
from lis.segmentation.segmentation import confusions, iou, segmentation
from lis.segmentation.segmenter import FewShotFit, load_segmenter, segment, segmenter
from lis.segmentation.training import Examples, Schedule, Training, images_at_once, maps_of, step_bytes, threads
from lis.store import Artifact
from lis.types import Segmenter

SHAPES = {"low": (4, 4), "also_low": (3, 4), "middle": (6, 8), "high": (2, 16)}
"""Layer to channels and size."""


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_maps(n: int = 3) -> dict[str, Tensor]:
    """Channels have means and scales of their own."""
    maps = {}
    for k, (name, (channels, size)) in enumerate(SHAPES.items()):
        scale = torch.linspace(0.5, 3, channels)[:, None, None]
        maps[name] = random(n, channels, size, size, seed=k) * scale + 5 * scale.flip(0)
    return maps


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    """The stage on painted figures."""
    ctx = painted_context(tmp_path_factory.mktemp("run"))
    return ctx, segmenter(ctx)


def quality(ctx: Context, model: Segmenter, count: int = 60) -> float:
    """Mean IoU on new figures."""
    images = exact(ctx, draw(ctx, "exact", count), model.size)
    found = segment(model, ctx.generator.synthesize(images.w, features=True)[1])
    return float(iou(confusions(images.masks, found, len(model.labels)).sum(0)).mean())


@pytest.mark.parametrize(
    ("every", "expected"), [(1, "abcdefg"), (2, "aceg"), (3, "adg"), (4, "cg"), (5, "bg"), (7, "g"), (9, "g")]
)
def test_layers_are_counted_from_the_last(every: int, expected: str) -> None:
    assert "".join(read_layers("abcdefg", every)) == expected


def test_finer_masks_are_the_argmax_of_interpolated_logits() -> None:
    maps = {name: x.float() for name, x in random_maps().items()}
    settings = {"labels": ["a", "b"], "size": 8, "layers": list(maps), "widths": [x.shape[1] for x in maps.values()]}
    coarse, fine = FewShotSegmenter(**settings), FewShotSegmenter(**settings, enlarge=4)
    fine.load_state_dict(coarse.state_dict())
    expected = F.interpolate(coarse(maps), scale_factor=4, mode="bilinear", align_corners=False)
    assert fine.size == 32 and fine.fingerprint != coarse.fingerprint
    torch.testing.assert_close(fine(maps), expected)
    assert torch.equal(segment(fine, maps), expected.argmax(1))


def test_finer_masks_lie_nearer_to_the_true_ones(tmp_path: Path) -> None:
    """Held against the finest masks, those that were learned there are better than coarse ones that are enlarged."""
    found = {}
    for enlarge in (1, 2):
        ctx = painted_context(tmp_path / str(enlarge), fit__size=16, fit__enlarge=enlarge)
        model, images = load_segmenter(ctx, segmenter(ctx)), exact(ctx, draw(ctx, "exact", 60), 32)
        masks = segment(model, ctx.generator.synthesize(images.w, features=model.layers)[1])
        masks = masks.repeat_interleave(2 // enlarge, 1).repeat_interleave(2 // enlarge, 2)
        found[enlarge] = float(iou(confusions(images.masks, masks, len(model.labels)).sum(0)).mean())
    assert found[2] > found[1] + 0.01


def test_maps_are_averaged_down_and_interpolated_up() -> None:
    x = random(2, 3, 8, 8)
    blocks = torch.stack([x[:, :, i::2, j::2] for i in range(2) for j in range(2)]).mean(0)
    torch.testing.assert_close(resized(x, 4), blocks)
    torch.testing.assert_close(resized(x, 8), x)
    torch.testing.assert_close(resized(x, 20), F.interpolate(x, size=20, mode="bilinear", align_corners=False))


def test_channels_are_standardised() -> None:
    maps = list(random_maps(5).values())
    maps[1][:, 2] = 7.0  # never varies
    own = Standardisation([x.shape[1] for x in maps]).double()
    own.fit(maps)
    for x, y in zip(maps, own(maps), strict=True):
        for channel, found in zip(x.unbind(1), y.unbind(1), strict=True):
            varies = channel.std() > 0
            expected = (channel - channel.mean()) / channel.std(correction=0) if varies else torch.zeros_like(channel)
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [8, 6, 4])
def test_a_projection_is_a_convolution_of_the_stack(size: int) -> None:
    """Values and gradients, for maps below, at and above the size."""
    maps = list(random_maps().values())
    widths = [x.shape[1] for x in maps]
    projection, stack = Projection(widths, 5, size).double(), Stack(widths, size).double()
    projection.standardisation.fit(maps)
    stack.standardisation.fit(maps)
    nn.init.normal_(projection.bias)
    plain = F.leaky_relu(F.conv2d(stack(maps), projection.convolution.weight, projection.bias), 0.2)
    torch.testing.assert_close(projection(maps), plain, rtol=1e-6, atol=1e-6)
    weights = [projection.convolution.weight, projection.bias]
    gradients = [torch.autograd.grad(y.square().sum(), weights) for y in (projection(maps), plain)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=1e-5)


def test_a_stack_holds_the_maps_in_order() -> None:
    maps = list(random_maps().values())
    stack = Stack([x.shape[1] for x in maps], 8).double()
    expected = torch.cat([resized(x, 8) for x in maps], 1)
    torch.testing.assert_close(stack(maps), expected)


def test_the_layouts_of_the_papers() -> None:
    def layout(network: nn.Sequential) -> list[tuple[int, ...]]:
        assert [type(module).__name__ for module in network[1::2]] == ["LeakyReLU"] * (len(network) // 2)
        convolutions = [module for module in network if isinstance(module, nn.Conv2d)]
        return [(c.in_channels, c.out_channels, c.kernel_size[0], c.dilation[0]) for c in convolutions]

    assert layout(three(9, 5, 4)) == [(9, 5, 3, 1), (5, 5, 3, 1), (5, 4, 3, 1)]
    expected = [(9, 128, 3, 1), (128, 64, 3, 2), (64, 64, 3, 1), (64, 32, 3, 2), (32, 4, 3, 1)]
    assert layout(five(9, 4)) == expected
    assert five(9, 4)(torch.zeros(2, 9, 7, 7)).shape == (2, 4, 7, 7)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("size", [5, 8, 32])
def test_logits_have_a_channel_per_label_and_all_weights_learn(network: str, size: int) -> None:
    widths = [channels for channels, _ in SHAPES.values()]
    model = FewShotSegmenter(["a", "b", "c"], size, list(SHAPES), widths, network, channels=4, hidden=6)
    maps = {name: x.float() for name, x in random_maps().items()}
    logits = model(maps)
    assert isinstance(model, Segmenter) and logits.shape == (3, 4, size, size)
    F.cross_entropy(logits, torch.ones(3, size, size, dtype=torch.int64)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    masks = segment(model, maps)
    assert masks.shape == (3, size, size) and masks.dtype == torch.int64
    assert (masks == logits.argmax(1)).all()


def test_the_fingerprint_follows_weights_and_settings() -> None:
    torch.manual_seed(0)
    model = FewShotSegmenter(["a"], 8, ["low"], [4], channels=4, hidden=6)
    other = FewShotSegmenter(["b"], 8, ["low"], [4], channels=4, hidden=6)
    other.load_state_dict(model.state_dict())
    before = model.fingerprint
    assert other.fingerprint != before == model.fingerprint
    with torch.no_grad():
        next(model.parameters()).add_(1)
    assert model.fingerprint != before


def test_what_a_segmenter_refuses() -> None:
    model = FewShotSegmenter(["a"], 8, ["low"], [4])
    with pytest.raises(ValueError, match="the map 'low' is missing, expected 4 channels"):
        model({"high": torch.zeros(1, 4, 4, 4)})
    with pytest.raises(ValueError, match="the map 'low' has 3 channels, expected 4"):
        model({"low": torch.zeros(1, 3, 4, 4)})
    with pytest.raises(ValueError, match=r"segmenter\.network=two: expected one of projected, three, five"):
        FewShotSegmenter(["a"], 8, ["low"], [4], network="two")
    with pytest.raises(ValueError, match="0 labels and 1 layers"):
        FewShotSegmenter([], 8, ["low"], [4])


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_learns_the_parts(tmp_path: Path, network: str) -> None:
    epochs = 60 if network == "projected" else 20
    ctx = painted_context(tmp_path, fit__network=network, fit__epochs=epochs, fit__learning_rate=0.005)
    assert quality(ctx, load_segmenter(ctx, segmenter(ctx))) > 0.87


def test_the_stage_holds_a_segmenter(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    model, curve, fit = load_segmenter(ctx, artifact), artifact.table("curve"), artifact.json("fit")
    assert (model.labels, model.size) == (LABELS, 16) and model.layers == ("b8.1", "b16.1", "b32.1")
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert curve["epoch"].tolist() == list(range(60)) and curve["loss"].iloc[-1] < 0.1 * curve["loss"].iloc[0]
    assert (fit["images"], fit["layers"], fit["channels"]) == (15, 3, 5 + 6 + 7) and fit["seconds"] > 0
    assert fit["parameters"] == sum(p.numel() for p in model.parameters())
    assert quality(ctx, model) > 0.9


def test_a_second_call_reads_what_the_first_made(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    assert segmenter(ctx).manifest["created"] == artifact.manifest["created"]


def test_loading_and_training_again_give_the_same_logits(run: tuple[Context, Artifact], tmp_path: Path) -> None:
    ctx, artifact = run
    maps = ctx.generator.synthesize(draw(ctx, "exact", 6).w, features=True)[1]
    first, second = load_segmenter(ctx, artifact), load_segmenter(ctx, artifact)
    assert torch.equal(first(maps), second(maps)) and first.fingerprint == second.fingerprint
    again = painted_context(tmp_path)
    assert torch.equal(load_segmenter(again, segmenter(again))(maps), first(maps))
    fit = FewShotFit(**{key: getattr(ctx.config.segmenter, key) for key in ("network", "channels", "hidden")}, epochs=1)
    fitted = fit.fit(exact(ctx, draw(ctx, "train", 9), 16), LABELS, ctx.generator, Settings())
    saved = {name: value.clone() for name, value in fitted.segmenter.state_dict().items()}
    twin = FewShotSegmenter(**fitted.segmenter.settings)
    twin.load_state_dict(saved)
    assert torch.equal(twin.eval()(maps), fitted.segmenter(maps))


def test_the_seed_and_the_batch_of_the_run(run: tuple[Context, Artifact], tmp_path: Path) -> None:
    """Another seed gives another segmenter; the batches in which images are made do not matter."""
    assert segmenter(painted_context(tmp_path, batch_size=50)).key == run[1].key
    first, other = (painted_context(tmp_path, seed=seed, fit__epochs=1) for seed in (0, 1))
    assert load_segmenter(first, segmenter(first)).fingerprint != load_segmenter(other, segmenter(other)).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"labels__train": 2},
        {"labels__left_out": "bee"},
        {"classes__labels": ["spot", "disc"]},
        {"class_names": ("ant", "bee")},
        {"fit__hidden": 9},
        {"gan__truncation": 0.5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_the_key_depends_on(run: tuple[Context, Artifact], tmp_path: Path, change: dict[str, Any]) -> None:
    assert segmenter(painted_context(tmp_path, **{"fit__epochs": 1} | change)).key not in (
        run[1].key,
        segmenter(painted_context(tmp_path, fit__epochs=1)).key,
    )


def test_the_order_of_the_labels_is_that_of_the_run(run: tuple[Context, Artifact], tmp_path: Path) -> None:
    ctx = painted_context(tmp_path, classes__labels=["spot", "disc"])
    maps = ctx.generator.synthesize(draw(ctx, "exact", 30).w, features=True)[1]
    ours, theirs = (segment(load_segmenter(*pair), maps) for pair in ((ctx, segmenter(ctx)), run))
    swapped = torch.tensor([0, 2, 1])[theirs]
    assert (ours == swapped).float().mean() > 0.97


def test_a_generator_without_classes(tmp_path: Path) -> None:
    ctx = painted_context(tmp_path, Painted(conditional=False))
    artifact = segmenter(ctx)
    assert artifact.json("fit")["images"] == 15 and quality(ctx, load_segmenter(ctx, artifact)) > 0.9


def test_the_maps_of_the_training_are_small(tmp_path: Path) -> None:
    ctx = painted_context(tmp_path)
    w = draw(ctx, "train", 9).w
    maps = maps_of(ctx.generator, w, ["b8.0", "b32.1"], 16, 2, ctx.device)
    whole = ctx.generator.synthesize(w, features=True)[1]
    assert {name: tuple(x.shape) for name, x in maps.items()} == {"b8.0": (9, 5, 8, 8), "b32.1": (9, 7, 16, 16)}
    assert maps["b8.0"].dtype == torch.float16
    torch.testing.assert_close(maps["b32.1"].float(), resized(whole["b32.1"], 16), rtol=2e-3, atol=2e-3)


def test_a_persons_labels_do_as_well(tmp_path: Path) -> None:
    """Exported with their exact masks at the size of the images; a changed mask is another segmenter."""
    folder = tmp_path / "labels"
    own = painted_context(tmp_path)
    export(folder, own.config, own.generator, masks=True)
    ctx = painted_context(tmp_path, labels__folder=str(folder))
    artifact = segmenter(ctx)
    assert artifact.json("fit")["images"] == 15 and quality(ctx, load_segmenter(ctx, artifact)) > 0.85
    assert segmenter(painted_context(tmp_path, labels__folder=str(folder), labels__train=1)).key == artifact.key
    masks = sorted(folder.glob("train*.mask.png"))
    masks[0].write_bytes(masks[1].read_bytes())
    assert segmenter(ctx).key != artifact.key


@pytest.mark.parametrize(
    ("stage", "split"), [("segmenter", "train"), ("tuning", "train"), ("unit", "train"), ("segmentation", "test")]
)
def test_a_bad_folder_is_found_before_any_stage_runs(tmp_path: Path, stage: str, split: str) -> None:
    """A mask that is missing, or has a value that is no label; also where a stage looks for parts by the way."""
    own = painted_context(tmp_path)
    export(tmp_path / "labels", own.config, own.generator, masks=True)
    settings = {"analysis__stages": ["pairs/train", stage], "unit": 0, "view__samples": 1, "tuning__seeds": 1}
    ctx = painted_context(tmp_path, labels__folder=str(tmp_path / "labels"), **settings)
    check_models(ctx)
    masks = sorted((tmp_path / "labels").glob(f"{split}*.mask.png"))
    Image.fromarray(np.full((32, 32), 9, np.uint8)).save(masks[0])
    with pytest.raises(ValueError, match=r"x=0, y=0 is 9: expected 0 \(background\), 1 disc, 2 spot"):
        check_models(ctx)
    masks[0].unlink()
    with pytest.raises(ValueError, match=r"1 of \d+ images are not labelled"):
        check_models(ctx)
    assert not list((tmp_path / "store").glob("*/*"))


def test_masks_that_are_not_larger_than_the_images_are_checked_before_any_stage_runs(tmp_path: Path) -> None:
    sizes = {"fit__size": 17, "fit__enlarge": 2}
    for stage in ("segmenter", "unit"):
        with pytest.raises(ValueError, match=r"masks of 34 pixels, expected at most 32"):
            check_models(painted_context(tmp_path, **sizes, analysis__stages=["pairs/train", stage]))


def test_a_folder_is_read_once_for_its_check_and_its_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, splits = painted_context(tmp_path), []
    export(tmp_path / "labels", own.config, own.generator, masks=True)
    read = lis.labels.read
    monkeypatch.setattr(
        "lis.labels.labelled.read", lambda *arguments: (splits.append(arguments[3]), read(*arguments))[1]
    )
    stages = ["segmenter", "segmentation"]
    ctx = painted_context(tmp_path, labels__folder=str(tmp_path / "labels"), labels__exact=0, analysis__stages=stages)
    check_models(ctx)
    segmentation(ctx)
    assert splits == ["train", "test"]


class Blind:
    """The painted generator, seen through an object that does not know its parts."""

    def __init__(self) -> None:
        own = Painted()
        for name in ("class_names", "num_classes", "w_dim", "resolution", "mean_w", "fingerprint", "sample", "domain"):
            setattr(self, name, getattr(own, name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes__labels": []}, r"classes\.labels is empty: name the parts.*\[disc,spot\]"),
        ({"classes__labels": ["disc", "tail"]}, "no part 'tail', expected some of disc, spot"),
        ({"labels__left_out": "dog"}, r"labels\.left_out=dog: expected one of ant, bee, cat"),
        ({"labels__left_out": "ant", "class_names": ("ant",)}, "leaves no class to learn from"),
        ({"labels__folder": "nowhere"}, r"labels\.folder=nowhere: expected the folder that `python -m lis\.labels"),
        (
            {"fit__size": 17, "fit__enlarge": 2},
            r"segmenter\.size=17 segmenter\.enlarge=2: masks of 34 pixels, expected at most 32",
        ),
        ({"fit__learning_rate": 1e30, "fit__epochs": 5}, r"diverged in epoch \d.*lower segmenter\.learning_rate"),
    ],
)
def test_what_the_stage_refuses(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        segmenter(painted_context(tmp_path, **change))
    assert not (tmp_path / "store" / "segmenter").exists()


def test_a_generator_that_does_not_know_its_parts_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`python -m lis\.labels export`.*labels\.folder"):
        segmenter(painted_context(tmp_path, Blind()))
    with pytest.raises(ValueError, match="expected one of null: the generator has no classes"):
        segmenter(painted_context(tmp_path, Painted(conditional=False), labels__left_out="ant"))


def test_the_learning_rate_falls_to_a_tenth_halfway() -> None:
    model = FewShotSegmenter(["a"], 8, ["low"], [4])
    found = Training(model, Schedule(10, 5, 0.1, 0.0), 5).configure_optimizers()
    rates = []
    for _ in range(10):
        rates.append(found["optimizer"].param_groups[0]["lr"])
        found["optimizer"].step()
        found["lr_scheduler"].step()
    np.testing.assert_allclose(rates, [0.1] * 5 + [0.01] * 5)


@pytest.mark.parametrize(("side", "inside"), [(16, 1), (1024, 3)])
def test_small_batches_are_not_shared_between_threads(side: int, inside: int) -> None:
    examples = Examples({"a": torch.zeros(1, 2, side, side)}, torch.zeros(1, 8, 8))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with threads(examples, 5):
            assert torch.get_num_threads() == inside
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_step_that_does_not_fit_into_memory_is_made_in_parts(tmp_path: Path) -> None:
    """All maps of 256 px stacked took 10 GB for five images; the gradient is that of the whole step."""
    maps = {"a": torch.rand(5, 4, 8, 8).half(), "b": torch.rand(5, 3, 16, 16).half()}
    masks = torch.randint(0, 3, (5, 16, 16))
    gradients = []
    for at_once in (5, 2):
        torch.manual_seed(0)
        model = FewShotSegmenter(["disc", "spot"], 16, ["a", "b"], [4, 3], "three", hidden=8)
        error = Training(model, Schedule(1, 5, 0.1, 0.0), at_once).training_step((*maps.values(), masks), 0)
        error.backward()
        gradients.append([error.detach(), *(p.grad for p in model.parameters())])
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


def test_as_many_images_of_a_step_at_once_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FewShotSegmenter(["disc"], 64, ["a"], [16], "three", hidden=8)
    examples = Examples({"a": torch.zeros(4, 16, 64, 64).half()}, torch.zeros(4, 64, 64, dtype=torch.int64))
    one = step_bytes(model.settings, {"a": (16, 64, 64)})
    assert one >= step_bytes(model.settings, {"a": (16, 64, 64)}, gradient=False) > 16 * 64 * 64 * 4
    monkeypatch.setattr("lis.segmentation.training.budget", lambda _: 3 * one + 1)
    assert images_at_once(model, examples, torch.device("cpu")) == 3
    monkeypatch.setattr("lis.segmentation.training.budget", lambda _: 0)
    assert images_at_once(model, examples, torch.device("cpu")) == 1
