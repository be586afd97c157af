"""How many rows at once: growth while it pays, halves when memory runs out, every row exactly once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lis.units import memory
from lis.units.memory import Batches, batches, out_of_memory


class Device:
    """Squares rows; takes a time that depends on how many they are, and has room for some.

    Args:
        per_row: seconds per row of a batch of n rows.
        room: rows that fit.
    """

    def __init__(self, per_row: Callable[[int], float] = lambda n: 1.0, room: float = math.inf) -> None:
        self.per_row, self.room = per_row, room
        self.sizes: list[int] = []
        self.now = 0.0

    def perf_counter(self) -> float:
        """A clock that only this device moves."""
        return self.now

    def __call__(self, rows: Tensor) -> Tensor:
        self.sizes.append(len(rows))
        if len(rows) > self.room:
            raise RuntimeError("CUDA out of memory.")
        self.now += self.per_row(len(rows)) * len(rows)
        return rows**2


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Device], Device]:
    def use(device: Device) -> Device:
        monkeypatch.setattr(memory, "time", device)
        return device

    return use


def mapped(own: Batches, device: Device, n: int) -> list[int]:
    """Maps n rows, checks the results, and gives the sizes of the batches."""
    rows = torch.arange(n)
    assert torch.equal(torch.cat(list(own.map(device, rows))), rows**2)
    return device.sizes


def test_a_given_size_stays() -> None:
    assert mapped(Batches(4), Device(), 10) == [4, 4, 2]


def test_batches_grow_while_a_row_takes_less_time(clock: Any) -> None:
    """Two batches of each size are timed; the last size that gained is kept."""
    device = clock(Device(lambda n: 1 / min(n, 16)))
    assert mapped(own := Batches(4, grows=True), device, 120) == [4, 4, 8, 8, 16, 16, 32, 32]
    device.sizes.clear()
    assert mapped(own, device, 33) == [16, 16, 1]  # and for what comes next


def test_a_slow_first_batch_is_not_counted(clock: Any) -> None:
    """Whatever is compiled or loaded on the first call."""
    device = Device()
    device.per_row = lambda n: 99.0 if len(device.sizes) == 1 else 1.0
    assert mapped(own := Batches(4, grows=True), clock(device), 24) == [4, 4, 8, 8]
    assert own.size == 4


def test_a_short_last_batch_is_not_judged(clock: Any) -> None:
    device = clock(Device(lambda n: 1 / n))
    own = Batches(4, grows=True)
    assert mapped(own, device, 7) == [4, 3]
    assert mapped(own, device, 4)[2:] == [4] and own.size == 8


def test_growth_ends_where_memory_ends(clock: Any) -> None:
    device = clock(Device(lambda n: 1 / n, room=9))
    assert mapped(own := Batches(4, grows=True), device, 60) == [4, 4, 8, 8, 16, 8, 8, 8, 8, 4]
    assert own.size == 8


@pytest.mark.parametrize(("size", "n", "expected"), [(16, 5, [5, 2, 2, 1]), (7, 4, [4, 2, 1, 1, 1, 1])])
def test_batches_are_halved(size: int, n: int, expected: list[int]) -> None:
    """From what was tried, down to one."""
    room = 2 if size == 16 else 1
    found = mapped(Batches(size), Device(room=room), n)
    assert found == expected


def test_no_room_for_one_row() -> None:
    with pytest.raises(ValueError, match=r"single image \(CUDA out of memory\.\): expected room for one"):
        list(Batches(4).map(Device(room=0), torch.arange(3)))


def test_the_error_does_not_keep_the_memory() -> None:
    """What the failed batch had made is gone when the next one starts."""
    alive: list[Any] = []

    class Held:
        def __del__(self) -> None:
            alive.remove(None)

    def hungry(rows: Tensor) -> Tensor:
        assert not alive
        held = Held()
        alive.append(None)
        if len(rows) > 1:
            raise MemoryError(held)
        return rows

    assert torch.cat(list(Batches(4).map(hungry, torch.arange(6)))).tolist() == list(range(6))


def test_which_errors_say_that_memory_ran_out() -> None:
    told = [MemoryError(), torch.cuda.OutOfMemoryError("any"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling")]
    assert all(out_of_memory(error) for error in told)
    assert not any(out_of_memory(error) for error in (RuntimeError("shapes differ"), ValueError("out of range")))


@pytest.mark.parametrize(
    ("side", "most", "expected"), [(64, 100, 32), (64, 10, 10), (16, 100, 100), (512, 100, 1), (2048, 100, 1)]
)
def test_a_processor_takes_what_suits_its_caches(side: int, most: int, expected: int) -> None:
    """Maps of 64 float32 channels: 1 MiB per image at 64 px."""
    maps = {"a": torch.empty(1, 32, side, side, device="meta"), "b": torch.empty(1, 32, side, side, device="meta")}
    assert batches(None, most, torch.device("cpu"), lambda: maps).size == expected


def test_a_size_that_is_given_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    own = batches(5, 100, torch.device("cuda"), dict)
    assert own.size == 5 and not own._grows and "5 images at once" in caplog.text
    grown = batches(None, 7, torch.device("cuda"), dict)
    assert grown.size == memory.FIRST_ON_GPU and grown._grows
