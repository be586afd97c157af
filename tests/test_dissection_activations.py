import pytest
import torch
from helpers.dissection_fixtures import fixture
from torch import Tensor, nn

from lis.classifiers.cut import layer_module
from lis.dissection.activations import intervene, record_activations
from lis.dissection.top_images import (
    conditional_top_activating,
    mask_border,
    masked_pictures,
    top_activating,
    top_mask,
)
from lis.dissection.upsampling import ReceptiveField, upsample_activations


def slow_upsample(image: Tensor, height: int, width: int) -> Tensor:
    """Bilinear weights of the four nearest centres, which are zero outside of the map `[h, w]`."""
    h, w = image.shape
    result = torch.zeros(height, width, dtype=image.dtype)
    for i in range(height):
        for j in range(width):
            y, x = (i + 0.5) * h / height - 0.5, (j + 0.5) * w / width - 0.5
            for a in range(h):
                for b in range(w):
                    result[i, j] += max(0.0, 1 - abs(y - a)) * max(0.0, 1 - abs(x - b)) * image[a, b]
    return result


class Network(nn.Module):
    """Two convolutions with a ReLU in place between them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3))
        self.tail = nn.Linear(5, 2)
        self.layers: dict[str, nn.Module] = {"first": self.body[0]}

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.body(x).mean((2, 3)))


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network().double()


@pytest.fixture
def batch() -> Tensor:
    return torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("i", range(6))
def test_maps_are_enlarged_as_by_the_reference(i: int) -> None:
    data = fixture("02_upsample")
    expected = data[f"out{i}"]
    result = upsample_activations(data[f"in{i}"], (expected.shape[2], expected.shape[3]))
    torch.testing.assert_close(result, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("i", [0, 1, 2, 4, 5])
def test_the_reference_differs_by_the_rounding_of_its_positions(i: int) -> None:
    """A grid of positions in [-1, 1] in float32 gives its maps; in float64 it gives ours."""
    maps, expected = fixture("02_upsample")[f"in{i}"], fixture("02_upsample")[f"out{i}"]
    size = expected.shape[2], expected.shape[3]
    torch.testing.assert_close(grid_upsampled(maps, *size), expected, atol=1e-6, rtol=0)
    result = upsample_activations(maps.double(), size)
    torch.testing.assert_close(result, grid_upsampled(maps.double(), *size), atol=1e-12, rtol=0)
    assert (result - expected).abs().max() < 1.93e-5


def grid_upsampled(maps: Tensor, height: int, width: int) -> Tensor:
    """Bilinear upsampling by a grid of positions, in the precision of the maps."""
    lines = []
    for target, source in ((height, maps.shape[2]), (width, maps.shape[3])):
        scale = target / source
        centre = torch.arange(target, dtype=maps.dtype) - (0.5 * scale - 0.5)
        lines.append(centre * (2 / (scale * (source - 1))) - 1)
    rows, columns = torch.meshgrid(*lines, indexing="ij")
    grid = torch.stack([columns, rows], 2).expand(len(maps), -1, -1, -1)
    return nn.functional.grid_sample(maps, grid, align_corners=True, padding_mode="zeros")


def test_maps_lie_where_their_receptive_fields_do_as_by_the_reference() -> None:
    """Of the last convolution of an AlexNet without padding of its first layer, on images of 227 px."""
    data = fixture("02_upsample")
    field = ReceptiveField(16, 17, 227, corners=True)
    assert data["conv_scale_offset"].tolist() == [[field.scale, field.offset]] * 2
    result = upsample_activations(data["conv_in"], 56, field=field)
    torch.testing.assert_close(result, data["conv_out"], atol=1e-5, rtol=0)
    spanning = upsample_activations(data["conv_in"], 56)
    assert (spanning - data["conv_out"]).abs().max() > 0.5


def test_a_sample_fades_around_the_pixel_of_its_field() -> None:
    maps = torch.tensor([[[[0.0, 8.0], [0.0, 8.0]]]])
    field = ReceptiveField(4, 2, 9, corners=True)
    assert upsample_activations(maps, 9, field=field)[0, 0, 4].tolist() == [0, 0, 0, 2, 4, 6, 8, 6, 4]
    assert upsample_activations(maps, 9, "clamp", field)[0, 0, 4].tolist() == [0, 0, 0, 2, 4, 6, 8, 8, 8]
    assert upsample_activations(maps, 5, field=field)[0, 0, 2].tolist() == [0, 0, 4, 8, 4]  # every second pixel
    with pytest.raises(ValueError, match=r"scale=0.*expected a positive scale"):
        ReceptiveField(0, 2, 9)


def test_upsampling_is_bilinear_on_centres() -> None:
    maps = torch.randn(2, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    fade = upsample_activations(maps, (7, 12))
    for n in range(2):
        for u in range(3):
            torch.testing.assert_close(fade[n, u], slow_upsample(maps[n, u], 7, 12))
    clamp = nn.functional.interpolate(maps, (7, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(upsample_activations(maps, (7, 12), "clamp"), clamp)
    with pytest.raises(ValueError, match="expected 'fade' or 'clamp'"):
        upsample_activations(maps, 8, "zeros")  # type: ignore[arg-type]


def test_larger_maps_are_averaged_over_areas() -> None:
    """Every fourth pixel of each side is active: a sixteenth of the map, wherever the first one is."""
    for phase in range(4):
        maps = torch.zeros(1, 1, 256, 256)
        maps[..., phase::4, phase::4] = 1
        assert torch.equal(upsample_activations(maps, 64), torch.full((1, 1, 64, 64), 0.0625))
    maps = torch.randn(2, 3, 7, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for border in ("fade", "clamp"):
        even = upsample_activations(maps, (7, 4), border)
        torch.testing.assert_close(even, nn.functional.adaptive_avg_pool2d(maps, (7, 4)))
        mixed = upsample_activations(maps, (14, 4), border)  # larger on one side, smaller on the other
        torch.testing.assert_close(mixed, upsample_activations(even, (14, 4), border))
    fine = upsample_activations(maps.repeat_interleave(5, 2), (5, 12))  # cells that cut samples
    torch.testing.assert_close(fine, maps.repeat_interleave(5, 2).unflatten(2, (5, 7)).mean(3))
    uneven = upsample_activations(maps, (5, 12))
    torch.testing.assert_close(uneven, fine)


def test_a_relu_in_place_does_not_change_what_is_recorded(network: Network, batch: Tensor) -> None:
    maps = record_activations(network, {"a": network.body[0], "b": network.body[2]}, batch)
    assert list(maps) == ["a", "b"] and maps["a"].shape == (2, 4, 6, 6)
    assert torch.equal(maps["a"], network.body[0](batch)) and maps["a"].min() < 0
    assert not maps["a"].requires_grad and not network.body[0]._forward_hooks


def test_recording_refuses_what_is_no_map(network: Network, batch: Tensor) -> None:
    with pytest.raises(ValueError, match=r"gives \[2, 2\]: expected a map"):
        record_activations(network, {"tail": network.tail}, batch)
    with pytest.raises(ValueError, match="not passed"):
        record_activations(network, {"other": nn.Conv2d(3, 3, 1)}, batch)
    with pytest.raises(ValueError, match="more than once"):
        record_activations(lambda x: (network(x), network(x)), {"a": network.body[0]}, batch)
    assert not network.body[0]._forward_hooks


def test_layers_have_the_names_of_the_classifier_or_of_modules(network: Network) -> None:
    assert layer_module(network, "first") is network.body[0]  # type: ignore[arg-type]
    assert layer_module(network, "body.2") is layer_module(network, "2") is network.body[2]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="did you mean first"):
        layer_module(network, "frist")  # type: ignore[arg-type]
    network.other = nn.Sequential(*network.body[:2], nn.Conv2d(4, 5, 3))
    with pytest.raises(ValueError, match="ambiguous"):
        layer_module(network, "2")  # type: ignore[arg-type]


def test_an_intervention_replaces_chosen_units_under_the_mask(network: Network, batch: Tensor) -> None:
    before = record_activations(network, {"a": network.body[0]}, batch)["a"]
    mask = torch.zeros(12, 12)
    mask[:6, :3] = 1  # covers the first column and half of the second, of the upper half of a map of 6
    with intervene(network.body[0], [1, 3], torch.tensor([2.0, -1.0]), mask):
        edited = network.body[0](batch)
    expected = before.clone()
    for unit, value in ((1, 2.0), (3, -1.0)):
        expected[:, unit, :3, 0] = value
        expected[:, unit, :3, 1] = (before[:, unit, :3, 1] + value) / 2
    torch.testing.assert_close(edited, expected)
    assert torch.equal(network.body[0](batch), before)
    with intervene(network.body[0], [0], 7.0):
        assert (network.body[0](batch)[:, 0] == 7).all()


def test_an_intervention_leaves_the_output_of_the_module_itself(batch: Tensor) -> None:
    module, original = nn.Identity(), batch.clone()
    with intervene(module, [0], 0.0):
        assert (module(batch)[:, 0] == 0).all()
    assert torch.equal(batch, original)


def test_interventions_are_refused_where_they_do_not_fit(network: Network, batch: Tensor) -> None:
    module = network.body[0]
    with pytest.raises(ValueError, match="3 values for 2 units"), intervene(module, [0, 1], torch.zeros(3)):
        pass
    with pytest.raises(ValueError, match=r"in \[0, 1\]"), intervene(module, [0], 0.0, torch.full((6, 6), 2.0)):
        pass
    with pytest.raises(ValueError, match="indices of the 4 units"), intervene(module, [4], 0.0):
        module(batch)
    with pytest.raises(ValueError, match="no smaller than the map"), intervene(module, [0], 0.0, torch.ones(3, 3)):
        module(batch)
    assert not module._forward_hooks


def test_top_images_are_those_of_the_reference_up_to_ties() -> None:
    data, maps = fixture("04_topk"), fixture("03_iou")["acts"]
    peaks = maps.amax((2, 3))
    values, index = top_activating(peaks, 5)
    assert torch.equal(values, data["topk_values"])
    assert torch.equal(peaks.T.gather(1, index), values)
    live = torch.tensor([0, 1, 2, 5, 6, 7, 8, 9])  # the others have equal peaks
    assert torch.equal(index[live], data["topk_index"][live])
    with pytest.raises(ValueError, match="k=41 of 40 images"):
        top_activating(peaks, 41)


def test_top_images_of_each_class_are_those_of_the_reference() -> None:
    """That has all images of a class, whatever k is: ours are the first k of them."""
    data, peaks = fixture("04_topk_classes"), fixture("03_iou")["acts"].amax((2, 3))
    classes = data["image_class"]
    top, every = (conditional_top_activating(peaks, classes, k) for k in (5, 40))
    assert list(top) == list(every) == [0, 1, 2]
    for index, (values, images) in every.items():
        distinct = (values.diff(dim=1) < 0).all(1)  # the others have equal peaks
        assert torch.equal(values, data[f"ctk_val_{index}"]) and int(distinct.sum()) >= 5
        assert torch.equal(images[distinct], data[f"ctk_idx_{index}"][distinct])
        assert torch.equal(peaks.T.gather(1, images), values) and bool((classes[images] == index).all())
        assert torch.equal(top[index][0], values[:, :5]) and torch.equal(top[index][1], images[:, :5])
    with pytest.raises(ValueError, match="k=0 of 12 images"):
        conditional_top_activating(peaks, classes, 0)


def test_pictures_are_darkened_outside_the_mask_as_by_the_reference() -> None:
    data, iou = fixture("04_topk"), fixture("03_iou")
    first = data["topk_index"][:, 0]
    maps = iou["acts"][first, torch.arange(12)][:, None]
    mask = top_mask(maps, iou["level_exact"], 48)[:, 0]
    assert torch.equal(mask, data["top1_mask48"])
    assert torch.equal(mask_border(mask), data["top1_border48"])
    image = nn.functional.interpolate(data["images"][first].float(), (48, 48), mode="nearest").to(torch.uint8)
    assert torch.equal(masked_pictures(image, mask), data["masked_thumbs_top3"][:, 0].movedim(-1, 1))
