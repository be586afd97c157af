"""What tensors give back stays with the process, where the C library can be told so."""

from __future__ import annotations

import ctypes
import platform
import types
from pathlib import Path

import pytest
import torch

from lis.allocation import keep_freed_memory


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_large_tensor_leaves_its_memory_to_the_next_one() -> None:
    assert keep_freed_memory()
    size = 2**28
    first = torch.ones(size, dtype=torch.uint8)
    full = resident()
    del first
    assert full - resident() < size / 4
    second = torch.ones(size, dtype=torch.uint8)
    assert resident() - full < size / 4 and int(second[-1]) == 1


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: types.SimpleNamespace())
    assert not keep_freed_memory()
