"""The contract test of generators: whole ones pass, and every way of breaking the contract is caught."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import pytest
import torch
from helpers.fakes import FakeGenerator
from helpers.stylegan_xl_fixtures import generator as stylegan_xl
from torch import nn

from lis.generators.layers import requested_layers
from lis.generators.partworld import PartWorld
from lis.streams import Stream
from lis.testing import ContractError, check_generator
from lis.types import Generator

MEMBERS = (*Generator.__annotations__, "sample", "synthesize")


class Toy(nn.Module):
    """A generator that keeps the contract: the image is a linear map of w."""

    domain = "toys"
    class_names: tuple[str, ...] = ("a", "b")
    num_classes = 2
    w_dim = 4
    resolution = 8

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(0.1 * torch.randn(4, 3 * 8 * 8, generator=draw))
        self.last = nn.Parameter(torch.zeros(3 * 8 * 8))
        self.mean_w = torch.randn(max(self.num_classes, 1), 4, generator=draw)

    @property
    def fingerprint(self):
        return str([p.tolist() for p in self.parameters()])

    def sample(self, class_index, indices, stream, truncation=1.0):
        if class_index not in (range(self.num_classes) if self.num_classes else (None,)):
            raise ValueError(f"no class {class_index}")
        return self.mean_w[class_index or 0] + truncation * stream.normal(class_index, indices, 4)

    def synthesize(self, w, features=False):
        image = (w @ self.first + self.last).view(-1, 3, 8, 8).clamp(-1, 1)
        return image if features is False else (image, named({"half": image / 2, "only": image}, features))


def named(maps, features):
    """Those of the maps that are asked for."""
    return {name: maps[name] for name in requested_layers(features, list(maps))}


def toy(**members):
    """A toy with other members."""
    return type("Broken", (Toy,), members)().eval()


def classless(**members):
    return toy(class_names=(), num_classes=0, **members)


def sampling(change):
    """A toy whose sample is what `change(sample, class_index, indices, stream, truncation)` makes of its own."""

    def sample(self, class_index, indices, stream, truncation=1.0):
        def own(c=class_index, i=indices, s=stream, t=truncation):
            return Toy.sample(self, c, i, s, t)

        return change(own, class_index, indices, stream, truncation)

    return toy(sample=sample)


def imaging(change):
    """A toy whose image is what `change(image, w)` makes of it."""

    def synthesize(self, w, features=False):
        image = change(Toy.synthesize(self, w), w)
        return image if features is False else (image, named({"only": image.detach()}, features))

    return toy(synthesize=synthesize)


def mapping(change):
    """A toy whose features are what `change(image)` makes of it."""

    def synthesize(self, w, features=False):
        image = Toy.synthesize(self, w)
        return change(image) if features else image

    return toy(synthesize=synthesize)


def choosing(change):
    """A toy whose maps are what `change(image, features)` makes of its image."""

    def synthesize(self, w, features=False):
        image = Toy.synthesize(self, w)
        return image if features is False else (image, change(image, features))

    return toy(synthesize=synthesize)


def swapping(change):
    """A toy with counterparts, as `change(twin, indices, stream, class_index, target, truncation)` makes them."""

    def counterpart(self, class_index, indices, stream, target, truncation=1.0):
        def twin(c=class_index, i=indices, d=target, t=truncation):
            return self.mean_w[d] + t * stream.normal(c, i, 4)

        return change(twin, indices, class_index, target, truncation)

    return toy(counterpart=counterpart)


def without(member):
    model = toy()
    return SimpleNamespace(**{name: getattr(model, name) for name in MEMBERS if name != member})


def with_mean(change):
    model = toy()
    model.mean_w = change(model.mean_w)
    return model


def served(own, class_index, *_):
    """Any class that is asked for, modulo their number."""
    return own((class_index or 0) % 2)


def from_the_end(own, class_index, *_):
    """Negative classes count from the end."""
    return own(1 if class_index == -1 else class_index)


def looked_up(own, class_index, *_):
    """A class beyond the last raises an IndexError."""
    return own(class_index if class_index is None else (0, 1)[class_index])


def jittered(value, *_):
    """Never twice the same."""
    return value + 0.01 * (1 + next(COUNTER) % 5)


def knowing(change, labels=("ear", "eye")):
    """A toy that knows its parts; `render` gives what `change(image, masks)` makes of true ones."""

    def render(self, w):
        image = Toy.synthesize(self, w)
        return change(image, torch.rand(len(w), len(labels), 8, 8) / len(labels))

    return toy(labels=labels, render=render)


COUNTER = count()


BROKEN = {
    "labels": (
        lambda: knowing(lambda i, m: (i, m), ["ear"]),
        r"labels must be a tuple of different words, got \['ear'\]",
    ),
    "no picture of parts": (lambda: knowing(lambda i, m: m), "render must give .picture, masks., got torch.float32"),
    "masks of numbers": (
        lambda: knowing(lambda i, m: (i, m.argmax(1))),
        r"masks .* \[n, labels, H, W\] = \[2, 2, 8, 8\], got torch.int64 \[2, 8, 8\]",
    ),
    "masks beyond 1": (lambda: knowing(lambda i, m: (i, 255 * m)), r"masks of render must lie in \[0, 1\], got"),
    "raises": (
        lambda: imaging(lambda i, w: i @ w.double()),
        r"synthesize raises RuntimeError on torch.float32 \[2, 4\]",
    ),
    "member": (lambda: without("mean_w"), "lacks mean_w of lis.types.Generator"),
    "method": (lambda: without("synthesize"), "lacks synthesize"),
    "domain": (lambda: toy(domain=None), "domain must be a word, got None"),
    "names twice": (lambda: toy(class_names=("a", "a")), r"different words, got \('a', 'a'\)"),
    "names in a list": (lambda: toy(class_names=["a", "b"]), "must be a tuple"),
    "count": (lambda: toy(num_classes=3), r"num_classes must be len\(class_names\) = 2, got 3"),
    "width": (lambda: toy(w_dim="4"), "w_dim must be a number > 0, got '4'"),
    "resolution": (lambda: toy(resolution=0), "resolution must be a number > 0, got 0"),
    "one mean": (lambda: with_mean(lambda m: m[0]), r"mean_w must be .* = \[2, 4\], got torch.float32 \[4\]"),
    "no mean": (lambda: with_mean(lambda m: m.numpy()), "mean_w must be a floating tensor .* got ndarray"),
    "infinite mean": (lambda: with_mean(lambda m: m / 0), "mean_w has values that are not finite"),
    "training": (lambda: toy().train(), "in training mode"),
    "shape of w": (lambda: sampling(lambda own, *_: own()[:, :3]), r"= \[4, 4\], got .*\[4, 3\]"),
    "layers": (lambda: sampling(lambda own, *_: own()[:, None].repeat(1, 2, 1)), r"\[n, w_dim\] = .* \[4, 2, 4\]"),
    "integers": (lambda: sampling(lambda own, *_: own().long()), "floating tensor .* got torch.int64"),
    "nan": (lambda: sampling(lambda own, *_: own() / 0), "what sample gives has values that are not finite"),
    "sample": (lambda: sampling(lambda own, *_: own() @ own().double()), "sample raises RuntimeError on torch.int64"),
    "indices": (lambda: sampling(lambda own, c, i, *_: own(i=i.add_(1))), "writes into the indices"),
    "random": (lambda: sampling(lambda own, *_: jittered(own())), "differ by .* when repeated"),
    "batch statistics": (lambda: sampling(lambda own, *_: own() - own().mean(0)), "another batch, order or subset"),
    "order": (lambda: sampling(lambda own, c, i, *_: own(i=i.sort()[0])), "another batch, order or subset"),
    "place": (
        lambda: sampling(lambda own, c, i, *_: own(i=torch.arange(len(i)))),
        "another batch, order or subset",
    ),
    "length": (lambda: sampling(lambda own, c, i, *_: own().expand(4, -1)), "another batch, order or subset"),
    "index": (lambda: sampling(lambda own, c, i, *_: own(i=i * 0)), "the same for other indices"),
    "stream": (
        lambda: sampling(lambda own, c, i, s, _: own(s=Stream("train pairs", s.seed))),
        "same for other streams",
    ),
    "seed": (lambda: sampling(lambda own, c, i, s, _: own(s=Stream(s.name))), "the same for other seeds"),
    "class": (
        lambda: sampling(lambda own, c, i, s, t: own(0) if t else own()),
        "samples of class 0 are the same for other classes",
    ),
    "no truncation": (lambda: sampling(lambda own, c, i, s, _: own(t=1.0)), r"truncation 0 differ from mean_w\[0\]"),
    "global mean": (
        lambda: sampling(lambda own, c, i, s, t: own(t=t) if t else own(0, t=t)),
        r"class 1 at truncation 0 differ from mean_w\[1\]",
    ),
    "always truncated": (
        lambda: sampling(lambda own, *_: own(t=0.0)),
        "class 0 at truncation 1 are those at truncation 0",
    ),
    "any class": (lambda: sampling(served), "ValueError for class None: classes are 0 to 1; it gave torch.float32"),
    "negative class": (lambda: sampling(from_the_end), "ValueError for class -1"),
    "other error": (lambda: sampling(looked_up), "ValueError for class 2: .* it gave IndexError"),
    "class of none": (
        lambda: classless(sample=lambda self, c, i, s, truncation: Toy.sample(self, None, i, s, truncation)),
        "ValueError for class 0: num_classes is 0",
    ),
    "counterpart": (lambda: swapping(lambda twin, *_: twin()[:, :3]), r"what counterpart gives .* = \[4, 4\]"),
    "another z": (
        lambda: swapping(lambda twin, i, c, d, t: twin(c=1)),
        "counterpart of class 0 in class 0 differs from s",
    ),
    "own mean": (
        lambda: swapping(lambda twin, i, c, d, t: twin() if t else twin(d=c)),
        r"class 0 in class 1 at truncation 0 differs from mean_w\[1\]",
    ),
    "counterpart of a batch": (
        lambda: swapping(lambda twin, i, c, d, t: twin() + t * (c != d) * len(i)),
        "class 0 in class 1 differs by .* alone and in a batch",
    ),
    "no swap": (
        lambda: swapping(lambda twin, i, c, d, t: twin(d=c) if t else twin()),
        "in class 1 is the sample itself",
    ),
    "no image": (lambda: imaging(lambda image, w: image.numpy()), "what synthesize gives .* got ndarray"),
    "grey": (lambda: imaging(lambda image, w: image[:, :1]), r"= \[2, 3, 8, 8\], got torch.float32 \[2, 1, 8, 8\]"),
    "size": (lambda: toy(resolution=16), r"= \[2, 3, 16, 16\], got .* \[2, 3, 8, 8\]"),
    "bytes": (lambda: imaging(lambda image, w: (127 * image).byte()), "floating tensor .* got torch.uint8"),
    "nan pixel": (lambda: imaging(lambda image, w: image / 0), "what synthesize gives has values that are not finite"),
    "range": (lambda: imaging(lambda image, w: 255 * image), r"lie in \[-1, 1\], got"),
    "shift": (lambda: imaging(lambda image, w: image - 0.9), r"lie in \[-1, 1\], got -1\.\d+ to -0\."),
    "in place": (lambda: imaging(lambda image, w: image + 0 * w.add_(1).sum()), "writes into w"),
    "w unused": (lambda: imaging(lambda image, w: image * 0 + 0.5), "same image for different w"),
    "noise": (lambda: imaging(lambda image, w: jittered(0.9 * image)), "images differ by .* is there noise"),
    "batch": (lambda: imaging(lambda image, w: (image - image.mean(0)) / 2), "alone and in a batch differ"),
    "no features": (lambda: mapping(lambda image: image), r"must give \(image, maps by layer, .*got torch.float32"),
    "no maps": (lambda: mapping(lambda image: (image, {})), "one at least"),
    "list of maps": (lambda: mapping(lambda image: (image, [image])), "maps by layer"),
    "other image": (lambda: mapping(lambda image: (image / 2, {"a": image})), "with and without features differ by"),
    "flat map": (lambda: mapping(lambda image: (image, {"a": image.flatten(1)})), r"\[n, channels, h, h\] .* 'a'"),
    "oblong map": (lambda: mapping(lambda image: (image, {"a": image[..., 1:]})), r"'a': torch.float32 \[2, 3, 8, 7\]"),
    "one map for all": (lambda: mapping(lambda image: (image, {"a": image[:1]})), "n = 2, got 'a'"),
    "nan in a map": (lambda: mapping(lambda image: (image, {"a": image / 0 * 0})), "map 'a' has values"),
    "all maps always": (
        lambda: choosing(lambda image, features: {"half": image / 2, "only": image}),
        "must give .image, that map alone",
    ),
    "another map alone": (
        lambda: choosing(
            lambda image, features: named({"only": image}, features) if features is True else {"only": 0 * image}
        ),
        "map 'only' differs by .* asked for alone",
    ),
    "unknown layers": (
        lambda: choosing(lambda image, features: {"only": image}),
        "ValueError for a layer that does not exist",
    ),
    "no gradient": (lambda: toy(synthesize=torch.no_grad()(Toy.synthesize)), "not differentiable"),
    "rounded": (lambda: imaging(lambda image, w: (image * 99).round() / 99), "the gradient by w is zero"),
    "detached": (lambda: imaging(lambda image, w: image.detach() + 0 * w.sum()), "the gradient by w is zero"),
    "gradient": (
        lambda: imaging(lambda image, w: image + (w - w).abs().sqrt().sum()),
        "the gradient by w is not finite",
    ),
    "no fingerprint": (lambda: toy(fingerprint=None), "must be a string that stays, got None"),
    "fingerprint": (lambda: toy(fingerprint=property(lambda _: f"{next(COUNTER)}")), "must be a string that stays"),
    "constant fingerprint": (lambda: toy(fingerprint="toy"), "a weight changed and fingerprint did not"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_caught(name):
    make, message = BROKEN[name]
    model = make()
    with pytest.raises(ContractError, match=message):
        check_generator(model)


def test_a_good_one_passes_and_is_left_as_it_was():
    model = toy()
    before = model.fingerprint
    check_generator(model)
    assert model.fingerprint == before


def test_few_images_are_made():
    made = []
    check_generator(imaging(lambda image, w: made.append(len(w)) or image))
    assert sum(made) == 10


def test_one_class_and_none_will_do():
    check_generator(toy(class_names=("a",), num_classes=1))
    check_generator(classless())


def test_counterparts_may_be_there():
    check_generator(swapping(lambda twin, *_: twin()))


def test_a_fixed_fingerprint_is_good_for_frozen_weights():
    check_generator(toy(fingerprint="toy").requires_grad_(False))


def test_what_is_no_module_passes_too():
    model = toy()
    check_generator(SimpleNamespace(**{name: getattr(model, name) for name in MEMBERS}))


@pytest.mark.parametrize("conditional", [True, False])
def test_the_fake_of_other_tests(conditional):
    check_generator(FakeGenerator(conditional=conditional))


@pytest.mark.parametrize("settings", [{}, {"hard": True}, {"conditional": False}, {"truncation": 0.7}])
def test_part_world(settings):
    check_generator(PartWorld(["pug"], **settings))


@pytest.mark.parametrize("name", ["t_super32_c10", "r_stem32_uncond", "t_stem16_c10_xform"])
def test_stylegan_xl(name):
    check_generator(stylegan_xl(name))


def test_stylegan_xl_with_convolutions_in_half_precision():
    check_generator(stylegan_xl("t_super32_c10", dtype="bf16"))
