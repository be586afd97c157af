"""What an image takes on its way through the models, and how many fit into memory at once.

That is measured, not guessed: a `Meter` sees every tensor that one image needs.
"""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lis.memory import Batches, budget
from lis.types import Classifier, Finder, Generator, Layers, ReadsStyle

Result = TypeVar("Result")

log = logging.getLogger(__name__)

FIRST_ON_GPU = 32
"""Images at once that a GPU begins with."""
MAPS_ON_CPU = 2**25
"""Bytes of feature maps that are best made at once on a CPU: more leave its caches."""
_COPIES = 8
"""Of an image, while it is measured or compared with another."""


class Meter(TorchDispatchMode):
    """Counts the bytes of tensors that are made inside its `with` block, and that are alive at once.

    What a kernel needs for itself, a library outside of torch or a compiled program is not seen.

    Example:
        >>> with Meter() as meter:
        ...     half = (torch.ones(100) + 1)[:50].clone()
        >>> meter.peak, meter.now
        (800, 200)
    """

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak = 0, 0
        self._known: dict[int, int] = {}
        """Storages that are alive, by address of their record: bytes; 0 for those that were there before."""
        self._before: list[torch.UntypedStorage] = []
        self._ends: list[weakref.finalize[..., Any]] = []

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for end in self._ends:
            end.detach()
        self._before.clear()  # what outlives the block shall not keep what went into it
        self._ends.clear()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for storage in _storages((args, kwargs)):
            if storage._cdata not in self._known:
                self._known[storage._cdata] = 0
                self._before.append(storage)
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage._cdata not in self._known:
                self._note(storage)
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        size = self._known[storage._cdata] = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        self._ends.append(weakref.finalize(storage, self._forget, storage._cdata, size))

    def _forget(self, key: int, size: int) -> None:
        self.now -= size
        self._known.pop(key, None)


def _storages(values: Any) -> list[torch.UntypedStorage]:
    """Those of all tensors in a result, but for sparse and packed ones, which have none."""
    tensors = [value for value in tree_leaves(values) if isinstance(value, Tensor)]
    return [x.untyped_storage() for x in tensors if x.layout == torch.strided and not x.is_mkldnn]


@dataclass(frozen=True)
class Cost:
    """What one image takes."""

    peak: int
    """Bytes at most, while it is made."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of its feature maps by layer, `(channels, h, w)`."""

    @property
    def left(self) -> int:
        """Bytes of the feature maps, in float32."""
        return 4 * sum(math.prod(shape) for shape in self.shapes.values())


@runtime_checkable
class Priced(Protocol):
    """What a generator may offer beside `Generator`, all of it: what an image takes, without making one."""

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers whose maps `synthesize` gives, in order."""
        ...

    def cost(self, layers: Layers) -> Cost:
        """Of one image with the maps of these layers, where it is made as on a GPU: a CPU may do with less."""
        ...

    def weight_bytes(self, device: torch.device) -> int:
        """Bytes of the weights, in all the forms that a device computes with."""
        ...


@torch.inference_mode()
def layer_names(generator: Generator, device: torch.device) -> tuple[str, ...]:
    """The layers whose maps a generator gives, in order: what it says itself, or those that come with an image."""
    if isinstance(generator, Priced):
        return generator.layer_names
    return tuple(generator.synthesize(_mean_w(generator, device), features=True)[1])


def _mean_w(generator: Generator, device: torch.device) -> Tensor:
    return generator.mean_w[:1].clone().to(device)


_measured: dict[int, dict[Any, Any]] = {}
"""Identity of a model that lives → what was asked of it → what was measured."""


def _once(model: Any, key: Any, measure: Callable[[Tensor], Result], row: Callable[[], Tensor]) -> Result:
    """What `measure` gives for what `row` makes, measured the first time that it is asked of a model."""
    known = _measured.get(id(model), {})
    if key not in known:
        (known[key],) = Batches(1).map(measure, row())
    if id(model) not in _measured:
        with suppress(TypeError):  # one that cannot say when it ends is measured each time
            weakref.finalize(model, _measured.pop, id(model), None)
            _measured[id(model)] = known
    return known[key]


@torch.inference_mode()
def generator_cost(generator: Generator, device: torch.device, layers: Layers = False) -> Cost:
    """Of one image with the maps of these layers; measured, on an image of a mean w, where it is not known."""
    if isinstance(generator, Priced):
        return generator.cost(layers)

    def measure(w: Tensor) -> Cost:
        with Meter() as meter:
            maps = generator.synthesize(w, features=layers)[1] if layers else (generator.synthesize(w), {})[1]
        return Cost(meter.peak, {name: tuple(x.shape[1:]) for name, x in maps.items()})

    key = layers if isinstance(layers, bool) else tuple(sorted(layers))
    return _once(generator, key, measure, lambda: _mean_w(generator, device))


@torch.inference_mode(False)
def classifier_cost(classifier: Classifier, resolution: int, device: torch.device, gradient: bool = False) -> int:
    """Bytes at the peak of reading one image of a resolution: activations, answer, and its gradient; measured.

    None for a classifier that reads no images.
    """
    if isinstance(classifier, ReadsStyle):
        return 0

    def measure(image: Tensor) -> int:
        with torch.set_grad_enabled(gradient), Meter() as meter:
            answer = classifier.head(classifier.features(image))
            if gradient:
                torch.autograd.grad(answer.sum(), image)
        return meter.peak

    def noise() -> Tensor:
        image = torch.rand(1, 3, resolution, resolution, generator=torch.Generator().manual_seed(0)) * 2 - 1
        return image.to(device).requires_grad_(gradient)

    return _once(classifier, (resolution, gradient), measure, noise)


@torch.inference_mode()
def finder_cost(masks: Finder, shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> int:
    """Bytes at the peak of finding the parts of one image in maps of these shapes; measured."""

    def measure(images: Tensor) -> int:
        maps = {name: torch.zeros(len(images), *shape, device=device) for name, shape in shapes.items()}
        with Meter() as meter:
            masks(maps)
        return meter.peak

    return _once(masks, tuple(shapes.items()), measure, lambda: torch.zeros(1))


def image_bytes(
    generator: Generator,
    device: torch.device,
    classifier: Classifier | None = None,
    masks: Finder | None = None,
    layers: Layers = False,
    gradient: bool = False,
    beside: int = 0,
) -> int:
    """Bytes at the peak of one image's way: made, its parts found, shown to the classifier; see `batches`."""
    made = generator_cost(generator, device, masks.layers if masks else layers)
    after = [4 * 3 * generator.resolution**2 * _COPIES + beside]
    if masks:
        after.append(finder_cost(masks, made.shapes, device))
    if classifier:
        after.append(classifier_cost(classifier, generator.resolution, device, gradient))
    return max(made.peak, made.left + max(after))


def batches(
    generator: Generator,
    device: torch.device,
    size: int,
    classifier: Classifier | None = None,
    masks: Finder | None = None,
    layers: Layers = False,
    gradient: bool = False,
    beside: int = 0,
) -> Batches:
    """Batches of `size` images, or of as many as there is room for.

    Args:
        generator: makes them.
        device: where they are made.
        size: `batch_size` of the run.
        classifier: reads them, where one does.
        masks: finds their parts, where something does.
        layers: whose maps come with them, where nothing finds parts in them.
        gradient: of the classifier's answers by the images.
        beside: bytes that something else takes for an image.
    """
    room = _room(image_bytes(generator, device, classifier, masks, layers, gradient, beside), device)
    if room < size:
        _say(f"{room} images at once, not {size}: there is no room for more")
    return Batches(min(size, room))


@lru_cache
def _say(text: str) -> None:
    """Into the log, once: a stage asks for every shard."""
    log.info("%s", text)


def tuned_batches(
    generator: Generator,
    device: torch.device,
    size: int | None,
    most: int,
    classifier: Classifier | None,
    masks: Finder | None,
) -> Batches:
    """Batches of very many images: of `size`, or, where that is None, of as many as suit the device.

    A GPU begins with 32 and finds more. A CPU takes a fixed number: a power of two that keeps the feature maps below
    `MAPS_ON_CPU`. Neither takes more than there is room for.

    Args:
        generator: makes them.
        device: where they are made.
        size: `tuning.batch_size`.
        most: on a CPU, `batch_size` of the run.
        classifier: reads them, where one does.
        masks: finds their parts, where something does.
    """
    room = _room(image_bytes(generator, device, classifier, masks), device)
    grows = size is None and device.type == "cuda"
    if size is None and not grows:
        one = generator_cost(generator, device, masks.layers if masks else False).left
        size = min(most, 2 ** max(0, int(math.log2(MAPS_ON_CPU / max(one, 1)))))
    size = min(size or FIRST_ON_GPU, room)
    log.info("%d images at once%s", size, ", to begin with" if grows else "")
    return Batches(size, grows, room)


def _room(one: int, device: torch.device) -> int:
    """Images of so many bytes that fit into the budget at once, one at least."""
    return max(1, budget(device) // max(1, one))
