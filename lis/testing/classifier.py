"""The contract test of classifiers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lis.testing.contract import (
    ALONE,
    EQUAL,
    apart,
    are_names,
    check_fingerprint,
    check_gradient,
    check_members,
    check_mode,
    kind,
    require,
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
    check_mode(model)
    image = _noise(model, size or getattr(getattr(model, "preprocessing", None), "size", 64))
    with torch.no_grad():
        _check_activations(model, image)
        _check_independence(model, image)
        _check_logits(model, image)
        _check_range(model, image)
        _check_maps(model, image)
    _check_gradient(model, image)
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
    r = model.features(image)
    require(isinstance(r, Tensor) and r.is_floating_point(), f"features must give a floating tensor, got {kind(r)}")
    expected = (len(image), model.units)
    require(r.shape == expected, f"features must give [n, units] = {list(expected)}, got {list(r.shape)}")
    require(bool(r.isfinite().all()), "features gives values that are not finite")
    require(torch.equal(image, before), "features writes into the image: let it work on a copy")


def _check_independence(model: Any, image: Tensor) -> None:
    r = model.features(image)
    again, alone = apart(model.features(image), r), apart(model.features(image[:1]), r[:1])
    require(again <= EQUAL, f"features differ by {again:.1e} of the largest when repeated: is dropout on?")
    require(
        alone <= ALONE,
        f"features of an image alone and in a batch differ by {alone:.1e} of the largest, expected {ALONE} at most: "
        "are batch statistics in use?",
    )


def _check_logits(model: Any, image: Tensor) -> None:
    logits = model.head(model.features(image))
    expected = (len(image), len(model.class_names))
    require(
        isinstance(logits, Tensor) and logits.shape == expected,
        f"head must give [n, classes] = {list(expected)}, one logit per class name, got {kind(logits)}",
    )
    require(bool(logits.isfinite().all()), "head gives values that are not finite")
    if _is_whole(model):
        whole = model(image)
        difference = apart(logits, whole) if isinstance(whole, Tensor) else torch.inf
        require(
            difference <= EQUAL,
            f"head(features(x)) differs from model(x) by {difference:.1e} of the largest logit, expected {EQUAL} at "
            "most: features must be what the last linear layer reads, and nothing may follow it",
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


def _check_gradient(model: Any, image: Tensor) -> None:
    with torch.enable_grad():
        image = image.clone().requires_grad_()
        r = model.features(image)
        require(r.requires_grad, "features are not differentiable: do without no_grad, detach and rounding (uint8)")
        (gradient,) = torch.autograd.grad(r.square().sum(), image, allow_unused=True)
    check_gradient(gradient, "the image")


def _check_maps(model: Any, image: Tensor) -> None:
    layers, cam = model.layers, model.cam_layer
    require(isinstance(layers, dict), f"layers must be a dict of modules by name, got {type(layers).__name__}")
    strangers = [k for k, v in layers.items() if not isinstance(v, nn.Module) or not _inside(model, v)]
    require(not strangers, f"layers names what is no module of the model: {strangers}")
    modules = dict(layers)
    if cam is not None:
        modules[cam] = layers[cam] if cam in layers else _find(model, cam)
    with _shapes(modules) as shapes:
        model.features(image)
    flat = [f"{name} {shapes.get(name)}" for name in modules if len(shapes.get(name, ())) != 4]
    require(not flat, f"layers and cam_layer must give maps [n, channels, h, w], got {', '.join(flat)}")
    order = [name for name in shapes if name in layers]
    require(order == list(layers), f"layers must be in the order in which an image passes them, {order}")


def _inside(model: Any, part: nn.Module) -> bool:
    return not isinstance(model, nn.Module) or any(part is module for module in model.modules())


def _find(model: Any, name: str) -> nn.Module:
    """The module of that name in a model, or in what the model wraps."""
    modules = list(model.named_modules()) if isinstance(model, nn.Module) else []
    result = [module for path, module in modules if f".{path}".endswith(f".{name}")]
    require(bool(result), f"cam_layer {name!r} is neither in layers nor a module of the model")
    return result[0]


@contextmanager
def _shapes(modules: dict[str, nn.Module]) -> Iterator[dict[str, tuple[int, ...]]]:
    """Shapes of what modules give, in the order in which they first return."""
    shapes: dict[str, tuple[int, ...]] = {}

    def recorder(name: str) -> Any:
        def record(_: nn.Module, __: Any, output: Any) -> None:
            shapes.setdefault(name, tuple(getattr(output, "shape", ())))

        return record

    handles = [module.register_forward_hook(recorder(name)) for name, module in modules.items()]
    try:
        yield shapes
    finally:
        for handle in handles:
            handle.remove()


def _noise(model: Any, size: int) -> Tensor:
    """Three noise images in [-1, 1], where the model is."""
    image = 2 * torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0)) - 1
    weight = next(model.parameters(), image) if isinstance(model, nn.Module) else image
    return image.to(weight.device)
