"""What an export wrote: which images, of which samples, and the names of the parts that are to be found in them."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lis.files import read_json
from lis.labels.files import Size, entry
from lis.store import sha256

MANIFEST, CODES = "manifest.json", "w.safetensors"
STREAMS = {"train": "labels", "test": "labels test", "exact": "exact masks"}
"""Where the images of a split are drawn from."""
SPLITS = {split: STREAMS[split] for split in ("train", "test")}
"""Of what is exported."""
BACKGROUND = "background"
"""What value 0 of a mask is called."""
LARGEST_SIDE = 4096
"""Pixels of the largest image."""
_LARGEST_CODES, _LARGEST_HEADER = 2**30, 2**16
"""Bytes of the largest file of style codes, and of what it says about them."""
_LONGEST_NAME = 240
"""Bytes of an image's name; a file system takes 255, and that of a mask is longer."""
_EXPECTED = "expected a folder that `python -m lis.labels export` wrote; export the images again"


@dataclass(frozen=True)
class Sample:
    """One exported image."""

    file: str
    """Name of the image in the folder."""
    stream: str
    class_name: str | None
    """None from a generator without classes."""
    sample_index: int

    @property
    def stem(self) -> str:
        """The image's name without its ending."""
        return self.file.removesuffix(".png")


@dataclass(frozen=True)
class Manifest:
    """Everything that is known about a folder of exported images, but for the masks."""

    folder: Path
    generator: str
    """Its fingerprint."""
    size: Size
    """Of every image."""
    labels: tuple[str, ...]
    """Label k of a mask is `labels[k - 1]`; 0 is background."""
    samples: tuple[Sample, ...]
    codes: str
    """SHA-256 of the file with the style codes."""

    @property
    def values(self) -> dict[str, int]:
        """Value in a mask of every name that a part can have."""
        return {name: value for value, name in enumerate((BACKGROUND, *self.labels))}

    @cached_property
    def w(self) -> Tensor:
        """Style codes `[samples, w_dim]` float32.

        Raises:
            ValueError: they are not those that were exported.
        """
        path = self.folder / CODES
        if not path.is_file() or path.stat().st_size > _LARGEST_CODES or sha256(path) != self.codes:
            raise ValueError(f"{path} is missing or not what was exported: put it back, or export the images again")
        try:
            return _codes(path, len(self.samples))
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read ({error}): {_EXPECTED}") from error

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """The manifest of a folder.

        Raises:
            ValueError: there is none, or what it says cannot be right.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise ValueError(f"{folder} has no {MANIFEST}: {_EXPECTED}")
        try:
            return cls._of(folder, read_json(path), str(path))
        except ValueError as error:
            raise ValueError(f"{error}; {_EXPECTED}") from error

    @classmethod
    def _of(cls, folder: Path, saved: Mapping[str, Any], where: str) -> Manifest:
        labels = entry(saved, "labels", list, where)
        rows = entry(saved, "images", list, where)
        samples = tuple(_sample(row, f"{where}: image {index}") for index, row in enumerate(rows))
        if len({sample.file for sample in samples}) != len(samples):
            raise ValueError(f"{where}: an image is listed twice")
        if not 1 <= (resolution := entry(saved, "resolution", int, where)) <= LARGEST_SIDE:
            raise ValueError(
                f"{where}: resolution is {reprlib.repr(resolution)}: expected 1 to {LARGEST_SIDE:,} pixels"
            )
        if wrong := [label for label in labels if not isinstance(label, str)]:
            raise ValueError(f"{where}: labels has {wrong[0]!r:.80}: expected names of parts")
        manifest = cls(
            folder,
            entry(saved, "generator", str, where),
            (resolution, resolution),
            tuple(labels),
            samples,
            entry(saved, "w_sha256", str, where),
        )
        check_labels(manifest.labels, f"{where}: labels")
        return manifest


def _codes(path: Path, count: int) -> Tensor:
    """The one tensor of a file, `[count, w_dim]` float32; it is read only when it is that."""
    with path.open("rb") as stream:
        if (length := int.from_bytes(stream.read(8), "little")) > _LARGEST_HEADER:
            raise ValueError(f"a header of {length:,} bytes, expected at most {_LARGEST_HEADER:,}")
    with safe_open(path, "pt") as file:
        if list(file.keys()) != ["w"]:
            raise ValueError("expected one tensor, w")
        shape, kind = file.get_slice("w").get_shape(), file.get_slice("w").get_dtype()
        w = file.get_tensor("w") if kind == "F32" and len(shape) == 2 and shape[0] == count and shape[1] else None
    if w is None or not bool(w.isfinite().all()):
        raise ValueError(f"w is {shape} {kind}: expected {count} rows of finite numbers, F32")
    return w


def save(
    folder: Path, generator: str, resolution: int, labels: tuple[str, ...], samples: list[Sample], w: Tensor
) -> None:
    """Write the style codes `w [samples, w_dim]`, then the manifest."""
    save_file({"w": w.detach().float().cpu().contiguous()}, folder / CODES)
    content = {
        "generator": generator,
        "resolution": resolution,
        "labels": list(labels),
        "images": [asdict(sample) for sample in samples],
        "w_sha256": sha256(folder / CODES),
    }
    (folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def check_labels(labels: tuple[str, ...], where: str) -> None:
    """Whether parts can be told apart in an index image; `where` is said before the problem.

    Raises:
        ValueError: there is none, or more than 255, or one is named twice or like the background.
    """
    if not 1 <= len(labels) <= 255:
        raise ValueError(f"{where} has {len(labels)} names: expected 1 to 255 names of parts, as [ear,eye]")
    if BACKGROUND in labels or len(set(labels)) != len(labels):
        raise ValueError(f"{where} is {', '.join(labels)}: expected each name once, and none named {BACKGROUND}")


def _sample(row: Any, where: str) -> Sample:
    if not isinstance(row, dict):
        raise ValueError(f"{where} is {type(row).__name__}: expected an object")
    file, stream, name = (row.get(key) for key in ("file", "stream", "class_name"))
    if not isinstance(file, str) or not re.fullmatch(r"\w[\w.-]*\.png", file) or len(file.encode()) > _LONGEST_NAME:
        raise ValueError(f"{where}: file is {file!r:.80}: expected the name of a PNG file in the same folder")
    if not isinstance(stream, str) or stream not in SPLITS.values():
        raise ValueError(f"{where}: stream is {stream!r:.80}: expected one of {', '.join(SPLITS.values())}")
    if not isinstance(name, str | None):
        raise ValueError(f"{where}: class_name is {name!r:.80}: expected a text or null")
    if not 0 <= (index := entry(row, "sample_index", int, where)) < 2**63:
        raise ValueError(f"{where}: sample_index is {reprlib.repr(index)}: expected 0 to 2^63 - 1")
    return Sample(file, stream, name, index)
