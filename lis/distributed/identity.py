"""Whether two processes run the same `lis`."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import lis


@dataclass(frozen=True)
class Identity:
    """The program of a process."""

    version: str
    """Of `lis`."""
    sources: str
    """8 hexadecimal digits of the SHA-256 of all its Python files."""
    host: str
    """Name of the machine."""

    @property
    def program(self) -> str:
        """In words."""
        return f"lis {self.version} (sources {self.sources})"

    def require_same(self, other: Identity) -> None:
        """Check that a worker runs the same program.

        Raises:
            ValueError: it does not.
        """
        if (self.version, self.sources) != (other.version, other.sources):
            raise ValueError(
                f"the worker on {other.host} runs {other.program}, this process on {self.host} {self.program}: "
                "expected the same on every machine; install the same version there, or start the run again where "
                "files were edited meanwhile"
            )


@cache
def identity() -> Identity:
    """Of this process, as it was when this was first asked."""
    root = Path(lis.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    return Identity(lis.__version__, digest.hexdigest()[:8], socket.gethostname())
