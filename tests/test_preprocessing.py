"""Preprocessing against torchvision's, timm's and Pillow's own, with the tolerances that the module promises."""

from __future__ import annotations

import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch.nn import functional as F
from torchvision.models import (
    AlexNet_Weights,
    DenseNet201_Weights,
    EfficientNet_B0_Weights,
    ResNet50_Weights,
    ViT_B_16_Weights,
)
from torchvision.transforms.functional import center_crop

from lis.classifiers.preprocessing import Preprocessing, resize_like_pillow, to_levels

WEIGHTS = (
    ResNet50_Weights.IMAGENET1K_V1,
    ResNet50_Weights.IMAGENET1K_V2,
    AlexNet_Weights.IMAGENET1K_V1,
    DenseNet201_Weights.IMAGENET1K_V1,
    EfficientNet_B0_Weights.IMAGENET1K_V1,  # bicubic, cropped
    ViT_B_16_Weights.IMAGENET1K_SWAG_LINEAR_V1,  # bicubic, not cropped
)
SIZES = (64, 256, 299)
NAMES = ("convnext_tiny.fb_in1k", "densenet121.ra_in1k", "vit_base_patch16_224.augreg_in21k_ft_in1k")


def configuration(name, **changes):
    found = timm.get_pretrained_cfg(name)
    assert found is not None
    return resolve_data_config(pretrained_cfg=found.to_dict()) | changes


def noise(size, n=2):
    return 2 * torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(size)) - 1


def picture(size):
    """Smooth, as images are."""
    return F.interpolate(noise(9), (size, size), mode="bicubic").clamp(-1, 1)


def files(image):
    """What a program reads from image files."""
    return [Image.fromarray(x.permute(1, 2, 0).byte().numpy()) for x in to_levels(image)]


def in_levels(difference, std):
    return difference * torch.tensor(std)[:, None, None] * 255


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda weights: str(weights))
def test_float_equals_torchvision_on_floats(weights, size):
    theirs = weights.transforms()
    ours, image = Preprocessing.of_torchvision(theirs), noise(size)
    torch.testing.assert_close(ours(image), theirs((image + 1) / 2), atol=3e-6, rtol=0)
    assert ours(image).shape[-1] == ours.size == theirs.crop_size[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda weights: str(weights))
def test_uint8_equals_torchvision_on_image_files_to_the_bit(weights, size):
    theirs = weights.transforms()
    ours = Preprocessing.of_torchvision(theirs, uint8=True)
    for image in (noise(size), picture(size)):
        expected = torch.stack([theirs(file) for file in files(image)])
        difference = in_levels(ours(image) - expected, theirs.std)
        assert difference.abs().max() < 1e-3  # float32; a grey level is 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("weights", WEIGHTS[:4], ids=lambda weights: str(weights))
def test_uint8_is_within_a_grey_level_of_torchvision_on_uint8_tensors(weights, size):
    theirs = weights.transforms()
    ours, image = Preprocessing.of_torchvision(theirs, uint8=True), picture(size)
    difference = in_levels(ours(image) - theirs(to_levels(image).byte()), theirs.std)
    assert difference.abs().max() < 1.01


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("weights", WEIGHTS[:4], ids=lambda weights: str(weights))
def test_float_is_within_rounding_of_image_files(weights, size):
    theirs = weights.transforms()
    image = picture(size)
    expected = torch.stack([theirs(file) for file in files(image)])
    difference = in_levels(Preprocessing.of_torchvision(theirs)(image) - expected, theirs.std)
    assert difference.abs().max() < 1.6  # three roundings, half a level each: at most 1.5 for weights ≥ 0
    assert 0.2 < difference.abs().mean() < 0.4


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_uint8_equals_timm_on_image_files(name, size, mode):
    config = configuration(name, crop_mode=mode)
    theirs = create_transform(**config, is_training=False)
    image = noise(size)
    expected = torch.stack([theirs(file) for file in files(image)])  # pyright: ignore
    difference = in_levels(Preprocessing.of_timm(config, uint8=True)(image) - expected, config["std"])
    assert difference.abs().max() < 1e-3


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("source", "size"), [(7, 3), (64, 255), (300, 64), (5, 64), (256, 232)])
def test_levels_are_resized_as_pillow_does(interpolation, source, size):
    image = noise(source)
    how = getattr(Image.Resampling, interpolation.upper())
    expected = [
        torch.frombuffer(bytearray(f.resize((size, size), how).tobytes()), dtype=torch.uint8) for f in files(image)
    ]
    expected = torch.stack(expected).view(-1, size, size, 3).permute(0, 3, 1, 2)
    assert torch.equal(resize_like_pillow(to_levels(image), size, interpolation).byte(), expected)


def test_levels_are_rounded_half_up_and_stay_in_range():
    image = torch.tensor([-3.0, -1.0, 0.0, 1.0, 1.4]).view(1, 1, 1, 5)
    assert to_levels(image).flatten().tolist() == [0, 0, 128, 255, 255]
    every = torch.arange(256) / 127.5 - 1
    assert to_levels(every).tolist() == list(range(256))


@pytest.mark.parametrize("resize", range(8, 16))
def test_the_crop_is_torchvisions_centre(resize):
    image = noise(resize)
    ours = Preprocessing(resize, 8, (0.5,) * 3, (0.5,) * 3)(image)
    assert torch.equal(ours, center_crop(image, [8]))


def test_images_as_drawn_are_left_alone_and_others_resized():
    ours = Preprocessing.as_drawn(16)
    assert torch.equal(ours(noise(16)), noise(16))
    assert ours(noise(40)).shape == (2, 3, 16, 16)
    assert ours(torch.full((1, 3, 40, 40), -1.0)).sub(-1).abs().max() < 1e-6


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_gradient_is_that_of_finite_differences(interpolation):
    ours = Preprocessing(6, 4, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), interpolation)
    image = noise(9, n=1).double().requires_grad_()
    assert torch.autograd.gradcheck(ours, image)


def test_settings_tell_everything():
    ours = Preprocessing(256, 224, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), "bicubic", uint8=True)
    assert ours.settings == {
        "resize": 256,
        "crop": 224,
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.4],
        "interpolation": "bicubic",
        "uint8": True,
    }
    assert not ours.state_dict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop": 300}, "a crop of 300 px does not fit into an image resized to 256 px"),
        ({"interpolation": "nearest"}, "'nearest': expected bilinear or bicubic"),
        ({"mean": (0.5,)}, r"three means .*mean=\[0.5\]"),
        ({"std": (0.5, 0.5, 0)}, r"std > 0, .*std=\[0.5, 0.5, 0\]"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**{"resize": 256, "crop": 224, "mean": (0.5,) * 3, "std": (0.5,) * 3} | arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_mode": "random"}, "'random': expected one of center, squash, border"),
        ({"input_size": (1, 224, 224)}, r"\(1, 224, 224\): expected \(3, size, size\)"),
        ({"input_size": (3, 224, 192)}, r"\(3, 224, 192\): expected \(3, size, size\)"),
        ({"interpolation": "lanczos"}, "unknown interpolation 'lanczos'"),
    ],
)
def test_what_timm_has_and_we_have_not_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing.of_timm(configuration("resnet18.a1_in1k", **change))


@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (2, 1, 8, 8), (3, 8, 8)])
def test_images_that_are_not_square_or_not_in_colour_are_refused(shape):
    with pytest.raises(ValueError, match=r"\[n, 3, s, s\], got \(" + ", ".join(map(str, shape))):
        Preprocessing.as_drawn(8)(torch.zeros(shape))
