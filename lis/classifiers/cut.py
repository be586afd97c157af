"""Any network, cut at the input of its last linear layer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from lis.classifiers.preprocessing import Preprocessing
from lis.fingerprint import Fingerprint
from lis.names import nearest
from lis.rounding import linear
from lis.types import Classifier

_TOLERANCE = 1e-5
"""Largest difference between `head(features(x))` and the whole network, relative to the largest logit."""
_TRANSFORMER = (
    "No convolution runs in this network but perhaps a patch embedding, as in a vision transformer. Expect a poor "
    "link: “Currently, our method does not generalize to ViTs, where regional representations are encoded, as the "
    "W-space is not regionally disentangled” (Wehrheim et al. 2024, Sec. 5)."
)


class CutClassifier(nn.Module):
    """A network as a `Classifier`: r is exactly what its last linear layer reads.

    Args:
        network: images `[n, 3, size, size]`, preprocessed → logits `[n, classes]`, which one `nn.Linear` gives.
        preprocessing: from images in [-1, 1] to what the network reads.
        class_names: of the logits, in order.
        name: of the architecture, for messages and the report.
        weights: where they come from, in words.
        domain: the world of the images that they were trained on; None: not known.
        trained: False where the weights are random and wait for training.
        attribute: the factor whose sign the network tells, where it tells no classes.
        notes: remarks for the report; one is added for a vision transformer.

    Raises:
        ValueError: the logits do not come from one linear layer on a vector, or there are not as many names as logits.

    Example:
        >>> pool = nn.AdaptiveAvgPool2d(1)
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), pool, nn.Flatten(), nn.Linear(4, 2))
        >>> model = CutClassifier(network, Preprocessing.as_drawn(8), ("a", "b"), name="small", weights="random")
        >>> model.units, list(model.layers), model.features(torch.zeros(5, 3, 8, 8)).shape
        (4, ['0'], torch.Size([5, 4]))
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        class_names: Sequence[str],
        *,
        name: str,
        weights: str,
        domain: str | None = None,
        trained: bool = True,
        attribute: str | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        anatomy = examine(network, preprocessing.size, name)
        self.network, self.preprocessing, self.name = network, preprocessing, name
        self.weights, self.domain, self.trained, self.attribute = weights, domain, trained, attribute
        self.class_names, self.head_name = tuple(class_names), anatomy.head
        self.layers = {layer: network.get_submodule(layer) for layer in anatomy.layers}
        self.cam_layer = anatomy.cam_layer
        self.notes = tuple(notes) + ((_TRANSFORMER,) if anatomy.tokens else ())
        self.units = self._last.in_features
        if len(self.class_names) != self._last.out_features:
            raise ValueError(
                f"{name} has {self._last.out_features} outputs and {len(self.class_names)} class names: give one name "
                "per output (classifier.num_classes, classifier.class_names)"
            )
        self._fingerprint = Fingerprint()
        self._check_cut()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights, preprocessing and class names.

        Computed again after a weight was written to, which writing through `.data` hides.
        """
        return self._fingerprint(self.network.state_dict(), json.dumps([self.preprocessing.settings, self.class_names]))

    def features(self, image: Tensor) -> Tensor:
        """r `[n, units]` of images `[n, 3, s, s]` in [-1, 1]."""
        return self._read(self.preprocessing(image))

    def head(self, r: Tensor) -> Tensor:
        """Logits `[n, classes]` of `r [n, units]`."""
        last = self._last
        return linear(r, last.weight, last.bias) if type(last) is nn.Linear else last(r)

    def forward(self, image: Tensor) -> Tensor:
        """Logits `[n, classes]` of images `[n, 3, s, s]` in [-1, 1]."""
        return self.network(self.preprocessing(image))

    @property
    def _last(self) -> nn.Linear:
        return cast(nn.Linear, self.network.get_submodule(self.head_name))

    def _read(self, x: Tensor) -> Tensor:
        """What the last layer reads: a hook gives it back in place of the logits, and nothing follows them."""
        handle = self._last.register_forward_hook(_what_it_read, with_kwargs=True)
        try:
            return self.network(x)
        finally:
            handle.remove()

    def _check_cut(self) -> None:
        x = _example(self.network, self.preprocessing.size)
        with _evaluating(self.network), torch.no_grad():
            whole, cut = self.network(x), self.head(self._read(x))
        apart = float((cut - whole).abs().max() / whole.abs().max().clamp(min=1e-30))
        if not apart <= _TOLERANCE:
            raise ValueError(
                f"{self.name}: its last layer on what it reads differs from the whole network by {apart:.1e} of the "
                f"largest logit, expected at most {_TOLERANCE}: is its forward pass random, or not finite?"
            )


@dataclass(frozen=True)
class Anatomy:
    """What one forward pass shows of a network; names as in `network.named_modules()`."""

    head: str
    """The linear layer whose output is the network's output."""
    layers: tuple[str, ...]
    """Convolutions that gave a map of more than one pixel, in the order in which they ran."""
    cam_layer: str | None
    """The last module with a convolution inside that gave such a map; None if there is none, or for `tokens`."""
    tokens: bool
    """No convolution looks beyond its own patch, as in a vision transformer."""


@dataclass(frozen=True)
class _Call:
    """A module that returned."""

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    """Of its output; empty where that is no tensor."""
    output: Tensor | None
    """Of linear layers only, to save memory."""
    version: int
    """How often the output had been written to."""

    @classmethod
    def of(cls, name: str, module: nn.Module, output: Any) -> Self:
        """What is remembered of it."""
        shape = tuple(output.shape) if isinstance(output, Tensor) else ()
        linear_output = output if isinstance(module, nn.Linear) else None
        return cls(name, module, shape, linear_output, 0 if linear_output is None else linear_output._version)

    @property
    def is_map(self) -> bool:
        # The example is square: where height and width differ, the channels come last.
        return len(self.shape) == 4 and self.shape[2] == self.shape[3] > 1

    def gave(self, logits: Tensor) -> bool:
        """Its output is the network's, and nobody has written to it since."""
        return (
            self.output is not None
            and self.output.data_ptr() == logits.data_ptr()
            and self.output.shape == logits.shape
            and self.version == logits._version
        )


def examine(network: nn.Module, size: int, name: str) -> Anatomy:
    """Find the last linear layer and the convolutions by one forward pass; the network is left as it was.

    Args:
        network: `[n, 3, size, size]` → logits `[n, classes]`.
        size: height and width of its input in pixels.
        name: of the network, for messages.

    Raises:
        ValueError: the logits do not come from one linear layer that reads a vector.
    """
    x = _example(network, size)
    calls: list[_Call] = []
    recording = recorded(dict(network.named_modules()), lambda *returned: calls.append(_Call.of(*returned)))
    with _evaluating(network), torch.inference_mode(False), torch.no_grad(), recording:
        logits = network(x)
        head = _find_head(calls, logits, name)
    maps = [call for call in calls if call.is_map]
    convolutions = {call.name: call.module for call in maps if isinstance(call.module, nn.Conv2d)}
    tokens = all(c.kernel_size == c.stride for c in convolutions.values() if isinstance(c, nn.Conv2d))
    convolving = [call for call in maps if any(isinstance(part, nn.Conv2d) for part in call.module.modules())]
    last = [call.name for call in convolving if call.name]
    return Anatomy(head, tuple(convolutions), None if tokens or not last else last[-1], tokens)


def _find_head(calls: Sequence[_Call], logits: Any, name: str) -> str:
    expected = "expected logits [n, classes] as one nn.Linear gives them"
    if not isinstance(logits, Tensor):
        raise ValueError(f"{name} returns a {type(logits).__name__}: {expected}; wrap it in a module that returns them")
    linear = [call for call in calls if isinstance(call.module, nn.Linear)]
    if not linear:
        raise ValueError(f"no nn.Linear runs in {name}: {expected}; put a linear layer on a pooled vector of it")
    head = next((call for call in linear if call.gave(logits)), None)
    if head is None:
        what = "such as softmax, scaling, a convolution or a sum of heads"
        raise ValueError(
            f"something follows the last linear layer {linear[-1].name!r} of {name}, {what}: {expected}; leave it out"
        )
    if logits.ndim != 2:
        what = f"gives {list(logits.shape)} for 2 images, one answer per token or position"
        raise ValueError(f"the last linear layer {head.name!r} of {name} {what}: {expected}; pool before it")
    uses = sum(call.module is head.module for call in linear)
    if uses > 1:
        raise ValueError(f"the last linear layer {head.name!r} of {name} runs {uses} times in a pass: {expected}, once")
    return head.name


def _example(network: nn.Module, size: int) -> Tensor:
    """Two noise images, where the network is."""
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    weight = next((p for p in network.parameters() if p.is_floating_point()), x)
    return x.to(weight.device, weight.dtype)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def recorded(modules: Mapping[str, nn.Module], record: Callable[[str, nn.Module, Any], object]) -> Iterator[None]:
    """Inside, `record` is told of every module that returns, in order: its name, the module, and its output."""

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def heard(module: nn.Module, _: Any, output: Any) -> None:
            record(name, module, output)

        return heard

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def modules_called(model: object, layers: Mapping[str, nn.Module], name: str) -> list[nn.Module]:
    """The modules that a name may mean: the layer or path of that name, else the shortest paths that end in it.

    A network inside a model is named without what it lies in: `2` is `network.2`, not `network.1.2`.

    Args:
        model: with paths only where it is a module.
        layers: modules by names of their own.
        name: of a layer, or the path of a module or its end.
    """
    paths = dict(model.named_modules()) if isinstance(model, nn.Module) else {}
    modules = {path: module for path, module in paths.items() if path} | dict(layers)
    if name in modules:
        return [modules[name]]
    ends = [path for path in modules if path.endswith(f".{name}")]
    depth = min((path.count(".") for path in ends), default=0)
    return list(dict.fromkeys(modules[path] for path in ends if path.count(".") == depth))


def layer_module(classifier: Classifier, layer: str, key: str = "layer") -> nn.Module:
    """The module of a classifier that a name means, as of `modules_called`.

    Args:
        classifier: the classifier.
        layer: a key of `classifier.layers`, or the path of a module or its end.
        key: the setting that names the layer, for messages.

    Raises:
        ValueError: no module has the name, or several that lie equally deep end in it.
    """
    result = modules_called(classifier, classifier.layers, layer)
    if len(result) == 1:
        return result[0]
    if result:
        raise ValueError(f"{key}={layer!r} is ambiguous, {len(result)} modules end in it: expected a longer path")
    paths = [path for path, _ in classifier.named_modules()] if isinstance(classifier, nn.Module) else []
    raise ValueError(
        f"{key}={layer!r}: expected a layer of the classifier, one of {', '.join(classifier.layers) or 'none'}, or the "
        f"path of a module{nearest(layer, [*classifier.layers, *paths])}"
    )


def _what_it_read(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any], __: Tensor) -> Tensor:
    return args[0] if args else named["input"]
