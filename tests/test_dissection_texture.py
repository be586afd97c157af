"""Responses to an image and to its restyled twin (fixture 06, cut down to the units 1, 2 and 4), and planted units."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes import make_context
from PIL import Image
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lis.classifiers.cut import CutClassifier
from lis.classifiers.preprocessing import Preprocessing
from lis.context import Context
from lis.dissection.ablation import ablation_values
from lis.dissection.restyling import (
    ORDERS,
    GeneratedImages,
    derangement,
    pairings,
    permute_channels,
    require_pairings,
    style_factors,
    swap_amplitudes,
    with_style_of,
)
from lis.dissection.texture import TextureConfig, TextureJob, texture
from lis.dissection.texture_scores import CUT, extreme_units, paired_response_iou, same_class_iou, units_table
from lis.generators.partworld import PartWorld
from lis.generators.partworld.world import SETS
from lis.images import to_uint8
from lis.linking.pairs import pairs
from lis.report.section import Section
from lis.report.tables import records, split, where
from lis.report.texture import _resolution, concepts_by_side, texture_or_shape
from lis.stage import closure
from lis.store import Artifact
from lis.streams import Stream

FIXTURE = Path(__file__).parent / "data" / "dissection" / "06_stylised_iou_units.npz"
CLASSES = ["pug", "weimaraner"]
BLUE, EDGE, DEAD = 0, 1, 2


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_set_iou_is_that_of_the_reference() -> None:
    with np.load(FIXTURE) as file:
        original, restyled, expected, same = (
            torch.from_numpy(file[name])
            for name in ("acts_original", "acts_stylised", "set_iou_native_threshold", "degenerate_acts_identical")
        )
    torch.testing.assert_close(paired_response_iou(original, restyled), expected, rtol=0, atol=1e-12)
    assert paired_response_iou(same, same).tolist() == [1.0]  # the published score is 0 here


def test_a_dead_unit_has_no_score_and_other_shapes_are_refused() -> None:
    dead = torch.zeros(3, 2, 4, 4)
    assert paired_response_iou(dead, dead).isnan().all()
    with pytest.raises(ValueError, match=r"\(3, 2, 4, 4\) and \(2, 2, 4, 4\): expected pairs of the same layer"):
        paired_response_iou(dead, dead[:2])


class Largest(TorchDispatchMode):
    """The bytes of the largest result of an operation that is no view of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run it and look."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and not result._is_view():
            self.bytes = max(self.bytes, result.numel() * result.element_size())
        return result


def test_scores_are_computed_in_blocks_of_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """No copy of all maps, beside which the check of the memory would be wrong; whole, the scores are the same."""
    maps, twins, classes = noise(8, 32, 8, 8), noise(8, 32, 8, 8).flip(0), torch.arange(8) % 2
    whole = paired_response_iou(maps, twins), same_class_iou(maps, classes, 3, np.random.default_rng(1))
    monkeypatch.setattr("lis.dissection.ablation._AT_ONCE", maps[:, :2].numel())
    with Largest() as largest:
        blocks = paired_response_iou(maps, twins), same_class_iou(maps, classes, 3, np.random.default_rng(1))
    assert all(map(torch.equal, whole, blocks))
    assert largest.bytes <= 8 * maps[:, :2].numel()  # sums of bool are of int64


def test_the_control_takes_memory_that_no_number_of_draws_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each draw of a unit reads one number per image; read at once, all draws would take 4 × 500 of these per image."""
    maps, classes = noise(12, 4, 4, 4), torch.arange(12) % 2
    whole = same_class_iou(maps, classes, 500, np.random.default_rng(1))
    monkeypatch.setattr("lis.dissection.texture_scores._AT_ONCE", 100)
    with Largest() as largest:
        blocks = same_class_iou(maps, classes, 500, np.random.default_rng(1))
    assert torch.equal(whole, blocks)
    assert largest.bytes == 500 * 12 * 8  # of the draws themselves


def test_units_above_the_control_are_counted_with_q(run: Artifact) -> None:
    """Of 60 units whose twins are as alike as other images some lie above 97.5 % of the draws, none has q ≤ 0.05."""
    rng = torch.Generator().manual_seed(0)
    control, iou = (torch.rand(*shape, generator=rng).double() for shape in ((199, 60), (60,)))
    iou[:2], iou[2] = torch.nan, 2.0
    columns = ["iou", "high", "p", "q"]
    score, high, p, q = units_table("layer", "colour", iou, control)[columns].to_numpy().T
    for unit in range(2, 60):
        assert p[unit] == (1 + sum(float(x) >= float(iou[unit]) for x in control[:, unit])) / 200
    stepped = np.minimum.accumulate((np.sort(p[2:]) * 58 / np.arange(1, 59))[::-1])[::-1]
    np.testing.assert_allclose(np.sort(q[2:]), np.minimum(stepped, 1))
    assert np.isnan(q[:2]).all()
    assert (score > high).sum() > (q <= 0.05).sum() == 0  # 60 units need more draws for one
    many = units_table("layer", "colour", iou, torch.rand(1999, 60, generator=rng).double())
    assert np.flatnonzero(many["q"].to_numpy() <= 0.05).tolist() == [2]
    edge, dead = (where(run.table("units"), restyling="factors", unit=unit) for unit in (EDGE, DEAD))
    assert edge[["p", "q"]].to_numpy().tolist() == [[1 / 20, 2 / 20]] and np.isnan(dead["q"].to_numpy()).all()
    assert _resolution(58, 199).startswith("With 199 draws of 58 units q ≤ 0.05 takes 6 units above all draws")
    assert not _resolution(58, 1999)


def test_a_unit_that_only_twins_wake_counts_as_dead() -> None:
    """It never varies on the originals, so that no draw of the control says what its score stands beside."""
    maps, twins, classes = noise(8, 3, 8, 8), noise(8, 3, 8, 8).flip(0), torch.arange(8) % 2
    maps[:, 1] = 0
    iou, control = paired_response_iou(maps, twins), same_class_iou(maps, classes, 19, np.random.default_rng(1))
    assert iou[1] == 0 and control[:, 1].isnan().all()
    table = units_table("layer", "colour", iou, control)
    first, woken, last = records(table)
    assert woken["dead"] and woken["side"] == "" and np.isnan([woken[x] for x in ("iou", "control", "p", "q")]).all()
    assert not (first["dead"] or last["dead"]) and np.isfinite([first["q"], last["q"]]).all()
    assert 1 not in extreme_units(table)["unit"].tolist()


def test_the_control_pairs_images_of_one_class() -> None:
    """Slowly, pixel by pixel, along the same draws."""
    maps, classes = noise(6, 2, 5, 5), torch.tensor([0, 1, 0, 1, 1, 0])
    result = same_class_iou(maps, classes, 3, np.random.default_rng(1))
    rng, threshold = np.random.default_rng(1), ablation_values(maps, "quantile", 0.99)
    for draw in result:
        other = derangement(classes.numpy(), rng)
        assert all(classes[k] == classes[o] and k != o for k, o in enumerate(other)) and len({*other}) == 6
        for unit in range(2):
            a, b = (
                {
                    (k, *map(int, at))
                    for k, i in enumerate(order)
                    for at in (maps[int(i), unit] > threshold[unit]).nonzero()
                }
                for order in (range(6), other)
            )
            assert float(draw[unit]) == pytest.approx(len(a & b) / len(a | b))
    with pytest.raises(ValueError, match="group 1 has 1 sample: expected 2 or more"):
        derangement(np.array([0, 0, 1]), rng)


def sets_of_pairs(n: int) -> set[frozenset[frozenset[int]]]:
    """Those of all cycles through n samples, without direction, written out."""
    cycles = [(0, *rest) for rest in permutations(range(1, n))]
    return {frozenset(frozenset(pair) for pair in zip(cycle, cycle[1:] + cycle[:1], strict=True)) for cycle in cycles}


def test_classes_without_as_many_pairings_as_draws_are_refused() -> None:
    """All draws of classes of three are one: each unit above it would have p = 1 / (1 + draws)."""
    classes = torch.arange(9) % 3
    control = same_class_iou(noise(9, 2, 8, 8), classes, 19, np.random.default_rng(0))
    assert len(control.unique(dim=0)) == 1 == pairings([3, 3, 3])
    assert [len(sets_of_pairs(n)) for n in range(2, 7)] == [pairings([n]) for n in range(2, 7)] == [1, 1, 3, 12, 60]
    assert pairings([5, 2, 4]) == 12 * 3
    with pytest.raises(ValueError, match=r"3 classes of 3 can .* 1 ways: expected more than 19.* give 4 images"):
        require_pairings(classes, 19)
    five = torch.arange(15) % 3
    require_pairings(five, pairings([5, 5, 5]) - 1)
    with pytest.raises(ValueError, match=r"1,728 ways: expected more than 1,728.* give 6 images"):
        require_pairings(five, pairings([5, 5, 5]))


@pytest.mark.parametrize("figures", SETS)
def test_only_style_is_replaced_on_part_world(figures: str) -> None:
    """The truth of a restyled sample: no part is elsewhere, and every factor of style is the donor's."""
    world = PartWorld([*SETS[figures].classes][:1])
    w = world.sample(0, torch.arange(4), Stream("test pairs"))
    donor = w.roll(1, 0)
    restyled = with_style_of(world, w, donor)
    style = style_factors(world.factor_names)
    names = {world.factor_names[k] for k in style}
    assert {"background_hue", "background_lightness"} < names and not names & {"x", "head_size", "cap_width"}
    assert any(name.rpartition("_")[2] in ("texture", "bars") for name in names)
    rest = [k for k in range(len(world.factor_names)) if k not in style]
    u, lent, now = (world.true_factors(each) for each in (w, donor, restyled))
    torch.testing.assert_close(now[:, style], lent[:, style], rtol=0, atol=1e-5)
    torch.testing.assert_close(now[:, rest], u[:, rest], rtol=0, atol=1e-5)
    (before, masks), (after, masks_after) = world.render(w), world.render(restyled)
    torch.testing.assert_close(masks_after, masks, rtol=0, atol=1e-4)
    assert float((before - after).abs().mean()) > 0.02


def test_channels_change_hue_alone_and_amplitudes_leave_phases() -> None:
    image, donor = noise(5, 3, 8, 8), noise(5, 3, 16, 8)[:, :, ::2]
    assert len(ORDERS) == 5
    turned = permute_channels(image, ORDERS)
    assert turned.sort(1).values.equal(image.sort(1).values) and not any(map(torch.equal, turned, image))
    mixed = swap_amplitudes(0.2 * image, 0.2 * donor)  # dark: nothing is cut
    before, lent, now = (np.fft.fft2(each.double().numpy()) for each in (0.2 * image, 0.2 * donor, mixed))
    assert np.abs(mixed.numpy()).max() < 1
    np.testing.assert_allclose(np.abs(now), np.abs(lent), atol=1e-4)
    np.testing.assert_allclose(now * np.abs(before), before * np.abs(now), atol=1e-3)


class Planted(nn.Module):
    """Unit 0 is how blue a pixel is, unit 1 the contrast of a pixel with those around it, unit 2 never changes."""

    def __init__(self) -> None:
        super().__init__()
        self.detect = nn.Conv2d(3, 3, 3, padding=1, padding_mode="replicate", bias=False)
        self.fc = nn.Linear(3, 2)
        edge = torch.full((3, 3), -0.125)
        edge[1, 1] = 1.0
        with torch.no_grad():
            self.detect.weight.zero_()
            self.detect.weight[BLUE, :, 1, 1] = torch.tensor([-1.0, -1.0, 2.0])
            self.detect.weight[EDGE] = edge

    def forward(self, image: Tensor) -> Tensor:
        """Logits `[n, 2]`."""
        return self.fc(self.detect(image).relu().mean((2, 3)))


def context(root: Path, samples: int = 16) -> Context:
    torch.manual_seed(0)
    model = CutClassifier(Planted(), Preprocessing.as_drawn(64), tuple(CLASSES), name="planted", weights="random")
    ctx = make_context(root, generator=PartWorld(CLASSES), classifier=model.eval().requires_grad_(False))
    config = replace(ctx.config, classes=replace(ctx.config.classes, names=CLASSES, labels=["head", "eye"]))
    config.texture = TextureConfig("detect", samples, shuffles=19)  # pyright: ignore[reportAttributeAccessIssue]
    config.pairs.train = config.pairs.test = 16
    config.pairs.accept = "any"
    return replace(ctx, config=config)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return texture(context(tmp_path_factory.mktemp("texture")))


def test_a_killed_run_goes_on_with_the_same_result(
    run: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at its second restyling: the first is not made again, and of the images as they are the maps alone."""
    ctx, asked, maps = context(tmp_path), list[str](), TextureJob.maps

    def counted(job: TextureJob, restyling: str) -> tuple[Tensor, Tensor]:
        asked.append(restyling)
        if asked == ["", "factors", "texture"]:
            raise KeyboardInterrupt
        return maps(job, restyling)

    monkeypatch.setattr(TextureJob, "maps", counted)
    with pytest.raises(KeyboardInterrupt):
        texture(ctx)
    with monkeypatch.context() as patch:
        patch.setattr("lis.dissection.texture.same_class_iou", lambda *_: pytest.fail("the control is made again"))
        again = texture(ctx)
    assert asked == ["", "factors", "texture", "", "texture", "colour"]
    assert again.key == run.key and again.json("facts") == run.json("facts")
    for name in ("units", "extremes"):
        pd.testing.assert_frame_equal(again.table(name), run.table(name), check_exact=True)
    assert all(x.equal(again.tensors("extremes")[name]) for name, x in run.tensors("extremes").items())


def test_a_planted_colour_is_texture_and_a_planted_edge_is_shape(run: Artifact) -> None:
    for name in ("factors", "colour"):
        blue, edge, dead = records(where(run.table("units"), restyling=name))
        assert blue["side"] == "texture" and blue["iou"] < CUT
        assert edge["side"] == "shape" and edge["iou"] > max(CUT, edge["high"])
        assert dead["dead"] and dead["side"] == "" and np.isnan([dead[x] for x in ("iou", "control", "high")]).all()
    assert set(run.table("units")["restyling"]) == {"factors", "colour", "texture"}


def test_scores_are_those_of_the_images_themselves(run: Artifact, tmp_path: Path) -> None:
    """The blue unit pixel by pixel, in images with their channels in another order."""
    ctx = context(tmp_path)
    image = ctx.generator.synthesize(pairs(ctx, "test").tensors("pairs")["w"])
    rng = Stream("texture", ctx.config.seed).rng()
    derangement(np.zeros(len(image)), rng)
    turned = permute_channels(image, ORDERS[torch.from_numpy(rng.integers(5, size=len(image)))])
    active = []
    for each in (image, turned):
        blue = np.maximum((2 * each[:, 2] - each[:, 0] - each[:, 1]).numpy(), 0)
        active.append(blue > np.quantile(blue, 0.99, method="hazen"))
    expected = (active[0] & active[1]).sum() / (active[0] | active[1]).sum()
    (row,) = records(where(run.table("units"), restyling="colour", unit=BLUE))
    assert row["iou"] == pytest.approx(expected, abs=2e-3)


def test_extremes_are_the_ends_of_both_sides_with_their_pictures(run: Artifact) -> None:
    control = torch.zeros(2, 12, dtype=torch.float64)
    iou = torch.tensor([0.05, torch.nan, 0.4, 0.01, 0.2, 0.9, 0.1, 0.02, 0.3, 0.09, 0.099, 0.0])
    rows = extreme_units(units_table("layer", "colour", iou, control))
    assert rows["unit"].tolist() == [11, 3, 7, 0, 5, 2, 8, 4] and rows["rank"].tolist() == [1, 2, 3, 4] * 2
    table, top = run.table("extremes"), run.tensors("extremes")
    assert top["image"].shape == top["restyled"].shape == (len(table), 5, 3, 64, 64)
    assert top["mask"].shape == top["restyled_mask"].shape == (len(table), 5, 64, 64)
    (blue,) = records(where(table, restyling="colour", unit=BLUE))
    original, twin = (top[name][blue["index"]].sort(1).values for name in ("image", "restyled"))
    assert original.equal(twin) and blue["side"] == "texture"


def source_of(run: Artifact, dissected: pd.DataFrame | None = None) -> Any:
    """What a section reads of a run, whose layer is dissected where a table "units" of that is given."""
    return SimpleNamespace(
        has=lambda stage, *_: stage == "texture" or dissected is not None,
        table=lambda stage, name: dissected if stage == "dissect" else run.table(name),
        json=lambda _, name: run.json(name),
        arrays=lambda _, name: {
            key: np.moveaxis(x.numpy(), -3, -1) if x.ndim == 5 else x.numpy() for key, x in run.tensors(name).items()
        },
        facts=SimpleNamespace(partless=False, conditional=True, settings={"pairs.accept": "correct"}),
    )


def section_of(source: Any) -> Section:
    made = texture_or_shape(source)
    assert made is not None
    return made


def test_the_section_stands_beside_its_control_and_the_dissection(run: Artifact) -> None:
    units = pd.DataFrame(
        {"layer": "detect", "unit": [0, 1], "concept": "", "specific": ["blue", "eye"], "above_chance": True}
    )
    source = source_of(run, units)
    made = section_of(source)
    assert "beside" in made.lead and "the control" in made.lead
    assert "Only samples that the classifier gets right are taken." in made.lead and "grey" not in made.lead
    assert [figure.aside for figure in made.figures] == [False, False, True, True, False]
    names = [figure.name for figure in made.figures]
    assert names[:2] == ["texture-scores", "texture-extremes-factors"] and names[-1] == "texture-concepts"
    sides = concepts_by_side(source, where(run.table("units"), restyling="factors"))
    assert sorted(map(tuple, sides.to_numpy().tolist())) == [("blue", 1, 0), ("eye", 0, 1)]


def folder(tmp_path: Path, pictures: Tensor, shape: tuple[int, int] = (64, 64)) -> Context:
    """A run on pictures `[n, 3, 64, 64]` uint8, which take turns in two folders, in the centre of white ones."""
    for k, picture in enumerate(pictures):
        path = tmp_path / "pictures" / CLASSES[k % 2] / f"{k:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.full((*shape, 3), 255, np.uint8)
        top, left = ((length - 64) // 2 for length in shape)
        image[top : top + 64, left : left + 64] = picture.permute(1, 2, 0).numpy()
        Image.fromarray(image).save(path)
    ctx = context(tmp_path)
    return replace(ctx, config=replace(ctx.config, images=str(tmp_path / "pictures")))


def test_pictures_of_a_folder_are_scored_as_the_same_images_of_a_generator(
    run: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are wide, so that their sides are cut off; nothing is drawn."""
    ctx = context(tmp_path)
    drawn = pairs(ctx, "test").tensors("pairs")
    order = torch.stack([(drawn["class_index"] == c).nonzero()[:16, 0] for c in range(2)], 1).flatten()
    pictures = to_uint8(ctx.generator.synthesize(drawn["w"][order]))
    monkeypatch.setattr(PartWorld, "sample", None)
    ctx = folder(tmp_path, pictures, (64, 97))
    assert [each.name for each in closure(["texture"], ctx)] == ["texture"]
    made = texture(ctx)
    expected = run.table("units")
    table = made.table("units")
    assert list(split(table, "restyling")) == ["texture", "colour"]
    section = section_of(source_of(made))
    assert [(figure.name, figure.aside) for figure in section.figures[1:]] == [
        ("texture-extremes-texture", False),
        ("texture-extremes-colour", True),
    ]
    assert "amplitudes of another sample" in section.lead and "are taken" not in section.lead
    assert (made.json("facts")["source"], run.json("facts")["source"]) == ("folder", "generator")
    both = table.merge(expected, on=["restyling", "unit"], suffixes=("", "_drawn"))
    assert len(both) == len(table) == 6
    np.testing.assert_allclose(both[["iou", "control"]], both[["iou_drawn", "control_drawn"]], atol=0.02)
    assert made.json("facts")["images"] == 32


def coloured(count: int) -> Tensor:
    """Pictures of noise `[count, 3, 64, 64]` uint8."""
    return torch.randint(256, (count, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_grey_pictures_have_no_row_for_other_orders_of_channels(tmp_path: Path) -> None:
    """They would be the same pictures, at a score of 1 for every unit."""
    pictures = coloured(10)
    pictures[1:] = pictures[1:, :1].clone()
    mixed = texture(folder(tmp_path / "mixed", pictures))
    assert mixed.json("facts")["grey"] == 9
    assert list(split(mixed.table("units"), "restyling")) == ["texture", "colour"]
    assert "9 of 10 images are grey" in section_of(source_of(mixed)).lead
    grey = texture(folder(tmp_path / "grey", pictures[:, :1].expand_as(pictures)))
    assert (
        list(split(grey.table("units"), "restyling")) == list(split(grey.table("extremes"), "restyling")) == ["texture"]
    )
    section = section_of(source_of(grey))
    assert "All images are grey" in section.lead and len(section.figures) == 2


def test_a_folder_of_few_pictures_of_a_class_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"2 classes of 4 can .* in 9 ways.* give 5 images of each class"):
        texture(folder(tmp_path, coloured(8)))
    assert not [*tmp_path.rglob("*.safetensors")]


def test_a_picture_of_a_folder_that_changes_is_scored_anew(tmp_path: Path) -> None:
    pictures = coloured(10)
    ctx = folder(tmp_path, pictures)
    first = texture(ctx)
    assert texture(ctx).key == first.key and first.json("facts")["images"] == 10
    folder(tmp_path, pictures.flip(0))
    assert texture(ctx).key != first.key
    (tmp_path / "pictures" / CLASSES[0] / "00.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"00\.png: no PNG, JPEG or WebP picture"):
        texture(ctx)
    for k in (0, 2, 4, 6):
        (tmp_path / "pictures" / CLASSES[0] / f"{k:02d}.png").unlink()
    with pytest.raises(ValueError, match="class 'pug' has one picture: expected 2 or more"):
        texture(ctx)


def test_too_few_activations_for_the_quantile_are_refused_before_the_work(tmp_path: Path) -> None:
    """Maps of 4 × 4 of 30 images have 4.8 activations above the 0.99 quantile, those of 32 images 5.12."""
    ctx, small = context(tmp_path), Planted()
    small.detect.stride = (16, 16)
    model = CutClassifier(small, Preprocessing.as_drawn(64), tuple(CLASSES), name="planted", weights="random")
    for per_class, expected in ((15, "30 maps of 4×4.* so 32 images in all"), (16, "")):
        ctx.config.pairs.test = ctx.config.texture.samples = per_class  # pyright: ignore[reportAttributeAccessIssue]
        few = replace(ctx, classifier=model.eval())
        if expected:
            with pytest.raises(
                ValueError, match=rf"{expected}; raise texture\.samples.*earlier layer, texture\.layer=…"
            ):
                texture(few)
            assert not [*tmp_path.rglob("*.safetensors")]
        else:
            texture.require(few)


def test_what_cannot_be_scored_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = make_context(tmp_path)
    assert GeneratedImages(fake.generator, torch.zeros(1, 4), fake.device).restylings == ["texture", "colour"]
    ctx = context(tmp_path)
    monkeypatch.setattr("lis.memory.budget", lambda _: 2**20)
    with pytest.raises(
        ValueError, match=r"texture.samples=16: the maps of 32 images take 0.0\d+ GiB.*texture.samples=3 fits"
    ):
        texture(ctx)
    ctx.config.pairs.test = 1
    with pytest.raises(ValueError, match=r"pairs\.test=1: expected 2 or more"):
        texture(ctx)
    monkeypatch.undo()
    ctx.config.pairs.test = 4
    with pytest.raises(ValueError, match=r"2 classes of 4 can .* in 9 ways.*pairs\.test"):
        texture(ctx)
