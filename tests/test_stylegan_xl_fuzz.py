"""Damaged checkpoints: whatever happens to a file on its way, it loads or is refused with a reason, soon."""

from __future__ import annotations

import pickletools
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pickled import FORMS, NAMES, forget_peak, packed, peak_memory

from lis.generators.stylegan_xl.checkpoint import read_checkpoint
from lis.pickles.instructions import INSTRUCTIONS

FILES = [name + form for name in NAMES for form in FORMS]
CODES = bytes(INSTRUCTIONS)

original = cache(packed)


@cache
def places(name: str) -> list[int]:
    """Where the instructions of a checkpoint begin, without those in its storages."""
    return [place for _, _, place in pickletools.genops(original(name)) if place is not None]


def flip(data: bytearray, place: int, rng: np.random.Generator) -> None:
    data[place] ^= 1 << int(rng.integers(8))


def overwrite(data: bytearray, place: int, rng: np.random.Generator) -> None:
    data[place : place + 4] = rng.bytes(4)


def delete(data: bytearray, place: int, rng: np.random.Generator) -> None:
    del data[place : place + int(rng.integers(1, 40))]


def insert(data: bytearray, place: int, rng: np.random.Generator) -> None:
    data[place:place] = rng.bytes(int(rng.integers(1, 40)))


def repeat(data: bytearray, place: int, rng: np.random.Generator) -> None:
    start = int(rng.integers(len(data)))
    data[place:place] = data[start : start + int(rng.integers(1, 400))]


def instruct(data: bytearray, place: int, rng: np.random.Generator) -> None:
    data[place] = CODES[rng.integers(len(CODES))]


def enlarge(data: bytearray, place: int, rng: np.random.Generator) -> None:
    data[place : place + 4] = b"\xff\xff\xff\x7f"


CHANGES: list[Callable[[bytearray, int, np.random.Generator], None]] = [
    flip,
    overwrite,
    delete,
    insert,
    repeat,
    instruct,
    enlarge,
]


def mutant(seed: int) -> bytes:
    """One of the checkpoints with one to four changes; every other one at the instructions of the pickle itself."""
    rng = np.random.default_rng(seed)
    name = FILES[rng.integers(len(FILES))]
    data = bytearray(original(name))
    for _ in range(rng.integers(1, 5)):
        place = int(rng.choice(places(name)) if seed % 2 else rng.integers(len(data)))
        CHANGES[rng.integers(len(CHANGES))](data, min(place, len(data) - 1), rng)
    return bytes(data)


def outcome(path: Path) -> bool:
    """Whether a checkpoint loads; where it does not, the reason has to be one that was foreseen."""
    try:
        read_checkpoint(path)
    except ValueError as error:
        foreseen = isinstance(error.__cause__, ValueError) and str(path) in str(error)
        if not foreseen:
            raise
        return False
    return True


def outcomes(seeds: range, path: Path) -> tuple[int, int]:
    """How many of the mutants load, and how many are refused."""
    loaded = []
    for seed in seeds:
        path.write_bytes(mutant(seed))
        start = time.process_time()
        loaded.append(outcome(path))
        assert time.process_time() - start < 5, f"seed {seed}"
    return sum(loaded), len(loaded) - sum(loaded)


def test_200_mutants_load_or_are_refused(tmp_path):
    loaded, refused = outcomes(range(200), tmp_path / "mutant.pkl")
    assert loaded > 10 and refused > 100


@pytest.mark.full
def test_3000_mutants_load_or_are_refused_within_bounds(tmp_path):
    forget_peak()
    before = peak_memory()
    loaded, refused = outcomes(range(200, 3_200), tmp_path / "mutant.pkl")
    assert loaded > 100 and refused > 1_500
    assert peak_memory() - before < 2**28


def test_pickles_of_random_instructions_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(500):
        codes = bytes(rng.choice(list(CODES), 300))
        (tmp_path / "random.pkl").write_bytes(b"\x80\x04" + b"N" * 20 + codes + b".")
        assert not outcome(tmp_path / "random.pkl")
