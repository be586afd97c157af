"""Devices by their names."""

from __future__ import annotations

import os

import torch

JOB = "LIS_JOB_NUM"
"""Environment variable with the number of a job of a sweep whose jobs run side by side."""
_RANKS = ("LOCAL_RANK", "SLURM_LOCALID", JOB)
"""Environment variables with the number of a process on its machine; the first one that is there counts."""


def find_device(name: str) -> torch.device:
    """The device of that name; `auto` is a GPU where there is one, else the CPU.

    Of several GPUs it is that of the process's number on its machine, as torchrun and srun tell it, or of the number of
    a job that runs beside others of its sweep; else torch's current one.

    Raises:
        ValueError: there is no such device.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        rank = next((text for name in _RANKS if (text := os.environ.get(name, "")).isdecimal()), None)
        return _gpu(torch.cuda.current_device() if rank is None else int(rank) % torch.cuda.device_count())
    expected = f"expected auto, cpu{', cuda' if torch.cuda.is_available() else ''} (device=…, engine.devices=…)"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}: {expected}") from error
    if device.type not in ("cpu", "cuda") or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        raise ValueError(f"this machine has no device {name!r}: {expected}")
    return _gpu(torch.cuda.current_device()) if device == torch.device("cuda") else device


def _gpu(index: int) -> torch.device:
    """A GPU by its number, as tensors on it name it."""
    return torch.device("cuda", index)


def describe(device: torch.device) -> str:
    """A device in words, for the manifests."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
