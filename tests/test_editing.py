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
from lis.dissection import gan_movies
from lis.dissection.dissect_gan import DissectGanConfig, dissect_gan
from lis.dissection.gan_pixels import BRIGHTNESS, brightness_segmenter
from lis.dissection.painting import UnitEdit
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
