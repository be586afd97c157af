"""Whether `torch.compile` works here: it needs a C++ compiler on a CPU, and Triton on a GPU."""

from __future__ import annotations

import logging
from functools import lru_cache

import torch

from lis.generators.stylegan_xl.resampling import Resampling, resample

MODES = ("auto", "on", "off")

log = logging.getLogger(__name__)


@lru_cache
def usable(mode: str, device: str) -> bool:
    """Whether resampling is to be compiled; said in the log, once per process.

    Args:
        mode: one of `MODES`.
        device: type of the device.

    Raises:
        ValueError: the mode is `on`, and nothing can be compiled here.
    """
    problem = "gan.compile=off" if mode == "off" else _problem(device)
    if problem and mode == "on":
        raise ValueError(
            f"gan.compile=on: {problem}. Install a C++ compiler (CXX names it; Triton on a GPU), or choose "
            "gan.compile=auto or off, which give the same images"
        )
    log.info("StyleGAN-XL resamples with %s", f"banded matrices ({problem})" if problem else "compiled polyphase sums")
    return not problem


def _problem(device: str) -> str:
    """Why a layer cannot be compiled for a device; empty where it can."""
    how = Resampling(2, 2, (11, 10), 0.2, 1.0, 256.0)
    x, taps = torch.ones(1, 16, 36, 36, device=device), torch.ones(12, device=device)
    try:
        with torch.no_grad():
            resample(x, torch.ones_like(x[:, :, 0, 0]), torch.ones_like(x[0, :, 0, 0]), taps, taps, how, compiled=True)
    except Exception as error:  # a missing compiler, header or library each shows as another exception
        return f"nothing can be compiled here, {(str(error).splitlines() or [repr(error)])[0]:.200}"
    return ""
