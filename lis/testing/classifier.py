"""The contract test of classifiers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lis.classifiers.cut import modules_called, recorded
from lis.testing.contract import (
    ALONE,
    EQUAL,
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
from lis.types import Classifier


def check_classifier(model: Any, size: int | None = None) -> None:
    """Check that a model keeps the contract of `lis.types.Classifier`.

    Members and their types; shapes, finite values; `head(features(x))` equals the model, where that can be called as a
    whole; r depends on its own image alone, each time in the same way, over all of [-1, 1], and is differentiable; the
    image is left as it was; the fingerprint follows the weights, unless all of them are frozen; `layers` and
    `cam_layer` give maps.

    Args:
        model: the classifier.
        size: height and width of the test images in pixels; None: those of `model.preprocessing`, or 64.

    Raises:
        ContractError: what is broken, and how to mend it.

    Example:
        >>> from lis.classifiers.partnet import PartNet
        >>> check_classifier(PartNet())
    """
    _check_members(model)
    image = _noise(model, size or getattr(getattr(model, "preprocessing", None), "size", 64))
    with torch.no_grad():
        _check_activations(model, image)
        _check_independence(model, image)
        _check_logits(model, image)
        _check_range(model, image)
        _check_maps(model, image)
    check_gradient(model.features, image, "features are", "the image")
    check_fingerprint(model)


def _check_members(model: Any) -> None:
    check_members(model, Classifier, ("fingerprint", "features", "head"))
    names = model.class_names
    require(are_names(names) and len(names) > 0, f"class_names must be a tuple of different words, got {names!r}")
    require(isinstance(model.units, int) and model.units > 0, f"units must be a number > 0, got {model.units!r}")
    domain = getattr(model, "domain", None)
    require(
        domain is None or (isinstance(domain, str) and domain != ""),
        f"domain may be left out or None; else it is a word, the world of the training images, got {domain!r}",
    )


def _check_activations(model: Any, image: Tensor) -> None:
    before = image.clone()
    r = answer("features", model.features, image)
    require(isinstance(r, Tensor) and r.is_floating_point(), f"features must give a floating tensor, got {kind(r)}")
    expected = (len(image), model.units)
    require(r.shape == expected, f"features must give [n, units] = {list(expected)}, got {list(r.shape)}")
    require(bool(r.isfinite().all()), "features gives values that are not finite")
    require(torch.equal(image, before), "features writes into the image: let it work on a copy")


def _check_independence(model: Any, image: Tensor) -> None:
    r = model.features(image)
    require_alike(model.features(image), r, "features differ", " of the largest when repeated: is dropout on?")
    differ, rest = "features of an image alone and in a batch differ", f" of the largest, expected {ALONE} at most: "
    require_alike(model.features(image[:1]), r[:1], differ, rest + "are batch statistics in use?", ALONE)


def _check_logits(model: Any, image: Tensor) -> None:
    logits = answer("head", model.head, model.features(image))
    expected = (len(image), len(model.class_names))
    require(
        isinstance(logits, Tensor) and logits.shape == expected,
        f"head must give [n, classes] = {list(expected)}, one logit per class name, got {kind(logits)}",
    )
    require(bool(logits.isfinite().all()), "head gives values that are not finite")
    if _is_whole(model):
        whole = model(image)
        require_alike(
            logits,
            whole if isinstance(whole, Tensor) else torch.empty(0),
            "head(features(x)) differs from model(x)",
            f" of the largest logit, expected {EQUAL} at most: features must be what the last linear layer reads, and "
            "nothing may follow it",
        )


def _is_whole(model: Any) -> bool:
    """Whether it can be called: every `nn.Module` seems so, but one without a `forward` only raises an error."""
    if not isinstance(model, nn.Module):
        return callable(model)
    forward = getattr(model.forward, "__func__", model.forward)
    return forward is not nn.Module.forward or type(model).__call__ is not nn.Module.__call__


def _check_range(model: Any, image: Tensor) -> None:
    for half, name in ((-image.abs(), "-1 and 0"), (image.abs(), "0 and 1")):
        r = model.features(half)
        require(
            apart(r[:1], r[1:2]) > 0,
            f"features do not tell images apart whose values lie between {name}: images are in [-1, 1], is another "
            "range expected?",
        )


def _check_maps(model: Any, image: Tensor) -> None:
    layers, cam = model.layers, model.cam_layer
    require(isinstance(layers, dict), f"layers must be a dict of modules by name, got {type(layers).__name__}")
    known = [*(_named(model) or layers).values()]
    strangers = [k for k, v in layers.items() if not isinstance(v, nn.Module) or not any(v is part for part in known)]
    require(not strangers, f"layers names what is no module of the model: {strangers}")
    modules = dict(layers)
    if cam is not None:
        modules[cam] = _find(model, layers, cam)
    shapes: dict[str, tuple[int, ...]] = {}  # in the order in which modules first return
    with recorded(modules, lambda name, _, y: shapes.setdefault(name, tuple(getattr(y, "shape", ())))):
        model.features(image)
    flat = [f"{name} {shapes.get(name)}" for name in modules if len(shapes.get(name, ())) != 4]
    require(not flat, f"layers and cam_layer must give maps [n, channels, h, w], got {', '.join(flat)}")
    order = [name for name in shapes if name in layers]
    require(order == list(layers), f"layers must be in the order in which an image passes them, {order}")


def _named(model: Any) -> dict[str, nn.Module]:
    """Its modules by name; none where it is not one itself."""
    return dict(model.named_modules()) if isinstance(model, nn.Module) else {}


def _find(model: Any, layers: dict[str, nn.Module], name: str) -> nn.Module:
    """The module of that name in a model, or in what the model wraps."""
    result = modules_called(model, layers, name)
    require(bool(result), f"cam_layer {name!r} is neither in layers nor a module of the model")
    return result[0]


def _noise(model: Any, size: int) -> Tensor:
    """Three noise images in [-1, 1], where the model is."""
    image = 2 * torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0)) - 1
    weight = next(model.parameters(), image) if isinstance(model, nn.Module) else image
    return image.to(weight.device)
