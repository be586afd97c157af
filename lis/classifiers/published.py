"""Published weights: where they come from, where they lie, and fetching them where there is a network."""

from __future__ import annotations

import re
from dataclasses import dataclass
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

    @property
    def file(self) -> Path:
        """Where the weights are put: in the folder of torch's hub, which `TORCH_HOME` moves."""
        return hub_file(self.url) if self.url and not self.repository else hub_file(f"{self.model}.safetensors")

    def find(self) -> Path | None:
        """The file on this machine, also from the cache of the hub's own client; fetches nothing."""
        places = [self.file, *([_cached(self.repository)] if self.repository else [])]
        places += [hub_file(self.url)] if self.url else []
        return next((place for place in places if place and place.is_file()), None)

    def fetch(self) -> Path:
        """The file on this machine, fetched once and checked where it is not here yet.

        Raises:
            ValueError: there is no network or no such file; says what to put where.
        """
        if found := self.find():
            return found
        if not (self.url or self.repository):
            raise ValueError(f"no weights were published for {self.model}: {_ALTERNATIVES}")
        try:
            self._download()
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
        if expected is None or (found := sha256(path)).startswith(expected):
            return None
        return f"{path.name} is not the published file: its SHA-256 begins with {found[: len(expected)]}"

    def _download(self) -> None:
        expected = _hash_at_hub(self.address) if self.repository else _hash_in(self.file.name)
        download(self.address, self.file, expected or "")


_ALTERNATIVES = "expected classifier.weights=<path of a checkpoint>, partworld (trained here) or random"


def hub_file(name: str) -> Path:
    """Where torch's hub keeps the file of that name or address, whether or not it is there."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(name).path).name


def _cached(repository: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, HUB_FILE)
    return Path(found) if isinstance(found, str) else None


def _hash_in(name: str) -> str | None:
    found = _HASH.search(name)
    return found and found[1]


def _hash_at_hub(address: str) -> str | None:
    """SHA-256 that the hub states for a large file."""
    from huggingface_hub import get_hf_file_metadata

    tag = get_hf_file_metadata(address, timeout=_PATIENCE).etag
    return tag if tag and re.fullmatch("[a-f0-9]{64}", tag) else None
