"""What the weights of a model are, in one word."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Fingerprint:
    """SHA-256 over settings and named tensors.

    Computed again only after a tensor was exchanged or written to; writing through `.data` goes unseen.

    Example:
        >>> weight, fingerprint = torch.zeros(2), Fingerprint()
        >>> before = fingerprint({"weight": weight}, "settings")
        >>> before == fingerprint({"weight": weight}, "settings")
        True
        >>> before == fingerprint({"weight": weight.add_(1)}, "settings")
        False
    """

    def __init__(self) -> None:
        self._written: object = None
        self._digest = ""
        self._hashed: list[Tensor] = []

    def __call__(self, tensors: Mapping[str, Tensor], settings: str) -> str:
        """The digest in hexadecimal; `settings` is whatever else the outputs depend on."""
        written = settings, [(name, value.data_ptr(), version(value)) for name, value in tensors.items()]
        if written != self._written:
            self._digest, self._written = _digest(tensors, settings), written
            self._hashed = list(tensors.values())  # while they live, no other tensor can have their addresses
        return self._digest


def version(value: Tensor) -> int:
    """How often a tensor was written to; 0 for one that was made in inference mode, which does not count."""
    return 0 if value.is_inference() else value._version


def _digest(tensors: Mapping[str, Tensor], settings: str) -> str:
    digest = hashlib.sha256(settings.encode())
    for name, value in tensors.items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        values: Any = value.detach().cpu().reshape(-1).view(torch.uint8).numpy()
        digest.update(values)
    return digest.hexdigest()
