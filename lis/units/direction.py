"""One direction in R, looked at closely: a principal component, a difference of classes, a group, or a vector."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from safetensors import safe_open
from torch import Tensor

from lis.config import RunConfig
from lis.context import Context
from lis.linking.components import principal_components
from lis.linking.link import link
from lis.linking.pairs import test_pairs, train_pairs
from lis.peaks import picture_arrays
from lis.segmentation.training import part_images
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.types import Classifier
from lis.units.directions import directions
from lis.units.parts import segmented
from lis.units.perturbation import Perturbation
from lis.units.unit import check_samples, view_key, write_view
from lis.units.work import view_work

_LARGEST_HEADER = 2**16
"""Bytes that a safetensors file may say about its one tensor."""
_EXPECTED = (
    "expected pc:<k>, classes:<from>-<to>, units:<u>+<v>, or the path of a .safetensors or .npy file with one vector"
)
_NAMED = ("pc", "classes", "units")
"""Kinds of direction that are no files."""


def requested_direction(settings: RunConfig, classifier: Classifier) -> str:
    """The direction that is asked for.

    Raises:
        ValueError: it is missing or unknown, as is the class, or there are fewer test pairs than samples.
    """
    check_samples(settings)
    if settings.direction is None:
        raise ValueError(
            "which direction? Give direction=pc:1, classes:<from>-<to>, units:3+5, or the path of a vector"
        )
    check_direction(settings.direction, settings.classes.names, classifier.units)
    return settings.direction


def _also(ctx: Context) -> dict[str, Any]:
    text = requested_direction(ctx.config, ctx.classifier)
    return view_key(ctx) | {"direction": direction_key(text, ctx.classifier.units)}


@stage(
    "direction",
    version=5,
    inputs=(link, directions, test_pairs, segmented, train_pairs),
    models=MODELS,
    also=_also,
    check=lambda ctx: requested_direction(ctx.config, ctx.classifier),
    images=part_images,
    arrays=picture_arrays,
    work=view_work,
)
def direction_view(
    ctx: Context,
    linked: Artifact,
    way: Artifact,
    test: Artifact,
    trained: Artifact | None,
    train: Artifact,
    draft: Draft,
) -> None:
    """One direction in R, from the smallest to the largest projection of the training pairs, on test pairs.

    Holds what `lis.units.unit.write_view` writes; the samples are those of the stage "unit".

    Raises:
        ValueError: as `requested_direction`; a direction along which no training pair differs; what earlier stages
            refuse.
    """
    text, samples = requested_direction(ctx.config, ctx.classifier), train.tensors("pairs")
    direction = find_direction(text, samples["r"], samples["class_index"], ctx.class_names)
    along, known = of_direction(text, direction, samples["r"])
    write_view(ctx, along, known, linked, way, test, draft)


def check_direction(text: str, class_names: Sequence[str], units: int) -> None:
    """Checks what can be checked without samples; reads a file.

    Raises:
        ValueError: no such component, class or unit, or a file that holds no vector over the units.
    """
    kind, _, rest = text.partition(":")
    if kind == "pc":
        _component(rest, units)
    elif kind == "classes":
        class_pair(rest, class_names)
    elif kind == "units":
        group(text, units)
    else:
        read_vector(Path(text), units)


def find_direction(text: str, r: Tensor, class_index: Tensor, class_names: Sequence[str]) -> Tensor:
    """The direction `[units]`, of any length, that a text names.

    - `pc:<k>`: the k-th principal component of the samples, from 1
    - `classes:<from>-<to>`: the difference of two classes' means
    - `units:<u>+<v>+…`: these units, each by its standard deviation over the samples
    - a path: the one tensor of a .safetensors file, or the array of a .npy file

    Args:
        text: as above.
        r: samples `[n, units]`.
        class_index: `[n]`.
        class_names: names that `class_index` points into.

    Raises:
        ValueError: as `check_direction`, or the samples do not vary so.
    """
    kind, _, rest = text.partition(":")
    if kind == "pc":
        index = _component(rest, r.shape[1])
        result = principal_components(r, index)
        if not result.std[-1] > 1e-6 * result.std[0]:
            raise ValueError(f"direction={text}: the samples do not vary along that component; take an earlier one")
        return result.axes[:, -1].float()
    if kind == "classes":
        first, last = (r[class_index == index].mean(0) for index in class_pair(rest, class_names))
        return last - first
    if kind == "units":
        return _spread(text, r)
    return read_vector(Path(text), r.shape[1])


def of_direction(text: str, direction: Tensor, r: Tensor) -> tuple[Perturbation, dict[str, Any]]:
    """A direction `[units]` with the range of its projections over samples `r [n, units]`, and what they say of it.

    Of a group of units (`units:…`) each is to arrive as it is asked.

    Raises:
        ValueError: all projections are equal.
    """
    exact = group(text, r.shape[1])
    whole = Perturbation.along(text, direction, 0.0, 0.0)
    at = whole.project(r)
    if not at.max() - at.min() > 1e-6 * at.abs().max():
        raise ValueError(
            f"direction={text}: all training pairs lie at {at[0]:g} along it, so there is no range to show"
        )
    known = {"status": "live", "mean": float(at.mean()), "std": float(at.std(correction=0))}
    return Perturbation.along(text, direction, float(at.min()), float(at.max()), exact=exact), known


def direction_key(text: str, units: int) -> str:
    """What stands for a direction in the key of an artifact: the text, or the SHA-256 of the vector in a file.

    Raises:
        ValueError: as `read_vector`.
    """
    if text.partition(":")[0] in _NAMED:
        return text
    return hashlib.sha256(read_vector(Path(text), units).numpy().tobytes()).hexdigest()


def group(text: str, units: int) -> tuple[int, ...]:
    """The units of a group, in the order given; empty of another direction.

    Raises:
        ValueError: it is no group of at least two different units of the classifier's.

    Example:
        >>> group("units:3+5+9", 16), group("pc:1", 16)
        ((3, 5, 9), ())
    """
    kind, _, rest = text.partition(":")
    if kind != "units":
        return ()
    words = rest.split("+")
    known = [int(word) for word in words if word.isdecimal() and len(word) < 7 and int(word) < units]
    if len(known) < len(words) or len(set(known)) < max(2, len(known)):
        raise ValueError(
            f"direction={text}: expected two or more different units of 0 to {units - 1}, as units:3+5; of one, unit=3"
        )
    return tuple(known)


def class_pair(text: str, class_names: Sequence[str], key: str = "direction=classes:") -> tuple[int, int]:
    """Indices of the classes in `<from>-<to>`; their names may have hyphens too. `key` is where the text was given.

    Raises:
        ValueError: there are no two such classes.

    Example:
        >>> class_pair("pug-shih-tzu", ["pug", "shih-tzu"])
        (0, 1)
    """
    cuts = [index for index, letter in enumerate(text) if letter == "-"]
    pairs = [(text[:cut], text[cut + 1 :]) for cut in cuts]
    known = [pair for pair in pairs if pair[0] in class_names and pair[1] in class_names and pair[0] != pair[1]]
    if len(known) != 1:
        raise ValueError(
            f"{key}{text}: expected <from>-<to> with two different classes of "
            f"{', '.join(class_names)}, as {key.rpartition('=')[2]}{class_names[0]}-{class_names[-1]}"
        )
    first, last = known[0]
    return list(class_names).index(first), list(class_names).index(last)


def read_vector(path: Path, units: int) -> Tensor:
    """The vector `[units]` float32 of a file; nothing in it is executed.

    Raises:
        ValueError: there is no such file, or it does not hold exactly one finite vector over the units.
    """
    readers = {".safetensors": _safetensors, ".npy": _npy}
    if path.suffix not in readers or not path.is_file():
        missing = "there is no such file" if path.suffix in readers else "unknown kind of direction"
        raise ValueError(f"direction={path}: {missing}; {_EXPECTED}")
    try:
        vector = readers[path.suffix](path, units)
    except Exception as error:  # a reader may raise anything on a damaged file
        raise ValueError(
            f"direction={path} cannot be used ({error}): expected one vector of {units} numbers"
        ) from error
    if not (vector.isfinite().all() and vector.any()):
        raise ValueError(f"direction={path}: expected finite numbers that are not all 0")
    return vector


def _spread(text: str, r: Tensor) -> Tensor:
    """The standard deviations over `r [n, units]` of the units of a group, 0 elsewhere."""
    index = list(group(text, r.shape[1]))
    std = r.double().std(0, correction=0)
    if still := [unit for unit in index if not std[unit] > 0]:
        raise ValueError(
            f"direction={text}: unit {still[0]} is dead, it does not vary over the training pairs; leave it out"
        )
    return torch.zeros(r.shape[1]).index_put((torch.tensor(index),), std[index].float())


def _component(text: str, units: int) -> int:
    index = int(text) if text.isdecimal() and len(text) < 7 else 0
    if not 1 <= index <= units:
        raise ValueError(f"direction=pc:{text}: expected pc:1 to pc:{units}, one of the classifier's {units} units")
    return index


def _safetensors(path: Path, units: int) -> Tensor:
    with path.open("rb") as stream:
        if (length := int.from_bytes(stream.read(8), "little")) > _LARGEST_HEADER:
            raise ValueError(f"a header of {length:,} bytes, expected at most {_LARGEST_HEADER:,}")
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        if len(names) != 1:
            raise ValueError(f"{len(names)} tensors: {', '.join(names[:5])}")
        _check_shape(file.get_slice(names[0]).get_shape(), units)
        return file.get_tensor(names[0]).float()


def _npy(path: Path, units: int) -> Tensor:
    array = open_memmap(path, mode="r")  # mapped: a large file of another shape is not read; objects are refused
    if array.dtype.kind not in "fiu":
        raise ValueError("no array of numbers")
    _check_shape(array.shape, units)
    return torch.tensor(array.astype(np.float64)).float()


def _check_shape(shape: Sequence[int], units: int) -> None:
    if tuple(shape) != (units,):
        raise ValueError(f"{'×'.join(map(str, shape)) or 'a single'} number{'s' * (math.prod(shape) != 1)}")
