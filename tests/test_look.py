"""What is read off images, in batches: against one image at a time, in plain steps."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fakes import NAMES, FakeClassifier, FakeGenerator, make_context
from helpers.fakes_units import LABELS, FakeSegmenter, look
from helpers.simulated import GPU, OnGpu, simulated_gpu
from torch import Tensor

from lis.context import Context
from lis.images import LARGEST, page_image, to_uint8
from lis.look import PICTURED, Look, Looker, generated
from lis.memory import Batches
from lis.segmentation.segmenter import Masks

MASKS = Masks(FakeSegmenter())
KNOWN = (*NAMES, "dog", "eel")
"""The classifier's classes, of which two are never predicted."""
FIELDS = ("r", "softmax", *PICTURED)


def context(root: Path, **overrides: Any) -> Context:
    """A run of two of the classifier's classes, not in its order."""
    generator = FakeGenerator()
    classifier = FakeClassifier(generator, class_names=KNOWN)
    return make_context(root, generator, classifier, class_names=("cat", "ant"), **overrides)


def codes(*shape: int) -> Tensor:
    return torch.randn(*shape, 6, generator=torch.Generator().manual_seed(0))


def test_every_number_equals_plain_steps(tmp_path: Path) -> None:
    """In the leading dimensions of w."""
    ctx, w = context(tmp_path), codes(4, 3)
    found = Looker.pictured(ctx, MASKS, LABELS)(w)
    for row, step in torch.cartesian_prod(torch.arange(4), torch.arange(3)).tolist():
        measures, softmax, r = look(ctx, w[row, step])
        here = found[row, step]
        torch.testing.assert_close(here.measures, measures, equal_nan=True, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close((here.softmax, here.r), (softmax, r))
        assert torch.equal(here.probability, here.softmax[[2, 0]])
        assert int(here.prediction) == int(softmax.argmax())
        image = ctx.generator.synthesize(w[row, step, None])
        assert torch.equal(here.image, to_uint8(image)[0])
        assert torch.equal(here.mask.long(), MASKS({"only": image})[0])
    assert found.tensors(PICTURED)["prediction"].shape == (4, 3) and found.probability.shape == (4, 3, 2)
    assert found.measures.isnan().any() and found.measures.isfinite().any()
    types = {name: values.dtype for name, values in found.tensors(FIELDS).items()}
    assert {name for name, dtype in types.items() if dtype == torch.uint8} == {"image", "mask"}
    assert types["prediction"] == torch.int64 and types["r"] == types["measures"] == torch.float32


@pytest.mark.parametrize("size", [1, 5, 100])
def test_batches_do_not_matter(tmp_path: Path, size: int) -> None:
    looker, w = Looker.pictured(context(tmp_path), MASKS, LABELS), codes(12)
    ours, theirs = looker(w), replace(looker, batches=Batches(size))(w)
    for name in FIELDS:
        torch.testing.assert_close(*(one.tensors([name]) for one in (ours, theirs)), equal_nan=True)


def test_every_image_is_read_once_where_memory_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looker, w, features, sizes = Looker.tuned(context(tmp_path), MASKS, LABELS), codes(12), FakeClassifier.features, []
    expected = looker(w)

    def small(self: FakeClassifier, image: Tensor) -> Tensor:
        sizes.append(len(image))
        if len(image) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return features(self, image)

    monkeypatch.setattr(FakeClassifier, "features", small)
    found = replace(looker, batches=Batches(8))(w)
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2]
    torch.testing.assert_close(found.tensors(["r", "measures"]), expected.tensors(["r", "measures"]), equal_nan=True)


def test_what_is_not_asked_for_is_empty(tmp_path: Path) -> None:
    ctx, w = context(tmp_path), codes(2, 5)
    plain, measured = Looker.tuned(ctx)(w), Looker.tuned(ctx, MASKS, LABELS)(w)
    assert {name for name, x in plain.tensors(FIELDS).items() if not x.numel()} == {"image", "mask", "measures"}
    assert {name for name, x in measured.tensors(FIELDS).items() if not x.numel()} == {"image", "mask"}
    assert plain.image.shape == plain.measures.shape == (2, 5, 0) and torch.equal(plain.r, measured.r)


def test_only_the_maps_that_are_read_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx, asked = context(tmp_path), list[Any]()
    looker, plain = Looker.tuned(ctx, MASKS, LABELS), Looker.tuned(ctx)
    monkeypatch.setattr(FakeGenerator, "synthesize", noting(FakeGenerator.synthesize, asked))
    looker(codes(2))
    plain(codes(2))
    generated(ctx, codes(2), MASKS, layers=True)
    assert asked == [("only",), False, True]


def noting(synthesize: Any, asked: list[Any]) -> Any:
    def noted(self: FakeGenerator, w: Tensor, features: Any = False) -> Any:
        asked.append(features)
        return synthesize(self, w, features)

    return noted


def test_maps_were_held_while_the_classifier_read_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the most of what an image takes."""
    looker, features, maps = Looker.pictured(context(tmp_path), MASKS, LABELS), FakeClassifier.features, list[Any]()

    def synthesize(self: FakeGenerator, w: Tensor, features: Any = False) -> Any:
        image = (w @ self.decoder.T).unflatten(1, (3, 8, 8))
        made = image.clone()
        maps.append(weakref.ref(made))
        return image, {"only": made}

    def alone(self: FakeClassifier, image: Tensor) -> Tensor:
        assert maps and maps[-1]() is None
        return features(self, image)

    monkeypatch.setattr(FakeGenerator, "synthesize", synthesize)
    monkeypatch.setattr(FakeClassifier, "features", alone)
    assert looker(codes(3)).mask.shape == (3, 8, 8)


def test_a_generator_without_parts_is_all_background(tmp_path: Path) -> None:
    image, mask, maps = generated(context(tmp_path), codes(3))
    assert image.shape == (3, 3, 8, 8) and mask.shape == (3, 1, 1) and not mask.any() and maps == {}


def test_pictures_are_read_as_they_are(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    pictures = torch.randint(0, 256, (9, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = Looker(ctx, Batches(4), image=page_image).pictures(pictures)
    assert torch.equal(found.image, pictures) and not found.mask.numel() and not found.measures.numel()
    for k, picture in enumerate(pictures):
        r = ctx.classifier.features(picture[None] / 127.5 - 1)
        torch.testing.assert_close(found.r[k], r[0])
        torch.testing.assert_close(found.softmax[k], ctx.classifier.head(r)[0].softmax(0))


class Silent(FakeClassifier):
    """Gives no answers."""

    def head(self, r: Tensor) -> Tensor:
        """NaN."""
        return super().head(r) * torch.nan


class Deaf(FakeClassifier):
    """Its answers do not follow from its activations, of which one is infinite."""

    def features(self, image: Tensor) -> Tensor:
        """The first unit of the last image is infinite."""
        r = super().features(image)
        r[-1, 0] = torch.inf
        return r

    def head(self, r: Tensor) -> Tensor:
        """Always the same."""
        return torch.zeros(len(r), len(self.class_names))


@pytest.mark.parametrize("kind", [Silent, Deaf])
def test_answers_that_are_not_finite_became_rows(tmp_path: Path, kind: type[FakeClassifier]) -> None:
    """Of strips, pictures of units, views and trajectories; only tuning and searches looked."""
    generator = FakeGenerator()
    looker = Looker.pictured(make_context(tmp_path, generator, kind(generator)), MASKS, LABELS)
    with pytest.raises(ValueError, match=r"answer to a generated image is not finite: expected finite .*link=ridge"):
        looker(codes(3))
    with pytest.raises(ValueError, match=r"answer to a picture is not finite: .*check the weights of the classifier$"):
        looker.pictures(torch.zeros(3, 3, 8, 8, dtype=torch.uint8))


class Distant(FakeGenerator):
    """Lies on the simulated GPU, and so do its images."""

    def synthesize(self, w: Tensor, features: Any = False) -> Any:
        """As they are on the processor, moved."""
        assert w.device == GPU
        image = super().synthesize(w.as_subclass(Tensor)).to(GPU)
        return (image, {"only": image}) if features else image


class Reduced(FakeClassifier):
    """Needs no weights, which would have to be moved."""

    def features(self, image: Tensor) -> Tensor:
        """Some pixels."""
        return image.flatten(1)[:, :16]

    def head(self, r: Tensor) -> Tensor:
        """Some units."""
        return r[:, :3]


def test_what_is_read_on_a_simulated_gpu_lies_on_the_processor(tmp_path: Path) -> None:
    generator = FakeGenerator()
    ctx = make_context(tmp_path, generator, Reduced(generator))
    looker, w = Looker(ctx, Batches(4), MASKS, LABELS, page_image, mask=True), codes(6)
    expected = looker(w)
    with simulated_gpu():
        found = replace(looker, ctx=replace(ctx, generator=Distant(), device=GPU))(w)
    for name in FIELDS:
        values = found.tensors([name])[name]
        assert not isinstance(values, OnGpu)
        torch.testing.assert_close(values, expected.tensors([name])[name], equal_nan=True)


def test_large_images_are_returned_smaller_where_a_page_shows_them() -> None:
    image = torch.rand(2, 3, 2 * LARGEST, 2 * LARGEST) * 2 - 1
    assert page_image(image).shape == (2, 3, LARGEST, LARGEST) and page_image(image).dtype == torch.uint8


def test_parts_are_joined_and_indexed_alike() -> None:
    def part(n: int) -> Look:
        return Look(torch.rand(n, 4), torch.rand(n, 3), torch.rand(n, 2), *(torch.rand(n, k) for k in (5, 6, 7)))

    parts = [part(2), part(4)]
    whole = Look.cat(iter(parts))
    for name in ("r", "softmax", "probability", "image", "mask", "measures", "prediction"):
        values = whole.tensors([name])[name]
        assert torch.equal(values, torch.cat([one.tensors([name])[name] for one in parts]))
        assert torch.equal(whole.unflatten((3, 2))[2].tensors([name])[name], values[4:])
