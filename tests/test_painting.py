"""Edits of generators: the arrays of the reference, what an edit changes and what it leaves alone, what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.dissection_fixtures import fixture
from helpers.fakes import FakeGenerator
from helpers.stylegan_xl_fixtures import generator
from torch import Tensor
from torch.nn import functional as F

import lis
from lis.context import Context
from lis.dissection.activations import edit_of
from lis.dissection.agreement import concept_iou
from lis.dissection.gan_pixels import pixel_segmenter
from lis.dissection.gan_units import GanUnits
from lis.dissection.painting import (
    BAND,
    PixelSegmenter,
    UnitEdit,
    cell_labels,
    cell_masks,
    concept_fraction_change,
    insertion_by_context,
    paint,
)
from lis.dissection.quantiles import unit_quantiles
from lis.dissection.upsampling import upsample_activations
from lis.generators.partworld import PartWorld
from lis.images import to_uint8
from lis.memory import Batches
from lis.streams import Stream
from lis.types import Editable

SMALL = "t_stem16_c10"
"""A StyleGAN-XL of the tests."""
TOLERANCE = 2e-6
"""Of the reference's arrays, as its README says."""


class Reference:
    """The tiny generator of the reference from its edited layer on, and its segmenter of single pixels."""

    def __init__(self) -> None:
        self.data = fixture("07_gan_intervention")
        self.base = self.areas(self.data["layer_acts"])

    def weights(self, name: str) -> tuple[Tensor, Tensor]:
        return self.data[f"w_{name}.weight"], self.data[f"w_{name}.bias"]

    @property
    def layer(self) -> Tensor:
        first = F.conv_transpose2d(self.data["z"], *self.weights("layer1")).relu()
        return F.conv2d(first, *self.weights("layer2.0"), padding=1).relu()

    def image(self, maps: Tensor) -> Tensor:
        large = F.interpolate(maps, scale_factor=8, mode="bilinear", align_corners=False)
        return F.conv2d(F.conv2d(large, *self.weights("layer3.0"), padding=1).relu(), *self.weights("out")).tanh()

    def segment(self, image: Tensor) -> Tensor:
        pixels = image[..., ::4, ::4] - self.data["seg_mean"][:, None, None]
        return torch.einsum("cd,ndhw->nchw", self.data["seg_weight"], pixels).argmax(1)

    def areas(self, maps: Tensor) -> Tensor:
        """Pixels of each label, `[n, 5]`."""
        return F.one_hot(self.segment(self.image(maps)), 5).sum((1, 2))

    def removed(self, units: Sequence[int]) -> Tensor:
        return self.areas(edit_of(units)(self.data["layer_acts"])) / 64


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


def close(result: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(result.double(), expected.double(), atol=TOLERANCE, rtol=1e-6)  # stored as float32


def test_the_generator_of_the_reference_is_rebuilt(reference: Reference) -> None:
    data = reference.data
    close(reference.layer, data["layer_acts"])
    close(reference.image(data["layer_acts"][:2]), data["images"])
    assert torch.equal(reference.segment(reference.image(data["layer_acts"])), data["seg"][:, 0])
    close(reference.base.double().mean(0), data["base_seg_count"])
    close(reference.base.double().mean(0) / 64, data["base_seg_fraction"])


def test_agreement_and_quantiles_of_generator_units_are_those_of_the_reference(reference: Reference) -> None:
    data = reference.data
    large = upsample_activations(data["layer_acts"], 8)
    close(unit_quantiles(large, 0.99), data["level99"])
    close(unit_quantiles(large, 0.995), data["level995"])
    masks = F.one_hot(data["seg"][:, 0], 5).permute(0, 3, 1, 2).bool()
    iou, expected = concept_iou(data["layer_acts"], masks[:, 1:], data["level99"]).T, data["iou_concept_by_unit"][1:]
    distinct = ((large - data["level99"][:, None, None]).abs() > 1e-7).all(0).flatten(1).all(1)
    assert distinct.sum() == 13  # of 16 units; three have pixels at their threshold, which rounding puts on either side
    close(iou[:, distinct], expected[:, distinct])
    ranked = expected[data["target_class"] - 1][data["unit_rank"]]
    assert (ranked.diff() <= 1e-7).all()  # with ties


def test_removal_is_that_of_the_reference(reference: Reference) -> None:
    data, target = reference.data, int(reference.data["target_class"])
    close(
        torch.stack([reference.removed([u]).double().mean(0) for u in range(16)]),
        data["single_unit_ablation_seg_fraction"],
    )
    expected = data["removal_mean_delta_fraction"]
    order = data["unit_rank"].tolist()
    base = reference.removed([])[:, target]
    removed = [reference.removed(order[:n])[:, target] for n in range(len(expected))]
    change = torch.stack([concept_fraction_change(base, fraction).change for fraction in removed])
    close(-change * data["base_seg_fraction"][target], expected)


def test_insertion_by_context_is_that_of_the_reference(reference: Reference) -> None:
    data = reference.data
    acts, edit = data["layer_acts"], UnitEdit("layer", data["insert_units"], data["insert_values"])
    context, delta = cell_labels(data["seg"][:, 0], 4, 4), []
    for cell in range(16):
        edited = edit.edits(cell_masks(torch.full((len(acts),), cell), 4, 4))["layer"](acts)
        delta.append(reference.areas(edited) - reference.base)
    flat, seen = torch.stack(delta, 1).flatten(0, 1), context.flatten(1).flatten()
    effects = insertion_by_context(flat[seen > 0], seen[seen > 0], 1)
    assert torch.equal(effects.context, data["insert_context_keys"])
    assert torch.equal(effects.count, data["insert_context_count"])
    close(effects.mean, data["insert_context_mean_delta_px"])
    close(effects.variance, data["insert_context_var_true"])


def test_few_insertions_have_no_moments() -> None:
    effects = insertion_by_context(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([7, 3, 7]), 2)
    assert effects.context.tolist() == [3, 7] and effects.count.tolist() == [1, 2]
    assert effects.mean[0].isnan() and effects.variance[0].isnan()
    assert (effects.mean[1].item(), effects.variance[1].item()) == (2.5, 4.5)
    with pytest.raises(ValueError, match=r"delta \[3, 1\] and context \[2\]"):
        insertion_by_context(torch.zeros(3, 1), torch.zeros(2))


def test_fraction_change_is_relative_to_the_baseline() -> None:
    base, edited = torch.tensor([[0.4, 0.0], [0.2, 0.0]]), torch.tensor([[0.1, 0.1], [0.2, 0.0]])
    result = concept_fraction_change(base, edited)
    deltas = [0.1 - 0.4, 0.0]
    mean = sum(deltas) / 2
    error = (sum((d - mean) ** 2 for d in deltas) / 1) ** 0.5 / 2**0.5 / 0.3
    assert result.change[0].item() == pytest.approx(-mean / 0.3)
    assert (result.high - result.change)[0].item() == pytest.approx(BAND * error)
    assert (result.change - result.low)[0].item() == pytest.approx(BAND * error)
    assert result.change[1].isnan() and result.low[1].isnan()
    with pytest.raises(ValueError, match="two or more"):
        concept_fraction_change(base[:1], edited[:1])


def part_world() -> tuple[PartWorld, Tensor]:
    world = PartWorld(["pug"])
    return world, world.sample(1, torch.arange(2), Stream("test pairs"))


def stylegan_xl() -> tuple[Any, Tensor]:
    made = generator(SMALL)
    index = 0 if made.num_classes else None
    return made, made.sample(index, torch.arange(2), Stream("test pairs"))


@pytest.fixture(params=[part_world, stylegan_xl], ids=["partworld", "stylegan_xl"])
def editable(request: pytest.FixtureRequest) -> tuple[Editable, Tensor]:
    make: Callable[[], tuple[Any, Tensor]] = request.param
    return make()


def test_without_edits_nothing_changes(editable: tuple[Any, Tensor]) -> None:
    made, w = editable
    image, maps = made.synthesize(w, True)
    same, edited = made.synthesize_edited(w, {}, True)
    assert torch.equal(image, same) and list(maps) == list(edited)
    assert all(torch.equal(maps[name], edited[name]) for name in maps)
    assert torch.equal(made.synthesize_edited(w, {}), image)
    idle = {name: edit_of([]) for name in maps}
    torch.testing.assert_close(made.synthesize_edited(w, idle), image, atol=1e-5, rtol=0)


def test_an_edit_is_seen_behind_its_layer_alone(editable: tuple[Any, Tensor]) -> None:
    made, w = editable
    image, maps = made.synthesize(w, True)
    names = list(maps)
    layer = names[len(names) // 2]
    changed, edited = made.synthesize_edited(w, UnitEdit(layer, [0, 1], 2.0).edits(), True)
    before, after = names[: names.index(layer)], names[names.index(layer) + 1 :]
    for name in before:  # without edits StyleGAN-XL makes one image after the other, which rounds differently
        torch.testing.assert_close(maps[name], edited[name], atol=1e-5, rtol=1e-5)
    assert all(not torch.equal(maps[name], edited[name]) for name in after) and not torch.equal(image, changed)
    assert (edited[layer][:, :2] == 2).all() and torch.allclose(edited[layer][:, 2:], maps[layer][:, 2:], atol=1e-5)


def test_an_edit_of_one_image_leaves_the_other_alone(editable: tuple[Any, Tensor]) -> None:
    made, w = editable
    image, maps = made.synthesize(w, True)
    layer = list(maps)[len(maps) // 2]
    masks = torch.zeros(2, *maps[layer].shape[2:])
    masks[1, :1, :1] = 1
    edited = made.synthesize_edited(w, UnitEdit(layer, [0], 3.0).edits(masks))
    torch.testing.assert_close(edited[0], image[0], atol=1e-5, rtol=0)
    assert (edited[1] - image[1]).abs().max() > 1e-3


def test_the_margin_of_a_map_is_not_edited() -> None:
    made, w = stylegan_xl()
    ws = w[:, None].expand(-1, made.num_ws, -1)
    _, full = made.synthesis(ws, True)
    layer = next(name for name, x in made.synthesis.crop(full).items() if x.shape[-1] < full[name].shape[-1])
    _, edited = made.synthesis(ws, True, UnitEdit(layer, [0], 9.0).edits())
    size, whole = made.synthesis.crop(full)[layer].shape[-1], full[layer].shape[-1]
    first = (whole - size) // 2
    inside = torch.zeros(whole, whole, dtype=torch.bool)
    inside[first : first + size, first : first + size] = True
    assert (edited[layer][:, 0, inside] == 9).all()
    assert torch.equal(edited[layer][:, 0, ~inside], full[layer][:, 0, ~inside])


def test_what_cannot_be_edited_is_refused(editable: tuple[Any, Tensor]) -> None:
    made, w = editable
    with pytest.raises(ValueError, match="no layer 'b3'"):
        made.synthesize_edited(w, UnitEdit("b3", [0]).edits())
    layer = list(made.synthesize(w, True)[1])[3]
    with pytest.raises(ValueError, match="expected indices of"):
        made.synthesize_edited(w, UnitEdit(layer, [10**4]).edits())
    with pytest.raises(ValueError, match="gives shape"):
        made.synthesize_edited(w, {layer: lambda x: x[:, :1]})


def test_an_edit_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(ValueError, match="3 values for 2 units"):
        edit_of([0, 1], torch.zeros(3))
    with pytest.raises(ValueError, match=r"mask is \[1, 1, 4, 4\]: expected \[h, w\]"):
        edit_of([0], 0.0, torch.ones(1, 1, 4, 4))
    with pytest.raises(ValueError, match=r"\[0.0, 2.0\]: expected them in \[0, 1\]"):
        edit_of([0], 0.0, torch.tensor([[0.0, 2.0]]))
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        edit_of([0], 0.0, torch.tensor([[torch.nan]]))
    with pytest.raises(ValueError, match="or \\[3, h, w\\]"):
        edit_of([0], 0.0, torch.ones(2, 4, 4))(torch.zeros(3, 1, 4, 4))


def brightness(image: Tensor) -> Tensor:
    """Labels by brightness: 1 bright, 0 dark."""
    return (image.mean(1) > 0).long()


def test_painting_says_where_areas_change() -> None:
    world, w = part_world()
    mask = torch.zeros(64, 64)
    mask[:16, :16] = 1
    base = world.synthesize(w)
    seen: list[int] = []

    def segment(image: Tensor) -> Tensor:
        seen.append(len(image))
        return brightness(image)

    painted = paint(world, w, UnitEdit("b64.1", range(16), 40.0), mask, PixelSegmenter(("bright",), segment), 1)
    assert seen == [4] and torch.equal(painted.before, base)
    before, after = (brightness(x).bool() for x in (painted.before, painted.after))
    expected = after[:, :16, :16].double().mean((1, 2)) - before[:, :16, :16].double().mean((1, 2))
    torch.testing.assert_close(painted.inside[:, 1], expected)
    torch.testing.assert_close(painted.inside.sum(1), torch.zeros(2, dtype=torch.float64))
    assert torch.equal(painted.before[:, :, 20:, 20:], painted.after[:, :, 20:, 20:])
    torch.testing.assert_close(painted.covered[:, 1], after[:, :16, :16].double().mean((1, 2)))


def test_a_generator_refuses_what_does_not_appear() -> None:
    world, w = part_world()
    edit, mask = UnitEdit("b16.1", [0], 0.0), torch.ones(16, 16)
    constant = PixelSegmenter(("bright",), lambda image: torch.zeros(len(image), 8, 8, dtype=torch.int64))
    result = paint(world, w, edit, mask, constant, 1)
    assert result.refused.all() and result.outside.isnan().all() and not torch.equal(result.before, result.after)
    assert paint(world, w, edit, mask, constant).refused.all()
    flipped = PixelSegmenter(("bright",), lambda image: torch.tensor([0, 0, 1, 1])[:, None, None].expand(4, 8, 8))
    assert not paint(world, w, edit, mask, flipped, 1).refused.any()
    assert (
        paint(world, w, edit, mask, flipped, 0).refused.all() and not paint(world, w, edit, mask, flipped).refused.any()
    )


def test_a_label_is_refused_by_what_is_left_of_it_not_by_what_it_gains() -> None:
    world, w = part_world()
    parts = torch.zeros(4, 10, 10, dtype=torch.int64)
    parts[0], parts[2] = 1, 1  # painted over the label, which stays
    parts[1], parts[3, 0, :4] = 1, 1  # was everywhere, and is gone but for 4 of 100 pixels
    segmenter = PixelSegmenter(("bright",), lambda _: parts)
    result = paint(world, w, UnitEdit("b16.1", [0]), torch.ones(16, 16), segmenter, 1)
    assert result.covered[:, 1].tolist() == [1, pytest.approx(0.04)]
    assert result.inside[:, 1].tolist() == [0, pytest.approx(-0.96)]
    assert result.refused.tolist() == [False, True]
    parts[3, 0, 4] = 1
    assert not paint(world, w, UnitEdit("b16.1", [0]), torch.ones(16, 16), segmenter, 1).refused.any()


def test_bad_paint_is_refused() -> None:
    world, w = part_world()
    edit, segmenter = UnitEdit("b16.1", [0]), PixelSegmenter(("bright",), brightness)
    with pytest.raises(ValueError, match="label 2: expected 0, the background, to 1"):
        paint(world, w, edit, torch.ones(16, 16), segmenter, 2)
    with pytest.raises(ValueError, match="the same for all images"):
        paint(world, w, edit, torch.ones(2, 16, 16), segmenter)
    with pytest.raises(ValueError, match="at least 1/2"):
        paint(world, w, edit, torch.full((16, 16), 0.2), segmenter)
    with pytest.raises(ValueError, match="no smaller than the map"):
        paint(world, w, edit, torch.ones(8, 8), segmenter)
    with pytest.raises(ValueError, match=r"no layer 'b16.1': expected some of only"):
        paint(FakeGenerator(w_dim=w.shape[1]), w, edit, torch.ones(16, 16), segmenter)


def test_a_study_paints(shared_store: Path) -> None:
    s = lis.study(size="smoke", device="cpu", store=shared_store)
    w = s.generator.sample(1, torch.arange(2), Stream("test pairs"))
    mask = np.zeros((64, 64), np.uint8)
    mask[40:, :] = 1
    result = s.paint(w, [0, 9], mask, value=[4.0, 2.0], label="eye")
    edit = UnitEdit("b16.1", [0, 9], torch.tensor([4.0, 2.0]))
    expected = paint(s.generator, w, edit, torch.as_tensor(mask).float(), pixel_segmenter(s.context), 5)
    assert torch.equal(result.after, to_uint8(expected.after)) and torch.equal(result.inside, expected.inside)
    assert torch.equal(result.parts_after.long(), expected.parts_after) and result.labels[4] == "eye"
    eyes = (result.parts_after[:, 40:] == 5).double().mean((1, 2))
    torch.testing.assert_close(result.covered[:, 5], eyes)
    assert (result.layer, result.units) == ("b16.1", (0, 9))
    assert len(result.table) == 2 * 10 and "PaintResult of 2 images, 2 units of b16.1" in repr(result)
    assert "eye under the mask in " in repr(result) and "; it gains " in repr(result)
    assert "data:image" in result._repr_html_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Context, "images", lambda _: Batches(2))
        one_by_one = s.paint(w, [0, 9], mask, value=[4.0, 2.0], label="eye")
    torch.testing.assert_close(one_by_one.covered, result.covered, atol=0.01, rtol=0)
    single = s.paint(w[0], 3)
    assert single.after.shape == (3, 64, 64) and single.refused.shape == () and single.mask.min() == 1
    assert single.value.item() > float(s.generator.synthesize(w, ["b16.1"])[1]["b16.1"][:, 3].median())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GanUnits, "of", lambda *_: pytest.fail("levels are measured again"))
        assert s.paint(w[0], 3).value == single.value


def test_a_study_refuses_bad_paint(shared_store: Path) -> None:
    s = lis.study(size="smoke", device="cpu", store=shared_store)
    w = s.generator.mean_w[:1]
    with pytest.raises(ValueError, match=r"label='eyes': expected one of background, leg.*did you mean eye"):
        s.paint(w, [0], label="eyes")
    for units in ([48], [-1], [], [3, 3], range(3, 3)):
        with pytest.raises(
            ValueError, match=r"units=\[.*\]: expected one or more different units of the layer, 0 to 47"
        ):
            s.paint(w, units)
    with pytest.raises(ValueError, match="no layer 'b3'"):
        s.paint(w, [0], layer="b3")
    for value in ([1.0, 2, 3], "quantile", float("nan"), [np.inf], True, [[1.0]], []):
        expected = re.escape(f"value={value!r}: expected one finite number, one for each of 1 unit, or None, the 0.995")
        with pytest.raises(ValueError, match=f"^{expected}"):
            s.paint(w, [0], value=value)
    for shape in ((32, 32), (16, 64), (64, 63), (1, 64, 64), (64,)):
        expected = (
            f"mask has shape {list(shape)}: expected [64, 64], the size of the picture, or [16, 16], that of the map"
        )
        with pytest.raises(ValueError, match=re.escape(expected)):
            s.paint(w, [0], np.ones(shape), value=0.0)
    as_map = np.zeros((16, 16))
    as_map[10:] = 1
    pixels = s.paint(w, [0], as_map.repeat(4, 0).repeat(4, 1), value=4.0)
    assert torch.equal(s.paint(w, [0], as_map, value=4.0).inside, pixels.inside)
    with pytest.raises(ValueError, match="units='a'"):
        s.paint(w, ["a"])
