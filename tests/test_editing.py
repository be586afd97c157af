"""Maps of a generator that offers no edits: replaced where they arise, whatever computes them, or refused."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.fakes import FakeClassifier, FakeGenerator, make_context
from torch import Tensor, nn
from torch.nn import functional as F

from lis.api.painted import painted
from lis.costs import image_bytes
from lis.dissection import gan_movies
from lis.dissection.dissect_gan import DissectGanConfig, dissect_gan
from lis.dissection.gan_pixels import BRIGHTNESS, brightness_segmenter
from lis.dissection.gan_units import Edited, edited_images
from lis.dissection.painting import UnitEdit
from lis.generators import editing
from lis.generators.editing import InterceptedGenerator, edited
from lis.generators.layers import requested_layers
from lis.generators.partworld import PartWorld
from lis.report.dissect_gan import generator_units
from lis.report.source import source
from lis.report.tables import where
from lis.streams import Stream
from lis.types import Editable

CODES = torch.arange(2)


class Plain:
    """A generator without its `synthesize_edited`."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def synthesize(self, w: Tensor, features: bool | Collection[str] = False) -> Any:
        return self.made.synthesize(w, features)


class Users(FakeGenerator):
    """A user's: first by a view of a vector, second by a function in place behind a module, two that nothing reads."""

    def __init__(self, statement: bool = False) -> None:
        super().__init__(resolution=8)
        torch.manual_seed(0)
        self.dense, self.up, self.last = nn.Linear(6, 8 * 16), nn.ConvTranspose2d(8, 12, 4, 2, 1), nn.Conv2d(12, 3, 1)
        self.norm, self.statement = nn.BatchNorm2d(12).eval(), statement
        self.domain, self.fingerprint = "clothes", "a user's"

    def synthesize(self, w: Tensor, features: bool | Collection[str] = False) -> Any:
        first = F.leaky_relu(self.dense(w), 0.2).view(-1, 4, 4, 8).permute(0, 3, 1, 2)
        second = self.norm(self.up(first))
        if self.statement:
            second.relu_()
        else:
            second = F.relu(second, inplace=True)
        image = torch.tanh(20 * self.last(second) + 4)
        maps = {"first": first, "second": second, "halved": second[:, :, ::2, ::2], "copied": self.stored(second)}
        maps |= {"third": second.clone()}
        names = requested_layers(features, list(maps))
        return image if features is False else (image, {name: maps[name] for name in names})

    @staticmethod
    def stored(x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() + 1)

    def tail(self, second: Tensor) -> Tensor:
        return torch.tanh(20 * self.last(second) + 4)


@pytest.fixture
def users() -> tuple[Users, Tensor]:
    made = Users()
    return made, made.sample(0, torch.arange(3), Stream("test pairs"))


def test_an_edit_of_functions_and_views_is_what_the_layers_behind_make_of_it(users: tuple[Users, Tensor]) -> None:
    made, w = users
    editable, (image, maps) = edited(made), made.synthesize(w, True)
    assert isinstance(editable, InterceptedGenerator) and torch.equal(editable.synthesize_edited(w, {}), image)
    halved = maps["second"].clone()
    halved[:, :4] /= 2
    result, after = editable.synthesize_edited(w, {"second": lambda _: halved}, ["first", "second"])
    assert torch.equal(result, made.tail(halved)) and torch.equal(after["second"], halved)
    assert list(after) == ["first", "second"] and torch.equal(after["first"], maps["first"])
    both = {"first": lambda x: 0 * x, "second": lambda x: x + 1}
    constant = F.relu(made.norm(made.up(torch.zeros(3, 8, 4, 4)))) + 1
    torch.testing.assert_close(editable.synthesize_edited(w, both), made.tail(constant))
    torch.testing.assert_close(editable.synthesize_edited(w[:1], both), made.tail(constant[:1]))
    assert torch.equal(made.synthesize(w), image)


def test_a_copy_of_a_map_is_edited_where_the_map_arises(users: tuple[Users, Tensor]) -> None:
    made, w = users
    result = edited(made).synthesize_edited(w, {"third": torch.zeros_like})
    assert torch.equal(result, made.tail(torch.zeros(3, 12, 8, 8)))


@pytest.mark.parametrize("layer", ["halved", "copied"])
def test_a_map_that_nothing_reads_is_refused_beside_those_that_can_be_edited(
    users: tuple[Users, Tensor], layer: str
) -> None:
    with pytest.raises(ValueError, match=rf"layer '{layer}' of Users cannot be edited.*that can, first, second, third"):
        edited(users[0]).synthesize_edited(users[1], {layer: torch.zeros_like})
    with pytest.raises(ValueError, match="no layer 'b3': expected some of first, second, halved, copied, third"):
        edited(users[0]).synthesize_edited(users[1], {"b3": torch.zeros_like})
    with pytest.raises(ValueError, match="gives shape"):
        edited(users[0]).synthesize_edited(users[1], {"second": lambda x: x[:, :1]})


def test_a_map_that_is_written_to_afterwards_is_refused() -> None:
    made = Users(statement=True)
    w = made.sample(0, torch.arange(3), Stream("test pairs"))
    with pytest.raises(ValueError, match=r"'second' of Users cannot be edited.*that can, first,"):
        edited(made).synthesize_edited(w, {"second": torch.zeros_like})


def test_other_steps_than_those_of_the_first_image_are_refused(users: tuple[Users, Tensor]) -> None:
    made, w = users
    editable = edited(made)
    editable.synthesize_edited(w, {"second": torch.zeros_like})
    made.norm = nn.Sequential(nn.Identity(), made.norm, nn.Hardtanh(-9, 9))  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match="layer 'second' of Users arose elsewhere than in the first image"):
        editable.synthesize_edited(w, {"second": lambda x: -1 - x})


class Skipped(FakeGenerator):
    """StyleGAN2's constant, and a dropout that does nothing behind a skip."""

    def __init__(self) -> None:
        super().__init__(resolution=4)
        torch.manual_seed(0)
        self.constant, self.up, self.skip = torch.randn(6, 4, 4), nn.Conv2d(6, 3, 1), nn.Conv2d(6, 3, 1)
        self.dropout, self.passes = nn.Dropout().eval(), 0

    def synthesize(self, w: Tensor, features: bool | Collection[str] = False) -> Any:
        self.passes += 1
        first = self.repeated(self.constant.unsqueeze(0), len(w))
        second = F.relu(first * w[:, :, None, None])
        third = self.dropout(second)
        image = self.up(third) + self.skip(second)
        maps = {"first": first, "second": second, "third": third, "stored": third.clone()}
        return (
            image if features is False else (image, {name: maps[name] for name in requested_layers(features, [*maps])})
        )

    def repeated(self, constant: Tensor, n: int) -> Tensor:
        return constant.repeat(n, 1, 1, 1)


class Unseen(Skipped):
    """The same, by what is no torch function."""

    def repeated(self, constant: Tensor, n: int) -> Tensor:
        return torch.from_numpy(np.repeat(constant.numpy(), n, 0))


@pytest.fixture
def skipped() -> tuple[Skipped, Tensor]:
    made = Skipped()
    return made, made.sample(0, torch.arange(3), Stream("test pairs"))


@pytest.mark.parametrize("n", [1, 3])
def test_a_constant_is_edited_where_it_has_a_batch_dimension(skipped: tuple[Skipped, Tensor], n: int) -> None:
    made, w = skipped[0], skipped[1][:n]
    ramp = torch.arange(1.0, n + 1)[:, None, None, None]  # an edit that differs by image
    second = F.relu(ramp * made.constant * w[:, :, None, None])
    result, after = edited(made).synthesize_edited(w, {"first": lambda x: x * ramp}, ["first"])
    torch.testing.assert_close(result, made.up(second) + made.skip(second))
    torch.testing.assert_close(after["first"], ramp * made.constant)


@pytest.mark.parametrize("n", [1, 3])
def test_a_constant_without_a_batch_dimension_is_not_the_map(n: int) -> None:
    made = Unseen()
    with pytest.raises(ValueError, match=r"'first' of Unseen cannot be edited.*that can, second, third, stored"):
        edited(made).synthesize_edited(made.mean_w[:n], {"first": torch.zeros_like})


def test_what_goes_past_a_layer_is_not_edited(skipped: tuple[Skipped, Tensor]) -> None:
    made, w = skipped
    second = made.synthesize(w, ["second"])[1]["second"]
    result, after = edited(made).synthesize_edited(w, {"third": torch.zeros_like}, ["second"])
    torch.testing.assert_close(result, made.up(0 * second) + made.skip(second))
    assert torch.equal(after["second"], second)
    both = edited(made).synthesize_edited(w, {"second": lambda x: x + 1, "third": lambda x: x * 2})
    torch.testing.assert_close(both, made.up(2 * second + 2) + made.skip(second + 1))


def test_two_layers_that_are_one_tensor_are_refused(skipped: tuple[Skipped, Tensor]) -> None:
    edits = {"third": torch.zeros_like, "stored": torch.zeros_like}
    with pytest.raises(ValueError, match=r"layers 'third' and 'stored' of Skipped are one tensor: expected an edit of"):
        edited(skipped[0]).synthesize_edited(skipped[1], edits)


def test_only_the_layer_that_is_edited_is_located_and_only_once(skipped: tuple[Skipped, Tensor]) -> None:
    made, w = skipped
    edited(made).synthesize_edited(w, {"first": torch.zeros_like})
    assert made.passes == 3  # recorded, marked at the last result that is equal, edited
    edited(made).synthesize_edited(w, {"first": torch.zeros_like})
    assert made.passes == 4


def test_maps_on_two_devices_are_not_equal() -> None:
    assert editing._equal(torch.ones(2, 1), torch.ones(2, 1))
    assert not editing._equal(torch.ones(2, 1), torch.ones(2, 1, device="meta"))


def test_images_of_edited_maps_at_once_leave_room_for_all_maps(
    skipped: tuple[Skipped, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = skipped[0]
    layer, image = 4 * 6 * 16, 4 * 3 * 16
    monkeypatch.setattr("lis.costs.budget", lambda _: 10 * (4 * layer + 2 * layer + 8 * image))
    ctx = make_context(tmp_path, generator=made, classifier=FakeClassifier(made), batch_size=64)
    assert Edited.of(ctx, brightness_segmenter(), made.mean_w).batches.size == 10 < ctx.images().size
    world = PartWorld(["pug"])
    monkeypatch.setattr("lis.costs.budget", lambda _: 10 * image_bytes(world, torch.device("cpu")))
    ctx = make_context(tmp_path, generator=world, classifier=FakeClassifier(made), batch_size=64)
    assert edited_images(ctx).size == 10


def test_part_world_is_edited_as_it_does_itself() -> None:
    world = PartWorld(["pug"])
    w = world.sample(1, CODES, Stream("test pairs"))
    plain: Any = Plain(world)
    intercepted = edited(plain)
    assert edited(world) is world and isinstance(intercepted, Editable)
    for layer in world.synthesize(w, True)[1]:
        edits = UnitEdit(layer, [0, 2], 1.5).edits()
        torch.testing.assert_close(
            intercepted.synthesize_edited(w, edits), world.synthesize_edited(w, edits), atol=1e-5, rtol=0
        )


def test_brightness_is_read_in_thirds() -> None:
    level = torch.tensor([-1.5, -1.0, -0.34, -0.33, 0.33, 0.34, 1.0, 1.5])
    image = torch.stack([level - 0.2, level, level + 0.2])[None, :, None]
    assert brightness_segmenter().segment(image).tolist() == [[[1, 1, 1, 2, 2, 3, 3, 3]]]


SETTINGS = DissectGanConfig(
    concepts="brightness",
    samples=6,
    quantile=0.8,
    permutations=19,
    edited=2,
    most=4,
    draws=19,
    insertions=8,
    min_count=2,
)


def test_a_users_generator_is_dissected_by_brightness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gan_movies, "STEPS", 2)
    made = Users()
    ctx = make_context(tmp_path, generator=made, classifier=FakeClassifier(made))
    ctx.config.dissect_gan = replace(SETTINGS, layer="second")  # pyright: ignore[reportAttributeAccessIssue]
    artifact = dissect_gan(ctx)
    facts = artifact.json("facts")
    assert facts["parts"] == list(BRIGHTNESS) and facts["segmenter_iou"] == {}
    assert (facts["units"], facts["map"]) == (12, [8, 8])
    effects = where(artifact.table("side_effects"), label="background")["change"]
    assert np.isnan(effects.to_numpy()).all()
    section = generator_units(source(ctx, {"dissect_gan": artifact}))
    assert section is not None
    assert "What units do to the parts of what the images show, such as a sleeve, is not measured" in section.lead
    assert "each third of the brightness" in section.lead and "segmenter" not in section.tables[0].columns
    assert "background" not in set(section.figures[1].data["label"])  # pyright: ignore[reportOptionalSubscript]
    best = where(artifact.table("agreement"), part="bright").nsmallest(4, "rank")["unit"].tolist()
    stream = Stream("dissect_gan", ctx.config.seed)
    w = torch.cat([made.sample(k, torch.arange(6, 8), stream) for k in range(made.num_classes)])
    second = made.synthesize(w, ["second"])[1]["second"]
    without = second.clone()
    without[:, best] = 0
    before, after = ((made.tail(x).mean(1) >= 1 / 3).double().mean() for x in (second, without))
    change = where(artifact.table("removal"), part="bright", units=4)["change"].item()
    assert before > 0 and change == pytest.approx(float(1 - after / before), abs=1e-6)


def test_what_nothing_can_tell_is_refused_before_any_work(tmp_path: Path) -> None:
    made = Users()
    ctx = make_context(tmp_path, generator=made, classifier=FakeClassifier(made))
    ctx.config.dissect_gan = replace(SETTINGS, layer="halved")  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match="'halved' of Users cannot be edited"):
        dissect_gan(ctx)
    ctx.config.dissect_gan = replace(SETTINGS, layer="second", concepts="parts")  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match=r"nothing segments .* of Users into parts.*dissect_gan.concepts=brightness"):
        dissect_gan(ctx)
    segmenter: Any = nn.Identity()
    with pytest.raises(ValueError, match=r"segmenter=Identity: expected lis.PixelSegmenter.*is circular"):
        painted(ctx, None, [0], None, "second", 0.0, None, segmenter)  # pyright: ignore[reportArgumentType]
