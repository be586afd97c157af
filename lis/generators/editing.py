"""Edits of the maps of a generator that offers none itself: those of its maps that are results of torch functions."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from itertools import count
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lis.generators.layers import edited_map, requested_layers
from lis.types import Editable, Edits, Generator, Images, Layers


class Maps(TorchFunctionMode):
    """Inside, every `[n, channels, h, w]` that a torch function returns is replaced by `replace(k, x)`, the k-th by k.

    Functions that are called by torch functions are not seen, nor is what compiled or scripted programs call.

    Example:
        >>> with Maps(lambda k, x: x + 10 * k):
        ...     x = torch.zeros(1, 1, 1, 1) + 1
        ...     y = x + 1
        >>> x.item(), y.item()
        (11.0, 32.0)
    """

    def __init__(self, replace: Callable[[int, Tensor], Tensor]) -> None:
        super().__init__()
        self.replace, self.index = replace, count()

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if type(result) in (tuple, list):
            return type(result)(self._replaced(x) for x in result)
        return self._replaced(result)

    def _replaced(self, x: Any) -> Any:
        return self.replace(next(self.index), x) if isinstance(x, Tensor) and x.dim() == 4 else x


_sources: dict[int, dict[str, int | None]] = {}
"""Identity of a generator that lives → by layer which result is its map; None: nothing tells."""


def _known_sources(generator: Generator) -> dict[str, int | None]:
    """Those of a generator, which all that intercepts it shares."""
    known = _sources.get(id(generator), {})
    if id(generator) not in _sources:
        with suppress(TypeError):  # one that cannot say when it ends is located anew each time
            weakref.finalize(generator, _sources.pop, id(generator), None)
            _sources[id(generator)] = known
    return known


class InterceptedGenerator:
    """A generator that has no `synthesize_edited`, as an `Editable` one; the generator is left as it is.

    A layer is a name that `synthesize` with `features` gives. Its map is the last result of a torch function that is
    equal to what `features` gives and whose replacement `features` then gives instead, with another image: so what
    follows the layer reads the edited map, be it computed by a module or by a function, and nothing before it does.
    This is tried on an image, twice in a batch, before the first edit of a layer.

    Args:
        generator: its pass may depend on nothing but w, and takes the same steps for any number of images.

    Example:
        >>> class Doubled:
        ...     def synthesize(self, w, features=False):
        ...         x = w[:, :, None, None].expand(-1, 3, 2, 2) * 2
        ...         return (x + 1, {"double": x}) if features else x + 1
        >>> edits = {"double": lambda x: x * 0}
        >>> InterceptedGenerator(Doubled()).synthesize_edited(torch.ones(1, 1), edits).unique()
        tensor([1.])
    """

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self._sources = _known_sources(generator)

    @overload
    def synthesize_edited(self, w: Tensor, edits: Edits, features: Literal[False] = False) -> Tensor: ...
    @overload
    def synthesize_edited(
        self, w: Tensor, edits: Edits, features: Literal[True] | Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor]]: ...
    def synthesize_edited(self, w: Tensor, edits: Edits, features: Layers = False) -> Images:
        """As of `Editable`.

        Raises:
            ValueError: a layer is unknown or cannot be edited, two layers are one tensor, an edit gives another shape,
                or the generator takes other steps than on the first image.
        """
        if not edits:
            return self.generator.synthesize(w, features)  # pyright: ignore[reportArgumentType,reportCallIssue]
        names, results = self._layer_of_source(edits, w), {}

        def replace(index: int, x: Tensor) -> Tensor:
            if index not in names:
                return x
            results[names[index]] = edited_map(names[index], x, edits)
            return results[names[index]].clone()  # into which what follows may write

        image, maps = self._passed(w, replace)
        if lost := [name for name in edits if name not in results or not _equal(results[name], maps[name])]:
            self._sources.clear()  # of a generator that was changed they are located anew
            raise ValueError(
                f"the map of layer {lost[0]!r} of {self._name} arose elsewhere than in the first image: expected a "
                "generator that takes the same steps for all images, or one with synthesize_edited (lis.types.Editable)"
            )
        if features is False:
            return image
        return image, {name: maps[name] for name in requested_layers(features, list(maps))}

    def source(self, name: str, w: Tensor) -> int:
        """Which result of a pass is the map of a layer, counted among those `[n, channels, h, w]`.

        Args:
            name: of the layer.
            w: style codes `[1 or more, w_dim]`, of which the first is used.

        Raises:
            ValueError: there is no such layer, or nothing tells where its map arises.
        """
        self._locate(w, [name])
        source = self._sources[name]
        if source is None:
            self._locate(w, True)
            editable = [layer for layer, index in self._sources.items() if index is not None]
            raise ValueError(
                f"layer {name!r} of {self._name} cannot be edited: no torch function returns its map [n, channels, h, "
                "w] for what follows to read (compiled and scripted programs are not seen). Expected a layer that can, "
                f"{', '.join(editable) or 'of which it has none'}, or a generator with synthesize_edited "
                "(lis.types.Editable)"
            )
        return source

    def _layer_of_source(self, layers: Iterable[str], w: Tensor) -> dict[int, str]:
        names: dict[int, str] = {}
        for name in layers:
            source = self.source(name, w)
            if source in names:
                raise ValueError(
                    f"layers {names[source]!r} and {name!r} of {self._name} are one tensor: expected an edit of one of "
                    "them, which both have"
                )
            names[source] = name
        return names

    @property
    def _name(self) -> str:
        return type(self.generator).__name__

    def _passed(self, w: Tensor, replace: Callable[[int, Tensor], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Images with all maps, so that every pass takes the same steps."""
        with Maps(replace):
            return self.generator.synthesize(w, True)

    @torch.no_grad()
    def _locate(self, w: Tensor, layers: Literal[True] | Collection[str]) -> None:
        """Note where the maps of layers arise, of those of which it is not known.

        On two images: of one, a constant without a batch dimension is equal to the map that is made of it.
        """
        if layers is not True and all(name in self._sources for name in layers):
            return
        w = w[:1].repeat(2, 1)
        image, equal = self._equal_results(w, layers)
        for name, results in equal.items():
            read = (k for k in reversed(results) if self._is_read(name, k, w, image))
            self._sources[name] = next(read, None)

    def _equal_results(self, w: Tensor, layers: Layers) -> tuple[Tensor, dict[str, list[int]]]:
        """Images, and by layer which results of a pass are equal to its map, of layers that are not yet located."""
        results: list[Tensor] = []

        def record(_: int, x: Tensor) -> Tensor:
            results.append(x)
            return x

        image, maps = self._passed(w, record)
        names = [name for name in requested_layers(layers, list(maps)) if name not in self._sources]
        return image, {name: [k for k, x in enumerate(results) if _equal(x, maps[name])] for name in names}

    def _is_read(self, name: str, index: int, w: Tensor, image: Tensor) -> bool:
        """Whether `features` gives what a result is replaced by, and the image is another one than `image`.

        It is replaced by negative values, which an activation function that follows does not leave as they are.
        """
        marked: list[Tensor] = []

        def mark(k: int, x: Tensor) -> Tensor:
            if k == index:
                marked.append(-1 - x.abs())
            return marked[0].clone() if k == index else x

        other, maps = self._passed(w, mark)
        return bool(marked) and _equal(marked[0], maps[name]) and not torch.equal(other, image)


def _equal(x: Tensor, y: Tensor) -> bool:
    return (x.shape, x.dtype, x.device) == (y.shape, y.dtype, y.device) and torch.equal(x, y)


def edited(generator: Generator | Editable) -> Editable:
    """A generator as one whose maps can be edited: itself where it is, else an `InterceptedGenerator`."""
    return generator if isinstance(generator, Editable) else InterceptedGenerator(generator)
