"""Reads and writes checkpoints of StyleGAN-XL: the published pickles, of which nothing is executed, and safetensors.

A published file is a pickle of `{G, D, G_ema, …}` in which the networks carry the program that made them. It is read in
three steps: `unpickling` turns it into containers and records of calls, `records` makes the picture of one network out
of them, with its tensors read from where they lie in the file, and `geometry` says what to build from that picture.
"""

from __future__ import annotations

import json
import math
import pickle
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from safetensors.torch import save_file
from torch import Tensor

from lis.files import load_safetensors, parse_json, read_bytes
from lis.generators.stylegan_xl.generator import StyleGANXL
from lis.generators.stylegan_xl.geometry import GeneratorSpec, geometry
from lis.generators.stylegan_xl.records import Node, as_dict, read_module
from lis.generators.stylegan_xl.synthesis import laid_out
from lis.pickles.records import describe
from lis.pickles.tensors import Source, mistaken, opened
from lis.pickles.unpickling import unpickle
from lis.stopping import stop

OF_TORCH = {
    b"PK\x03\x04": "a zip archive, which torch.save writes",
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9": "a file of tensors, which an old torch.save wrote",
}
"""How files begin that hold a network's tensors alone."""
ENTRY = "G_ema"
"""The network that images are made with: a running mean of the trained weights."""
WEIGHTS, DESCRIPTION = "generator.safetensors", "generator.json"
MAX_DESCRIPTION = 2**22
"""Bytes of the description; that of the largest published network takes less than one fiftieth."""
MAX_INTEGER = 2**63
"""Larger ones are no sizes of anything, and neither tensors nor floats can hold them."""


def read_checkpoint(path: Path | str, entry: str = ENTRY, **settings: Any) -> StyleGANXL:
    """The generator in a checkpoint; nothing that the file holds is executed or imported.

    Args:
        path: a published pickle, the folder that `write_checkpoint` has made, or the safetensors file in it.
        entry: the network's name in a pickle.
        settings: of `StyleGANXL`, such as `class_names`.

    Raises:
        ValueError: as `read_pickle`, the network is no StyleGAN-XL, its images are not of three channels, or a setting
            does not fit it.
    """
    with _refusing(path):
        spec, tensors = _contents(Path(path), entry)
    _require_rgb(path, spec.synthesis.channels)
    generator = StyleGANXL(spec, **settings)
    with _refusing(path):
        return generator.load(tensors)


def write_checkpoint(generator: StyleGANXL, folder: Path | str, origin: Origin | None = None) -> None:
    """Write a generator as `generator.safetensors` and `generator.json`; of a writing that breaks off nothing is left.

    The weights are whole as soon as they have their name.

    Args:
        generator: its weights are written under the names of the authors' program.
        folder: is made when needed.
        origin: where the weights come from, where that is known.

    Raises:
        ValueError: the generator has no weights yet, or the folder holds such a file already.
        OSError: the folder cannot be written.
    """
    tensors = generator.state_dict()
    if any(value.is_meta for value in tensors.values()):
        raise ValueError("the generator has no weights yet: load some before it is written")
    folder = Path(folder)
    require_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{WEIGHTS}.part"
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, part)
        stop.check()
        part.replace(folder / WEIGHTS)
        description = json.dumps(asdict(Description(generator.spec, origin)), indent=1, allow_nan=False)
        (folder / DESCRIPTION).write_text(description + "\n")
    except BaseException:
        for file in (part, folder / WEIGHTS, folder / DESCRIPTION):
            file.unlink(missing_ok=True)
        raise


def read_pickle(path: Path | str, entry: str = ENTRY) -> Node:
    """The picture of one network of a published checkpoint; nothing that the file holds is executed or imported.

    Only this network's tensors are read; what else the file holds costs no memory to speak of.

    Args:
        path: a pickle of protocol 3 or later, as the authors' programs write it with Python's pickle or with dill.
        entry: the network's name in it.

    Raises:
        ValueError: the file is missing, no such checkpoint, truncated or damaged, asks for more time or memory than
            its size accounts for, or has no such entry.
    """
    with _refusing(path):
        return _picture(Path(path), entry)


def _require_rgb(path: Path | str, channels: int) -> None:
    """What follows, classifiers and segmenters and matchers, reads red, green and blue."""
    if channels != 3:
        kind = {1: " (grey)", 4: " (RGB with transparency)"}.get(channels, "")
        raise ValueError(
            f"{path} is a generator of images with {channels} channel{'s' if channels > 1 else ''}{kind}: expected 3 "
            "(red, green, blue), which a classifier reads; take a network that was trained on RGB images"
        )


@contextmanager
def _refusing(path: Path | str) -> Iterator[None]:
    """Says of whatever goes wrong which file it is about: a file can be wrong in any way."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a checkpoint of StyleGAN-XL: {_reason(error)}. Expected a pickle of networks by "
            "name, such as the published ones, or what `python -m lis.convert` makes of one; fetch the file again, or "
            "correct the path or the entry"
        ) from error


def _reason(error: Exception) -> str:
    match error:
        case ValueError():
            return str(error)
        case OSError():
            return f"{error.strerror}: {error.filename}"
    return f"{type(error).__name__}: {error}"


def _contents(path: Path, entry: str) -> tuple[GeneratorSpec, dict[str, Tensor]]:
    if path.is_dir() or path.suffix == ".safetensors":
        description, tensors = read_saved(path)
        return description.geometry, tensors
    node = _picture(path, entry)
    spec, tensors = geometry(node), node.tensors()
    del node  # its tensors, of which the next line lets go one by one: there is room for one copy of a large network
    for name in tensors:
        tensors[name] = laid_out(tensors[name])  # here, so that loading makes no second copy
    return spec, tensors


def _picture(path: Path, entry: str) -> Node:
    with opened(path) as source:
        start = source.data[:24]
        kind = mistaken(start) or next((kind for sign, kind in OF_TORCH.items() if start.startswith(sign)), None)
        if kind or start[0] != pickle.PROTO[0]:
            raise ValueError(f"it is {kind or 'no pickle'}: it begins with {start!r}")
        return read_module(source, _entry(source, entry), entry)


def _entry(source: Source, name: str) -> Any:
    content = unpickle(source.data, source.budget).value
    entries = as_dict(content)
    if entries is None:
        raise ValueError(f"it holds {describe(content)}")
    if name not in entries:
        names = [f"{name!r:.40}" for name in entries if isinstance(name, str)]
        listed = ", ".join(names[:10]) + (", …" if len(names) > 10 else "") or "none"
        raise ValueError(f"it has no entry {name!r}, but {listed}")
    return entries[name]


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


def read_saved(path: Path) -> tuple[Description, dict[str, Tensor]]:
    """What `write_checkpoint` has written.

    Args:
        path: the folder, or the safetensors file, beside which the description has the same name.

    Raises:
        ValueError: the description or the weights are damaged, or the description is of another version.
        OSError: a file is missing.
    """
    weights = path / WEIGHTS if path.is_dir() else path
    beside = weights.with_suffix(Path(DESCRIPTION).suffix)
    content = parse_json(read_bytes(beside, MAX_DESCRIPTION), beside.name, remedy="convert the network again")
    description = typed(Description, content, "description")
    if description.version != Description.version:
        raise ValueError(f"it has version {description.version}, expected {Description.version}: convert it again")
    return description, load_safetensors(weights)


def require_free(folder: Path) -> None:
    """Refuse to write over what is there.

    Raises:
        ValueError: it is there.
    """
    if there := [name for name in (WEIGHTS, DESCRIPTION) if (folder / name).exists()]:
        raise ValueError(f"{folder / there[0]} is there already: choose another folder, or remove it first")


def typed(kind: Any, value: Any, where: str) -> Any:
    """A value of JSON as what an annotation says: a dataclass, a tuple, a number, text, True or None.

    Args:
        kind: the annotation.
        value: what was read.
        where: it stands, for messages.

    Raises:
        ValueError: the value is of another kind, or keys are missing or unknown.

    Example:
        >>> typed(tuple[int, ...] | None, [1, 2], "sizes")
        (1, 2)
    """
    if get_origin(kind) in (Union, types.UnionType):
        options = [option for option in get_args(kind) if option is not type(None)]
        return None if value is None else typed(options[0], value, where)
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    if get_origin(kind) is tuple:
        return _tuple(get_args(kind), value, where)
    if kind is float and type(value) is int and abs(value) < MAX_INTEGER:
        value = float(value)
    whole = type(value) is int and abs(value) >= MAX_INTEGER
    if type(value) is not kind or whole or (kind is float and not math.isfinite(value)):
        raise ValueError(f"{where} is {value!r:.80}, expected {kind.__name__}")
    return value


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    names, types_ = [field.name for field in fields(kind)], get_type_hints(kind)
    if not isinstance(value, Mapping) or set(value) != set(names):
        have = sorted(map(str, value)) if isinstance(value, Mapping) else value
        raise ValueError(f"{where} is {have!r:.200}, expected the keys {', '.join(names)}")
    return kind(**{name: typed(types_[name], value[name], f"{where}.{name}") for name in names})


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    repeated = len(kinds) == 2 and kinds[1] is Ellipsis
    if not isinstance(value, list | tuple) or (not repeated and len(value) != len(kinds)):
        raise ValueError(f"{where} is {value!r:.80}, expected a list" + ("" if repeated else f" of {len(kinds)}"))
    each = [kinds[0]] * len(value) if repeated else kinds
    return tuple(typed(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(each, value, strict=True)))
