"""What generators are asked for: classes, maps of layers, and edits of maps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from torch import Tensor

from lis.types import Edits, Generator, Layers


def require_class(class_index: int | None, num_classes: int) -> None:
    """Check that a generator has a class; None stands for that of a generator without classes.

    Raises:
        ValueError: it has not, or a class is asked of a generator without classes.
    """
    if class_index not in (range(num_classes) if num_classes else (None,)):
        expected = f"0 to {num_classes - 1}" if num_classes else "None, for a generator without classes"
        raise ValueError(f"class {class_index}: expected {expected}")


def requested_layers(features: Layers, names: Sequence[str]) -> tuple[str, ...]:
    """The layers whose maps are asked for, in the order of the generator.

    Args:
        features: True for all, False for none, or names.
        names: of the generator's layers.

    Raises:
        ValueError: a name is unknown.

    Example:
        >>> requested_layers(True, ["b4", "b8"]), requested_layers({"b8"}, ["b4", "b8"])
        (('b4', 'b8'), ('b8',))
    """
    if isinstance(features, bool):
        return tuple(names) if features else ()
    if unknown := sorted(set(features) - set(names)):
        raise ValueError(f"there is no layer {unknown[0]!r}: expected some of {', '.join(names)}")
    return tuple(name for name in names if name in features)


def edited_map(name: str, x: Tensor, edits: Edits) -> Tensor:
    """The map `[n, channels, h, w]` of a layer as its edit leaves it; itself where the layer has none.

    Raises:
        ValueError: the edit gives another shape.
    """
    if name not in edits:
        return x
    result = edits[name](x)
    if result.shape != x.shape:
        raise ValueError(f"the edit of layer {name!r} gives shape {list(result.shape)}: expected {list(x.shape)}")
    return result


def image_and_maps(
    generator: Generator, w: Tensor, *readers: Literal[True] | Collection[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Images `[n, 3, H, W]` of `w [n, w_dim]`, and of the maps those alone that are read.

    Args:
        generator: makes them.
        w: style codes, on its device.
        readers: for each that reads maps the names of their layers; True: all.
    """
    names = [name for layers in readers if layers is not True for name in layers]
    requested = True if True in readers else tuple(dict.fromkeys(names))
    return generator.synthesize(w, features=requested) if requested else (generator.synthesize(w), {})
