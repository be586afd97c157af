"""The contract test of generators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lis.streams import Stream
from lis.testing.contract import (
    ALONE,
    EQUAL,
    ContractError,
    answer,
    apart,
    are_names,
    check_fingerprint,
    check_gradient,
    check_members,
    kind,
    require,
    require_alike,
)
from lis.types import Generator

_STREAM = Stream("train pairs")
_INDICES = (0, 7, 3, 1 << 20)
"""Samples of a class, in no order."""


def check_generator(generator: Any) -> None:
    """Check that a generator keeps the contract of `lis.types.Generator`.

    Members and their types. `sample`: shapes, finite values; a sample depends on its class, index, stream and seed, on
    all of them and on nothing else; truncation 0 gives the mean w of the class; classes that do not exist are refused.
    `synthesize`: images in [-1, 1] that depend on their own w alone, each time in the same way, and are differentiable;
    maps of layers, all or by name. `counterpart`, where there is one: the samples themselves in their own class, the
    mean w of another at truncation 0, something else in between. `render`, where there is one with `labels`: a picture
    and a mask per label in [0, 1]. What is passed in is left as it was; the fingerprint
    follows the weights, unless all of them are frozen. Makes ten images.

    Args:
        generator: on any device; w is used where `sample` puts it.

    Raises:
        ContractError: what is broken, and how to mend it.

    Example:
        >>> from lis.generators.partworld import PartWorld
        >>> check_generator(PartWorld(["pug"]))
    """
    _check_members(generator)
    with torch.no_grad():
        _check_codes(generator)
        for class_index in _ends(generator):
            _check_repetition(generator, class_index)
            _check_truncation(generator, class_index)
            _check_address(generator, class_index)
        _check_classes(generator)
        if generator.num_classes and hasattr(generator, "counterpart"):
            _check_counterparts(generator)
        first, last = _ends(generator)[0], _ends(generator)[-1]
        w = torch.cat([_sample(generator, first, [0]), _sample(generator, last, [1])])
        image = _check_image(generator, w)
        _check_features(generator, w, image)
        _check_independence(generator, w, image)
        if hasattr(generator, "labels") and hasattr(generator, "render"):
            _check_parts(generator, w)
    check_gradient(generator.synthesize, w[:1], "synthesize is", "w")
    check_fingerprint(generator)


def _check_members(generator: Any) -> None:
    check_members(generator, Generator, ("sample", "synthesize"))
    domain, names, count = generator.domain, generator.class_names, generator.num_classes
    require(isinstance(domain, str) and domain != "", f"domain must be a word, got {domain!r}")
    require(are_names(names), f"class_names must be a tuple of different words, got {names!r}")
    require(count == len(names), f"num_classes must be len(class_names) = {len(names)}, got {count!r}")
    for name in ("w_dim", "resolution"):
        value = getattr(generator, name)
        require(isinstance(value, int) and value > 0, f"{name} must be a number > 0, got {value!r}")
    _check_numbers(generator.mean_w, "mean_w", "[max(num_classes, 1), w_dim]", max(count, 1), generator.w_dim)


def _check_codes(generator: Any) -> None:
    indices = torch.tensor(_INDICES)
    before = indices.clone()
    first = _ends(generator)[0]
    w = answer("sample", lambda indices: generator.sample(first, indices, _STREAM, truncation=1.0), indices)
    _check_numbers(w, "what sample gives", "[n, w_dim]", len(indices), generator.w_dim)
    require(torch.equal(indices, before), "sample writes into the indices: let it work on a copy")


def _check_repetition(generator: Any, class_index: int | None) -> None:
    """A sample does not depend on how often, with which others and in which order it is asked for."""
    w, who = _sample(generator, class_index), f"of class {class_index}"
    again = _sample(generator, class_index)
    require_alike(again, w, f"samples {who} differ", " when repeated: draw from stream.normal alone")
    for indices in ([2, 0, 3, 1], [3], [1, 1]):
        require_alike(
            _sample(generator, class_index, [_INDICES[i] for i in indices]),
            w[indices],
            f"the k-th sample {who} differs",
            " in another batch, order or subset: draw it with stream.normal(class_index, indices, dim), and use no "
            "statistics of the batch",
        )


def _check_truncation(generator: Any, class_index: int | None) -> None:
    w, mean = _sample(generator, class_index, truncation=0.0), generator.mean_w[class_index or 0]
    differ = f"samples of class {class_index} at truncation 0 differ from mean_w[{class_index or 0}]"
    rest = " of the largest value: w' = mean_w + truncation · (w − mean_w)"
    require_alike(w, mean.to(w).expand_as(w), differ, rest)
    moved = _differ(_sample(generator, class_index), w)
    require(moved, f"samples of class {class_index} at truncation 1 are those at truncation 0")


def _check_address(generator: Any, class_index: int | None) -> None:
    """A sample depends on its class, index, stream and seed."""
    w = _sample(generator, class_index)
    others = {
        "indices": w.roll(1, 0),
        "streams": _sample(generator, class_index, stream=Stream("test pairs")),
        "seeds": _sample(generator, class_index, stream=Stream(_STREAM.name, seed=_STREAM.seed + 1)),
    }
    if other_classes := [c for c in _ends(generator) if c != class_index]:
        others["classes"] = _sample(generator, other_classes[0])
    for what, other in others.items():
        require(_differ(w, other), f"samples of class {class_index} are the same for other {what}: use stream.normal")


def _check_classes(generator: Any) -> None:
    """What is no class is refused."""
    count = generator.num_classes
    expected = f"classes are 0 to {count - 1}" if count else "num_classes is 0 and the class None"
    for wrong in (None, count, -1) if count else (0,):
        result = _outcome(generator, wrong)
        require(
            isinstance(result, ValueError),
            f"sample must raise a ValueError for class {wrong}: {expected}; it gave {kind(result)}",
        )


def _outcome(generator: Any, class_index: int | None) -> Tensor | Exception:
    """What sampling a class gives or raises."""
    try:
        return _sample(generator, class_index)
    except Exception as error:
        return error


def _check_counterparts(generator: Any) -> None:
    """The same z in another class: the sample itself in its own class, and something else in another."""
    first, last = _ends(generator)[0], _ends(generator)[-1]
    w, same = _sample(generator, first), _counterpart(generator, first)
    _check_numbers(same, "what counterpart gives", "[n, w_dim]", *w.shape)
    rest = ": draw the same z, stream.normal(class_index, indices, dim), and give it the class target"
    require_alike(same, w, f"the counterpart of class {first} in class {first} differs from sample", rest)
    mean, other = generator.mean_w[last].to(w).expand_as(w), f"the counterpart of class {first} in class {last}"
    at_mean = _counterpart(generator, last, truncation=0.0)
    require_alike(at_mean, mean, f"{other} at truncation 0 differs from mean_w[{last}]", "")
    all_of_them, alone = _counterpart(generator, last), _counterpart(generator, last, [_INDICES[2]])
    require_alike(alone, all_of_them[2:3], f"{other} differs", " alone and in a batch")
    require(first == last or _differ(all_of_them, w), f"{other} is the sample itself")


def _counterpart(
    generator: Any, target: int | None, indices: Sequence[int] = _INDICES, truncation: float = 1.0
) -> Tensor:
    return generator.counterpart(_ends(generator)[0], torch.tensor(indices), _STREAM, target, truncation=truncation)


def _check_image(generator: Any, w: Tensor) -> Tensor:
    before = w.clone()
    image = answer("synthesize", generator.synthesize, w)
    _check_pixels(generator, image, len(w))
    require(torch.equal(w, before), "synthesize writes into w: let it work on a copy")
    require(_differ(image[:1], image[1:]), "synthesize gives the same image for different w")
    return image


def _check_pixels(generator: Any, image: Any, count: int) -> None:
    size = generator.resolution
    _check_numbers(image, "what synthesize gives", "[n, 3, resolution, resolution]", count, 3, size, size)
    low, high = float(image.min()), float(image.max())
    require(
        low >= -1 and high <= 1,
        f"images must lie in [-1, 1], got {low:.4g} to {high:.4g}: scale them, then .clamp(-1, 1)",
    )


def _check_features(generator: Any, w: Tensor, image: Tensor) -> None:
    result = generator.synthesize(w, features=True)
    pair = isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict) and len(result[1]) > 0
    require(pair, f"synthesize(w, features=True) must give (image, maps by layer, one at least), got {kind(result)}")
    again, maps = result
    _check_pixels(generator, again, len(w))
    if apart(again, image) > EQUAL:
        rest = " of the largest value when repeated: is there noise in them?"
        require_alike(generator.synthesize(w), image, "images differ", rest)
        require_alike(again, image, "images with and without features differ", " of the largest value")
    for name, value in maps.items():
        square = isinstance(value, Tensor) and value.dim() == 4 and value.shape[2] == value.shape[3]
        good = isinstance(name, str) and square and len(value) == len(w)
        require(good, f"maps must be [n, channels, h, h] by name with n = {len(w)}, got {name!r}: {kind(value)}")
        require(bool(value.isfinite().all()), f"map {name!r} has values that are not finite")
    _check_choice(generator, w, maps)


def _check_choice(generator: Any, w: Tensor, maps: dict[str, Tensor]) -> None:
    """Layers can be asked for by name, and others do not exist."""
    name = list(maps)[-1]
    result = generator.synthesize(w, features=(name,))
    alone = isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict) and list(result[1]) == [name]
    require(alone, f"synthesize(w, features=({name!r},)) must give (image, that map alone), got {kind(result)}")
    rest = " of its largest value when it is asked for alone"
    require_alike(result[1][name], maps[name], f"map {name!r} differs", rest)
    try:
        generator.synthesize(w, features=("no such layer",))
    except ValueError:
        return
    raise ContractError("synthesize must raise a ValueError for a layer that does not exist")


def _check_independence(generator: Any, w: Tensor, image: Tensor) -> None:
    differ = "an image alone and in a batch differ"
    rest = f" of the largest value, expected {ALONE} at most: are batch statistics or noise in use?"
    require_alike(generator.synthesize(w[:1]), image[:1], differ, rest, ALONE)


def _check_parts(generator: Any, w: Tensor) -> None:
    """Of a generator that knows its parts, `lis.labels.labelled.TrueParts`."""
    labels = generator.labels
    require(are_names(labels), f"labels must be a tuple of different words, got {labels!r}")
    result = answer("render", generator.render, w)
    pair = isinstance(result, tuple) and len(result) == 2 and all(isinstance(x, Tensor) for x in result)
    require(pair, f"render must give (picture, masks), got {kind(result)}")
    image, masks = result
    _check_numbers(image, "the picture of render", "[n, 3, H, W]", len(w), 3, *image.shape[-2:])
    _check_numbers(masks, "masks of render", "[n, labels, H, W]", len(w), len(labels), *image.shape[-2:])
    low, high = float(masks.min()), float(masks.max())
    require(low >= 0 and high <= 1, f"masks of render must lie in [0, 1], got {low:.4g} to {high:.4g}")


def _sample(
    generator: Any,
    class_index: int | None,
    indices: Sequence[int] = _INDICES,
    stream: Stream = _STREAM,
    truncation: float = 1.0,
) -> Tensor:
    return generator.sample(class_index, torch.tensor(indices), stream, truncation=truncation)


def _ends(generator: Any) -> list[int | None]:
    """The first and the last class; None for a generator without."""
    return [*dict.fromkeys([0, generator.num_classes - 1])] if generator.num_classes else [None]


def _check_numbers(value: Any, what: str, axes: str, *shape: int) -> None:
    """A floating tensor of this shape, without NaN."""
    good = isinstance(value, Tensor) and value.is_floating_point() and value.shape == shape
    require(good, f"{what} must be a floating tensor {axes} = {list(shape)}, got {kind(value)}")
    require(bool(value.isfinite().all()), f"{what} has values that are not finite")


def _differ(a: Tensor, b: Tensor) -> bool:
    """Whether each row of a differs from that of b."""
    return bool(((a - b).flatten(1).abs().amax(1) > EQUAL * b.abs().max()).all())
