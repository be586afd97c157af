"""The generator that a configuration names: a published file, fetched once, a file of the user's, or random weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from platformdirs import user_cache_path

from lis.config import StyleGANXLConfig
from lis.download import download
from lis.generators.stylegan_xl.checkpoint import read_checkpoint
from lis.generators.stylegan_xl.generator import StyleGANXL
from lis.generators.stylegan_xl.initial import randomise
from lis.generators.stylegan_xl.layouts import imagenet
from lis.imagenet import imagenet_names
from lis.store import sha256

log = logging.getLogger(__name__)


def stylegan_xl(
    class_names: Sequence[str],
    weights: str = "published",
    url: str | None = StyleGANXLConfig.url,
    cache: str | None = StyleGANXLConfig.cache,
    entry: str = StyleGANXLConfig.entry,
    resolution: int | None = StyleGANXLConfig.resolution,
    num_classes: int = StyleGANXLConfig.num_classes,
    names: Sequence[str] | None = StyleGANXLConfig.names,
    domain: str = StyleGANXLConfig.domain,
    truncation: float = StyleGANXLConfig.truncation,
    dtype: str = StyleGANXLConfig.dtype,
    compile: str = StyleGANXLConfig.compile,
) -> StyleGANXL:
    """A generator with its weights.

    Args:
        class_names: classes of the run.
        weights: `published`: the file at `url`; `random`: seeded, for tests of shapes and speed; or the path of a
            checkpoint, a published file or what `lis.convert` made of one.
        url: where the file is published, or a mirror.
        cache: folder that it is fetched into; None: that of the user's caches.
        entry: the network's name in a published file.
        resolution: pixels, for random weights.
        num_classes: classes, for random weights.
        names: of the classes, in order; None: ImageNet's for the domain `imagenet`, else `class_0`, `class_1`, ….
        domain: the world that the images show.
        truncation: what samples are drawn with; 1 keeps w, 0 gives the mean of the class.
        dtype: `float32`, or `tf32` (on a GPU) or `bf16` for the convolutions alone.
        compile: `on`, `off`, or `auto`: resampling is compiled where there is a compiler.

    Raises:
        ValueError: the weights cannot be had or read, or a setting does not fit them.
    """
    names = imagenet_names() if names is None and domain == "imagenet" else names
    settings = {"class_names": names, "domain": domain, "truncation": truncation, "dtype": dtype, "compile": compile}
    if weights == "random":
        if resolution is None:
            raise ValueError(
                "gan.weights=random gan.resolution=null: expected the pixels of a published ImageNet network"
            )
        return randomise(StyleGANXL(imagenet(resolution, num_classes), **settings))
    return read_checkpoint(
        fetch(url, cache) if weights == "published" else Path(weights).expanduser(), entry, **settings
    )


def fetch(url: str | None, cache: str | None = None) -> Path:
    """The file at an address, fetched once into a folder and there held against its first checksum ever after.

    Args:
        url: the address; its last part is the file's name.
        cache: the folder; None: `lis` among the user's caches.

    Raises:
        ValueError: the file is not there and cannot be fetched, which says what to put where, or it is not what it was.
    """
    if not url:
        raise ValueError("gan.weights=published gan.url=null: expected gan.weights=<path of a checkpoint>")
    name = Path(urlsplit(url).path).name
    if name in ("", ".."):
        raise ValueError(f"gan.url={url} names no file: expected an address that ends in the file's name")
    path = (Path(cache).expanduser() if cache else user_cache_path("lis")) / name
    record = path.with_name(f"{name}.sha256")
    known = record.read_text().strip()[:64] if record.is_file() else ""
    if not path.is_file():
        _download(url, path, known)
    found = sha256(path)
    if known and found != known:
        raise ValueError(
            f"{path} is not the file that it was: its SHA-256 is {found}, and {record.name} beside it says {known}. "
            f"Delete {name} to fetch it again, or {record.name} if the file was exchanged on purpose"
        )
    if not known:
        _remember(record, f"{found}  {name}\n")
    return path


def _remember(record: Path, line: str) -> None:
    """Write the checksum down; a folder that many share may be closed to this user."""
    try:
        record.write_text(line)
    except OSError as error:
        log.warning("%s cannot be written (%s): it will go unseen if the file changes", record, error.strerror)


def _download(url: str, path: Path, known: str) -> None:
    """Fetch a file whose checksum may be known; what has come of one that breaks off stays, and is gone on with."""
    try:
        download(url, path, known)
    except Exception as error:  # address, TLS, proxy, timeout, checksum: all mean that there is no file to trust
        reason = (str(error).splitlines() or [repr(error)])[0]
        part = path.with_name(f"{path.name}.part")
        raise ValueError(
            f"{path.name} cannot be fetched from {url} ({reason:.300}): put the published file into {path.parent} "
            "under this name, or give gan.weights=<path of a checkpoint>, gan.url=<mirror> or gan.cache=<folder>"
            + (f"; {path.name}.sha256 there holds the checksum that it must have" if known else "")
            + (f"; what has come lies in {part.name}, and the same command goes on from there" * part.is_file())
        ) from error
