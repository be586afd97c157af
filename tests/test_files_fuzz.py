"""Labels, pictures, manifests and JSON that were damaged at random: each is read or refused, soon and in little memory.

The texts are damaged by their structure: a value becomes one of another kind, huge, deep, or stands there twice.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.fuzzing import FORESEEN, check, mutate
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save
from test_labels import FIRST, INNER, LABELS, SIZE, SQUARE, annotation, coco, labelme, painted, png, shape
from yaml import YAMLError

from lis.api.runs import load
from lis.classifiers.__main__ import read_entry
from lis.files import read_json
from lis.labels.coco import read_coco
from lis.labels.labelme import read_labelme
from lis.labels.manifest import MANIFEST, Manifest, Sample
from lis.labels.png import read_mask
from lis.units.photos import read_photo

Rng = np.random.Generator
DEEP = (*FORESEEN, RecursionError)
"""What may cause a refusal of a text."""


def values(rng: Rng) -> Any:
    """Anything that JSON can say where something else is expected."""
    deep: Any = 1
    for _ in range(int(rng.integers(1, 60))):
        deep = [deep] if rng.integers(2) else {"a": deep}
    choices: list[Any] = [None, True, -1, 0, 1.5, 1e308, float("nan"), float("inf"), 10**18, 2**63, -(10**400)]
    choices += ["", "a" * int(rng.integers(5000)), "\ud800", "\u202e\x00", "😀" * 9, "../" * 40, f"{FIRST}.png", "ear"]
    choices += [[], {}, deep, [[]] * 50, list(range(40)), [[1e9, -1e9]] * 3, {"size": [SIZE, SIZE], "counts": "0" * 99}]
    return choices[int(rng.integers(len(choices)))]


def owners(value: Any) -> list[Any]:
    """Every list and object in a value."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value] * isinstance(value, dict | list) + [owner for item in inside for owner in owners(item)]


def restructured(value: Any, rng: Rng) -> bytes:
    """A JSON text of the value with one to three entries replaced, removed or repeated; some keys stand there twice."""
    value = copy.deepcopy(value)
    for _ in range(int(rng.integers(1, 4))):
        places = [owner for owner in owners(value) if owner]
        if not places:
            break
        owner = places[int(rng.integers(len(places)))]
        keys = list(owner) if isinstance(owner, dict) else list(range(len(owner)))
        key, kind = keys[int(rng.integers(len(keys)))], int(rng.integers(8))
        if kind == 0:
            del owner[key]
        elif kind == 1 and isinstance(owner, list):
            owner.extend([owner[key]] * int(rng.integers(1, 30)))
        else:
            owner[key] = values(rng)
    text = json.dumps(value)
    if rng.integers(6) == 0:
        text = text.replace("{", '{"shapes": 1, "id": [], ', 1)
    return text.encode("utf-8", "surrogatepass")


def of_json(*originals: Any) -> Callable[[Rng], bytes]:
    """Damaged in structure, or in bytes, or in both."""

    def mutant(rng: Rng) -> bytes:
        original = originals[int(rng.integers(len(originals)))]
        kind = int(rng.integers(4))
        data = restructured(original, rng) if kind else json.dumps(original).encode()
        return data if kind > 1 else mutate(data, rng, words=(b"[", b"{", b'"', b"NaN", b"1e999", b"\\ud800", b"-"))

    return mutant


def run(path: Path) -> None:
    """A run, and what it shows of itself."""
    run = load(path.parent)
    assert f"{run}" and run._repr_html_() and run.figures is not None


RUN = {
    "title": "a to b",
    "labels": {"link": "lr"},
    "class_names": ["pug"],
    "settings": {"store": "store", "classes.names": ["pug"], "analysis.stages": ["units"], "seed": 0},
    "metrics": {"units/realised": 0.5, "link/samples": 300},
    "figures": ["unit-map.png"],
}
"""What a run writes of itself."""


def of_bytes(*originals: bytes) -> Callable[[Rng], bytes]:
    return lambda rng: mutate(
        originals[int(rng.integers(len(originals)))], rng, words=(b"\xff\xda", b"IDAT", b"\0\0\0\0")
    )


def picture(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    stream, rng = io.BytesIO(), np.random.default_rng(3)
    Image.fromarray(rng.integers(0, 256, (20, 20, 4), dtype=np.uint8)).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def mask(mode: str) -> bytes:
    """An index image."""
    stream = io.BytesIO()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 4, (SIZE, SIZE), dtype=np.uint8))
    if mode == "P":
        image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    (image.convert("I;16") if mode == "I;16" else image).save(stream, "PNG")
    return stream.getvalue()


SAMPLE = Sample(f"{FIRST}.png", "labels", "ant", 0)
CODES = save({"w": torch.ones(1, 4)})
SAVED = {
    "generator": "f" * 64,
    "resolution": SIZE,
    "labels": list(LABELS),
    "images": [vars(SAMPLE)],
    "w_sha256": hashlib.sha256(CODES).hexdigest(),
}
RUNS = {"size": [SIZE, SIZE], "counts": [1, 2, 61]}


def beside(path: Path) -> Manifest:
    return Manifest(path.parent, "g", (SIZE, SIZE), LABELS, (SAMPLE,), "")


def codes(path: Path) -> None:
    """The style codes, with the checksum that they have."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert Manifest(path.parent, "g", (SIZE, SIZE), LABELS, (SAMPLE,), digest).w.shape == (1, 4)


def photo(path: Path) -> None:
    """A photograph that cannot be used has a reason instead of an error; its name begins the reason's line."""
    read = read_photo(path, 8)
    if read.reason:
        raise ValueError(f"{path}: {read.reason}")
    assert read.image is not None and read.image.shape == (3, 8, 8)


def annotated(path: Path) -> None:
    read = read_coco(path, beside(path))
    for image in read.annotations:
        assert read.mask(image).mask.shape == (SIZE, SIZE)


@dataclass(frozen=True)
class Reader:
    """One kind of file."""

    name: str
    read: Callable[[Path], object]
    mutant: Callable[[Rng], bytes]
    share: int
    """Of the inputs, in percent."""
    causes: tuple[type[BaseException], ...] = DEEP
    """What a refusal may have been caused by: decoders of pictures raise what they like."""


READERS = {
    "labelme": Reader(
        f"{FIRST}.json",
        lambda path: read_labelme(path, beside(path), SAMPLE),
        of_json(
            labelme(shape("ear", *SQUARE), shape("eye", *INNER), shape("tail", (1, 1), (5, 5), kind="rectangle")),
            labelme(painted("ear", np.eye(4)), shape("eye", (3, 3), (4, 3), kind="circle"), imageWidth=None),
        ),
        20,
    ),
    "coco": Reader(
        "annotations.json",
        annotated,
        of_json(
            coco(annotation(30, [1, 1, 5, 1, 5, 5]), annotation(31, [2, 2, 4, 2, 4, 4], [0, 0, 3, 0, 3, 3])),
            coco(annotation(30) | {"segmentation": RUNS}, annotation(31) | {"segmentation": RUNS | {"counts": "1Sb1"}}),
        ),
        20,
    ),
    "mask": Reader(
        f"{FIRST}.mask.png",
        lambda path: read_mask(path, (SIZE, SIZE), LABELS),
        of_bytes(*map(mask, ("L", "P", "I;16")), png(2, np.eye(SIZE, dtype=np.uint8))),
        15,
        (Exception,),
    ),
    "manifest": Reader(MANIFEST, lambda path: Manifest.load(path.parent), of_json(SAVED), 15),
    "codes": Reader("w.safetensors", codes, of_bytes(CODES), 5, (*DEEP, SafetensorError)),
    "photo": Reader(
        "a",
        photo,
        of_bytes(
            picture("PNG", "RGBA"),
            picture("PNG", "P"),
            picture("JPEG", progressive=True),
            picture("JPEG", "CMYK"),
            picture("WEBP"),
        ),
        10,
    ),
    "json": Reader("some.json", read_json, of_json(SAVED, coco(), {"a": [1, {"b": "ä"}]}), 10),
    "catalogue": Reader(
        "net.yaml",
        read_entry,
        of_bytes(b"defaults: [base_network, _self_]\nlibrary: timm\nmodel: &a resnet18\nweights: [*a, {b: 1}]\n"),
        5,
        (*DEEP, YAMLError),
    ),
    "run": Reader("report.json", run, of_json(RUN), 5),
}


def fuzz(kind: str, count: int, tmp_path: Path) -> None:
    reader = READERS[kind]
    number = count * reader.share // 100
    loaded, refused = check(reader.read, range(number), tmp_path / reader.name, reader.mutant, reader.causes)
    assert loaded + refused == number and refused


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files(kind: str, tmp_path: Path) -> None:
    fuzz(kind, 8_000, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("kind", READERS)
@pytest.mark.filterwarnings("ignore")
def test_many_damaged_files(kind: str, tmp_path: Path) -> None:
    fuzz(kind, 80_000, tmp_path)
