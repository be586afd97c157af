"""Files that were damaged at random: each has to load or be refused with a reason that names it, soon and in little
memory."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from helpers.pickled import forget_peak, peak_memory

SECONDS, MEMORY = 5.0, 2**29
"""Time of the processor, and bytes beyond the file's own size, that reading one file may take."""
FORESEEN: tuple[type[BaseException], ...] = (ValueError, OSError)
"""What a refusal may have been caused by; anything else, a KeyError or a MemoryError, nobody has thought of."""


class TooSlow(BaseException):
    """Not an Exception: a reader that turns any of these into a refusal must not hide it."""


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


def splice(data: bytearray, place: int, rng: np.random.Generator) -> None:
    start = int(rng.integers(len(data)))
    part = data[start : start + int(rng.integers(1, 400))]
    data[place : place + len(part)] = part


def truncate(data: bytearray, place: int, rng: np.random.Generator) -> None:
    del data[place if rng.integers(2) else -int(rng.integers(1, 100)) :]


def enlarge(data: bytearray, place: int, rng: np.random.Generator) -> None:
    data[place : place + 4] = b"\xff\xff\xff\x7f"


CHANGES: list[Callable[[bytearray, int, np.random.Generator], None]] = [
    flip,
    overwrite,
    delete,
    insert,
    repeat,
    splice,
    truncate,
    enlarge,
]


def mutate(
    data: bytes, rng: np.random.Generator, places: Sequence[int] | None = None, words: Sequence[bytes] = ()
) -> bytes:
    """The data with one to four changes.

    Args:
        data: what is to be damaged.
        rng: chooses.
        places: where the changes are made, every other time; None: anywhere.
        words: of the format, which one change in nine writes over what is there: codes of instructions, JSON's signs.
    """
    result, anywhere = bytearray(data), places is None or bool(rng.integers(2))
    for _ in range(rng.integers(1, 5)):
        if not result:
            break
        place = int(rng.integers(len(result)) if anywhere or not places else places[int(rng.integers(len(places)))])
        place, kind = min(place, len(result) - 1), int(rng.integers(len(CHANGES) + bool(words)))
        if kind < len(CHANGES):
            CHANGES[kind](result, place, rng)
        else:
            word = words[int(rng.integers(len(words)))]
            result[place : place + len(word)] = word
    return bytes(result)


def mutants(originals: Sequence[bytes], words: Sequence[bytes] = ()) -> Callable[[np.random.Generator], bytes]:
    """What `check` asks for, for whole files that are damaged anywhere."""
    return lambda rng: mutate(originals[int(rng.integers(len(originals)))], rng, words=words)


def check(
    read: Callable[[Path], object],
    seeds: Iterable[int],
    path: Path,
    mutant: Callable[[np.random.Generator], bytes],
    foreseen: Sequence[type[BaseException]] = FORESEEN,
    memory: int | None = None,
) -> tuple[int, int]:
    """Read one damaged file per seed.

    Args:
        read: the reader.
        seeds: of the damage; the one of a file that fails is told, and `mutant(np.random.default_rng(seed))` is that
            file.
        path: where each file is written.
        mutant: a damaged file.
        foreseen: what a refusal may have been caused by.
        memory: bytes beyond the file's own size that reading may take; None: `MEMORY`.

    Returns:
        how many loaded, and how many were refused.

    Raises:
        AssertionError: a file took more than `SECONDS` or too much memory, or was refused in other words than a
            ValueError that names it.
    """
    loaded = refused = 0
    for seed in seeds:
        data = mutant(np.random.default_rng(seed))
        path.write_bytes(data)
        fault = None
        try:
            with bounded(len(data) + (MEMORY if memory is None else memory)):
                read(path)
            loaded += 1
        except ValueError as error:
            fault = _fault(error, path, foreseen)
            refused += 1
        except (Exception, TooSlow) as error:
            fault = repr(error)
        assert not fault, f"seed {seed}: {fault:.500}"
    return loaded, refused


def _fault(error: ValueError, path: Path, foreseen: Sequence[type[BaseException]]) -> str | None:
    """What is wrong with a refusal."""
    if error.__cause__ is not None and not isinstance(error.__cause__, tuple(foreseen)):
        return f"caused by {error.__cause__!r}"
    return None if str(path) in str(error) else f"{path} is not named: {error}"


@contextmanager
def bounded(memory: int) -> Iterator[None]:
    """Fails where what is done takes more than `SECONDS` of the processor or so many bytes."""

    def stop(*_: object) -> None:
        raise TooSlow(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)
    forget_peak()
    start = peak_memory()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        taken = peak_memory() - start
        assert taken <= memory, f"it took {taken} bytes, of at most {memory}"
