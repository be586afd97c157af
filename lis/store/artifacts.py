"""What the store holds: artifacts, and the recipes that name them."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lis.lock import is_absent

if TYPE_CHECKING:  # torch and pandas take seconds, and `python -m lis.store` needs neither
    import pandas as pd
    from torch import Tensor

MANIFEST = "manifest.json"
DRAFTS, LOCKS, SET_ASIDE = "drafts", "locks", "set-aside"
"""Folders of a store that hold no artifacts."""
PACKS = "packs"
"""Folder of a stage, in which its packs lie."""
ARRIVAL = 60.0
"""Seconds after which all machines see every file of an artifact: NFS lets them remember a folder for so long."""
PAUSE = 0.1
"""Seconds between two looks."""
INPUTS = ".inputs.json"
"""In a draft: keys of what is read while it is made."""
KEY = re.compile(r"[0-9a-f]{32}")
Content = TypeVar("Content")


@dataclass(frozen=True)
class Recipe:
    """Everything that an artifact is made from.

    Args:
        stage: the stage's name; `/` makes subfolders.
        version: the version of the stage's code; raise it when the same inputs give another result.
        config: the part of the configuration that the stage reads.
        inputs: keys of the artifacts that it reads.
        weights: fingerprints of the models that it uses, by name.

    Example:
        >>> Recipe("link", 1, {"ridge": 0.0}).key == Recipe("link", 1, {"ridge": 0.1}).key
        False
    """

    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: tuple[str, ...] = ()
    weights: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """32 hexadecimal digits of the SHA-256 of the recipe's canonical JSON.

        Raises:
            ValueError: the recipe holds something that JSON cannot express exactly.
        """
        try:
            return digest(asdict(self))[:32]
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"recipe of stage {self.stage!r}: {error}; use numbers, strings, lists and dicts"
            ) from error


@dataclass(frozen=True)
class Artifact:
    """A finished, verified, immutable set of tensors, tables and JSON files: a folder, or members of a pack.

    A folder may be packed while somebody holds its artifact: reading goes on from the pack.
    """

    path: Path
    """Its folder; of one in a pack, the pack's file and the folder's name in it."""
    key: str
    manifest: Mapping[str, Any]
    """Recipe, versions, creation time, duration in seconds, device, CPU threads, whether only with deterministic
    operations, images that generators of `lis` made for it, and size and SHA-256 of every file."""
    packed: Callable[[str], bytes | None] | None = field(default=None, compare=False, repr=False)
    """Reads a file by name from a pack; None where no pack has it."""

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of `<name>.safetensors`, on the CPU."""
        from safetensors.torch import load, load_file

        return self._read(f"{name}.safetensors", load_file, load)

    def table(self, name: str) -> pd.DataFrame:
        """The table of `<name>.parquet`."""
        import pandas as pd

        return self._read(f"{name}.parquet", pd.read_parquet, lambda content: pd.read_parquet(io.BytesIO(content)))

    def json(self, name: str) -> dict[str, Any]:
        """The object of `<name>.json`."""
        return self._read(f"{name}.json", lambda file: json.loads(file.read_text()), json.loads)

    def has(self, name: str) -> bool:
        """Whether the artifact holds tensors, a table or an object of this name."""
        return any(f"{name}{suffix}" in self.manifest["files"] for suffix in (".safetensors", ".parquet", ".json"))

    def _read(self, name: str, of_file: Callable[[Path], Content], of_bytes: Callable[[bytes], Content]) -> Content:
        """A file of the folder or, where that is not there, of a pack.

        Raises:
            FileNotFoundError: neither has it.
        """
        file = self.path / name
        try:
            return of_file(file)
        except Exception as error:
            # Safetensors opens a file twice: where it goes meanwhile, it raises RuntimeError.
            kept = isinstance(error, OSError) or file.exists()
            if kept and not (is_absent(error) or isinstance(error, NotADirectoryError)):
                raise
            content = self._of_pack(name)
            if content is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file)) from error
        return of_bytes(content)

    def _of_pack(self, name: str) -> bytes | None:
        """A file from a pack; one that another machine has just published is waited for, if there are packs at all."""
        if self.packed is None:
            return None
        end = time.monotonic() + ARRIVAL
        while (content := self.packed(name)) is None and (self.path.parent / PACKS).is_dir() and time.monotonic() < end:
            time.sleep(PAUSE)
        return content


@dataclass(frozen=True)
class Draft:
    """An artifact while it is being made; `path` takes any other files."""

    path: Path

    def tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write `<name>.safetensors`."""
        from safetensors.torch import save_file

        ready = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        save_file(ready, self.path / f"{name}.safetensors")

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Write `<name>.parquet`, without the index."""
        table.to_parquet(self.path / f"{name}.parquet", index=False)

    def json(self, name: str, value: Any) -> None:
        """Write `<name>.json`."""
        (self.path / f"{name}.json").write_text(json.dumps(value, indent=1))


class Damaged(Exception):
    """An artifact on disk is not what was written; the message names the file."""


def read_artifact(folder: Path, packed: Callable[[str], bytes | None] | None = None) -> Artifact:
    """The artifact in a folder of a store, verified; nothing is written there.

    Args:
        folder: `<stage>/<key>`.
        packed: as `Artifact.packed`, for when the folder is packed later.

    Raises:
        Damaged: it is not what was written, or is not there.
    """
    return Artifact(folder, folder.name, _verify(folder), packed)


def _verify(folder: Path) -> dict[str, Any]:
    """The manifest, when every file that it lists is there with its size and checksum.

    Raises:
        Damaged: naming the first file that is not.
    """
    file = folder / MANIFEST
    try:
        content = file.read_bytes()
    except OSError as error:
        raise Damaged(f"{file} cannot be read ({error})") from error
    manifest = parse_manifest(content, file)
    for name, expected in manifest["files"].items():
        _verify_file(folder / name, expected["size"], expected["sha256"])
    return manifest


def parse_manifest(content: bytes, file: Path) -> dict[str, Any]:
    """A manifest that has the checksum it was written with.

    Args:
        content: JSON.
        file: where it lies, for the message.

    Raises:
        Damaged: it is not what was written.
    """
    try:
        manifest = json.loads(content)
        intact = manifest.pop("sha256") == digest(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{file} cannot be read ({error})") from error
    if not intact:
        raise Damaged(f"{file} does not have the checksum it was written with")
    return manifest


def _verify_file(file: Path, size: int, checksum: str) -> None:
    """Raise `Damaged` where a file is not what was written."""
    try:
        if file.stat().st_size != size:
            raise Damaged(f"{file} has {file.stat().st_size} bytes, not {size}")
        if sha256(file) != checksum:
            raise Damaged(f"{file} does not have the checksum it was written with")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:  # also: set aside in this moment
        raise Damaged(f"{file} is missing") from error


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256(file: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
