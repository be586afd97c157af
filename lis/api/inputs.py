"""Inputs as people have them, as tensors: arrays, lists, pictures, names of classes; one or many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lis.context import Context
from lis.linking.pairs import pairs
from lis.look import Looker
from lis.names import nearest
from lis.store import Artifact
from lis.types import require_sight
from lis.units.direction import check_direction, find_direction, of_direction
from lis.units.perturbation import Perturbation
from lis.units.photos import photo_of, read_photo
from lis.units.unit import check_unit, of_unit


@dataclass(frozen=True)
class Rows:
    """Vectors that were given as one or as many."""

    values: Tensor
    """`[n, width]` float32 on the CPU."""
    leading: tuple[int, ...]
    """Dimensions that they were given with in place of n; () of a single one."""


@dataclass(frozen=True)
class Kind:
    """Vectors of a kind, and where one gets them."""

    name: str
    """Of the argument."""
    width: int
    owner: str
    """What they are, as in `activations of PartNet`."""
    remedy: str
    swapped: tuple[int, str]
    """Width of the other kind, and what to do with such."""
    pictured: str
    """What to do with pictures."""

    @classmethod
    def r(cls, ctx: Context) -> Kind:
        """Activations of a study's classifier."""
        remedy = "s.encode(pictures) or s.look(w).r gives them"
        swapped = ctx.generator.w_dim, "these are as wide as style codes: s.look(w).r has their activations"
        owner, pictured = f"activations of {name_of(ctx.classifier)}", "s.encode(pictures) gives their activations"
        return cls("r", ctx.classifier.units, owner, remedy, swapped, pictured)

    @classmethod
    def w(cls, ctx: Context) -> Kind:
        """Style codes of a study's generator."""
        remedy = 's.link(r) or s.pairs("test").w gives them'
        swapped = ctx.classifier.units, "these are as wide as activations: s.link(r) has their style codes"
        owner, pictured = f"style codes of {name_of(ctx.generator)}", "s.link(s.encode(pictures)) gives style codes"
        return cls("w", ctx.generator.w_dim, owner, remedy, swapped, pictured)

    def rows(self, value: Any, many: str = "n") -> Rows:
        """The vectors, checked.

        Args:
            value: an array, a tensor on any device, or lists of numbers, `[…, width]`.
            many: the leading dimensions in words: `n`, at most one, or `…`, any.

        Raises:
            ValueError: names the argument, what it is, what was expected and the remedy.
        """
        values = numbers(value, self.name)
        shape, fits = list(values.shape), values.ndim and values.shape[-1] == self.width
        if _holds_pixels(value, shape):
            raise ValueError(
                f"{self.name} has shape {shape}, as pictures have: expected the {self.owner}; {self.pictured}"
            )
        if not fits or (many == "n" and values.ndim > 2):
            other, instead = self.swapped
            remedy = instead if values.ndim and values.shape[-1] == other != self.width else self.remedy
            raise ValueError(
                f"{self.name} has shape {shape}: expected [{many}, {self.width}] or [{self.width}], the {self.owner}; "
                f"{remedy}"
            )
        if not values.numel():
            raise ValueError(f"{self.name} has shape {shape}: expected one or more; {self.remedy}")
        return Rows(values.reshape(-1, self.width), tuple(values.shape[:-1]))


def name_of(model: Any) -> str:
    """What a model is called: by itself, as a network of a library, or by its class."""
    name = getattr(model, "name", None)
    return name if isinstance(name, str) else type(model).__name__


def _holds_pixels(value: Any, shape: Sequence[int]) -> bool:
    """Whether an array, or a list of some, looks like pictures: bytes, or three channels of a square."""
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return str(getattr(value, "dtype", "")).endswith("uint8") or (shape[-3:-2] == [3] and shape[-2] == shape[-1])


def numbers(value: Any, name: str) -> Tensor:
    """A float32 tensor on the CPU, without gradients and with memory of its own.

    Raises:
        ValueError: the value holds no numbers, or some that are not finite.

    Example:
        >>> numbers([[1, 2.5]], "r")
        tensor([[1.0000, 2.5000]])
        >>> numbers("pug", "w")
        Traceback (most recent call last):
        ValueError: w is a str: expected numbers, as an array, a tensor or lists
    """
    if isinstance(value, (list, tuple)) and value and all(isinstance(each, Tensor) for each in value):
        value = [_dense(each, name).tolist() if each.ndim == 0 else _dense(each, name).numpy() for each in value]
    if not isinstance(value, Tensor):
        try:
            array = np.asarray(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} has rows of different lengths: expected the same number in each") from error
        if array.dtype.kind not in "fiu":
            kind = f"an array of {array.dtype}" if isinstance(value, (np.ndarray, list, tuple)) else _kind(value)
            raise ValueError(f"{name} is {kind}: expected numbers, as an array, a tensor or lists")
        value = torch.from_numpy(np.array(array, dtype=np.float32))
    value = _dense(value, name)
    if value.is_complex() or value.dtype == torch.bool:
        raise ValueError(f"{name} is a tensor of {str(value.dtype).removeprefix('torch.')}: expected real numbers")
    result = value.to(torch.float32, copy=True)
    if not result.isfinite().all():
        raise ValueError(f"{name} has {int((~result.isfinite()).sum())} numbers that are not finite: expected none")
    return result


def _dense(value: Tensor, name: str) -> Tensor:
    """A tensor on the CPU, without gradients.

    Raises:
        ValueError: it is sparse, or has no values.
    """
    if value.is_meta:
        raise ValueError(f"{name} is a meta tensor: expected one with values")
    if value.layout is not torch.strided:
        raise ValueError(f"{name} is a sparse tensor: expected a dense one, as its .to_dense()")
    return value.detach().cpu()


def is_picture(value: Any) -> bool:
    """Whether a value is a picture, the path of one, or some of these."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(is_picture(each) for each in value)
    return isinstance(value, (str, Path, Image.Image))


@dataclass(frozen=True)
class Pictures:
    """Pictures that were given as one or as many."""

    values: Tensor
    """`[n, 3, H, W]`, uint8 or floats in [-1, 1]."""
    leading: tuple[int, ...]
    """() of a single one, else (n,)."""


def as_pictures(value: Any, size: int, name: str = "pictures") -> Pictures:
    """Pictures as networks take them; all but floats are cut square and resized as those of a folder are.

    Args:
        value: a PIL picture, a path, uint8 values `[H, W, 3]` or `[3, H, W]`, or some of these, of any sizes; or floats
            in [-1, 1], `[3, size, size]` or `[n, 3, size, size]`, as a generator gives.
        size: height and width of the result.
        name: of the argument.

    Raises:
        ValueError: one of them cannot be used; says which, and why.
    """
    if isinstance(value, (list, tuple)) and value and all(_is_one(each) for each in value):
        return _together([as_pictures(each, size, name).values for each in value], name)
    if is_picture(value) and not isinstance(value, (list, tuple)):
        return Pictures(_picture(value, size, name)[None], ())
    array = _dense(value, name) if isinstance(value, Tensor) else torch.from_numpy(np.array(_array(value, name)))
    if array.ndim not in (3, 4) or not array.numel() or 3 not in (array.shape[-3], array.shape[-1]):
        raise ValueError(
            f"{name} has shape {list(array.shape)}: expected [n, 3, H, W] or [n, H, W, 3], or one picture without n"
        )
    array = array if array.shape[-3] == 3 else array.movedim(-1, -3)
    leading, array = tuple(array.shape[:-3]), array.reshape(-1, *array.shape[-3:])
    if array.is_floating_point():
        return Pictures(_generated(array.float(), size, name), leading)
    if array.dtype != torch.uint8:
        raise ValueError(f"{name} holds {str(array.dtype).removeprefix('torch.')}: expected uint8, 0 to 255")
    each = [_picture(Image.fromarray(one.permute(1, 2, 0).numpy()), size, name) for one in array]
    return Pictures(torch.stack(each), leading)


def _is_one(value: Any) -> bool:
    """Whether a value is a single picture, the path of one, or an array with channels."""
    return isinstance(value, (str, Path, Image.Image)) or (isinstance(value, (Tensor, np.ndarray)) and value.ndim == 3)


def _together(each: Sequence[Tensor], name: str) -> Pictures:
    """Pictures `[1, 3, H, W]` that were given one by one."""
    kinds = sorted({str(one.dtype).removeprefix("torch.") for one in each})
    if len(kinds) > 1:
        raise ValueError(f"{name} holds {' and '.join(kinds)}: expected one of them; uint8 is resized, floats are not")
    return Pictures(torch.cat(list(each)), (len(each),))


def _array(value: Any, name: str) -> np.ndarray:
    with suppress(TypeError, ValueError):  # of different shapes
        result = np.asarray(value)
        if result.dtype.kind in "fiu":
            return result
    raise ValueError(f"{name} is {_kind(value)}: expected pictures (PIL), paths of pictures, or arrays")


def _generated(image: Tensor, size: int, name: str) -> Tensor:
    if image.shape[-2:] != (size, size):
        raise ValueError(
            f"{name} has shape {list(image.shape)}: floats are taken as they are; expected [n, 3, {size}, {size}], "
            "the generator's images, or uint8, which is resized"
        )
    low, high = float(image.min()), float(image.max())
    if not bool((image.abs() <= 1).all()):
        raise ValueError(f"{name} lies between {low:g} and {high:g}: expected floats in [-1, 1], or uint8")
    if low >= 0:
        raise ValueError(
            f"{name} lies between {low:g} and {high:g}: expected floats in [-1, 1], as x * 2 - 1 of values in [0, 1]; "
            "images in which nothing is dark go in as uint8"
        )
    return image


def _picture(value: Any, size: int, name: str) -> Tensor:
    """`[3, size, size]` uint8."""
    if isinstance(value, Image.Image):
        photo = photo_of(value, size)
    else:
        path = Path(value).expanduser()
        if not path.exists():
            raise ValueError(f"{name}: there is no file {str(value)!r}; expected the path of a picture")
        photo = read_photo(path, size)
    if photo.image is None:
        raise ValueError(f"{name}: {photo.name}: {photo.reason}")
    return photo.image


def encoded(ctx: Context, given: Pictures) -> Rows:
    """Activations of pictures: `[n, units]`.

    Raises:
        ValueError: the classifier sees no pictures.
    """
    require_sight(ctx.classifier, "pictures have no style code")
    return Rows(Looker(ctx, ctx.batches()).pictures(given.values).r, given.leading)


def activations(value: Any, ctx: Context) -> Rows:
    """Activations `[n, units]`, of pictures too.

    Raises:
        ValueError: as `Kind.rows` and `as_pictures`.
    """
    if is_picture(value):
        return encoded(ctx, as_pictures(value, ctx.generator.resolution, "r"))
    return Kind.r(ctx).rows(value)


def class_names(value: Any, name: str, n: int, known: Sequence[str], run: Sequence[str]) -> list[str]:
    """Names of the classes of n samples.

    Args:
        value: a name, an index among the classes of the study, or n of these.
        name: of the argument.
        n: samples.
        known: names that may be given.
        run: the classes of the study, which an index points into.

    Raises:
        ValueError: an unknown class, or another number of them.

    Example:
        >>> class_names(1, "target", 2, ["ant", "bee", "cat"], ["bee", "cat"])
        ['cat', 'cat']
        >>> class_names("bea", "target", 1, ["ant", "bee"], ["ant", "bee"])
        Traceback (most recent call last):
        ValueError: target='bea': expected one of ant, bee; did you mean bee?
    """
    if isinstance(value, (Tensor, np.ndarray)):
        value = value.tolist()
    many = list(value) if isinstance(value, (list, tuple)) else [value] * n
    if len(many) != n:
        raise ValueError(f"{name} has {len(many)} classes for {n} samples: expected one for all, or one of each")
    return [_class_name(each, name, known, run) for each in many]


def _class_name(value: Any, name: str, known: Sequence[str], run: Sequence[str]) -> str:
    if isinstance(value, str):
        if value not in known:
            raise ValueError(f"{name}={value!r}: expected one of {listed(known)}{nearest(value, known)}")
        return value
    index = whole(value, name, "the name of a class, or its index")
    if index not in range(len(run)):
        raise ValueError(f"{name}={index}: expected 0 to {len(run) - 1}, an index into {', '.join(run)}")
    return run[index]


def listed(names: Sequence[str]) -> str:
    """The first twenty names."""
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "")


def checked_perturbation(value: Perturbation, units: int) -> Perturbation:
    """A perturbation that somebody made, of a classifier with so many units.

    Raises:
        ValueError: it is of another width, or its range is not finite.
    """
    if value.direction is None and value.unit not in range(units):
        raise ValueError(f"{value.label}: expected 0 to {units - 1}, the classifier's units")
    if value.direction is not None and value.direction.shape != (units,):
        shape = list(value.direction.shape)
        raise ValueError(f"direction {value.name!r} has shape {shape}: expected [{units}], a number per unit")
    if not (math.isfinite(value.low) and math.isfinite(value.high)):
        raise ValueError(f"{value.label} from {value.low:g} to {value.high:g}: expected finite numbers")
    return value


def whole(value: Any, name: str, expected: str = "a whole number") -> int:
    """A whole number of any type.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, (Tensor, np.generic)) and np.ndim(value) == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name}={value!r:.80}: expected {expected}")
    return value


def _kind(value: Any) -> str:
    """A value's type with its article."""
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeio' else 'a'} {kind}"


def requested_direction(ctx: Context, link: Artifact, unit: Any, direction: Any) -> tuple[Perturbation, str]:
    """The perturbation that a unit or a direction stands for, and its status.

    Args:
        ctx: of the study, with a classifier that is ready.
        link: the artifact of the fitted link.
        unit: its number, or None.
        direction: a `Perturbation`, a text such as "pc:1", the path of a file, `[units]` numbers, or None.

    Raises:
        ValueError: both or neither are given, or one of them names nothing.
    """
    if (unit is None) == (direction is None):
        given = "neither unit nor direction" if unit is None else f"unit={unit} and a direction"
        raise ValueError(f"{given}: expected one of them, as unit=12 or direction='pc:1'")
    units = ctx.classifier.units
    if isinstance(direction, Perturbation):
        return checked_perturbation(direction, units), "given"
    if unit is not None:
        along, known = of_unit(link.table("units"), check_unit(whole(unit, "unit"), units))
        return along, known["status"]
    train = pairs(ctx, "train").tensors("pairs")
    if isinstance(direction, (str, Path)):
        text = str(direction)
        check_direction(text, ctx.class_names, units)
        vector = find_direction(text, train["r"], train["class_index"], ctx.class_names)
    else:
        text, vector = "vector", numbers(direction, "direction")
        if vector.shape != (units,):
            raise ValueError(
                f"direction has shape {list(vector.shape)}: expected [{units}], a number per unit; 'pc:1' and "
                "'classes:<from>-<to>' are directions too"
            )
    along, known = of_direction(text, vector, train["r"])
    return along, known["status"]
