"""Damaged files of weights: whatever happens to one on its way, it loads or is refused with a reason, soon."""

from __future__ import annotations

import io
import json
import pickletools
import zipfile
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.fuzzing import check, mutants, mutate
from helpers.pickled import FORMS, NAMES, packed
from safetensors.torch import save
from torch import Tensor

from lis.classifiers.checkpoints import Checkpoint
from lis.generators.stylegan_xl.checkpoint import read_checkpoint, write_checkpoint
from lis.pickles.unpickling import INSTRUCTIONS

CODES = [bytes([code]) for code in INSTRUCTIONS]
SIGNS = [b"null", b"[", b"]", b"{", b"}", b'"', b",", b"-", b"1e999", b"9" * 50, b"true", b"0", b"NaN"]
ODD = (0, -1, 2**31, 2**63, 10**400, 0.5, 1e308, None, True, "", "L1_1_1", [], {}, [[]], float("nan"))
FILES = [name + form for name in NAMES for form in FORMS]
MEMORY = 2**28
"""Bytes that reading a damaged file may take: half of what is promised."""
Mutant = Callable[[np.random.Generator], bytes]


@cache
def pickled_generator(file: str) -> tuple[bytes, list[int]]:
    """A pickled generator, and where its instructions begin, without those in its storages."""
    data = packed(file)
    return data, [place for _, _, place in pickletools.genops(data) if place is not None]


@cache
def weights(zipped: bool) -> bytes:
    """What a training program saves of a small network, with everything that is read beside tensors."""
    state = {"fc.weight": torch.arange(6.0).view(2, 3).T, "fc.bias": torch.nn.Parameter(torch.ones(2)).half()}
    shared = torch.arange(4)
    extras = {"epoch": 3, "names": ["a", "b"], "size": torch.Size([1, 2]), "device": torch.device("cpu"), 0.5: b"b"}
    content = {"state_dict": state, "a": shared[1:], "b": shared[::2], "flags": torch.tensor([True]), "extras": extras}
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def archived(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


@cache
def unpacked() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(weights(zipped=True))) as archive:
        return {name: archive.read(name) for name in archive.namelist() if ".data" not in name}


def generator(rng: np.random.Generator) -> bytes:
    """A pickled generator; every other time it is damaged where the instructions of the pickle itself are."""
    data, places = pickled_generator(FILES[int(rng.integers(len(FILES)))])
    return mutate(data, rng, places, CODES)


def pickle_in_archive(rng: np.random.Generator) -> bytes:
    """An archive that is whole, with a damaged pickle in it."""
    entries = dict(unpacked())
    name = next(name for name in entries if name.endswith("data.pkl"))
    return archived(entries | {name: mutate(entries[name], rng, words=CODES)})


def read_weights(path: Path) -> dict[str, Tensor]:
    """All that is done with a file before it meets a network, and that its tensors can be used."""
    state = Checkpoint.read(path).fitted(["fc.weight", "fc.bias"]).state
    for value in state.values():
        value.isfinite().all()
    return state


def archive(rng: np.random.Generator) -> bytes:
    return mutate(weights(zipped=True), rng)


def old_torch(rng: np.random.Generator) -> bytes:
    return mutate(weights(zipped=False), rng, words=CODES)


def safetensors(rng: np.random.Generator) -> bytes:
    data = save({"fc.weight": torch.zeros(2, 3), "fc.bias": torch.ones(2).half(), "n": torch.tensor([True])})
    return mutate(data, rng, words=SIGNS)


KINDS: dict[str, tuple[Callable[[Path], object], Mutant, int]] = {
    "a generator's pickle": (read_checkpoint, generator, 1),
    "a pickle in an archive": (read_weights, pickle_in_archive, 4),
    "an archive": (read_weights, archive, 2),
    "an old torch file": (read_weights, old_torch, 4),
    "safetensors": (read_weights, safetensors, 1),
}
"""Reader, damage, and the part of the files that it is given."""


def shares(total: int, name: str) -> int:
    return total * KINDS[name][2] // 12


@pytest.mark.parametrize("name", KINDS)
def test_damaged_weights_load_or_are_refused(name: str, tmp_path: Path) -> None:
    read, damaged, _ = KINDS[name]
    loaded, refused = check(read, range(shares(8_000, name)), tmp_path / "damaged", damaged, memory=MEMORY)
    assert loaded > 10 and refused > 100


@pytest.mark.full
@pytest.mark.parametrize("name", KINDS)
def test_120_000_damaged_files_of_weights_load_or_are_refused(name: str, tmp_path: Path) -> None:
    read, damaged, _ = KINDS[name]
    seeds = range(10**6, 10**6 + shares(120_000, name))
    loaded, refused = check(read, seeds, tmp_path / "damaged", damaged, memory=MEMORY)
    assert loaded > 100 and refused > 1_000


@cache
def converted(folder: Path) -> tuple[bytes, bytes]:
    """The two files of a converted generator."""
    (folder / "network.pkl").write_bytes(packed("t_stem16_c10"))
    write_checkpoint(read_checkpoint(folder / "network.pkl"), folder / "converted")
    files = [folder / "converted" / f"generator.{kind}" for kind in ("json", "safetensors")]
    return files[0].read_bytes(), files[1].read_bytes()


def read_folder(path: Path) -> object:
    try:
        return read_checkpoint(path.with_name("generator.safetensors"))
    except ValueError as error:  # named is what was asked for, in which either file may be damaged
        raise ValueError(f"{path}: {error}") from error.__cause__


def odd_json(data: bytes, rng: np.random.Generator) -> bytes:
    """JSON with one to three odd values, or other fractions; every other time it is damaged as text instead."""
    if rng.integers(2):
        return mutate(data, rng, words=SIGNS)
    content = json.loads(data)
    for _ in range(rng.integers(1, 4)):
        value: Any = content
        key: Any = "geometry" if rng.integers(10) else "version"
        while isinstance(inside := value[key], dict | list) and inside and rng.integers(20):
            value = inside
            key = list(range(len(value)) if isinstance(value, list) else value)[int(rng.integers(len(value)))]
        value[key] = inside * 1.5 if isinstance(inside, float) else deepcopy(ODD[int(rng.integers(len(ODD)))])
    return json.dumps(content).encode()


def damage_converted(folder: Path, count: int, first: int) -> None:
    description, tensors = converted(folder)
    (folder / "generator.safetensors").write_bytes(tensors)
    seeds = range(first, first + count)
    told = check(read_folder, seeds, folder / "generator.json", lambda rng: odd_json(description, rng), memory=MEMORY)
    assert told[0] > 5 and told[1] > count // 2
    (folder / "generator.json").write_bytes(description)
    told = check(read_folder, seeds, folder / "generator.safetensors", mutants([tensors], SIGNS), memory=MEMORY)
    assert min(told) > count // 100


def test_damaged_converted_generators_load_or_are_refused(tmp_path: Path) -> None:
    damage_converted(tmp_path, 500, 0)


@pytest.mark.full
def test_10_000_damaged_converted_generators_load_or_are_refused(tmp_path: Path) -> None:
    damage_converted(tmp_path, 5_000, 10**6)


def test_pickles_of_random_instructions_are_refused(tmp_path: Path) -> None:
    def random(rng: np.random.Generator) -> bytes:
        return b"\x80\x04" + b"N" * 20 + bytes(rng.choice(list(INSTRUCTIONS), 300)) + b"."

    assert check(read_checkpoint, range(500), tmp_path / "random.pkl", random) == (0, 500)
    assert check(read_weights, range(500), tmp_path / "random.pt", random) == (0, 500)
