"""Contract tests that users run on their own models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lis.types import Classifier

_EQUAL = 1e-5
"""Largest difference, relative to the largest value, of what the same computation gives."""
_ALONE = 1e-3
"""The same where the batch differs: a GPU may then choose another algorithm in reduced precision."""


class ContractError(AssertionError):
    """A model does not keep what its Protocol in `lis.types` promises."""


def check_classifier(model: Any, size: int | None = None) -> None:
    """Check that a model keeps the contract of `lis.types.Classifier`.

    Members and their types; shapes, finite values; `head(features(x))` equals the model; r depends on its own image
    alone, each time in the same way, over all of [-1, 1], and is differentiable; the image is left as it was; the
    fingerprint follows the weights, unless all of them are frozen; `layers` and `cam_layer` give maps.

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
    _check_mode(model)
    image = _noise(model, size or getattr(getattr(model, "preprocessing", None), "size", 64))
    with torch.no_grad():
        _check_activations(model, image)
        _check_independence(model, image)
        _check_logits(model, image)
        _check_range(model, image)
        _check_maps(model, image)
    _check_gradient(model, image)
    _check_fingerprint(model)


def _check_members(model: Any) -> None:
    members = [*Classifier.__annotations__, "fingerprint", "features", "head"]
    missing = [name for name in members if not hasattr(model, name)]
    _require(not missing, f"{type(model).__name__} lacks {', '.join(missing)} of lis.types.Classifier")
    names = model.class_names
    _require(
        isinstance(names, tuple) and len(set(names)) == len(names) > 0 and all(isinstance(n, str) for n in names),
        f"class_names must be a tuple of different words, got {names!r}",
    )
    _require(isinstance(model.units, int) and model.units > 0, f"units must be a number > 0, got {model.units!r}")


def _check_mode(model: Any) -> None:
    if isinstance(model, nn.Module):
        training = [name for name, module in model.named_modules() if module.training]
        _require(not training, f"{len(training)} modules are in training mode, such as {training[:1]}: call .eval()")


def _check_activations(model: Any, image: Tensor) -> None:
    before = image.clone()
    r = model.features(image)
    _require(isinstance(r, Tensor) and r.is_floating_point(), f"features must give a floating tensor, got {_kind(r)}")
    wanted = (len(image), model.units)
    _require(r.shape == wanted, f"features must give [n, units] = {list(wanted)}, got {list(r.shape)}")
    _require(bool(r.isfinite().all()), "features gives values that are not finite")
    _require(torch.equal(image, before), "features writes into the image: let it work on a copy")


def _check_independence(model: Any, image: Tensor) -> None:
    r = model.features(image)
    again, alone = _apart(model.features(image), r), _apart(model.features(image[:1]), r[:1])
    _require(again <= _EQUAL, f"features differ by {again:.1e} of the largest when repeated: is dropout on?")
    _require(
        alone <= _ALONE,
        f"features of an image alone and in a batch differ by {alone:.1e} of the largest, expected {_ALONE} at most: "
        "are batch statistics in use?",
    )


def _check_logits(model: Any, image: Tensor) -> None:
    logits = model.head(model.features(image))
    wanted = (len(image), len(model.class_names))
    _require(
        isinstance(logits, Tensor) and logits.shape == wanted,
        f"head must give [n, classes] = {list(wanted)}, one logit per class name, got {_kind(logits)}",
    )
    _require(bool(logits.isfinite().all()), "head gives values that are not finite")
    if callable(model):
        whole = model(image)
        apart = _apart(logits, whole) if isinstance(whole, Tensor) and whole.shape == wanted else torch.inf
        _require(
            apart <= _EQUAL,
            f"head(features(x)) differs from model(x) by {apart:.1e} of the largest logit, expected {_EQUAL} at most: "
            "features must be what the last linear layer reads, and nothing may follow it",
        )


def _check_range(model: Any, image: Tensor) -> None:
    for half, name in ((-image.abs(), "-1 and 0"), (image.abs(), "0 and 1")):
        r = model.features(half)
        _require(
            _apart(r[:1], r[1:2]) > 0,
            f"features do not tell images apart whose values lie between {name}: images are in [-1, 1], is another "
            "range expected?",
        )


def _check_gradient(model: Any, image: Tensor) -> None:
    with torch.enable_grad():
        image = image.clone().requires_grad_()
        r = model.features(image)
        _require(r.requires_grad, "features are not differentiable: do without no_grad, detach and rounding (uint8)")
        (gradient,) = torch.autograd.grad(r.square().sum(), image, allow_unused=True)
    _require(gradient is not None and bool(gradient.isfinite().all()), "the gradient by the image is not finite")
    _require(bool(gradient.any()), "the gradient by the image is zero: is something rounded?")


def _check_fingerprint(model: Any) -> None:
    first, again = model.fingerprint, model.fingerprint
    stays = isinstance(first, str) and first != "" and first == again
    _require(stays, f"fingerprint must be a string that stays, got {first!r} and {again!r}")
    weights = [p for p in model.parameters() if p.requires_grad] if isinstance(model, nn.Module) else []
    for weight in weights[:1] + weights[-1:]:
        with _changed(weight):
            changed = model.fingerprint
        _require(changed != first, "a weight changed and fingerprint did not: hash the weights, or freeze them all")


def _check_maps(model: Any, image: Tensor) -> None:
    layers, cam = model.layers, model.cam_layer
    _require(isinstance(layers, dict), f"layers must be a dict of modules by name, got {type(layers).__name__}")
    strangers = [k for k, v in layers.items() if not isinstance(v, nn.Module) or not _inside(model, v)]
    _require(not strangers, f"layers names what is no module of the model: {strangers}")
    modules = dict(layers)
    if cam is not None:
        modules[cam] = layers[cam] if cam in layers else _find(model, cam)
    with _shapes(modules) as shapes:
        model.features(image)
    flat = [f"{name} {shapes.get(name)}" for name in modules if len(shapes.get(name, ())) != 4]
    _require(not flat, f"layers and cam_layer must give maps [n, channels, h, w], got {', '.join(flat)}")
    order = [name for name in shapes if name in layers]
    _require(order == list(layers), f"layers must be in the order in which an image passes them, {order}")


def _inside(model: Any, part: nn.Module) -> bool:
    return not isinstance(model, nn.Module) or any(part is module for module in model.modules())


def _find(model: Any, name: str) -> nn.Module:
    """The module of that name in a model, or in what the model wraps."""
    modules = list(model.named_modules()) if isinstance(model, nn.Module) else []
    found = [module for path, module in modules if f".{path}".endswith(f".{name}")]
    _require(bool(found), f"cam_layer {name!r} is neither in layers nor a module of the model")
    return found[0]


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


@contextmanager
def _changed(weight: Tensor) -> Iterator[None]:
    before = weight.detach().clone()
    try:
        weight.detach().add_(1)
        yield
    finally:
        weight.detach().copy_(before)


def _noise(model: Any, size: int) -> Tensor:
    """Three noise images in [-1, 1], where the model is."""
    image = 2 * torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0)) - 1
    weight = next(model.parameters(), image) if isinstance(model, nn.Module) else image
    return image.to(weight.device)


def _apart(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the largest value of b."""
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-30))


def _kind(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ContractError(message)
