"""The harness itself: it tells what it is there to tell."""

from __future__ import annotations

from mmap import mmap
from pathlib import Path

import numpy as np
import pytest
from helpers import fuzzing
from helpers.fuzzing import check, mutants, mutate
from helpers.pickled import forget_peak, peak_memory


def refuse(path: Path) -> None:
    raise ValueError(f"{path} is damaged")


def refuse_without_a_name(_: Path) -> None:
    raise ValueError("damaged")


def refuse_for_an_error_of_ours(path: Path) -> None:
    raise ValueError(f"{path} is damaged") from KeyError("x")


def fail(_: Path) -> None:
    raise KeyError("x")


def hang(path: Path) -> None:
    try:
        while True:
            pass
    except Exception as error:
        raise ValueError(f"{path} is damaged") from error


def fill_memory(path: Path) -> None:
    np.frombuffer(mmap(-1, 2**26), np.uint8)[:] = 1  # not from the heap, which may have so much that was freed
    refuse(path)


def test_what_loads_and_what_is_refused_is_counted(tmp_path: Path) -> None:
    assert check(len_of, range(20), tmp_path / "x", mutants([b"hello", b"world" * 9])) == (20, 0)
    assert check(refuse, range(20), tmp_path / "x", mutants([b"hello"])) == (0, 20)


def len_of(path: Path) -> int:
    return len(path.read_bytes())


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (refuse_without_a_name, "is not named"),
        (refuse_for_an_error_of_ours, "caused by KeyError"),
        (fail, "KeyError"),
        (hang, "TooSlow"),
        (fill_memory, "bytes, of at most"),
    ],
)
def test_a_reader_at_fault_is_told_with_the_seed(read, message, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fuzzing, "SECONDS", 0.1)
    monkeypatch.setattr(fuzzing, "MEMORY", 2**24)
    forget_peak()
    if read is fill_memory and not peak_memory():
        pytest.skip("the peak of a process is read from Linux")
    with pytest.raises(AssertionError, match=f"seed 7: .*{message}"):
        check(read, [7], tmp_path / "x", mutants([b"hello"]))


def test_damage_is_made_again_by_its_seed_and_at_the_places_that_are_told() -> None:
    data = bytes(1000)
    assert mutate(data, np.random.default_rng(3)) == mutate(data, np.random.default_rng(3))
    for seed in range(200):
        assert mutate(data, np.random.default_rng(seed), range(1000), [b"word"]) is not data
    assert any(b"word" in mutate(data, np.random.default_rng(seed), None, [b"word"]) for seed in range(50))
    assert mutate(b"", np.random.default_rng(0)) == b""
