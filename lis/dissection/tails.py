"""What lies behind a layer of a classifier, computed from the layer's activations alone where that can be done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import cast

import torch
from torch import Tensor, nn

from lis.classifiers.cut import layer_module
from lis.dissection.activations import record_activations
from lis.types import Classifier

log = logging.getLogger(__name__)
PENULTIMATE = "penultimate"
"""The layer whose activations are r, behind which there is the head alone."""
WHOLE_PASS = "whole pass"
"""The method of a tail that is no chain of modules."""
TOLERANCE = 1e-5
"""Largest difference of a tail from the whole pass, relative to the largest logit."""


@dataclass(frozen=True)
class LayerTail:
    """Logits from activations of a layer."""

    logits: Callable[[Tensor, Tensor], Tensor]
    """Of activations `[n, U, …]` and of their images `[n, 3, H, W]`, which only the whole pass reads."""
    method: str
    """"head", "modules behind the layer", or "whole pass"."""


def head_tail(classifier: Classifier) -> LayerTail:
    """The tail of r, the head alone."""
    return LayerTail(lambda r, _: classifier.head(r), "head")


def find_layer(classifier: Classifier, layer: str | None, key: str = "importance.layer") -> nn.Module:
    """The module of a layer, whose output can be edited.

    Args:
        classifier: a module.
        layer: as of `layer_module`; None: the `cam_layer`.
        key: the setting that names the layer, for messages.

    Raises:
        ValueError: there is none of that name, or the classifier is no module or has no `cam_layer`.
    """
    if not isinstance(classifier, nn.Module):
        raise ValueError(f"{type(classifier).__name__} is no torch.nn.Module: expected one, whose layers can be edited")
    name = layer or classifier.cam_layer
    if name is None:
        raise ValueError(f"{type(classifier).__name__} has no cam_layer: name the layer, {key}=<layer>")
    return layer_module(classifier, name, key)


def layer_tail(classifier: Classifier, module: nn.Module, image: Tensor) -> LayerTail:
    """The tail of a layer: the modules behind it, where they alone give the logits of the whole pass.

    It is checked on some images, with their activations as they are and with every second unit at zero. Where no chain
    of modules agrees, every ablation takes a whole pass in which a hook replaces the layer's output: so it is inside a
    block with a shortcut, which adds what the layer never saw. The log then names the block.

    Args:
        classifier: a module.
        module: the layer, a part of it.
        image: some images `[n, 3, H, W]`.
    """
    tail = find_tail(classifier, module, image)
    if tail.method == WHOLE_PASS:
        path = _path(classifier, module)
        log.warning(
            "no chain of modules behind %s gives the logits of the whole pass: every ablation takes one%s",
            path,
            _advice(classifier, path, image),
        )
    return tail


def find_tail(classifier: Classifier, module: nn.Module, image: Tensor) -> LayerTail:
    """The same, of which the log says nothing; arguments as of `layer_tail`."""
    chain = _chain(classifier, _path(classifier, module), image)
    if chain is not None:
        return LayerTail(chain, "modules behind the layer")
    return LayerTail(_whole_pass(classifier, module), WHOLE_PASS)


def _path(classifier: Classifier, module: nn.Module) -> str:
    return next(path for path, child in cast(nn.Module, classifier).named_modules() if child is module)


def _advice(classifier: Classifier, path: str, image: Tensor) -> str:
    """Names the smallest block around a path whose modules behind are enough; empty where there is none."""
    names = path.split(".")
    for depth in range(len(names) - 1, 0, -1):
        block = ".".join(names[:depth])
        try:
            chain = _chain(classifier, block, image)
        except ValueError:  # no map: it holds the head
            return ""
        if chain is not None:
            return f"; behind {block}, the block around it, the modules are enough"
    return ""


def _chain(classifier: Classifier, path: str, image: Tensor) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The chain of modules behind a path that agrees with the whole pass; None: there is none, or no map."""
    network = cast(nn.Module, classifier)
    module = network.get_submodule(path)
    activations = record_activations(classifier.features, {path: module}, image)[path]
    half = activations.clone()
    half[:, ::2] = 0
    whole = _whole_pass(classifier, module)
    for modules, rectified in product(_chains(network, path), (False, True)):
        chain = _chained(classifier, modules, rectified)
        if all(_agree(chain, whole, x, image) for x in (activations, half)):
            return chain
    return None


def _agree(chain: Callable[..., Tensor], whole: Callable[..., Tensor], activations: Tensor, image: Tensor) -> bool:
    try:
        result = chain(activations.clone(), image)
    except (RuntimeError, TypeError, ValueError):  # the children do not run in their order
        return False
    expected = whole(activations.clone(), image)
    difference = (result - expected).abs().max() / expected.abs().max().clamp(min=1e-30)
    return result.shape == expected.shape and bool(difference <= TOLERANCE)


def _chains(classifier: nn.Module, path: str) -> Iterator[list[nn.Module]]:
    """Children behind the layer, from its parent up: without those of the classifier itself, then with them."""
    *above, _ = names = path.split(".")
    following: list[nn.Module] = []
    for depth in range(len(above), -1, -1):
        parent = classifier.get_submodule(".".join(names[:depth]))
        children = list(parent.named_children())
        index = [name for name, _ in children].index(names[depth])
        if depth == 0:
            yield list(following)
        following += [child for _, child in children[index + 1 :]]
    yield following


def _chained(classifier: Classifier, modules: list[nn.Module], rectified: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """Runs modules one after another up to the last linear layer, for which the classifier's head stands.

    Args:
        classifier: whose modules these are.
        modules: behind the layer, in order.
        rectified: a map is rectified before it is averaged, as DenseNet's is by a function that no module shows.
    """
    last = max((k for k, module in enumerate(modules) if isinstance(module, nn.Linear)), default=len(modules))
    body = _flat(modules[:last])
    if body and isinstance(body[-1], nn.Linear) and last == len(modules):
        body = body[:-1]

    @torch.no_grad()
    def logits(activations: Tensor, _: Tensor) -> Tensor:
        x = activations
        for module in body:
            x = module(x.flatten(1) if isinstance(module, nn.Linear) else x)
        if x.ndim == 4 and x.shape[2:] != (1, 1):
            x = (x.relu() if rectified else x).mean((2, 3))
        return classifier.head(x.flatten(1))

    return logits


def _flat(modules: list[nn.Module]) -> list[nn.Module]:
    """Modules with those of chains (`nn.Sequential`) in place of these, so that a linear layer may be seen."""
    return [leaf for module in modules for leaf in (_flat(list(module)) if type(module) is nn.Sequential else [module])]


def _whole_pass(classifier: Classifier, module: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    @torch.no_grad()
    def logits(activations: Tensor, image: Tensor) -> Tensor:
        handle = module.register_forward_hook(lambda *_: activations.clone())
        try:
            return classifier.head(classifier.features(image))
        finally:
            handle.remove()

    return logits
