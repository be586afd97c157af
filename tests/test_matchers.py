"""Every matcher on known motion, and on pictures that cannot be matched."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from helpers.fakes import FakeGenerator
from helpers.moving import inner_error, map_of, moved, textured
from torch import Tensor
from torch.nn import functional as F

from lis import build
from lis.classifiers.partnet import PartNet
from lis.config import FlowConfig, MatcherConfig, PumpConfig
from lis.generators.partworld import PartWorld
from lis.images import smaller
from lis.matching.affine import apply, estimate
from lis.matching.descriptors import Patches, lengthened, projected
from lis.motion.matchers import matched_side
from lis.motion.matching import trials
from lis.streams import Stream
from lis.types import Matcher

QUICK: dict[str, MatcherConfig] = {
    "flow": FlowConfig(),
    "patches": PumpConfig(enlarge=1, min_component=20),
    "daisy": PumpConfig(descriptor="daisy", enlarge=1, min_component=20),
    "classifier": PumpConfig(descriptor="classifier", enlarge=1, min_component=20),
}
MATCHERS = pytest.mark.parametrize("name", QUICK)
MAP = map_of(4, 1.03, (3.0, -2.0))


def made(name: str) -> Matcher:
    return build.matcher(QUICK[name], 64, PartNet() if name == "classifier" else None)


@MATCHERS
def test_known_motion_is_found(name: str) -> None:
    """Two pairs at once: the field, and most matches within two pixels; flow to a fraction of one."""
    matcher, first = made(name), torch.cat([textured(seed=1), textured(seed=2)])
    view = [matcher.view(image) for image in (first, moved(first, MAP.clone()))]
    found = matcher(*view)
    assert len(found) == 2 and isinstance(matcher, Matcher)
    for pair in found:
        error = inner_error(pair.field, MAP)
        assert pair.reason == "" and pair.field.dtype == torch.float32
        assert error.mean() < (0.3 if name == "flow" else 1.5) and (error < 4).float().mean() > 0.95
        off = (pair.matches.xy2 - apply(MAP, pair.matches.xy1)).norm(dim=1)
        assert len(pair.matches) > 40 and (off < 2).float().mean() > 0.8


@MATCHERS
def test_what_cannot_be_matched_has_a_reason(name: str) -> None:
    """In a batch with what can: no texture, not finite, noise; nothing is raised, and the others do not notice."""
    matcher, picture = made(name), textured()
    flat = torch.full_like(picture, 0.3)
    first = torch.cat([picture, flat, picture, picture])
    second = torch.cat([picture, picture, flat, picture])
    views = [matcher.view(images) for images in (first, second)]
    views[1][3, :, 5, 5] = torch.nan
    same, flat1, flat2, nan = matcher(*views)
    assert same.reason == "" and same.field.abs().max() < 0.5
    assert (flat1.reason, flat2.reason) == ("image 1 has no texture", "image 2 has no texture")
    assert nan.reason == "an image is not finite"
    for failed in (flat1, flat2, nan):
        assert failed.field.isnan().all() and len(failed.matches) == 0


def test_axes_of_patches_are_those_of_float64() -> None:
    """Rounding in the search for them, which differs with the threads, does not come down to what is compared."""
    generator, patches = PartWorld(["pug"]), Patches()
    tried = trials(generator, "pose", 0, 2, seed=0)
    images = [F.interpolate(generator.synthesize(w), scale_factor=2, mode="bicubic") for w in (tried.w, tried.moved)]
    first, second = (patches._patches(image) for image in images)

    def product(one: Tensor, other: Tensor) -> Tensor:
        return torch.einsum("nchw,nchw->nhw", *lengthened(*projected(one, other, patches.channels), 0.3))

    assert (product(first, second) - product(first.double(), second.double())).abs().max() < 1e-6


@pytest.mark.parametrize("config", [FlowConfig(), PumpConfig(enlarge=1)])
def test_the_same_pictures_give_the_same_to_the_bit_with_any_number_of_threads(config: MatcherConfig) -> None:
    matcher, generator = build.matcher(config, 64), PartWorld(["pug"])
    tried = trials(generator, "pose", 0, 1, seed=0)
    views = [matcher.view(generator.synthesize(w)) for w in (tried.w, tried.moved)]
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            found.append(matcher(*views))
        finally:
            torch.set_num_threads(1)
    for one, two in zip(*found, strict=True):
        assert torch.equal(one.matches.xy1, two.matches.xy1) and torch.equal(one.matches.xy2, two.matches.xy2)
        assert torch.equal(one.field, two.field)


@pytest.mark.parametrize("name", ["patches", "daisy"])
def test_pictures_of_other_things_have_too_few_matches(name: str) -> None:
    matcher = build.matcher(PumpConfig(descriptor=name, enlarge=1), 64)
    pair = matcher(textured(seed=3), textured(seed=4))[0]
    assert "none hang together with more than 50" in pair.reason and pair.field.isnan().all()


@MATCHERS
@pytest.mark.parametrize("size", [1, 4, 7])
def test_tiny_pictures_have_a_reason(name: str, size: int) -> None:
    if name == "classifier":  # its network takes one size
        return
    pair = made(name)(*(torch.rand(1, 3, size, size) * 2 - 1 for _ in range(2)))[0]
    assert "pixels" in pair.reason and pair.field.shape == (size, size, 2)


def test_large_motion_is_found_by_flow_from_keypoints() -> None:
    """A turn and shift that flow alone does not bridge."""
    matrix = map_of(25, 1.0, (9.0, 6.0), 128)
    first = textured(128)
    pair = made("flow")(first, moved(first, matrix))[0]
    assert inner_error(pair.field, matrix, 30).mean() < 0.5


@pytest.mark.parametrize("kind", ["pose", "parts"])
def test_rounding_errors_of_images_stay_rounding_errors(kind: str) -> None:
    """Fields and affine maps of pairs whose last digits differ: no grey level or keypoint flips."""
    generator, matcher, rng = PartWorld(["pug"]), made("flow"), torch.Generator().manual_seed(0)
    tried = trials(generator, kind, 1, 6, 0)
    pairs = [generator.synthesize(w) for w in (tried.w, tried.moved)]
    found, other = (
        matcher(*(image + noise * torch.randn(image.shape, generator=rng) for image in pairs)) for noise in (0.0, 1e-6)
    )
    fields = torch.stack([a.field - b.field for a, b in zip(found, other, strict=True)]).norm(dim=-1)
    maps = torch.stack(
        [estimate(a.matches).matrix - estimate(b.matches).matrix for a, b in zip(found, other, strict=True)]
    )
    assert fields.mean() < 1e-4 and fields.max() < 0.02 and maps.abs().max() < 2e-3


def test_flow_follows_corners_where_there_are_no_keypoints() -> None:
    """One blob is no keypoint that can be told from others; it still moves."""
    grid = torch.stack(torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij"))

    def square(x: float) -> Tensor:
        inside = ((grid[1] - x).abs().clamp(6, 8) - 6) / 2 + ((grid[0] - 30).abs().clamp(6, 8) - 6) / 2
        return (1 - inside.clamp(max=1))[None, None].expand(1, 3, -1, -1) * 2 - 1

    pair = made("flow")(square(30), square(32))[0]
    on = pair.field[26:35, 26:35]
    assert pair.reason == "" and (on - torch.tensor([2.0, 0.0])).norm(dim=-1).mean() < 0.7
    assert len(pair.matches) > 10


def test_equal_brightness_hides_no_edge() -> None:
    """Red on green of the same luma moves as anything else."""
    shape = textured().mean(1, keepdim=True).sign()
    red, green = torch.tensor([0.6, -0.4, 0.0]), torch.tensor([-0.4, -0.4 + 0.2126 / 0.7152, 0.0])
    image = torch.where(shape > 0, red[:, None, None], green[:, None, None])
    matrix = map_of(0, 1, (2.0, 1.0))
    pair = made("flow")(image, moved(image, matrix))[0]
    assert pair.reason == "" and inner_error(pair.field, matrix).median() < 0.3


def test_fingerprints_tell_settings_apart() -> None:
    settings = [FlowConfig(), FlowConfig(enlarge=3), PumpConfig(), PumpConfig(channels=8), PumpConfig(enlarge=1)]
    settings += [PumpConfig(descriptor="daisy"), PumpConfig(min_component=9), PumpConfig(descriptor="generator")]
    found = [build.matcher(config, 64).fingerprint for config in settings]
    assert len(set(found)) == len(found) and found[2] == build.matcher(PumpConfig(), 64).fingerprint


@pytest.mark.parametrize("config", [FlowConfig, PumpConfig])
@pytest.mark.parametrize(("side", "factor"), [(32, 2), (64, 2), (127, 2), (128, 1), (256, 1)])
def test_pictures_that_are_large_are_not_enlarged(config: Any, side: int, factor: int) -> None:
    """Twice 256 pixels were matched at 512; part world's fingerprints are what they were."""
    assert config().enlarge is None
    usual, told, other = (cast(Any, build.matcher(config(enlarge=enlarge), side)) for enlarge in (None, factor, 3))
    assert usual == told and usual.fingerprint == told.fingerprint and usual.enlarge == factor
    assert other.enlarge == 3 and other.fingerprint != usual.fingerprint


@pytest.mark.parametrize(("resolution", "side"), [(64, 64), (256, 256), (512, 256), (1024, 256), (320, 160)])
def test_what_is_matched_are_the_images_as_they_are_kept(resolution: int, side: int) -> None:
    generator = FakeGenerator(resolution=8)
    generator.resolution = resolution
    assert matched_side(generator) == side == smaller(torch.zeros(1, 1, resolution, resolution)).shape[2]


class Unread:
    """Says nothing of the maps that it reads."""

    fingerprint = "unread"
    view = __call__ = None


def test_a_matcher_that_lacks_something_is_told() -> None:
    with pytest.raises(ValueError, match=r"matcher test_matchers\.Unread: it has no layers; expected what lis\.types"):
        build.matcher(MatcherConfig(_target_="test_matchers.Unread"), 64)


def test_the_generators_maps_move_with_its_figure() -> None:
    """Part world's own feature maps: two poses of one figure, the truth from its displacement."""
    generator = PartWorld(["pug"])
    w = generator.sample(1, torch.arange(1), Stream("views"))
    u = generator.true_factors(w).repeat(2, 1)
    u[1, 0] += 0.8
    image, maps = generator.network(u)
    matcher = build.matcher(PumpConfig(descriptor="generator", enlarge=1, min_component=20), 64)
    view = matcher.view(image.clamp(-1, 1), maps)
    assert view.shape[1] > 3
    pair = matcher(view[:1], view[1:])[0]
    truth = generator.displacement(*(x[None] @ generator.world.basis.T for x in u))[0]
    known = truth.isfinite().all(-1)
    error = (pair.field - truth)[known].norm(dim=-1)
    assert pair.reason == "" and (error < 4).float().mean() > 0.9 and truth[known].norm(dim=-1).mean() > 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PumpConfig(descriptor="dasy"), "matcher.descriptor=dasy: expected one of patches, daisy"),
        (PumpConfig(descriptor="classifier"), "expected a classifier with convolutions"),
        (PumpConfig(descriptor="convmixer"), r"not in this package: .*matcher\.weights=<path>"),
    ],
)
def test_what_a_descriptor_needs_is_told(config: PumpConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build.matcher(config, 64)


def test_layers_and_maps_that_are_missing_are_told() -> None:
    with pytest.raises(ValueError, match=r"matcher\.layers: no layer 'nothing', expected some of"):
        build.matcher(PumpConfig(descriptor="classifier", layers=["nothing"]), 64, PartNet())
    with pytest.raises(ValueError, match="no layer 'nothing', expected some of b4"):
        build.matcher(PumpConfig(descriptor="generator", layers=["nothing"]), 64).view(textured(), {"b4": textured()})
    with pytest.raises(ValueError, match="came without the generator's feature maps"):
        build.matcher(PumpConfig(descriptor="generator"), 64).view(textured())
