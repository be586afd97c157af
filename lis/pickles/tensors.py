"""Tensors as pickles describe them: a class of storages, and a shape with strides over one storage."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch

from lis.pickles.records import describe

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
}
"""Classes of storages, on any device; flags are left out, since a byte may hold what is neither true nor false."""
MAX_DIMENSIONS, MAX_SIZE = 16, 2**31
_ADDRESSABLE = 2**59


def elements(size: Any, most: int) -> int:
    """The number of elements of a shape that a file states.

    Args:
        size: what stands for the shape; a tuple of integers, or it is refused.
        most: elements that there are.

    Raises:
        ValueError: it is no shape, or one of more elements.

    Example:
        >>> elements((2, 3), most=6)
        6
    """
    whole = isinstance(size, tuple) and len(size) <= MAX_DIMENSIONS
    if not whole or not all(isinstance(s, int) and 0 <= s < MAX_SIZE for s in size):
        raise ValueError(f"damaged: the shape of an array is {describe(size)} of other things than sizes")
    if prod(max(s, 1) for s in size) > _ADDRESSABLE:  # also where one of the others is zero
        raise ValueError(f"damaged: the shape of an array is {size!r:.80}")
    if (count := prod(size)) > most:
        raise ValueError(f"damaged: an array of {count} elements, of which {most} are in the file")
    return count


def strides(size: Sequence[int], stride: Any) -> tuple[int, ...]:
    """The strides as they are given; that of a dimension of one element means nothing and may be any.

    Raises:
        ValueError: they are none, or not as many as sizes.

    Example:
        >>> strides((2, 1), (3, 7))
        (3, 7)
    """
    whole = isinstance(stride, tuple) and len(stride) == len(size)
    if not whole or not all(isinstance(s, int) and 0 <= s < _ADDRESSABLE for s in stride):
        raise ValueError(f"damaged: {describe(stride)} stands where {len(size)} strides are to be")
    return stride


def span(size: Sequence[int], steps: Sequence[int]) -> int:
    """How many elements of a storage lie between the first and the last of a tensor that is not empty, both included.

    Example:
        >>> span((2, 2), [3, 1])
        5
    """
    return 1 + sum((length - 1) * step for length, step in zip(size, steps, strict=True))
