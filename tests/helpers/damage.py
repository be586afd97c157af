"""Files that a reader of weights must refuse."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file


class Payload:
    """Makes the file `witness` when it is unpickled by an unsafe reader."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.witness}",)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "no weights")


def _half(path: Path) -> None:
    """Cut a file in the middle."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _cut_safetensors(path: Path) -> None:
    save_file({"fc.bias": torch.zeros(1000)}, path)
    _half(path)


def _cut_torch(path: Path, zipped: bool) -> None:
    torch.save({"fc.bias": torch.zeros(1000)}, path, _use_new_zipfile_serialization=zipped)
    _half(path)


DAMAGE: dict[str, Callable[[Path, Path], object]] = {
    "missing": lambda path, _: None,
    "folder": lambda path, _: path.mkdir(),
    "empty": lambda path, _: path.write_bytes(b""),
    "text": lambda path, _: path.write_text("<html>not found</html>"),
    "zip": lambda path, _: _zip(path),
    "list": lambda path, _: torch.save([torch.zeros(2)], path),
    "cut safetensors": lambda path, _: _cut_safetensors(path),
    "cut torch": lambda path, _: _cut_torch(path, zipped=True),
    "cut old torch": lambda path, _: _cut_torch(path, zipped=False),
    "code": lambda path, witness: path.write_bytes(pickle.dumps({"state_dict": Payload(witness)}, protocol=2)),
    "new code": lambda path, witness: path.write_bytes(pickle.dumps({"state_dict": Payload(witness)}, protocol=5)),
    "zipped code": lambda path, witness: torch.save({"fc.bias": torch.zeros(2), "args": Payload(witness)}, path),
}
"""What is wrong with a file → makes such a file; called with its path and that of the witness."""
