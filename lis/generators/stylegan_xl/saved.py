"""Our own form of a checkpoint: `generator.safetensors` beside `generator.json`, in which nothing can be executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from lis.generators.stylegan_xl.geometry import GeneratorSpec
from lis.generators.stylegan_xl.typed import typed
from lis.json_files import parse_json, read_bytes
from lis.safetensors_file import load_safetensors
from lis.stopping import stop

WEIGHTS, DESCRIPTION = "generator.safetensors", "generator.json"
MAX_DESCRIPTION = 2**22
"""Bytes of the description; that of the largest published network takes less than one fiftieth."""


@dataclass(frozen=True)
class Origin:
    """Where weights come from."""

    file: str
    """Name of the file."""
    sha256: str
    """Its checksum, hexadecimal."""
    entry: str
    """The network's name in it."""


@dataclass(frozen=True)
class Description:
    """What stands beside the weights."""

    geometry: GeneratorSpec
    origin: Origin | None
    version: int = 1


def write_saved(folder: Path, tensors: Mapping[str, Tensor], description: Description) -> None:
    """Write both files into a folder, which is made when needed; of a writing that is broken off nothing is left.

    The weights are whole as soon as they have their name.

    Raises:
        ValueError: one of them is there already.
        OSError: they cannot be written.
    """
    require_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{WEIGHTS}.part"
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, part)
        stop.check()
        part.replace(folder / WEIGHTS)
        (folder / DESCRIPTION).write_text(json.dumps(asdict(description), indent=1, allow_nan=False) + "\n")
    except BaseException:
        for file in (part, folder / WEIGHTS, folder / DESCRIPTION):
            file.unlink(missing_ok=True)
        raise


def read_saved(path: Path) -> tuple[Description, dict[str, Tensor]]:
    """What `write_saved` has written.

    Args:
        path: the folder, or the safetensors file, beside which the description has the same name.

    Raises:
        ValueError: the description or the weights are damaged, or the description is of another version.
        OSError: a file is missing.
    """
    weights = path / WEIGHTS if path.is_dir() else path
    description = typed(Description, _described(weights.with_suffix(Path(DESCRIPTION).suffix)), "description")
    if description.version != Description.version:
        raise ValueError(f"it has version {description.version}, expected {Description.version}: convert it again")
    return description, load_safetensors(weights)


def _described(path: Path) -> Any:
    return parse_json(read_bytes(path, MAX_DESCRIPTION), path.name, remedy="convert the network again")


def require_free(folder: Path) -> None:
    """Refuse to write over what is there.

    Raises:
        ValueError: it is there.
    """
    if there := [name for name in (WEIGHTS, DESCRIPTION) if (folder / name).exists()]:
        raise ValueError(f"{folder / there[0]} is there already: choose another folder, or remove it first")
