"""What the contract tests share: the error, the tolerances, and what is asked of every kind of model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

EQUAL = 1e-5
"""Largest difference, relative to the largest value, of what the same computation gives."""
ALONE = 1e-3
"""The same where the batch differs: a GPU may then choose another algorithm in reduced precision."""


class ContractError(AssertionError):
    """A model does not keep what its Protocol in `lis.types` promises."""


def require(condition: bool, message: str) -> None:
    """Go on only where the condition holds.

    Raises:
        ContractError: it does not; with the message.
    """
    if not condition:
        raise ContractError(message)


def require_alike(a: Tensor, b: Tensor, differ: str, rest: str, most: float = EQUAL) -> None:
    """Go on only where two tensors differ by no more than `most`, relative to the largest value of b.

    Raises:
        ContractError: they do; what stands before and behind the difference is `differ` and `rest`.
    """
    difference = apart(a, b)
    require(difference <= most, f"{differ} by {difference:.1e}{rest}")


def answer(name: str, function: Callable[[Tensor], Any], x: Tensor) -> Any:
    """What a member of a model, called `name`, gives for x, which it has to take.

    Raises:
        ContractError: it raises an error of its own.
    """
    try:
        return function(x)
    except Exception as error:
        raise ContractError(
            f"{name} raises {type(error).__name__} on {kind(x)}: {error}; expected it to take such tensors; images and "
            "w are float32"
        ) from error


def check_members(model: Any, protocol: type, methods: Sequence[str]) -> None:
    """A model has the annotated members of a Protocol and its methods, and no module is in training mode."""
    members = list(dict.fromkeys([*protocol.__annotations__, *methods]))
    missing = [name for name in members if not hasattr(model, name)]
    require(not missing, f"{type(model).__name__} lacks {', '.join(missing)} of lis.types.{protocol.__name__}")
    if isinstance(model, nn.Module):
        training = [name for name, module in model.named_modules() if module.training]
        require(not training, f"{len(training)} modules are in training mode, such as {training[:1]}: call .eval()")


def check_fingerprint(model: Any) -> None:
    """The fingerprint stays, and follows the first and the last weight that is not frozen."""
    first, again = model.fingerprint, model.fingerprint
    stays = isinstance(first, str) and first != "" and first == again
    require(stays, f"fingerprint must be a string that stays, got {first!r} and {again!r}")
    weights = [p for p in model.parameters() if p.requires_grad] if isinstance(model, nn.Module) else []
    for weight in weights[:1] + weights[-1:]:
        with _changed(weight):
            changed = model.fingerprint
        require(changed != first, "a weight changed and fingerprint did not: hash the weights, or freeze them all")


def check_gradient(function: Callable[[Tensor], Tensor], x: Tensor, name: str, by: str) -> None:
    """The gradient of a function of x, called `name`, by x, called `by`, is there, finite, and not zero everywhere."""
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        y = function(x)
        require(y.requires_grad, f"{name} not differentiable: do without no_grad, detach and rounding (uint8)")
        (gradient,) = torch.autograd.grad(y.square().sum(), x, allow_unused=True)
    require(gradient is not None and bool(gradient.isfinite().all()), f"the gradient by {by} is not finite")
    require(gradient is not None and bool(gradient.any()), f"the gradient by {by} is zero: is something rounded?")


def are_names(value: Any) -> bool:
    """Whether a value is a tuple of different words."""
    return isinstance(value, tuple) and all(isinstance(name, str) for name in value) and len(set(value)) == len(value)


def apart(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the largest value of b; infinite where the shapes differ."""
    if a.shape != b.shape:
        return math.inf
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-30))


def kind(value: Any) -> str:
    """Type and shape of a tensor, or the type of anything else."""
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


@contextmanager
def _changed(weight: Tensor) -> Iterator[None]:
    before = weight.detach().clone()
    try:
        weight.detach().add_(1)
        yield
    finally:
        weight.detach().copy_(before)
