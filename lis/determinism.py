"""`deterministic=true`: torch computes nothing that may come out otherwise the next time, on the same machine.

On a CPU results have the same bits either way; on a GPU some sums, and what cuDNN tries out to be fast, differ in the
last bits from run to run. So the setting is in no key of the store: what is there is read, however it was made, and its
manifest says how.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CUBLAS, _WORKSPACES = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")
"""Environment variable that cuBLAS reads when CUDA starts, and the values with which its sums have a fixed order
(https://docs.nvidia.com/cuda/cublas, "Results reproducibility")."""
_REFUSED = re.compile(r"(\S+) does not have a deterministic implementation")
"""What torch says of an operation."""
_before: list[tuple[bool, bool]] = []
"""What torch was set to before `use_deterministic`: deterministic algorithms, cuDNN's benchmark."""


def use_deterministic(asked: bool) -> None:
    """From now on this process computes with deterministic operations alone, if `asked`; else as before that.

    To be called before CUDA starts. What else makes float32 differ, TF32, is off without this (`lis.precision`).

    Raises:
        ValueError: CUDA has started without what cuBLAS needs.
    """
    if asked and not _before:
        _fix_workspace()
        _before.append((torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark))
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    elif _before and not asked:
        algorithms, torch.backends.cudnn.benchmark = _before.pop()
        torch.use_deterministic_algorithms(algorithms)


def _fix_workspace() -> None:
    if (value := os.environ.get(CUBLAS)) in _WORKSPACES:
        return
    if torch.cuda.is_initialized():
        raise ValueError(
            f"deterministic=true, and CUDA has started in this process with {CUBLAS}={value}: expected "
            f"{_WORKSPACES[0]}; set it in the environment, or ask for deterministic=true from the beginning"
        )
    os.environ[CUBLAS] = _WORKSPACES[0]


@contextmanager
def refusals_explained() -> Iterator[None]:
    """Inside, an operation that torch refuses is named with what can be done.

    Raises:
        ValueError: in the place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if (refused := _REFUSED.search(str(error))) is None:
            raise
        raise ValueError(
            f"deterministic=true: the operation {refused[1]} has no deterministic form on this device; use device=cpu, "
            "or deterministic=false, with results that are equal to the rounding of floats"
        ) from error
