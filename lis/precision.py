"""What float32 means on a GPU: all of its 24 bits. TF32 keeps 11 of them, many times as fast, where it is asked for.

torch has cuDNN's convolutions compute in TF32 unless it is told otherwise. Its flags are those that every version has;
the newer `fp32_precision` must not be mixed with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

TF32 = "tf32"


def use_float32() -> None:
    """From now on convolutions and matrix products of float32 numbers are computed in float32, on any device."""
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")


@contextmanager
def tf32(used: bool = True) -> Iterator[None]:
    """Inside, a GPU computes convolutions and matrix products of float32 numbers in TF32, if `used`; then as before.

    Example:
        >>> use_float32()
        >>> with tf32():
        ...     print(torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision())
        True high
        >>> torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
        (False, 'highest')
    """
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    if used:
        torch.backends.cudnn.allow_tf32 = True
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


def check_tf32(settings: Mapping[str, str | None], device: torch.device) -> None:
    """Checks that what is to be computed in TF32 is computed on a GPU.

    Args:
        settings: precisions by the keys that set them.
        device: of the run.

    Raises:
        ValueError: names the keys.
    """
    asked = [key for key, name in settings.items() if name == TF32]
    if asked and device.type != "cuda":
        there, instead = (" ".join(f"{key}={name}" for key in asked) for name in (TF32, "float32"))
        raise ValueError(
            f"{there} on device={device.type}: expected a GPU: only GPUs compute in TF32; use {instead}, or device=cuda"
        )
