"""Reads what other programs wrote: nothing in a file is trusted, and every error names the file and the remedy."""

from __future__ import annotations

import math
import reprlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np

Kind = TypeVar("Kind")
Colour: TypeAlias = tuple[int, ...]
"""Red, green and blue, 0 to 255."""
Size: TypeAlias = tuple[int, int]
"""Height and width of an image in pixels."""
_WORDS: dict[type, str] = {dict: "an object", list: "a list", str: "a text", int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class MaskReading:
    """What a file says about one image."""

    mask: np.ndarray
    """`[height, width]` uint8."""
    notes: Counter[str] = field(default_factory=Counter)
    """How often something was left out, or read otherwise than it stands there."""
    colours: Mapping[Colour, int] = field(default_factory=dict)
    """The value that each colour of a palette of the user's stands for."""


def entry(owner: Mapping[str, Any], key: str, kind: type[Kind], where: str) -> Kind:
    """`owner[key]`, which has to be of a kind; a whole number also counts as a number, a truth value never does.

    Args:
        owner: an object of a JSON file.
        key: the entry's name.
        kind: `dict`, `list`, `str`, `int` or `float`.
        where: what is said before the problem.

    Raises:
        ValueError: the entry is missing, of another kind, or a number that is not finite.

    Example:
        >>> entry({"id": 3}, "id", int, "a.json")
        3
    """
    value = owner.get(key)
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or isinstance(value, bool):
        result = reprlib.repr(value) if key in owner else "missing"
        raise ValueError(f"{where}: {key} is {result}: expected {_WORDS[kind]}")
    return number(value, f"{where}: {key}") if kind is float else value  # pyright: ignore[reportReturnType]


def number(value: Any, where: str) -> float:
    """A finite number.

    Raises:
        ValueError: it is something else.
    """
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        pass
    raise ValueError(f"{where} is {reprlib.repr(value)}: expected a finite number")


def last_name(path: str) -> str:
    r"""The file's name at the end of a path, with either kind of slash.

    Example:
        >>> last_name("C:\\pictures\\a.png"), last_name("../../a.png")
        ('a.png', 'a.png')
    """
    return path.replace("\\", "/").rpartition("/")[2]
