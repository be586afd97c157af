"""What tensors give back stays with the process, where the C library can be told so."""

from __future__ import annotations

import ctypes
import platform
import types
from pathlib import Path

import pytest
import torch

from lis.memory import REUSED, keep_freed_memory


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def given_back(size: int) -> int:
    """Bytes that the process is smaller by when a tensor of so many bytes is freed."""
    tensor = torch.ones(size, dtype=torch.uint8)
    full = resident()
    del tensor
    return full - resident()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_small_tensors_give_back_is_kept_and_what_large_ones_do_is_not() -> None:
    assert keep_freed_memory()
    small, large = REUSED // 2, 4 * REUSED
    assert given_back(small) < small / 4
    assert given_back(large) > large * 3 / 4


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: types.SimpleNamespace())
    assert not keep_freed_memory()
